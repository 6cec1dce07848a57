"""The report on a run: what was recorded, wherever in the log it lies and however the log ends."""

import math
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nightbus as nb
from nightbus.bus.events import Fork, Gap
from nightbus.bus.inspection.report import MAX_LISTED, AttemptReport, RunReport, summarise
from nightbus.bus.log.place import Place
from nightbus.bus.log.segments import compress_segment
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.routes import Routes

WALL_NS = 1_700_000_000_000_000_000


class Attempt:
    """Records one attempt of a run, as a trainer does, without one."""

    def __init__(self, run: nb.RunFolder, fork: Fork | None = None, **options: Any) -> None:
        self.lock = run.begin_attempt()
        self.store = run.store(self.lock.attempt)
        self.place = Place()
        identity = LogIdentity(run.info.id, self.lock.attempt)
        self.writer = LogWriter(self.store, identity, self.place, **options)
        self.routes = Routes(self.place)
        self.routes.refresh()
        number = self.lock.attempt
        self.emit(nb.RunStarted, run.info.id, number, "fit", WALL_NS, {}, {}, fork)

    def emit(self, kind: type[nb.Event], *fields: Any, source: str = "") -> None:
        self.writer.append(self.writer.event(kind, *fields, source=source))
        self.writer.flush()

    def steps(self, *values: float, name: str = "loss") -> None:
        """A step for each value: two hooks and a put."""
        for value in values:
            self.place.complete_step(self.place.step + 1)
            self.routes.call("on_a")
            self.routes.call("on_b")
            self.emit(nb.Put, name, value, ("loggers",), "on_a", source="module")

    def end(self, how: str = "completed", reason: str = "") -> None:
        self.emit(nb.RunEnded, how, reason)
        self.writer.close()
        self.lock.release()

    def die(self) -> None:
        """Leave the log as a killed process does."""
        self.writer.flush()
        self.lock.release()


@pytest.fixture
def run(tmp_path: Path) -> nb.RunFolder:
    return nb.RunFolder.create(tmp_path, "Test")


def the_attempt(report: RunReport) -> AttemptReport:
    (attempt,) = report.attempts
    return attempt


# -- what it says --------------------------------------------------------------------------------


def test_a_metric_has_its_last_lowest_and_highest_value_and_their_steps(run: nb.RunFolder) -> None:
    attempt = Attempt(run)
    attempt.steps(3.0, 1.0, 5.0, 2.0)
    attempt.end()

    loss = summarise(run).metrics["loss"]

    assert (loss.count, loss.last, loss.last_epoch, loss.last_step) == (4, 2.0, 0, 4)
    assert (loss.low, loss.low_step) == (1.0, 2)
    assert (loss.high, loss.high_step) == (5.0, 3)


def test_nan_and_infinity_are_counted_and_are_never_lowest_or_highest(run: nb.RunFolder) -> None:
    attempt = Attempt(run)
    attempt.steps(math.inf, 1.0, math.nan, -math.inf)
    attempt.end()

    loss = summarise(run).metrics["loss"]

    assert (loss.count, loss.non_finite, loss.last) == (4, 3, -math.inf)
    assert (loss.low, loss.high) == (1.0, 1.0)


def test_a_metric_that_was_never_finite_has_no_lowest_and_no_highest(run: nb.RunFolder) -> None:
    attempt = Attempt(run)
    attempt.steps(math.nan)
    attempt.end()

    loss = summarise(run).metrics["loss"]

    assert (loss.low, loss.low_step, loss.high, loss.high_step) == (None, None, None, None)


def test_hooks_are_counted_and_timed(run: nb.RunFolder) -> None:
    attempt = Attempt(run)
    attempt.steps(1.0, 2.0, 3.0)
    attempt.end()

    report = summarise(run)

    assert {name: hook.count for name, hook in report.hooks.items()} == {"on_a": 3, "on_b": 3}
    assert all(hook.mean_ns == hook.total_ns / 3 for hook in report.hooks.values())


def test_events_are_counted_by_type(run: nb.RunFolder) -> None:
    attempt = Attempt(run)
    attempt.steps(1.0, 2.0)
    attempt.end()

    counted = the_attempt(summarise(run)).events

    assert counted == {"Hook": 4, "Put": 2, "RunStarted": 1, "RunEnded": 1}


def test_an_attempt_tells_what_ran_when_and_how_it_ended(run: nb.RunFolder) -> None:
    attempt = Attempt(run)
    attempt.steps(1.0, 2.0)
    attempt.place.move(epoch=1)
    attempt.end("stopped", "loss is flat")

    found = the_attempt(summarise(run))

    assert (found.fn, found.started_ns) == ("fit", WALL_NS)
    assert (found.how, found.reason, found.log_end) == ("stopped", "loss is flat", None)
    assert (found.epochs, found.steps) == (1, 2)
    assert 0 < found.duration_s < 60


def test_faults_are_listed_with_their_place(run: nb.RunFolder) -> None:
    attempt = Attempt(run)
    attempt.steps(1.0)
    attempt.emit(nb.Fault, "ValueError", "boom", "where", "running", source="csv")
    attempt.end()

    (fault,) = summarise(run).faults

    assert (fault.source, fault.hook, fault.error, fault.message) == (
        "csv",
        "running",
        "ValueError",
        "boom",
    )
    assert (fault.attempt, fault.step) == (0, 1)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_dead_letters_and_gaps_are_listed(run: nb.RunFolder, is_sealed: bool) -> None:
    attempt = Attempt(run)
    attempt.steps(1.0)
    attempt.emit(nb.DeadLetter, "nobody", "Stop", "nobody of that name", source="watch")
    attempt.emit(Gap, 7, "No space left on device")
    attempt.end() if is_sealed else attempt.die()

    report = summarise(run)

    (letter,) = report.dead_letters
    assert (letter.source, letter.target, letter.command) == ("watch", "nobody", "Stop")
    assert letter.reason == "nobody of that name"
    (gap,) = report.gaps
    assert (gap.count, gap.reason, gap.step) == (7, "No space left on device", 1)


def test_what_is_too_much_to_list_is_still_counted(run: nb.RunFolder) -> None:
    attempt = Attempt(run)
    for number in range(MAX_LISTED + 5):
        attempt.emit(nb.DeadLetter, f"actor-{number}", "Stop", "gone", source="watch")
        attempt.emit(nb.Fault, "ValueError", str(number), "", "", source="watch")
    attempt.end()

    report = summarise(run)

    assert [letter.target for letter in report.dead_letters] == [
        f"actor-{number}" for number in range(MAX_LISTED)
    ]
    assert len(report.faults) == MAX_LISTED
    assert the_attempt(report).events["DeadLetter"] == MAX_LISTED + 5
    assert the_attempt(report).events["Fault"] == MAX_LISTED + 5


# -- several attempts ----------------------------------------------------------------------------


def test_attempts_stand_apart_and_their_metrics_together(run: nb.RunFolder) -> None:
    first = Attempt(run)
    first.steps(4.0, 3.0)
    first.die()
    second = Attempt(run, Fork(0, 6, "checkpoints/last"))
    second.steps(2.0, 1.0, 6.0)
    second.end()

    report = summarise(run)

    assert [attempt.how for attempt in report.attempts] == ["killed", "completed"]
    assert [attempt.events["Put"] for attempt in report.attempts] == [2, 3]
    loss = report.metrics["loss"]
    assert (loss.count, loss.last, loss.low, loss.high) == (5, 6.0, 1.0, 6.0)


def test_a_resumed_attempt_names_its_fork(run: nb.RunFolder) -> None:
    Attempt(run).end()
    Attempt(run, Fork(0, 5, "checkpoints/last")).end()

    first, second = summarise(run).attempts

    assert first.fork is None
    assert second.fork is not None
    assert (second.fork.attempt, second.fork.seq) == (0, 5)
    assert second.fork.checkpoint == "checkpoints/last"


def test_a_run_that_was_never_started_has_no_attempts(run: nb.RunFolder) -> None:
    report = summarise(run)

    assert (report.attempts, report.metrics) == ([], {})


# -- wherever it lies ----------------------------------------------------------------------------


def leave_as_it_is(attempt: Attempt) -> None:
    """Sealed segments lie plain."""


def compress_all(attempt: Attempt) -> None:
    for index in attempt.store.indices():
        compress_segment(attempt.store, index)


def damage_the_footer(attempt: Attempt) -> None:
    path = attempt.store.path(attempt.store.indices()[-1])
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)


def wipe_the_bodies(attempt: Attempt) -> None:
    for index in attempt.store.indices():
        path = attempt.store.path(index)
        data = path.read_bytes()
        footer = int.from_bytes(data[-16:-8], "little")
        path.write_bytes(data[:8] + bytes(footer - 8) + data[footer:])


@pytest.mark.parametrize(
    "treat", [leave_as_it_is, compress_all, damage_the_footer, wipe_the_bodies]
)
@pytest.mark.parametrize("segment_bytes", [1 << 20, 1 << 12])
def test_it_says_the_same_of_one_segment_or_many_compressed_or_without_a_footer_or_a_body(
    run: nb.RunFolder, segment_bytes: int, treat: Callable[[Attempt], None]
) -> None:
    attempt = Attempt(run, segment_bytes=segment_bytes)
    attempt.steps(*map(float, range(100)))
    attempt.end()
    treat(attempt)

    report = summarise(run)

    assert the_attempt(report).how == "completed"
    assert the_attempt(report).steps == 100
    assert the_attempt(report).events["Hook"] == 200
    loss = report.metrics["loss"]
    assert (loss.count, loss.low, loss.high, loss.high_step) == (100, 0.0, 99.0, 100)


def test_the_end_of_the_run_counts_though_observers_recorded_more_after_it(
    run: nb.RunFolder,
) -> None:
    attempt = Attempt(run, segment_bytes=1 << 12)
    attempt.emit(nb.RunEnded, "completed", "")
    while attempt.store.indices()[-1] < 2:
        attempt.emit(nb.Fault, "ValueError", "boom", "where", "running", source="csv")
    attempt.writer.close()
    attempt.lock.release()

    assert the_attempt(summarise(run)).how == "completed"


# -- however it ends -----------------------------------------------------------------------------


def test_a_run_that_is_being_written_is_still_running(run: nb.RunFolder) -> None:
    attempt = Attempt(run)
    attempt.steps(1.0)

    found = the_attempt(summarise(run))

    assert (found.how, found.log_end) == ("running", None)
    attempt.end()


def test_a_run_whose_process_is_gone_was_cut_off_where_its_last_frame_ends(
    run: nb.RunFolder,
) -> None:
    attempt = Attempt(run)
    attempt.steps(1.0, 2.0)
    attempt.die()

    report = summarise(run)

    found = the_attempt(report)
    assert found.how == "killed"
    assert found.log_end is not None
    assert (found.log_end.segment, found.log_end.offset) == attempt.writer.committed
    assert report.metrics["loss"].count == 2


def test_a_torn_frame_is_not_counted_and_named_as_the_end(run: nb.RunFolder) -> None:
    attempt = Attempt(run)
    attempt.steps(1.0)
    _, whole = attempt.writer.committed
    attempt.steps(2.0)
    attempt.die()
    _, torn = attempt.writer.committed
    with open(attempt.store.path(0), "r+b") as file:
        file.truncate(torn - 1)

    report = summarise(run)

    end = the_attempt(report).log_end
    assert end is not None
    assert (end.offset, end.reason) == (whole, "ends inside a frame")
    assert report.metrics["loss"].count == 1


def test_a_last_segment_of_zeroes_as_after_a_power_cut_hides_nothing_before_it(
    run: nb.RunFolder,
) -> None:
    attempt = Attempt(run, segment_bytes=1 << 12)
    while attempt.store.indices()[-1] < 2:
        attempt.steps(1.0)
    attempt.die()
    last = attempt.store.path(2)
    last.write_bytes(bytes(last.stat().st_size))

    report = summarise(run)

    found = the_attempt(report)
    assert found.how == "killed"
    assert found.log_end is not None
    assert found.log_end.segment == 2
    assert report.metrics["loss"].count == found.events["Put"] > 10


def test_a_segment_that_is_missing_is_named(run: nb.RunFolder) -> None:
    attempt = Attempt(run, segment_bytes=1 << 12)
    while attempt.store.indices()[-1] < 3:
        attempt.steps(1.0)
    attempt.end()
    attempt.store.path(1).unlink()

    found = the_attempt(summarise(run))

    assert (found.how, found.missing_segments) == ("completed", [1])


# -- what it costs -------------------------------------------------------------------------------


def peak_bytes(run: nb.RunFolder) -> int:
    tracemalloc.start()
    try:
        summarise(run)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.long
def test_memory_stays_flat_however_long_the_log(tmp_path: Path) -> None:
    short, long = nb.RunFolder.create(tmp_path, "short"), nb.RunFolder.create(tmp_path, "long")
    for run, number in ((short, 5_000), (long, 20_000)):
        attempt = Attempt(run)
        attempt.steps(*map(float, range(number)))
        attempt.die()

    assert peak_bytes(long) < 1.2 * peak_bytes(short)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_it_loads_nothing_that_it_does_not_need(run: nb.RunFolder, is_sealed: bool) -> None:
    attempt = Attempt(run)
    attempt.steps(1.0)
    attempt.end() if is_sealed else attempt.die()
    program = f"""
import sys
from nightbus.bus.inspection.report import summarise
from nightbus.bus.runs.run_folder import RunFolder

summarise(RunFolder.open({str(run.path)!r}))
print(*sorted({{"torch", "numpy", "trio", "structlog", "rich"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.stdout.split(), done.stderr) == ([], "")
