"""What sinks of a resumed run hold: one value for each metric and step, as of a run that never
stopped.
"""

import io
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.bus.log.reader import LogReader
from nightbus.bus.runs.cursor import Cursor, CursorFile
from nightbus.bus.runs.lineage import consistent_logs

SINKS: dict[str, Any] = {
    "CSV": nb.CSV,
    "JSONLines": nb.JSONLines,
    "TensorBoard": nb.TensorBoard,
    "Parquet": nb.Parquet,
    "SQLite": nb.SQLite,
}


def fit(folder: Path, sinks: list[Any], epochs: int, ckpt_path: Any = None) -> nb.Trainer:
    nb.seed_everything(1)
    every = nb.ModelCheckpoint(every_n_train_steps=1, save_top_k=-1, filename="{step}")
    run = trainer(
        folder, sinks=sinks, callbacks=[every], max_epochs=epochs, log_every_n_steps=1, logger=False
    )
    run.fit(Small(), loader(), ckpt_path=ckpt_path)
    return run


def at_step(run: nb.Trainer, step: int) -> Path:
    assert run.run_folder is not None
    return run.run_folder.path / "checkpoints" / f"step={step}"


def recorded(run: nb.Trainer) -> list[tuple[int, float]]:
    """Steps and values of the metric, of what holds."""
    assert run.run_folder is not None
    found = []
    for log in consistent_logs(run.run_folder):
        reader = LogReader(log.store)
        found += [
            (event.step, float(event.value))
            for event in reader.events("none")
            if isinstance(event, nb.Put)
            and event.name == "train_loss"
            and (log.until is None or event.seq < log.until)
        ]
        reader.close()
    return found


def in_csv(path: Path) -> list[tuple[int, float]]:
    import csv

    with open(path, newline="") as file:
        return [(int(r["step"]), float(r["train_loss"])) for r in csv.DictReader(file)]


def in_json_lines(path: Path) -> list[tuple[int, float]]:
    import json

    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["step"], row["value"]) for row in rows if row["name"] == "train_loss"]


def in_parquet(path: Path) -> list[tuple[int, float]]:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(path).to_pylist()
    return [(row["step"], row["value"]) for row in rows if row["name"] == "train_loss"]


def in_sqlite(path: Path) -> list[tuple[int, float]]:
    with sqlite3.connect(path) as database:
        rows = database.execute(
            "SELECT step, value FROM metrics WHERE name = 'train_loss' ORDER BY attempt, seq"
        ).fetchall()
    database.close()
    return rows


def in_tensorboard(path: Path) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("train_loss")]


READ = {
    "CSV": in_csv,
    "JSONLines": in_json_lines,
    "TensorBoard": in_tensorboard,
    "Parquet": in_parquet,
    "SQLite": in_sqlite,
}


@pytest.mark.parametrize("name", SINKS)
def test_what_came_after_the_checkpoint_is_taken_back(tmp_path: Path, name: str) -> None:
    sink = SINKS[name]()
    first = fit(tmp_path, [sink], epochs=1)
    resumed = fit(tmp_path, [SINKS[name]()], epochs=2, ckpt_path=at_step(first, 3))

    found, wanted = READ[name](sink.path), recorded(resumed)
    assert [step for step, _ in found] == list(range(12))
    assert [value for _, value in found] == pytest.approx([value for _, value in wanted])


@pytest.mark.parametrize("name", SINKS)
def test_it_is_taken_back_when_the_same_trainer_goes_on(tmp_path: Path, name: str) -> None:
    sink = SINKS[name]()
    run = fit(tmp_path, [sink], epochs=1)
    run.fit(Small(), loader(), ckpt_path=at_step(run, 3))

    found, wanted = READ[name](sink.path), recorded(run)
    assert [step for step, _ in found] == list(range(6))
    assert [value for _, value in found] == pytest.approx([value for _, value in wanted])


@pytest.mark.parametrize("name", SINKS)
def test_it_is_taken_back_as_often_as_the_run_goes_back(tmp_path: Path, name: str) -> None:
    sink = SINKS[name]()
    run = fit(tmp_path, [sink], epochs=1)
    for step in (5, 2, 3):
        run = fit(tmp_path, [SINKS[name]()], epochs=2, ckpt_path=at_step(run, step))

    found, wanted = READ[name](sink.path), recorded(run)
    assert [step for step, _ in found] == list(range(12))
    assert [value for _, value in found] == pytest.approx([value for _, value in wanted])


def test_a_table_is_the_same_to_the_byte_as_of_a_run_that_never_stopped(tmp_path: Path) -> None:
    whole, sink = nb.CSV(tmp_path / "whole"), nb.CSV(tmp_path / "resumed")
    fit(tmp_path / "a", [whole], epochs=2)
    first = fit(tmp_path / "b", [sink], epochs=1)
    fit(tmp_path / "b", [nb.CSV(tmp_path / "resumed")], epochs=2, ckpt_path=at_step(first, 4))

    assert sink.path.read_bytes() == whole.path.read_bytes()


def test_a_sink_that_comes_with_the_resumed_run_gets_what_holds(tmp_path: Path) -> None:
    first = fit(tmp_path, [], epochs=1)
    sink = nb.CSV()
    resumed = fit(tmp_path, [sink], epochs=2, ckpt_path=at_step(first, 3))

    assert in_csv(sink.path) == recorded(resumed)


def test_a_sink_that_was_late_goes_on_without_what_holds_no_more(tmp_path: Path) -> None:
    sink = nb.CSV()
    first = fit(tmp_path, [sink], epochs=1)
    assert first.run_folder is not None
    cursor = CursorFile(first.run_folder, "csv").load()
    assert cursor is not None
    sink.path.unlink()  # as if it had failed at its first event
    CursorFile(first.run_folder, "csv").path.unlink()

    resumed = fit(tmp_path, [nb.CSV()], epochs=2, ckpt_path=at_step(first, 3))

    assert in_csv(sink.path) == recorded(resumed)


def test_a_function_gets_what_took_the_place_and_nothing_twice_after_that(tmp_path: Path) -> None:
    seen: list[int] = []

    def take(put: nb.Put) -> None:
        seen.append(put.step)

    first = fit(tmp_path, [take], epochs=1)
    fit(tmp_path, [take], epochs=1, ckpt_path=at_step(first, 3))

    assert seen == [0, 1, 2, 3, 4, 5, 3, 4, 5]


def test_a_function_that_comes_back_gets_what_holds_of_the_attempts_that_it_missed(
    tmp_path: Path,
) -> None:
    seen: list[int] = []

    def take(put: nb.Put) -> None:
        seen.append(put.step)

    first = fit(tmp_path, [take], epochs=1)
    fit(tmp_path, [], epochs=1, ckpt_path=at_step(first, 3))
    fit(tmp_path, [take], epochs=2, ckpt_path="last")

    assert seen == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8, 9, 10, 11]


def test_a_file_that_is_not_the_sinks_own_is_not_removed(tmp_path: Path) -> None:
    first = fit(tmp_path / "a", [nb.CSV(tmp_path / "one")], epochs=1)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "metrics.csv").write_text("precious")
    other = nb.CSV(tmp_path / "two")

    fit(tmp_path / "a", [other], epochs=2, ckpt_path=at_step(first, 3))

    assert (tmp_path / "two" / "metrics.csv").read_text() == "precious"


def test_a_file_that_a_killed_process_had_only_begun_is_written_anew(tmp_path: Path) -> None:
    sink = nb.CSV()
    first = fit(tmp_path, [sink], epochs=1)
    assert first.run_folder is not None
    CursorFile(first.run_folder, "csv").path.unlink()  # killed before the first commit
    sink.path.write_text("epoch,step,stage\n")

    resumed = fit(tmp_path, [nb.CSV()], epochs=2, ckpt_path=at_step(first, 3))

    assert in_csv(sink.path) == recorded(resumed)


def test_a_file_of_another_sink_is_not_written_anew(tmp_path: Path) -> None:
    sink, other = nb.CSV(), nb.CSV()
    first = fit(tmp_path, [sink], epochs=1)
    before = sink.path.read_bytes()
    other.name = "other"

    resumed = fit(tmp_path, [other], epochs=2, ckpt_path=at_step(first, 3))

    assert sink.path.read_bytes() == before
    stopped = [e.source for e in events(resumed, nb.ActorStopped, attempt=1)]
    assert stopped == ["other"]


# -- files elsewhere, of a process that was killed before it had said that they are its own --------

FILES = [name for name in SINKS if name != "SQLite"]  # several runs share a database


def left_by_a_killed_process(run: nb.Trainer, sink: Any) -> None:
    """Have a run's sink in the state of one that was killed when it had just made its file."""
    assert run.run_folder is not None
    CursorFile(run.run_folder, type(sink).__name__.lower()).path.unlink()
    sink.path.unlink()
    sink.open(resumed=False)
    sink.close()


@pytest.mark.parametrize("name", FILES)
def test_a_file_elsewhere_that_was_only_begun_is_written_anew_by_the_resumed_run(
    tmp_path: Path, name: str
) -> None:
    sink = SINKS[name](tmp_path / "elsewhere")
    first = fit(tmp_path, [sink], epochs=1)
    left_by_a_killed_process(first, sink)

    again = SINKS[name](tmp_path / "elsewhere")
    resumed = fit(tmp_path, [again], epochs=2, ckpt_path=at_step(first, 3))

    values = [value for _, value in READ[name](again.path)]
    assert values == pytest.approx([value for _, value in recorded(resumed)])


@pytest.mark.parametrize("where", ["elsewhere", "in the run's folder"])
@pytest.mark.parametrize("name", FILES)
def test_so_it_is_by_a_replay_that_delivers_the_rest(tmp_path: Path, name: str, where: str) -> None:
    folder = tmp_path / where if where == "elsewhere" else None
    sink = SINKS[name](folder)
    run = fit(tmp_path, [sink], epochs=1)
    whole = sink.path.read_bytes()
    left_by_a_killed_process(run, sink)

    nb.replay(run.run_folder, sinks=[SINKS[name](folder)], resume=True)  # type: ignore[arg-type]

    assert sink.path.read_bytes() == whole


@pytest.mark.parametrize("name", FILES)
def test_so_it_is_by_a_replay_that_keeps_its_cursors_elsewhere(tmp_path: Path, name: str) -> None:
    run, sink = fit(tmp_path, [], epochs=1), SINKS[name](tmp_path / "out")
    assert run.run_folder is not None
    nb.replay(run.run_folder, sinks=[SINKS[name](tmp_path / "whole")])
    sink.open(resumed=False)
    sink.close()

    nb.replay(run.run_folder, sinks=[SINKS[name](tmp_path / "out")], cursors=tmp_path / "out")

    assert sink.path.read_bytes() == (tmp_path / "whole" / sink.path.name).read_bytes()


def test_a_begun_file_of_another_runs_replay_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, second = (fit(tmp_path / name, [], epochs=1) for name in ("first", "second"))
    assert first.run_folder is not None
    assert second.run_folder is not None
    begun = nb.CSV(out)
    begun.open(resumed=False)
    begun.close()
    state = CursorFile(first.run_folder, "csv", out)
    state.commit(Cursor(0, 0, "CSV", begun.state()))

    with pytest.raises(nb.NightbusError, match="exists already"):
        nb.replay(second.run_folder, sinks=[nb.CSV(out)], cursors=out)


def test_a_file_elsewhere_with_more_than_its_head_is_left_alone(tmp_path: Path) -> None:
    sink = nb.CSV(tmp_path / "elsewhere")
    run = fit(tmp_path, [sink], epochs=1)
    left_by_a_killed_process(run, sink)
    precious = sink.path.read_text() + "1,2,mine\n"
    sink.path.write_text(precious)

    with pytest.raises(nb.NightbusError, match="exists already"):
        nb.replay(run.log_dir, sinks=[nb.CSV(tmp_path / "elsewhere")], resume=True)  # type: ignore[arg-type]

    assert sink.path.read_text() == precious


def test_so_is_one_that_a_process_has_open(tmp_path: Path) -> None:
    sink = nb.CSV(tmp_path / "elsewhere")
    run = fit(tmp_path, [sink], epochs=1)
    left_by_a_killed_process(run, sink)
    sink.path.unlink()
    sink.open(resumed=False)

    with pytest.raises(nb.NightbusError, match="exists already"):
        nb.replay(run.log_dir, sinks=[nb.CSV(tmp_path / "elsewhere")], resume=True)  # type: ignore[arg-type]

    sink.close()


@pytest.mark.parametrize("name", FILES)
def test_a_run_that_begins_takes_over_no_file(tmp_path: Path, name: str) -> None:
    begun, sink = (SINKS[name](tmp_path / "elsewhere") for _ in range(2))
    begun.open(resumed=False)
    begun.close()

    run = fit(tmp_path, [sink], epochs=1)

    assert "exists already" in str([fault.message for fault in events(run, nb.Fault)])


class Falls(Small):
    """Has a height in each epoch, and in the first a width and a depth, which is not shown."""

    def on_train_epoch_end(self) -> None:
        self.log("height", 8.0 - self.current_epoch, prog_bar=True)
        if self.current_epoch == 0:
            self.log("width", 3.0, prog_bar=True)
            self.log("depth", 4.0)


def final_table(tmp_path: Path, epochs: int, ckpt_path: Any = None) -> dict[str, list[str]]:
    """What a bar shows at the end of a run: name -> last, lowest, highest."""
    shown = io.StringIO()
    console = {"file": shown, "force_terminal": True, "width": 80, "color_system": None}
    bar = nb.RichProgressBar(console_kwargs=console)
    shows = {"enable_progress_bar": True, "callbacks": [bar], "limit_val_batches": 0}
    run = trainer(tmp_path, max_epochs=epochs, **shows)
    run.fit(Falls(), loader(), ckpt_path=ckpt_path)
    _, _, table = shown.getvalue().rpartition("metric")
    return {name: cells for name, *cells in map(str.split, table.splitlines()[1:]) if cells}


def test_the_table_at_the_end_of_a_resumed_run_covers_the_run(tmp_path: Path) -> None:
    assert final_table(tmp_path, 2)["height"] == ["7", "7", "8"]
    assert final_table(tmp_path, 4, "last")["height"] == ["5", "5", "8"]


def test_it_has_those_metrics_for_the_bar_that_only_earlier_attempts_recorded(
    tmp_path: Path,
) -> None:
    final_table(tmp_path, 2)
    table = final_table(tmp_path, 4, "last")

    assert table["width"] == ["3", "3", "3"]
    assert "depth" not in table
