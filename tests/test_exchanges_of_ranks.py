"""What users have two ranks exchange arrives on both, or is refused with what differs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer
from ranks import TESTS, Ended, run_ranks

import nightbus as nb

EXCHANGED = {
    "broadcast": "{'path': PosixPath('a/0'), 'pair': (0, None), 'x': tensor([0, 0])}",
    "of 1": "'rank 1'",
    "gathered": "{'a': tensor([[0, 0, 0],\n        [1, 1, 1]]), "
    "'b': [Pair(x=tensor([0, 1]), name='n')]}",
    "mean": "tensor([0.5000, 3.0000])",
    "sum": "tensor(3)",
    "max": "[tensor(True)]",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the program runs."""
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def both_ended(folder: Path) -> list[Ended]:
    """How the ranks of the program ended."""
    return run_ranks(folder, TESTS / "ranks_exchange.py")


@pytest.fixture(scope="module")
def found(folder: Path, both_ended: list[Ended]) -> list[dict[str, Any]]:
    """What the cases found, by rank."""
    files = [folder / f"found-{rank}.json" for rank in (0, 1)]
    assert all(map(Path.exists, files)), [each.err for each in both_ended]
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.long
def test_ranks_exchange_before_there_is_a_run(found: list[dict[str, Any]]) -> None:
    for of_rank in found:
        assert of_rank["before_a_run"] == {"found": "made", **EXCHANGED}


@pytest.mark.long
def test_ranks_exchange_in_a_step(found: list[dict[str, Any]]) -> None:
    for of_rank in found:
        assert {name: of_rank["in_a_step"][name] for name in EXCHANGED} == EXCHANGED


@pytest.mark.long
def test_gradients_flow_back_to_where_gathered_tensors_come_from(
    found: list[dict[str, Any]],
) -> None:
    assert [of_rank["in_a_step"]["gradient"] for of_rank in found] == [[3.0, 3.0], [30.0, 30.0]]
    assert all(of_rank["in_a_step"]["keeps_none"] for of_rank in found)


@pytest.mark.long
def test_what_does_not_fit_is_refused_on_both(found: list[dict[str, Any]]) -> None:
    for rank, of_rank in enumerate(found):
        other = 1 - rank
        shapes, number, missing, group, reduction, *on_one = of_rank["what_differs"]
        assert shapes.startswith(
            f"RankMismatchError: all_gather(): rank {rank} has float32[{2 + rank}], rank {other} "
            f"has float32[{2 + other}]; "
        )
        assert "has no tensor" in number
        assert "float32[2]" in number
        assert missing == "UsageError: broadcast(src=2): expected a rank from 0 to 1"
        assert group.startswith("UsageError: all_gather() is between all ranks")
        assert reduction == "UsageError: reduce_op='product': expected 'mean', 'sum' or 'max'"
        if rank == 0:
            assert "the value is object, which a checkpoint cannot hold" in on_one[0]


@pytest.mark.long
def test_ranks_that_call_different_exchanges_end_with_both_named(
    both_ended: list[Ended], found: list[dict[str, Any]]
) -> None:
    assert sorted(each.code for each in both_ended) == [1, 75]
    for each in both_ended:
        assert "RankMismatchError" in each.err
        assert "barrier('the end')" in each.err
        assert "broadcast(src=0)" in each.err


@pytest.mark.long
def test_an_exchange_is_refused_on_another_thread(found: list[dict[str, Any]]) -> None:
    for of_rank in found:
        assert of_rank["on_another_thread"].startswith(
            "barrier() was called on another thread than the one that trains"
        )


@pytest.mark.long
def test_each_rank_knows_whether_it_is_the_main_one(found: list[dict[str, Any]]) -> None:
    of_0 = {"before": True, "now": True, "decorated": "called", "announced": 0}
    of_1 = {"before": False, "now": False, "decorated": None, "announced": 1}
    assert [of_rank["main_rank"] for of_rank in found] == [of_0, of_1]


@pytest.mark.long
def test_rank_0_alone_takes_a_sink_that_is_attached(found: list[dict[str, Any]]) -> None:
    assert [of_rank["sinks"]["attached"] for of_rank in found] == [True, False]
    assert [of_rank["sinks"]["left"] for of_rank in found] == [0, 0]


def test_one_process_has_its_own_values(tmp_path: Path) -> None:
    run, value = trainer(tmp_path), object()

    run.barrier()

    assert run.broadcast(value) is value
    assert torch.equal(run.all_gather([1.0, "n"])[0], torch.tensor(1.0))
    assert torch.equal(run.reduce(torch.tensor([1, 2])), torch.tensor([1.0, 2.0]))
    assert nb.is_main()


def test_a_module_gathers_in_one_process_too(tmp_path: Path) -> None:
    class Gathers(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            assert self.all_gather(loss, sync_grads=True) is loss
            return loss

    trainer(tmp_path, max_epochs=1).fit(Gathers(), loader(4))


def test_the_strategy_says_where_this_process_is(tmp_path: Path) -> None:
    strategy = trainer(tmp_path, strategy="ddp").strategy

    assert strategy.root_device == torch.device("cpu")
    assert (strategy.global_rank, strategy.local_rank, strategy.world_size) == (0, 0, 1)
    assert strategy.is_global_zero


def test_a_rank_above_0_that_a_launcher_has_started_is_not_the_main_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert not nb.is_main()
    assert nb.rank_zero_only(lambda: "called")() is None
    assert nb.rank_zero_only(lambda: "called", "default")() == "default"
