"""The contract that every sink must pass, including users' own.

Subclass ``SinkContract`` in a test file, and define how to make the sink and how to read what it
wrote::

    class TestMySink(SinkContract):
        def make(self, folder):
            return MySink(folder)

        def read(self, folder):
            return (folder / "out").read_bytes()
"""

import inspect
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import trio
from msgspec import structs

from ..bus.bus import Bus
from ..bus.events import Ending, Put, RunStarted, Scalar
from ..bus.log.place import Place
from ..bus.log.writer import LogIdentity, LogWriter
from ..bus.replay.replay import replay
from ..bus.runs.cursor import PlainState, Position, attempt_logs
from ..bus.runs.run_folder import RunFolder
from .sink import Sink

DRAIN_TIMEOUT_S = 30.0


def some_puts(number: int = 60) -> list[Put]:
    """Return the puts of a short training: several metrics, late ones too, NaN and infinities."""
    puts = []
    for seq in range(number):
        step = seq // 3
        name = ("loss", "accuracy", 'a, "quoted" name' if step > 5 else "rate")[seq % 3]
        value: Any = (0.1 * seq, seq, math.nan if seq % 7 else math.inf)[seq % 3]
        destinations = ("progress_bar", "callbacks", "loggers")
        puts.append(
            Put(
                seq,
                1000 * seq,
                0,
                "train",
                step // 10,
                step,
                step % 10,
                0,
                "module",
                name,
                value,
                destinations,
                "training_step",
            )
        )
    return puts


def record(
    run: RunFolder,
    puts: Sequence[Put],
    sinks: Sequence[Sink] = (),
    *,
    how: Ending | Literal[""] = "completed",
) -> None:
    """Record one more attempt of a run, without a trainer.

    Args:
        run: the run.
        puts: the puts, each at its own epoch, step and batch.
        sinks: these observe it live, continuing where they were after the attempt before.
        how: how the attempt ends; empty to end it without a record, as if it was killed.
    """
    earlier = attempt_logs(run)
    lock = run.begin_attempt()
    place, store = Place(), run.store(lock.attempt)
    bus = Bus(place, earlier, run)
    try:
        bus.open_log(LogWriter(store, LogIdentity(run.info.id, lock.attempt), place), store)
        bus.start()
        for sink in sinks:
            bus.register(sink)
            bus.observe(sink, Position(0, 0), keep_cursor=True)
        bus.emit(RunStarted, run.info.id, lock.attempt, "fit", time.time_ns(), {}, {})
        for put in puts:
            place.move(stage=put.stage, epoch=put.epoch, step=put.step, batch_idx=put.batch_idx)
            bus.emit(Put, put.name, put.value, put.destinations, put.hook, source=put.source)
            bus.flush()
        ended = (how, "") if how else None
        unfinished = [
            f"{observer.name}: {observer.gave_up}" for observer in bus.close(DRAIN_TIMEOUT_S, ended)
        ]
        assert not unfinished, unfinished
    finally:
        lock.release()


class SinkContract:
    """Tests that every sink must pass; see the module."""

    def make(self, folder: Path) -> Sink:
        """Return a new sink that writes below ``folder``."""
        raise TypeError(f"{type(self).__name__} must define make(self, folder)")

    def read(self, folder: Path) -> Any:
        """Return what the sink wrote, in a form that can be compared."""
        raise TypeError(f"{type(self).__name__} must define read(self, folder)")

    def deliver(self, folder: Path, *batches: list[Put]) -> Any:
        """Deliver batches to a new sink, and end it properly.

        Args:
            folder: where the sink writes.
            batches: the puts of each ``write``.

        Returns:
            What ``read`` returns afterwards.
        """
        sink = self.make(folder)
        sink.open(False)
        for batch in batches:
            _write(sink, batch)
        _end(sink)
        return self.read(folder)

    def test_what_is_left_does_not_depend_on_how_events_are_batched(self, tmp_path: Path) -> None:
        puts = some_puts()

        at_once = self.deliver(tmp_path / "a", puts)
        one_by_one = self.deliver(tmp_path / "b", *[[put] for put in puts])

        assert at_once == one_by_one

    def test_a_sink_goes_on_from_its_state_after_a_crash(self, tmp_path: Path) -> None:
        puts = some_puts()
        whole = self.deliver(tmp_path / "whole", puts)

        for kept, delivered in ((0, 5), (19, 21), (20, 33), (40, 60), (60, 60)):
            folder = tmp_path / f"{kept}-{delivered}"
            crashed = self.make(folder)
            crashed.open(False)
            _write(crashed, puts[:kept])
            state: PlainState = dict(crashed.state())
            # Written, but the state was not saved: delivered once more.
            _write(crashed, puts[kept:delivered])
            crashed.close()
            resumed = self.make(folder)
            resumed.load_state(state)
            resumed.open(True)
            _write(resumed, puts[kept:])
            _end(resumed)

            assert self.read(folder) == whole, f"state of {kept}, crash after {delivered}"

    def test_live_and_replay_leave_the_same(self, tmp_path: Path) -> None:
        run = RunFolder.create(tmp_path, "contract")
        record(run, some_puts(), [self.make(tmp_path / "live")])

        replay(run, sinks=[self.make(tmp_path / "replayed")])

        assert self.read(tmp_path / "live") == self.read(tmp_path / "replayed")

    def test_a_second_attempt_goes_on_where_the_first_ended(self, tmp_path: Path) -> None:
        run, puts = RunFolder.create(tmp_path, "contract"), some_puts()
        record(run, puts[:31], [self.make(tmp_path / "live")], how="")
        record(run, puts[25:], [self.make(tmp_path / "live")])

        replay(run, sinks=[self.make(tmp_path / "replayed")])

        assert self.read(tmp_path / "live") == self.read(tmp_path / "replayed")

    def test_a_failed_write_loses_and_repeats_nothing(self, tmp_path: Path) -> None:
        run, sink = RunFolder.create(tmp_path, "contract"), self.make(tmp_path / "live")
        _fail_once(sink, after=25)
        record(run, some_puts(), [sink])

        replay(run, sinks=[self.make(tmp_path / "replayed")])

        assert self.read(tmp_path / "live") == self.read(tmp_path / "replayed")

    def test_a_sink_takes_many_names(self, tmp_path: Path) -> None:
        template = some_puts(1)[0]
        puts = [_renamed(template, seq, f"metric {seq % 1000}") for seq in range(3000)]

        at_once = self.deliver(tmp_path / "a", puts)
        in_parts = self.deliver(tmp_path / "b", puts[:1500], puts[1500:])

        assert at_once == in_parts

    def test_extreme_numbers_live_and_in_replay_leave_the_same(self, tmp_path: Path) -> None:
        run, puts = RunFolder.create(tmp_path, "contract"), _with_extreme_values(some_puts())
        record(run, puts[:31], [self.make(tmp_path / "live")], how="")
        record(run, puts[31:], [self.make(tmp_path / "live")])

        replay(run, sinks=[self.make(tmp_path / "replayed")])

        assert self.read(tmp_path / "live") == self.read(tmp_path / "replayed")

    def test_a_record_that_a_sink_cannot_hold_costs_no_other(self, tmp_path: Path) -> None:
        puts = some_puts()
        odd = [structs.replace(put, step=1 << 63) for put in some_puts(3)]

        without = self.deliver(tmp_path / "without", puts)
        at_once = self.deliver(tmp_path / "at once", [*puts[:30], *odd, *puts[30:]])
        in_parts = self.deliver(
            tmp_path / "in parts", puts[:30], *[[put] for put in odd], puts[30:]
        )

        assert at_once == in_parts
        assert len(repr(at_once)) >= len(repr(without))

    def test_a_sink_that_gets_nothing_leaves_something_readable(self, tmp_path: Path) -> None:
        self.deliver(tmp_path / "a", [])


def _write(sink: Sink, batch: list[Put]) -> None:
    if inspect.iscoroutinefunction(sink.write):
        trio.run(sink.write, batch)
    else:
        sink.write(batch)
    sink.flush()


def _end(sink: Sink) -> None:
    sink.finish()
    sink.flush()
    sink.close()


def _with_extreme_values(puts: Sequence[Put]) -> list[Put]:
    """Return the same puts with the most extreme values that the log takes."""
    odd: list[Scalar] = [1 << 63, -(1 << 63), (1 << 64) - 1, True, math.inf, -math.inf, math.nan]
    odd += [sys.float_info.max, 5e-324]
    return [structs.replace(put, value=odd[put.seq % len(odd)]) for put in puts]


def _renamed(put: Put, seq: int, name: str) -> Put:
    return Put(
        seq,
        put.time_ns,
        put.rank,
        put.stage,
        put.epoch,
        put.step,
        put.batch_idx,
        put.dataloader_idx,
        put.source,
        name,
        float(seq),
        put.destinations,
        put.hook,
    )


def _fail_once(sink: Sink, after: int) -> None:
    """Have the sink fail once, halfway through a write, after ``after`` events."""
    write, got, failed = sink.write, 0, False

    def begin(batch: list[Any]) -> bool:
        nonlocal got, failed
        got += len(batch)
        fails = got > after and not failed
        failed = failed or fails
        return fails

    async def write_async(batch: list[Any]) -> None:
        if begin(batch):
            await write(batch[: len(batch) // 2])
            raise OSError("failed on purpose")
        await write(batch)

    def write_plainly(batch: list[Any]) -> None:
        if begin(batch):
            write(batch[: len(batch) // 2])
            raise OSError("failed on purpose")
        write(batch)

    is_async = inspect.iscoroutinefunction(write)
    object.__setattr__(sink, "write", write_async if is_async else write_plainly)
