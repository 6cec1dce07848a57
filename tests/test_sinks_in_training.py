"""Sinks in a real training run: live equals replay, and sinks of a user's own."""

import math
from pathlib import Path
from typing import Any

from models import Small, loader, trainer

import nightbus as nb


def test_replay_gives_the_same_bytes_as_the_run_did(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=3, sinks=[nb.CSV(), nb.JSONLines()], log_every_n_steps=2)
    run.fit(Small(), loader(), loader(8))
    run.test(Small(), loader(8), verbose=False)
    assert run.log_dir is not None
    again = tmp_path / "again"

    nb.replay(run.log_dir, sinks=[nb.CSV(again), nb.JSONLines(again)])

    for name in ("metrics.csv", "metrics.jsonl"):
        live = (Path(run.log_dir) / name).read_bytes()
        assert live
        assert (again / name).read_bytes() == live


def test_a_sink_in_ten_lines(tmp_path: Path) -> None:
    class Lowest(nb.Sink):
        def __init__(self) -> None:
            self.lowest: dict[str, float] = {}

        def write(self, batch: list[nb.Put]) -> None:
            for put in batch:
                self.lowest[put.name] = min(put.value, self.lowest.get(put.name, math.inf))

    live, replayed = Lowest(), Lowest()
    run = trainer(tmp_path, sinks=[live])
    run.fit(Small(), loader(), loader(8))
    assert run.log_dir is not None
    nb.replay(run.log_dir, sinks=[replayed])

    assert set(live.lowest) == {"val_loss"}
    assert replayed.lowest == live.lowest


def test_a_coroutine_may_write(tmp_path: Path) -> None:
    class Async(nb.Sink):
        destination = "callbacks"

        def __init__(self) -> None:
            self.steps: list[int] = []

        async def write(self, batch: list[nb.Put]) -> None:
            self.steps += [put.step for put in batch]

    sink = Async()
    trainer(tmp_path, sinks=[sink]).fit(Small(), loader())

    assert sink.steps == [0, 1, 2, 3, 4, 5]


def test_a_sinks_own_table_stays_its_own(tmp_path: Path) -> None:
    class Counts(nb.Sink):
        def __init__(self) -> None:
            self._table: dict[str, int] = {}

        def write(self, batch: list[nb.Put]) -> None:
            for put in batch:
                self._table[put.name] = self._table.get(put.name, 0) + 1

    live, replayed = Counts(), Counts()
    run = trainer(tmp_path, sinks=[live], log_every_n_steps=1)
    run.fit(Small(), loader())
    assert run.log_dir is not None

    nb.replay(run.log_dir, sinks=[replayed])

    assert live._table == replayed._table
    assert "train_loss" in live._table


def test_sinks_get_each_batch_of_an_evaluation_that_is_logged(tmp_path: Path) -> None:
    class Logs(Small):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("by_batch", float(batch_idx), on_step=True, on_epoch=False)

    got: list[tuple[str, float]] = []
    run = trainer(
        tmp_path,
        sinks=[lambda put: got.append((put.name, put.value))],
        num_sanity_val_steps=0,
        log_every_n_steps=50,
    )
    run.fit(Logs(), loader(8), loader(8))  # 2 batches of each

    assert [value for name, value in got if name == "by_batch"] == [0.0, 1.0]
    assert run.logged_metrics["by_batch"] == 1.0
