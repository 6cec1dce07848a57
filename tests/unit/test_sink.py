"""The base of sinks: what is delivered when, whatever fails."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import nightbus as nb
from nightbus.bus.errors import SinkError
from nightbus.bus.events import Fault, RunStarted
from nightbus.bus.runs.cursor import RunReader, attempt_logs
from nightbus.bus.runs.run_folder import RunFolder
from nightbus.sinks.growing_file import replace_file
from nightbus.sinks.testing import SinkContract, record, some_puts


class Names(nb.Sink):
    """Writes the names of puts into a file, by a coroutine."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "names"
        self.names: list[str] = []

    def open(self, resumed: bool) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    async def write(self, batch: list[nb.Put]) -> None:
        self.names += [put.name for put in batch]

    def flush(self) -> None:
        self.path.write_text(" ".join(self.names))

    def state(self) -> dict[str, Any]:
        return {"names": list(self.names)}

    def load_state(self, state: Any) -> None:
        self.names = list(state["names"])


class TestASinkOfTheUsersOwn(SinkContract):
    def make(self, folder: Path) -> nb.Sink:
        return Names(folder)

    def read(self, folder: Path) -> str:
        return (folder / "names").read_text()


def test_a_row_that_a_killed_attempt_began_is_gone_on_with_live_and_in_replay(
    tmp_path: Path,
) -> None:
    run = RunFolder.create(tmp_path, "killed")
    first, second = some_puts(2)
    record(run, [first], [nb.CSV(tmp_path)], how="")
    record(run, [second], [nb.CSV(tmp_path)])
    nb.replay(run.path, sinks=[nb.CSV(tmp_path / "replayed")])

    assert first.step == second.step
    for folder in (tmp_path, tmp_path / "replayed"):
        assert (folder / "metrics.csv").read_text() == (
            "epoch,step,stage,loss,accuracy\n0,0,train,0.0,1\n"
        )


async def test_the_runs_clock_is_kept_before_anything_is_written(tmp_path: Path) -> None:
    sink = nb.JSONLines(tmp_path)
    await sink.on_start()

    started = RunStarted(0, 5, 0, "", 0, 0, -1, 0, "", "r", 0, "fit", 1_000_005, {}, {})
    await sink._deliver([started], lambda _: None)

    resumed = nb.JSONLines(tmp_path)
    resumed.load_cursor_state(sink.cursor_state())
    assert resumed.wall_ns(started) == 1_000_005


def test_the_last_row_of_a_killed_run_is_written_by_replay(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "killed")
    record(run, some_puts(2), how="")

    nb.replay(run.path, sinks=[nb.CSV(tmp_path)])

    assert (tmp_path / "metrics.csv").read_text().endswith("\n0,0,train,0.0,1\n")


def test_what_was_written_is_not_repeated_when_the_end_fails(tmp_path: Path) -> None:
    class FailsAtTheEnd(nb.JSONLines):
        failed = False

        def finish(self) -> None:
            if not self.failed and self._file is not None and self._file.size:
                self.failed = True
                raise OSError("on purpose")

    run, sink = RunFolder.create(tmp_path, "end"), FailsAtTheEnd(tmp_path)
    record(run, some_puts(3), [sink])

    assert sink.failed
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("kind", [nb.CSV, nb.JSONLines])
def test_one_sink_serves_two_runs_one_after_the_other(tmp_path: Path, kind: Any) -> None:
    sink = kind()
    runs = [RunFolder.create(tmp_path, "one"), RunFolder.create(tmp_path, "two")]
    for run in runs:
        record(run, some_puts(6), [sink])

    first, second = ((run.path / sink.file_name).read_bytes() for run in runs)
    assert len(first) == len(second) > 0


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 2 bytes: what a full disk is to a program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_at_the_start_leaves_nothing_in_the_way_of_the_next_try(
    tmp_path: Path,
) -> None:
    with full_disk(), pytest.raises(OSError, match="File too large"):
        nb.CSV(tmp_path).open(False)

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_columns_are_added_leaves_the_file_as_it_was(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"ab")

    with full_disk(), pytest.raises(OSError, match="File too large"):
        replace_file(path, [b"longer than before"])

    assert [(each, each.read_bytes()) for each in tmp_path.iterdir()] == [(path, b"ab")]


class Particular(nb.Sink):
    """Takes all numbers but three."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def write(self, batch: list[nb.Put]) -> None:
        for put in batch:
            if put.value == 3:
                self.refuse([put.name], put.step, ValueError("three is one too many"))
            else:
                self.values.append(put.value)


def test_a_record_that_is_refused_is_named_once_and_the_sink_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, sink = RunFolder.create(tmp_path, "refused"), Particular()
    puts = [structs.replace(put, name="n", value=put.seq % 4) for put in some_puts(12)]

    record(run, puts, [sink])

    assert sink.values == [0, 1, 2] * 3
    (fault,) = (event for event in RunReader(attempt_logs(run)).events() if type(event) is Fault)
    assert fault.source == "particular"
    assert fault.message == "left out 'n' of step 1: three is one too many"
    assert capsys.readouterr().err.count("particular left out 'n' of step 1") == 1


@pytest.mark.parametrize("state", [{"wall_offset_ns": "a\0b"}, {"attempt": [1]}, {"attempt": "x"}])
def test_a_cursors_state_that_makes_no_sense_is_named(state: dict[str, Any]) -> None:
    sink = nb.CSV()

    with pytest.raises(SinkError, match=r"what csv keeps with its cursor .* is damaged"):
        sink.load_cursor_state(state)
