"""Ranks that log other values, or not the same names, have one result and decide the same by it."""

from pathlib import Path
from typing import Any

import pytest
from ranks import found_by_ranks, run_ranks
from ranks_fit import trainer
from ranks_monitors import validated

pytestmark = pytest.mark.long
Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the cases found, by rank."""
    return found_by_ranks(tmp_path_factory.mktemp("ranks"), "ranks_monitors.py")


def test_each_kind_of_value_of_several_loaders_is_that_of_one_process(found: Found) -> None:
    alone = validated(trainer().validate)
    for of_rank in found:
        for of_loader, expected in zip(of_rank["several_loaders"], alone, strict=True):
            assert of_loader == pytest.approx(expected)


def test_what_one_rank_alone_logs_by_a_function_or_as_a_metric_is_known_to_all(
    found: Found,
) -> None:
    for of_rank in found:
        for of_epoch in of_rank["on_one_rank"]:
            assert of_epoch["by_function"] == 101.0
            assert of_epoch["worst"] == 1.0


def test_a_metric_that_one_rank_logs_begins_each_epoch_anew_on_all(found: Found) -> None:
    for of_rank in found:
        assert [of_epoch["metric"] for of_epoch in of_rank["on_one_rank"]] == [4.0, 4.0, 4.0]


def test_nan_on_one_rank_is_the_result_of_all_and_stops_all(found: Found) -> None:
    for of_rank in found:
        assert of_rank["not_finite_on_one_rank"]["epochs"] == 2
        assert of_rank["not_finite_on_one_rank"]["last"] == "{'mean': nan, 'least': nan}"


@pytest.mark.parametrize(
    ("case", "falls"),
    [
        ("plateau_of_own_values", False),
        ("plateau_of_rank_zero", True),
        ("plateau_of_own_steps", True),
        ("plateau_without_batches_on_rank_1", False),
        ("stopped_by_rank_zero", False),
    ],
)
def test_by_values_that_differ_all_ranks_decide_as_rank_0(
    case: str, falls: bool, found: Found
) -> None:
    assert found[0][case] == found[1][case]
    assert (found[0][case]["rate"] < 0.05) == falls


def test_early_stopping_by_a_value_that_only_rank_0_has_ends_all(found: Found) -> None:
    assert [of_rank["stopped_by_rank_zero"]["epochs"] for of_rank in found] == [2, 2]


def test_a_metric_that_exchanges_its_state_in_each_step_does(found: Found) -> None:
    for of_rank in found:
        assert of_rank["metric_of_steps"] == {
            "metric_step": 3.0,
            "metric": 6.0,
            "metric_epoch": 6.0,
        }


def test_a_step_value_logged_after_the_ranks_have_reduced_theirs_is_the_ranks_own(
    found: Found,
) -> None:
    assert [of_rank["logged_late"]["late"] for of_rank in found] == [0.0, 1.0]
    assert [of_rank["logged_late"]["in_time"] for of_rank in found] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("saved_by_steps", ["epoch=0-step=4", "epoch=1-step=12", "epoch=1-step=8"]),
        ("saved_by_time", ["epoch=0-step=4", "epoch=1-step=12", "epoch=1-step=8"]),
        ("saved_by_own_values", ["epoch=0-own=0.0", "epoch=1-own=-1.0"]),
    ],
)
def test_checkpoints_are_those_that_rank_0_decides_on(
    case: str, expected: list[str], found: Found
) -> None:
    assert [of_rank[case]["found"] for of_rank in found] == [expected, expected]
    assert found[0][case]["best"] == found[1][case]["best"]


@pytest.mark.parametrize(
    ("options", "updates", "words"),
    [
        ("", "rank == 0", "no attribute of the module and was updated on 1 of 2 ranks"),
        ("dist_sync_on_step=True", "True", "different numbers in evaluation; leave it out"),
    ],
)
def test_a_metric_that_ranks_could_wait_for_for_ever_is_an_error(
    options: str, updates: str, words: str, tmp_path: Path
) -> None:
    ended = run_ranks(
        tmp_path,
        f"""
        import os
        import nightbus as nb
        import torchmetrics
        from ranks_fit import Net, loader, trainer

        rank = int(os.environ["RANK"])

        class Measures(nb.Callback):
            def __init__(self):
                self.metric = torchmetrics.SumMetric({options})

            def on_validation_batch_end(self, trainer, module, *_):
                if {updates}:
                    self.metric.update(1.0)
                    self.log("sum", self.metric)

        class Validated(Net):
            def validation_step(self, batch, batch_idx):
                pass

        trainer(callbacks=[Measures()]).validate(Validated(), loader())
        """,
    )
    assert 0 not in [each.code for each in ended]
    assert any(words in each.err for each in ended)
