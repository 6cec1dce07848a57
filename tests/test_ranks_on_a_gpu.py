"""Two ranks share a GPU with gloo, and one is alone on it with NCCL.

What they train, log, save and resume there as on processors is tested with those, by the parameter
``gpu`` of the tests of ranks.
"""

from pathlib import Path
from typing import Any

import pytest
from helpers import read_log
from ranks import TESTS, found_by_ranks, run_ranks
from ranks_fit import Net, loader, trainer

import nightbus as nb
from nightbus.actors.ranks.last_act import OTHERS_EXIT_CODE

pytestmark = [pytest.mark.gpu, pytest.mark.long]
Found = list[dict[str, Any]]


@pytest.fixture(scope="module", params=["gpu", "nccl"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the cases found, by rank: of two with gloo, and of one with NCCL."""
    folder, size = tmp_path_factory.mktemp("ranks"), 2 if request.param == "gpu" else 1
    return found_by_ranks(folder, "ranks_gpu.py", request.param, size)


def test_values_are_exchanged_on_the_gpu(found: Found) -> None:
    size = len(found)
    for rank, of_rank in enumerate(found):
        exchanged = of_rank["exchanges"]
        assert {*exchanged["devices"]} == {"cuda"}
        assert exchanged["received"] == [[size - 1] * 2, size - 1]
        assert exchanged["gathered"] == [other for other in range(size) for _ in range(3)]
        assert exchanged["mean"] == [(size - 1) / 2, 3.0]
        assert exchanged["sum"] == sum(range(1, size + 1))
        assert exchanged["max"] is True
        assert exchanged["half"] == [1.0, 1.0]
        assert exchanged["gradient"] == [sum(range(1, size + 1))] * 2
        assert exchanged["shared"] == [3.0] * 6
        for of_type in exchanged["stacked"][:-1]:
            assert of_type == [[other + 1.0] * 3 for other in range(size)]
        assert exchanged["summed"] == sum(range(1, size + 1))
        assert exchanged["greatest"] == size
        assert ("nccl" if size == 1 else "cuda:gloo") in exchanged["backend"], rank


def test_batches_are_normalized_by_those_of_all_ranks(found: Found) -> None:
    for of_rank in found:
        of_fit, by_hand = of_rank["batchnorm"]
        assert of_fit == by_hand == found[0]["batchnorm"][0]


def test_a_step_that_overflows_on_one_rank_is_skipped_by_all(found: Found) -> None:
    for of_rank in found:
        assert of_rank["scaled"] == found[0]["scaled"]
        assert of_rank["scaled"]["scale"] == 2.0**15, "one step was skipped"
        assert of_rank["scaled"]["is_finite"]


def test_a_rank_without_a_loss_takes_part_where_losses_are_scaled(found: Found) -> None:
    for of_rank in found:
        assert of_rank["without_a_loss_scaled"] == found[0]["without_a_loss_scaled"]


def test_values_on_the_gpu_are_logged_for_all_ranks(found: Found) -> None:
    mean, most = (len(found) - 1) / 2, len(found) - 1.0
    for of_rank in found:
        logged = of_rank["logged"]
        assert (logged["mean_step"], logged["mean_epoch"], logged["epoch"]) == (
            mean,
            mean,
            mean + 1,
        )
        assert logged["most"] == most


def test_all_ranks_begin_with_the_weights_of_rank_0_of_every_type(found: Found) -> None:
    for of_rank in found:
        assert of_rank["with_other_weights"] == found[0]["with_other_weights"]
        assert of_rank["with_other_weights"][1:] == [5, [True, False]]


@pytest.fixture(scope="module")
def of_nccl(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the cases of other programs found, of a rank alone with NCCL."""

    def run(program: str) -> dict[str, Any]:
        (found,) = found_by_ranks(tmp_path_factory.mktemp("nccl"), program, "nccl", 1)
        return found

    return run


def test_a_rank_with_nccl_trains_what_a_loop_of_pytorch_alone_does(of_nccl: Any) -> None:
    found = of_nccl("ranks_fit.py")
    for case in ("plain", "uneven", "with_hooks", "buffers", "accumulated", "clipped", "bf16"):
        of_fit, by_hand = found[case]
        assert of_fit == by_hand, case


def test_a_rank_with_nccl_steps_as_one_process(of_nccl: Any) -> None:
    found = of_nccl("ranks_steps.py")
    module = Net()
    trainer(accelerator="gpu", max_epochs=1).fit(module, loader())
    assert len(found["in_turn"]["weights"]) == len(found["by_hand"]["weights"])
    assert found["none_on_all"]["steps"] == 8


def test_a_rank_with_nccl_ends_its_epochs_with_its_data(of_nccl: Any) -> None:
    found = of_nccl("ranks_ends.py")
    assert found["stream"]["last"]


def test_a_rank_with_nccl_is_resumed_to_the_bit(of_nccl: Any) -> None:
    found = of_nccl("ranks_resume.py")
    for case in ("between_epochs", "in_the_middle_of_an_epoch"):
        resumed, unstopped = found[case]
        assert resumed == unstopped


SHARED = """
import nightbus as nb
from models import Small, loader, trainer
from pathlib import Path

trainer(Path("."), accelerator="gpu").fit(Small(), loader())
"""


def test_ranks_that_share_a_gpu_are_told_that_nccl_cannot(tmp_path: Path) -> None:
    ended = run_ranks(tmp_path, SHARED)

    assert all(each.code for each in ended)
    assert any('process_group_backend="gloo"' in each.err for each in ended)


@pytest.mark.parametrize(
    ("fault", "what"),
    [("raises", "ValueError: no such batch"), ("SIGKILL", "its process ended without a word")],
)
def test_a_rank_that_is_lost_while_the_other_waits_for_gradients_of_a_gpu_is_named(
    tmp_path: Path, fault: str, what: str
) -> None:
    ended = run_ranks(
        tmp_path, TESTS / "ranks_failing.py", FAULT=fault, CULPRIT="1", RANKS_ON="gpu"
    )

    assert ended[0].code == OTHERS_EXIT_CODE
    assert ended[0].err.count("nightbus: rank 1 is lost: ") == 1
    (log,) = tmp_path.glob("runs/*/attempt-000/rank-00000")
    (lost,) = [each for each in read_log(log) if isinstance(each, nb.RankLost)]
    assert what in lost.what
