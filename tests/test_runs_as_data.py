"""``nb.runs`` and ``nb.open_run``: what recorded runs are as data."""

import os
import threading
import time
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from models import Small, loader, trainer
from recorded_runs import SECOND_NS, RecordedAttempt, RecordedRun
from rich.console import Console

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.library import index
from nightbus.bus.log.reader import LogReader
from nightbus.bus.runs import kept_summary, run_summary
from nightbus.bus.runs.kept_summary import keep_summary
from nightbus.bus.runs.marks import Marks, changing_marks, write_marks
from nightbus.bus.runs.run_summary import SUMMARY, RunSummary, read_summaries


def put(attempt: RecordedAttempt, name: str, *values: float) -> None:
    for value in values:
        attempt.now_ns += SECOND_NS
        attempt.add(nb.Put, name, value, ("loggers",), "training_step")
    attempt.writer.flush()


def recorded(root: Path, lr: float, *losses: float, ends: bool = True) -> RecordedRun:
    """A run with a learning rate and losses, a second apart."""
    run = RecordedRun(root)
    attempt = run.attempt(is_silent=True)
    about = ({"max_epochs": 3, "precision": "32-true"}, {"torch": "2.9"}, None, {"lr": lr})
    where = {"host": "here", "git.commit": "abc"}
    begun_ns = attempt.now_ns
    attempt.add(nb.RunStarted, run.path.name, 0, "fit", begun_ns, *about, ("max_epochs",), where)
    put(attempt, "val_loss", *losses)
    if ends:
        attempt.end()
    return run


def settle(root: Path) -> None:
    """Let all changes of the runs' folders be of a while ago."""
    for folder in (root / "runs").iterdir():
        if folder.is_dir():
            os.utime(folder, (1_700_000_000, 1_700_000_000))


# -- one run -------------------------------------------------------------------------------------


def test_a_run_has_what_it_said_of_itself(tmp_path: Path) -> None:
    run = nb.open_run(recorded(tmp_path, 0.1, 0.5).path)

    assert run.hparams == {"lr": 0.1}
    assert run.config == {"max_epochs": 3}
    assert (run.environment["host"], run.versions["torch"]) == ("here", "2.9")
    assert (run.name, run.ending) == ("recorded", "completed")


def test_a_metric_is_all_its_values_with_steps_epochs_and_times(tmp_path: Path) -> None:
    run = nb.open_run(recorded(tmp_path, 0.1, *(1 / n for n in range(1, 2001))).path)

    series = run.metrics["val_loss"]

    np.testing.assert_array_equal(series.values, 1 / np.arange(1, 2001))
    np.testing.assert_allclose(np.diff(series.times), 1.0)
    np.testing.assert_allclose(series.walls - series.walls[0], series.times - series.times[0])
    assert series.steps.dtype == series.epochs.dtype == np.int64


def test_a_metric_that_there_is_not_says_which_are(tmp_path: Path) -> None:
    run = nb.open_run(recorded(tmp_path, 0.1, 0.5).path)

    with pytest.raises(nb.UsageError, match="no metric 'val_los'; it has val_loss"):
        run.metrics["val_los"]
    assert list(run.metrics) == ["val_loss"]
    assert "val_los" not in run.metrics


def test_events_are_chosen_by_type_and_condition(tmp_path: Path) -> None:
    run = nb.open_run(recorded(tmp_path, 0.1, 0.5, 3.0, 4.0).path)

    values = [event.value for event in run.events("Put", where="value > 1")]  # type: ignore[union-attr]

    assert values == [3.0, 4.0]


def test_superseded_values_are_left_out(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    first = run.attempt()
    put(first, "loss", 1.0)
    fork = first.fork()
    put(first, "loss", 99.0)
    first.end()
    second = run.attempt(fork=fork)
    put(second, "loss", 2.0)
    second.end()

    data = nb.open_run(run.path)

    assert data.metrics["loss"].values.tolist() == [1.0, 2.0]
    assert data.summary.metrics["loss"].high == 2.0
    assert len(data.attempts) == 2


def test_a_killed_run_is_followed_to_where_its_log_ends(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt()
    put(attempt, "loss", 1.0, 2.0)
    attempt.abandon()  # zeros that were allocated stay behind what is written

    assert len(list(nb.open_run(run.path).follow("Put"))) == 2


def test_a_run_that_goes_on_is_followed_to_its_end(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt()
    put(attempt, "loss", 1.0)
    seen: list[float] = []

    for event in nb.open_run(run.path).follow("Put", every_s=0.001):
        assert isinstance(event, nb.Put)
        seen.append(event.value)
        if len(seen) == 1:
            put(attempt, "loss", 2.0)
            attempt.end()

    assert seen == [1.0, 2.0]


def test_columns_of_a_run_are_those_of_pyarrow(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")

    table = nb.open_run(recorded(tmp_path, 0.1, 0.5, 0.25).path).to_arrow()

    assert isinstance(table, pyarrow.Table)
    assert table.column("value").to_pylist() == [0.5, 0.25]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_runs_and_the_values_of_one_are_tables_of_pandas_and_polars(
    tmp_path: Path, library: str
) -> None:
    pytest.importorskip(library)
    first = recorded(tmp_path, 0.1, 0.5, 0.25)
    recorded(tmp_path, "cosine", 1.0)  # type: ignore[arg-type]

    run = getattr(nb.open_run(first.path), f"to_{library}")()
    runs = getattr(nb.runs(tmp_path), f"to_{library}")()

    assert list(run["value"]) == [0.5, 0.25]
    assert list(run["step"]) == sorted(run["step"])
    assert sorted(map(str, runs["lr"])) == ["0.1", "cosine"]
    assert sorted(runs["val_loss"]) == [0.25, 1.0]


def test_what_a_stranger_wrote_is_text_in_html(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt()
    put(attempt, "<script>x</script>", 1.0)
    attempt.end()

    assert "<script>" not in nb.open_run(run.path)._repr_html_()
    assert "<script>" not in nb.runs(tmp_path)._repr_html_()


def test_rich_shows_runs_as_tables_and_no_control_sequences(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt()
    put(attempt, "[bold]x\x1b[31m", 1.0)
    attempt.end()
    shown = StringIO()
    console = Console(file=shown, width=100)
    console.print(nb.runs(tmp_path))
    console.print(nb.open_run(run.path))

    assert run.path.name in shown.getvalue()
    assert "[bold]" in shown.getvalue()  # as it is, not taken for a style
    assert "\x1b" not in shown.getvalue()


# -- many ----------------------------------------------------------------------------------------


def test_runs_are_chosen_and_sorted_by_what_they_say(tmp_path: Path) -> None:
    for lr, loss in ((0.1, 0.9), (0.01, 0.2), (0.001, 0.4)):
        recorded(tmp_path, lr, 1.0, loss)

    best = nb.runs(tmp_path / "runs", where="lr < 0.05", sort="val_loss")

    assert [run.hparams["lr"] for run in best] == [0.01, 0.001]
    assert "0.001" in repr(best)
    assert best[0].metrics["val_loss"].values[-1] == 0.2


def test_a_name_that_no_run_has_is_refused(tmp_path: Path) -> None:
    recorded(tmp_path, 0.1, 1.0)

    with pytest.raises(nb.UsageError, match="no run has 'val_los'; did you mean val_loss"):
        nb.runs(tmp_path, where="val_los < 1")


def test_runs_without_a_value_come_last_in_both_orders(tmp_path: Path) -> None:
    lost = RecordedRun(tmp_path).steps(0)
    recorded(tmp_path, 0.1, 1.0)
    recorded(tmp_path, 0.2, 2.0)

    for reverse in (False, True):
        assert nb.runs(tmp_path).sort("lr", reverse)[-1].path == lost


def test_a_name_that_stands_for_two_things_has_its_kind_in_front(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for lr in (0.1, 0.2):
        run = RecordedRun(tmp_path)
        attempt = run.attempt(is_silent=True)
        hparams = {"lr": lr, "group": f"of {lr}"}
        about: tuple[Any, ...] = ({}, {"torch": "2.9"}, None, hparams, (), {})
        attempt.add(nb.RunStarted, run.path.name, 0, "fit", attempt.now_ns, *about)
        put(attempt, "lr", 0.001)
        put(attempt, "epochs", 7.0)
        attempt.end()

    runs = nb.runs(tmp_path)
    columns = runs.columns()

    assert (columns["lr"], columns["metrics.lr"]) == ([0.1, 0.2], [0.001, 0.001])
    assert (columns["group"], columns["hparams.group"]) == (["", ""], ["of 0.1", "of 0.2"])
    assert columns["metrics.epochs"] == [7.0, 7.0]
    assert len(runs.where("hparams.group == 'of 0.1' and metrics.lr < 0.01")) == 1
    assert "metrics.lr" in runs.table()
    assert main(["ls", str(tmp_path), "--metric", "lr", "--hparams"]) == 0
    header, first, _ = capsys.readouterr().out.splitlines()
    assert header.split()[-3:] == ["lr", "hparams.group", "metrics.lr"]
    assert first.split()[-4:] == ["0.1", "of", "0.1", "0.001"]


# -- the index -----------------------------------------------------------------------------------


def table(root: Path) -> list[RunSummary]:
    return index.read_table(root / "runs")


def has_all(root: Path) -> bool:
    """Whether the index has all runs as they are, and can grow."""
    folders = dict(index._folders(root / "runs"))
    found = index._read_index(root / "runs" / index.FILE, folders)
    return found.rows.keys() == folders.keys() and found.can_grow and not found.is_strange


def test_the_index_says_the_same_as_the_runs(tmp_path: Path) -> None:
    for lr in (0.1, 0.2):
        recorded(tmp_path, lr, 1.0, lr)
    settle(tmp_path)

    assert table(tmp_path) == read_summaries(tmp_path / "runs")  # writes the index
    assert table(tmp_path) == read_summaries(tmp_path / "runs")  # reads it


def test_a_run_in_the_index_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path, 0.1, 1.0)
    settle(tmp_path)
    before = table(tmp_path)
    monkeypatch.setattr(index, "read_summary", lambda folder: pytest.fail("read again"))

    assert table(tmp_path) == before


def test_a_run_that_was_changed_is_read_again(tmp_path: Path) -> None:
    run = recorded(tmp_path, 0.1, 1.0)
    settle(tmp_path)
    table(tmp_path)
    attempt = run.attempt()
    put(attempt, "more", 1.0)
    attempt.end()

    assert "more" in table(tmp_path)[0].metrics


def test_a_run_that_goes_on_is_read_each_time(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt()
    settle(tmp_path)
    assert table(tmp_path)[0].is_running
    attempt.end()
    settle(tmp_path)

    assert table(tmp_path)[0].ending == "completed"


@pytest.mark.parametrize("segment_bytes", [4096, 16 << 20])
def test_of_a_run_that_goes_on_only_what_is_new_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segment_bytes: int
) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt(segment_bytes=segment_bytes)
    read, seen = LogReader.read, list[int]()

    def counted(reader: LogReader, *arguments: Any) -> Any:
        events = read(reader, *arguments)
        seen.append(len(events))
        return events

    for number in range(40):
        attempt.steps(5)
        monkeypatch.setattr(LogReader, "read", counted)
        (found,) = table(tmp_path)
        again = table(tmp_path)
        monkeypatch.undo()
        assert [found] == again
        assert (found.steps, found.metrics["loss"].count) == (5 * number + 5, 5 * number + 5)
        assert found.metrics["loss"].low == 1.0
    attempt.end()

    assert table(tmp_path) == read_summaries(tmp_path / "runs")
    assert sum(seen) < 3 * attempt.last_seq
    assert len(run_summary._growing) <= run_summary.MAX_GROWING


def test_a_run_that_was_changed_this_moment_is_not_kept(tmp_path: Path) -> None:
    recorded(tmp_path, 0.1, 1.0)
    table(tmp_path)

    assert not (tmp_path / "runs" / index.FILE).exists()


def test_a_removed_run_leaves_the_index(tmp_path: Path) -> None:
    import shutil

    gone, kept = recorded(tmp_path, 0.1, 1.0), recorded(tmp_path, 0.2, 1.0)
    settle(tmp_path)
    table(tmp_path)
    shutil.rmtree(gone.path)

    assert len(table(tmp_path)) == 1
    held = (tmp_path / "runs" / index.FILE).read_bytes()
    assert gone.path.name.encode() not in held
    assert kept.path.name.encode() in held


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_a_damaged_index_is_written_again(tmp_path: Path, content: bytes) -> None:
    recorded(tmp_path, 0.1, 1.0)
    settle(tmp_path)
    before = table(tmp_path)
    (tmp_path / "runs" / index.FILE).write_bytes(content)

    assert table(tmp_path) == before
    assert has_all(tmp_path)


def test_an_index_of_another_version_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path, 0.1, 1.0)
    settle(tmp_path)
    monkeypatch.setattr(index, "_LAYOUT", "older")
    table(tmp_path)
    monkeypatch.undo()

    assert table(tmp_path) == read_summaries(tmp_path / "runs")
    assert has_all(tmp_path)


def test_several_may_read_and_write_the_index_at_once(tmp_path: Path) -> None:
    for lr in range(8):
        recorded(tmp_path, lr, 1.0)
    settle(tmp_path)
    expected, found = read_summaries(tmp_path / "runs"), list[list[RunSummary]]()
    threads = [
        threading.Thread(target=lambda: found.append(table(tmp_path)), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert found == [expected] * 8


def test_the_index_is_of_its_owner_alone(tmp_path: Path) -> None:
    recorded(tmp_path, 0.1, 1.0)
    settle(tmp_path)
    table(tmp_path)

    assert (tmp_path / "runs" / index.FILE).stat().st_mode & 0o777 == 0o600


def test_a_table_without_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.NightbusError, match="is not a folder"):
        nb.runs(tmp_path / "nowhere")


def test_created_is_in_seconds_since_1970(tmp_path: Path) -> None:
    recorded(tmp_path, 0.1, 1.0)

    assert len(nb.runs(tmp_path, where=f"created > {time.time() - 3600}")) == 1


def test_a_notebook_shows_a_run_and_its_trainer_with_a_curve_of_each_metric(
    tmp_path: Path,
) -> None:
    made = trainer(tmp_path, max_epochs=1)
    before = made._repr_html_()
    made.fit(Small(), loader(), loader())
    assert made.run_folder is not None
    run = nb.open_run(made.run_folder.path)

    shown = run._repr_html_()

    assert "max_epochs=1" in before
    assert shown.count("<polyline") == len(run.metrics) > 0
    assert made._repr_html_() == shown
    assert f'href="{run.path}"' in shown


# -- summaries that runs keep --------------------------------------------------------------------


def kept(root: Path, lr: float) -> RecordedRun:
    """A run that has ended and kept its summary."""
    run = recorded(root, lr, 1.0, lr)
    keep_summary(run.folder)
    return run


def test_a_first_table_is_made_of_the_summaries_that_runs_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lr in (0.1, 0.2):
        kept(tmp_path, lr)
    expected = read_summaries(tmp_path / "runs")
    monkeypatch.setattr(index, "read_summary", lambda folder: pytest.fail("read from its log"))

    assert table(tmp_path) == expected


def test_a_training_keeps_its_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer(tmp_path, max_epochs=1).fit(Small(), loader(8))
    monkeypatch.setattr(index, "read_summary", lambda folder: pytest.fail("read from its log"))

    (found,) = table(tmp_path)

    assert (found.ending, found.steps) == ("completed", 2)


def test_a_summary_in_a_folder_that_was_renamed_says_where_the_run_is(tmp_path: Path) -> None:
    moved = kept(tmp_path, 0.1).path.rename(tmp_path / "runs" / "other")

    assert [run.path for run in table(tmp_path)] == [str(moved)]


@pytest.mark.parametrize("change", ["attempt", "marks", "cut", "gone", "nonsense", "other layout"])
def test_a_summary_does_not_hold_for_what_has_changed_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    run = kept(tmp_path, 0.1)
    (segment,) = (run.path / "attempt-000").rglob("*.nlog*")
    changed = run.path.stat().st_mtime_ns
    match change:
        case "attempt":
            put(attempt := run.attempt(), "more", 1.0)
            attempt.end()
        case "marks":
            with changing_marks(run.folder):
                write_marks(run.folder, Marks("other", ("tag",)))
        case "cut":
            os.truncate(segment, segment.stat().st_size - 30)
        case "gone":
            segment.unlink()
        case "nonsense":
            (run.path / SUMMARY).write_bytes(b"no summary")
            os.utime(run.path, ns=(changed, changed))
        case "other layout":
            monkeypatch.setattr(kept_summary, "LAYOUT", "older")

    assert kept_summary.kept_summary(str(run.path), run.path.stat().st_mtime_ns) is None
    assert table(tmp_path) == read_summaries(tmp_path / "runs")


def test_a_run_that_goes_on_or_is_gone_keeps_no_summary(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt()
    keep_summary(run.folder)
    assert not (run.path / SUMMARY).exists()
    attempt.end()
    moved = run.path.rename(tmp_path / "moved")

    keep_summary(run.folder)

    assert not run.path.exists()
    assert not (moved / SUMMARY).exists()


def test_a_summary_names_no_file_outside_of_its_run(tmp_path: Path) -> None:
    run = kept(tmp_path, 0.1)
    changed = run.path.stat().st_mtime_ns
    said = msgspec.msgpack.decode((run.path / SUMMARY).read_bytes())
    said["segments"] = {"../../outside": 0}
    (tmp_path / "outside").touch()
    (run.path / SUMMARY).write_bytes(msgspec.msgpack.encode(said))

    assert kept_summary.kept_summary(str(run.path), changed) is None
