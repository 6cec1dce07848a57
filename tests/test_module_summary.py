"""What a summary knows of a module's parts."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer
from torch import Tensor, nn

import nightbus as nb

summaries: Any = import_module("nightbus.compat.lightning.pytorch.utilities.model_summary")


class Two(nb.LightningModule):
    """Two parts, one of which is nested, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 2))
        self.unused = nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.ones(5))
        self.example_input_array = torch.zeros(6, 4)

    def forward(self, x: Tensor) -> Any:
        assert not self.training
        return self.net(x)


def test_sizes_and_operations_come_from_the_example_input() -> None:
    summary = summaries.summarize(Two(), max_depth=-1)

    assert summary.layer_names == ["net", "net.0", "net.1", "net.2", "unused"]
    assert summary.in_sizes == [[6, 4], [6, 4], [6, 8], [6, 8], "?"]
    assert summary.out_sizes == [[6, 2], [6, 8], [6, 8], [6, 2], "?"]
    assert summary.total_flops == 2 * 6 * (4 * 8 + 8 * 2)


def test_the_example_leaves_modes_random_numbers_and_hooks_as_they_were() -> None:
    module = Two()
    module.net[1].eval()
    before = torch.get_rng_state()

    summaries.ModelSummary(module)

    assert (module.training, module.net[0].training, module.net[1].training) == (True, True, False)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(part._forward_hooks for part in module.modules())


def test_a_summary_counts_parameters_also_those_of_no_part_that_is_shown() -> None:
    summary = summaries.ModelSummary(Two())

    assert summary.param_nums == [58, 12]
    assert (summary.total_parameters, summary.total_layer_params) == (75, 70)
    assert "other params  n/a         5" in str(summary)


def test_several_inputs_and_outputs_are_lists_of_shapes() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return y, x

    layer = summaries.LayerSummary(Pair())
    layer._module(torch.ones(1, 2), y=torch.ones(3))

    assert (layer.in_size, layer.out_size) == ([[1, 2], [3]], [[3], [1, 2]])


def test_lazy_parts_have_no_parameters_yet(capsys: pytest.CaptureFixture[str]) -> None:
    class Lazy(nb.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.LazyLinear(2)

    assert summaries.ModelSummary(Lazy()).total_parameters == 0
    assert "parameters of lazy modules" in capsys.readouterr().err


def test_a_wrong_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="max_depth=-2: expected an int of at least -1"):
        summaries.ModelSummary(Two(), max_depth=-2)


def test_the_callback_shows_sizes_of_a_module_with_an_example(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = Small()
    module.example_input_array = torch.zeros(6, 4)

    trainer(tmp_path, callbacks=[nb.ModelSummary()]).fit(module, loader(4))

    assert "[6, 4]" in capsys.readouterr().err
