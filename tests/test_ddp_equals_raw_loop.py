"""Two ranks train what a DDP loop of PyTorch alone trains, and what one process would."""

from typing import Any

import pytest
import torch
from ranks import DEVICES, found_by_ranks
from ranks_fit import SAMPLES, Net, data, trainer, weights
from torch.utils.data import DataLoader

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", params=DEVICES)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What the cases found, by rank."""
    return found_by_ranks(tmp_path_factory.mktemp("ranks"), "ranks_fit.py", request.param)


@pytest.mark.parametrize(
    "case",
    [
        "plain",
        "uneven",
        "with_hooks",
        "buffers",
        "accumulated",
        "clipped",
        "bf16",
        "wide",
        "very_wide",
    ],
)
def test_fit_gives_the_weights_of_a_loop_of_pytorch_alone_bit_for_bit(
    case: str, found: list[dict[str, Any]]
) -> None:
    of_fit, by_hand = found[0][case]
    assert of_fit == by_hand
    assert found[1][case] == found[0][case]


def test_two_ranks_train_like_one_process_with_twice_the_batch(
    found: list[dict[str, Any]],
) -> None:
    module = Net()
    trainer().fit(module, DataLoader(data(SAMPLES), batch_size=8))
    assert torch.allclose(
        torch.tensor(found[0]["double_batch"]), torch.tensor(weights(module)), rtol=0, atol=1e-6
    )


def test_all_ranks_begin_with_the_weights_of_rank_0(found: list[dict[str, Any]]) -> None:
    for of_rank in found:
        assert of_rank["other_weights_on_each_rank"] == found[0]["double_batch"]
