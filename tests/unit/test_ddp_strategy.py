"""DDPStrategy: what it has torch.distributed use."""

import re
from pathlib import Path

import pytest
from models import Small, loader, trainer

import nightbus as nb


@pytest.mark.parametrize(
    ("device", "chosen", "backends"),
    [
        ("cpu", None, "gloo"),
        ("cpu", "gloo", "gloo"),
        ("cuda", None, "cpu:gloo,cuda:nccl"),
        ("cuda", "nccl", "cpu:gloo,cuda:nccl"),
        ("cuda", "gloo", "cpu:gloo,cuda:gloo"),
    ],
)
def test_the_backend_that_is_given_exchanges_tensors_of_the_device(
    device: str, chosen: str | None, backends: str
) -> None:
    strategy = nb.DDPStrategy(process_group_backend=chosen)  # type: ignore[arg-type]

    assert strategy.backends(device) == backends


def test_nccl_is_refused_before_a_run_on_the_cpu_begins(tmp_path: Path) -> None:
    run = trainer(tmp_path, strategy=nb.DDPStrategy(process_group_backend="nccl"))

    with pytest.raises(nb.UsageError, match=re.escape("it exchanges tensors of GPUs")):
        run.fit(Small(), loader())

    assert not list(tmp_path.glob("runs/*"))
