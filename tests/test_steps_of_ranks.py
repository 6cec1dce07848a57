"""Two ranks step alike where a rank has no loss, with several optimizers, and by hand."""

from typing import Any

import pytest
import torch
from ranks import DEVICES, found_by_ranks
from ranks_fit import Net, loader, trainer, weights
from ranks_steps import ByHand, InTurn, Unfreezes

from nightbus.actors.ranks.group import AloneGroup
from nightbus.actors.ranks.replicas import Replicas
from nightbus.actors.ranks.strategy import DDPStrategy
from nightbus.bus.errors import UsageError

pytestmark = pytest.mark.long
Found = list[dict[str, Any]]
TWICE = 8  # the batch of one process that has the samples of both ranks' batches


@pytest.fixture(scope="module", params=DEVICES)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the cases found, by rank."""
    return found_by_ranks(tmp_path_factory.mktemp("ranks"), "ranks_steps.py", request.param)


def assert_close(found: list[float], expected: list[float]) -> None:
    assert torch.allclose(torch.tensor(found), torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "case",
    [
        "none_on_rank_1",
        "none_on_all",
        "none_while_accumulating",
        "in_turn",
        "by_hand",
        "unfrozen",
        "short_accumulation",
        "gap_on_rank_1",
        "gap_on_all",
        "gap_while_accumulating",
    ],
)
def test_all_ranks_have_the_same_weights_in_the_end(case: str, found: Found) -> None:
    assert found[0][case]["bits"] == found[1][case]["bits"]


def test_a_rank_without_a_loss_adds_nothing_to_the_mean(found: Found) -> None:
    assert found[0]["none_on_rank_1"]["steps"] == 5
    assert_close(found[0]["none_on_rank_1"]["weights"], found[0]["none_on_rank_1_by_hand"])


def test_a_step_is_skipped_if_no_rank_has_a_loss(found: Found) -> None:
    class Skips(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    alone = Skips()
    trainer(max_epochs=1).fit(alone, loader(TWICE))
    assert found[0]["none_on_all"]["steps"] == 4
    assert_close(found[0]["none_on_all"]["weights"], weights(alone))


@pytest.mark.parametrize(
    ("gap", "none"),
    [
        ("gap_on_rank_1", "none_on_rank_1"),
        ("gap_on_all", "none_on_all"),
        ("gap_while_accumulating", "none_while_accumulating"),
    ],
)
def test_a_batch_that_is_none_on_a_rank_is_a_step_without_a_loss_there(
    gap: str, none: str, found: Found
) -> None:
    assert found[0][gap] == {name: found[0][none][name] for name in ("bits", "steps")}


def test_gradients_are_averaged_at_the_end_of_an_accumulation_that_data_cuts_short(
    found: Found,
) -> None:
    assert found[0]["short_accumulation"]["steps"] == 2


def test_several_optimizers_step_as_in_one_process(found: Found) -> None:
    alone = InTurn()
    trainer().fit(alone, loader(TWICE))
    assert_close(found[0]["in_turn"]["weights"], weights(alone))


def test_manual_optimization_steps_as_in_one_process(found: Found) -> None:
    alone = ByHand()
    trainer().fit(alone, loader(TWICE))
    assert_close(found[0]["by_hand"]["weights"], weights(alone))


def test_what_is_unfrozen_during_training_is_averaged_too(found: Found) -> None:
    alone = Net()
    trainer(callbacks=[Unfreezes()]).fit(alone, loader(TWICE))
    assert_close(found[0]["unfrozen"]["weights"], weights(alone))


def test_lbfgs_is_refused_because_ranks_would_evaluate_it_differently_often() -> None:
    module = Net()
    searches = torch.optim.LBFGS(module.parameters())
    with pytest.raises(UsageError, match=r"losses.*use another optimizer"):
        Replicas(AloneGroup(), DDPStrategy(), module, [searches], "one")
