"""Whatever way of training: two ranks train what one process does with twice the batch."""

from typing import Any

import pytest
import torch
from ranks import found_by_ranks
from ranks_variants import NORMALIZED, VARIANTS, found_by

pytestmark = pytest.mark.long
Found = list[dict[str, Any]]
TWICE = 8  # the batch of one process that has the samples of both ranks' batches
WHERE_IT_STANDS = ("steps", "epochs", "rates")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the variants found, by rank."""
    return found_by_ranks(tmp_path_factory.mktemp("ranks"), "ranks_variants.py")


@pytest.mark.parametrize("variant", sorted(VARIANTS.keys() - NORMALIZED))
def test_two_ranks_train_what_one_process_trains_with_twice_the_batch(
    variant: str, found: Found
) -> None:
    alone = found_by(VARIANTS[variant], TWICE)
    for of_rank in found:
        weights = torch.tensor(of_rank[variant]["weights"])
        assert torch.allclose(weights, torch.tensor(alone["weights"]), rtol=0, atol=1e-6)
        for name in WHERE_IT_STANDS:
            assert of_rank[variant][name] == pytest.approx(alone[name])


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_all_ranks_have_the_same_weights_and_buffers_in_the_end(variant: str, found: Found) -> None:
    assert found[0][variant]["bits"] == found[1][variant]["bits"]
    for name in WHERE_IT_STANDS:
        assert found[0][variant][name] == found[1][variant][name]


def test_weights_that_differ_are_reported_once_with_their_names(found: Found) -> None:
    for of_rank in found:
        (warning,) = of_rank["weights_that_differ"]
        assert "parameters=layers.2.bias" in warning
