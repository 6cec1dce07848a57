"""Steps in which the same happens as before are written by a shorter way: the log is the same.

Most tests write the same steps twice: by the writer that knows steps, and by the plain one.
"""

import gc
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NamedTuple

import pytest
from helpers import DEADLINE_S, Arriving, read_to_end
from hypothesis import given, settings
from hypothesis import strategies as st

from nightbus.bus.events import Hook, Put, Stage
from nightbus.bus.log.codec import DecodedEvent
from nightbus.bus.log.codes import BEGIN, END, RAN, ran
from nightbus.bus.log.fast_flush import MAX_SHAPES, FastLogWriter
from nightbus.bus.log.place import Place
from nightbus.bus.log.reader import EndKind
from nightbus.bus.log.segments import FolderStore, read_footer
from nightbus.bus.log.writer import LogIdentity, LogWriter

BEFORE_THE_STEP = (
    "on_before_batch_transfer",
    "on_after_batch_transfer",
    "on_batch_start",
    "on_train_batch_start",
)


LAST_HOOK = "on_train_batch_end"


@pytest.fixture(autouse=True, scope="module")
def _() -> Iterator[None]:
    """What a segment has of chance and of the hour is the same in all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secrets.randbits", lambda _: 7)
        patch.setattr("time.time_ns", lambda: 0)
        yield


class Counting(FastLogWriter):
    """A writer that counts what it wrote the plain way."""

    plain = 0

    def _flush_and_learn(self, wait: bool, marks: bytes) -> None:
        self.plain += 1
        super()._flush_and_learn(wait, marks)


class Written(NamedTuple):
    """A log that was written.

    Attributes:
        events: as they are read.
        totals: count and total ns of each hook, as the footers have them.
        frames: the bytes of each segment up to its footer, where hooks are in the order in which
            they were counted.
        is_sealed: whether each segment has a footer.
    """

    events: list[DecodedEvent]
    totals: dict[str, tuple[int, int]]
    frames: list[bytes]
    is_sealed: bool


class Steps:
    """Steps of each kind, on a clock of their own that goes on by 10 ns at each thing that happens.

    Args:
        kind: of the writer.
        options: the writer's.
    """

    def __init__(self, kind: type[LogWriter] = FastLogWriter, **options: Any) -> None:
        self.now_ns = 0
        self._folder = TemporaryDirectory()
        self.store = FolderStore(Path(self._folder.name))
        self.place = Place()
        self.writer = kind(
            self.store, LogIdentity("test"), self.place, clock_ns=lambda: self.now_ns, **options
        )
        self.place.move(stage="train")

    def written(self) -> Written:
        """The log, closed."""
        self.writer.close()
        events, end = read_to_end(self.store)
        assert end.kind is EndKind.SEALED
        totals: dict[str, tuple[int, int]] = {}
        footers = [read_footer(self.store, index) for index in self.store.indices()]
        for footer in footers:
            for name, cell in footer.summary.hooks.items() if footer is not None else ():
                count, total_ns = totals.get(name, (0, 0))
                totals[name] = count + cell.count, total_ns + cell.total_ns
        files = [self.store.path(index).read_bytes() for index in self.store.indices()]
        frames = [
            file if footer is None else file[: footer.body_bytes]
            for file, footer in zip(files, footers, strict=True)
        ]
        self._folder.cleanup()
        return Written(events, totals, frames, None not in footers)

    def do(self, action: int, hook: str) -> None:
        self.now_ns += 10
        self.place.recorder.trace.appender(action, hook)(self.now_ns)

    def put(self, value: Any = 1.0) -> Put:
        self.now_ns += 10
        return self.writer.event(Put, "loss", value, (), "", source="module")

    def append(self) -> None:
        """Put a value."""
        self.writer.append(self.put())

    def next_batch(self) -> None:
        self.place.begin_batch(self.place.batch_idx + 1)

    def next_epoch(self) -> None:
        """Go to the next epoch, of the other stage, before its first batch."""
        place = self.place
        stage: Stage = "train" if place.stage == "validate" else "validate"
        place.move(stage=stage, epoch=place.epoch + 1, batch_idx=-1, dataloader_idx=place.epoch)

    def train(self, inside: Callable[[], object] = lambda: None) -> None:
        """A step; something happens within one of its hooks."""
        self.next_batch()
        self.now_ns += 10
        self.place.recorder.record(self.now_ns + ran(*BEFORE_THE_STEP))
        self.do(BEGIN, "training_step")
        inside()
        self.do(END, "training_step")
        self.do(RAN, "on_train_batch_end")
        self.place.complete_step(self.place.step + 1)

    # What a kind of step is; each ends with its flush.

    def plain(self) -> None:
        self.train()
        self.writer.flush()

    def several(self) -> None:
        for _ in range(3):
            self.train()
        self.writer.flush()

    def with_a_metric(self) -> None:
        self.train(self.append)
        self.append()
        self.writer.flush()

    def with_a_huge_number(self) -> None:
        self.train(lambda: self.writer.append(self.put(2**70)))
        self.writer.flush()

    def with_a_value_on_its_way(self) -> None:
        arriving = Arriving(0.5)
        self.train(lambda: self.writer.append_pending(self.put(arriving)))
        self.writer.flush()
        arriving.arrive()

    def written_in_its_middle(self) -> None:
        self.train(self.writer.flush)
        self.writer.flush()

    def with_a_named_hook(self) -> None:
        self.train(lambda: self.do(RAN, "on_mine"))
        self.writer.flush()

    def left_by_an_exception(self) -> None:
        self.train(lambda: self.do(BEGIN, "training_step"))
        self.do(BEGIN, "backward")
        self.writer.flush()

    def validation(self) -> None:
        with self.place.in_stage("validate"):
            for batch_idx in range(2):
                self.place.begin_batch(batch_idx)
                self.do(RAN, "validation_step")
        self.writer.flush()

    def at_an_epochs_end(self) -> None:
        self.train()
        self.next_epoch()
        self.writer.flush()

    def without_hooks(self) -> None:
        self.append()
        self.writer.flush()

    def beyond_what_is_mapped(self) -> None:
        self.train()
        file = self.writer._file
        file.room, room = 0, file.room
        self.writer.flush()
        file.room = room

    def at_a_segments_end(self) -> None:
        self.train()
        self.writer._rotate_at = 0
        self.writer.flush()

    def nothing(self) -> None:
        self.next_batch()
        self.writer.flush()


KINDS: tuple[Callable[[Steps], None], ...] = (
    Steps.plain,
    Steps.several,
    Steps.with_a_metric,
    Steps.with_a_huge_number,
    Steps.with_a_value_on_its_way,
    Steps.written_in_its_middle,
    Steps.with_a_named_hook,
    Steps.left_by_an_exception,
    Steps.validation,
    Steps.at_an_epochs_end,
    Steps.without_hooks,
    Steps.beyond_what_is_mapped,
    Steps.nothing,
)


def write(
    steps: Sequence[Callable[[Steps], None]], kind: type[LogWriter] = FastLogWriter, **options: Any
) -> Written:
    """Write steps."""
    run = Steps(kind, **options)
    for step in steps:
        step(run)
    written = run.written()
    assert written.is_sealed
    return written


def totals_of(events: list[DecodedEvent]) -> dict[str, tuple[int, int]]:
    """Count and total ns of each hook among events."""
    counts, total_ns = Counter[str](), Counter[str]()
    for event in events:
        if isinstance(event, Hook):
            counts[event.name] += 1
            total_ns[event.name] += event.duration_ns
    return {name: (count, total_ns[name]) for name, count in counts.items()}


# -- what is written -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Steps.plain, Steps.with_a_metric, Steps.validation])
def test_a_step_is_written_the_fast_way_once_it_is_known(kind: Callable[[Steps], None]) -> None:
    run = Steps(Counting)
    for _ in range(10):
        kind(run)
    assert isinstance(run.writer, Counting)
    written_plainly = run.writer.plain
    run.written()

    # The first also tells the stage, the next is the first of its shape.
    assert written_plainly <= 2


def test_several_steps_are_written_the_fast_way_once_one_is_known() -> None:
    run = Steps(Counting)
    run.plain()
    run.plain()
    assert isinstance(run.writer, Counting)
    plain = run.writer.plain
    run.several()
    written_plainly = run.writer.plain - plain
    run.written()

    assert written_plainly == 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_written_the_fast_way_is_the_same_to_the_byte(
    kind: Callable[[Steps], None],
) -> None:
    steps = [Steps.plain, kind] * 4 + [kind] * 4

    assert write(steps) == write(steps, LogWriter)


@st.composite
def drawn_steps(draw: st.DrawFn) -> list[Callable[[Steps], None]]:
    """Steps of each kind, and some of hooks, puts and moves in any order, each several times."""
    hook = st.tuples(
        st.just(Steps.do), st.sampled_from((RAN, BEGIN, END)), st.sampled_from(("backward", "on_x"))
    )
    what = st.lists(
        hook | st.sampled_from(((Steps.append,), (Steps.next_batch,), (Steps.next_epoch,))),
        max_size=8,
    )

    def of(actions: Sequence[tuple[Any, ...]]) -> Callable[[Steps], None]:
        def step(run: Steps) -> None:
            for action, *arguments in actions:
                action(run, *arguments)
            run.writer.flush()

        return step

    own = [of(actions) for actions in draw(st.lists(what, max_size=3))]
    return draw(st.lists(st.sampled_from((*KINDS, *own, *own, *own)), max_size=30))


@settings(max_examples=150, deadline=None)
@given(
    steps=drawn_steps(),
    segment_bytes=st.sampled_from((1 << 20, 3_000)),
)
def test_steps_in_any_order_are_the_same_to_the_byte_and_are_counted_in_the_footers(
    steps: list[Callable[[Steps], None]], segment_bytes: int
) -> None:
    written = write(steps, segment_bytes=segment_bytes)

    assert written == write(steps, LogWriter, segment_bytes=segment_bytes)
    assert [event.seq for event in written.events] == list(range(len(written.events)))
    assert written.totals == totals_of(written.events)


@settings(max_examples=30, deadline=None)
@given(steps=drawn_steps(), kind=st.sampled_from((FastLogWriter, LogWriter)))
def test_how_much_was_recorded_is_known_however_often_it_was_written(
    steps: list[Callable[[Steps], None]], kind: type[LogWriter]
) -> None:
    run, unwritten = Steps(kind), Steps(kind)
    unwritten.writer.flush = lambda wait=False: None  # type: ignore[method-assign]
    for step in steps:
        step(run)
        step(unwritten)
        assert run.place.recorder.trace.recorded == len(unwritten.place.recorder.trace.words)
    del unwritten.writer.flush
    for each in (run, unwritten):
        each.written()


def test_hooks_of_many_steps_are_all_counted() -> None:
    written = write([Steps.plain, Steps.with_a_metric] * 200)

    assert written.totals == totals_of(written.events)
    assert written.totals["training_step"] == (400, 200 * 10 + 200 * 20)


def test_more_kinds_of_steps_than_are_kept_are_written_and_counted_all_the_same() -> None:
    def of(number: int) -> Callable[[Steps], None]:
        def step(run: Steps) -> None:
            for at in range(8):
                run.do(RAN, "backward" if number >> at & 1 else "optimizer_step")
            run.writer.flush()

        return step

    steps = [of(number) for number in range(2 * MAX_SHAPES) for _ in range(3)]
    written = write(steps)

    assert written == write(steps, LogWriter)
    assert written.totals == totals_of(written.events)


# -- interrupts ----------------------------------------------------------------------------------


class InterruptAt:
    """Raises KeyboardInterrupt where Python may deliver one: as a function begins, or a built-in
    one has returned.

    Args:
        number: which of these moments.
    """

    def __init__(self, number: int) -> None:
        self.left = number
        self.has_hit = False

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event not in ("call", "c_return") or frame.f_code is self.during.__code__:
            return
        self.left -= 1
        if self.left < 0:
            sys.setprofile(None)
            self.has_hit = True
            raise KeyboardInterrupt

    def during(self, action: Callable[[], object]) -> None:
        """Do something until it is interrupted."""
        gc.disable()  # what it calls is no moment of ours
        sys.setprofile(self)
        try:
            action()
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
            gc.enable()


def interrupted_at(number: int, steps: Sequence[Callable[[Steps], None]]) -> tuple[bool, Written]:
    """Write steps; the flush of the last but one is interrupted.

    Returns:
        Whether there was so much to interrupt, and what was written.
    """
    run = Steps()
    for step in steps[:-2]:
        step(run)
    interrupt = InterruptAt(number)
    flush = run.writer.flush
    patch = pytest.MonkeyPatch()
    patch.setattr(FastLogWriter, "flush", lambda writer, wait=False: interrupt.during(flush))
    try:
        steps[-2](run)
    finally:
        patch.undo()
    steps[-1](run)
    return interrupt.has_hit, run.written()


INTERRUPTED: dict[str, list[Callable[[Steps], None]]] = {
    "fast": [Steps.plain] * 5,
    "fast, with metrics": [Steps.with_a_metric] * 5,
    "fast, several steps": [Steps.plain, Steps.plain, Steps.several, Steps.plain],
    "fast, and counted": [Steps.plain] * 36,
    "plain": [Steps.plain, Steps.with_a_named_hook, Steps.with_a_named_hook],
    "plain, and then fast": [
        Steps.plain,
        Steps.plain,
        Steps.beyond_what_is_mapped,
        Steps.plain,
    ],
    "plain, in parts": [Steps.with_a_value_on_its_way] * 3,
    "plain, and mended": [Steps.with_a_huge_number] * 2,
    "without hooks": [Steps.without_hooks] * 3,
    "with nothing to write": [Steps.plain, Steps.nothing, Steps.plain],
}


@pytest.mark.parametrize("steps", INTERRUPTED.values(), ids=INTERRUPTED)
def test_an_interrupt_at_any_moment_of_a_flush_loses_nothing_and_doubles_nothing(
    steps: list[Callable[[Steps], None]],
) -> None:
    expected = write(steps)
    has_hit, number = True, 0
    while has_hit:
        has_hit, written = interrupted_at(number, steps)
        assert written.events == expected.events, f"interrupted at moment {number}"
        assert written.totals == totals_of(written.events), f"interrupted at moment {number}"
        number += 1
    assert number > 3


def test_an_interrupt_at_any_moment_of_a_segments_end_loses_nothing_and_doubles_nothing() -> None:
    steps = [Steps.plain, Steps.plain, Steps.at_a_segments_end, Steps.plain]
    expected = write(steps)
    has_hit, number, sealed = True, 0, 0
    while has_hit:
        has_hit, written = interrupted_at(number, steps)
        assert written.events == expected.events, f"interrupted at moment {number}"
        if written.is_sealed:  # else a reader counts that segment itself
            assert written.totals == totals_of(written.events), f"interrupted at moment {number}"
            sealed += 1
        number += 1
    assert sealed > number / 2


# -- real signals --------------------------------------------------------------------------------


class Struck(Exception):
    """What the signal's handler raises."""


class Strikes:
    """A timer's signal, whose handler raises somewhere in the middle of every other action."""

    def __init__(self) -> None:
        self.number = 0
        self._turns = 0
        self._is_armed = False
        self._drawn = random.Random(5)

    def __enter__(self) -> "Strikes":
        self._before = signal.signal(signal.SIGALRM, self._strike)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, self._before)

    def _strike(self, *_: object) -> None:
        if self._is_armed:
            self._is_armed = False
            self.number += 1
            raise Struck

    def during(self, action: Callable[[], object]) -> None:
        """Do something, whole or up to where a signal strikes."""
        self._turns += 1
        try:
            if self._turns % 2:
                signal.setitimer(signal.ITIMER_REAL, self._drawn.uniform(1e-6, 2e-5))
            self._is_armed = True
            action()
            self._is_armed = False
        except Struck:
            pass


@pytest.mark.parametrize("kind", [Steps.plain, Steps.with_a_metric, Steps.with_a_named_hook])
def test_signals_at_any_moment_of_many_flushes_lose_nothing_and_double_nothing(
    kind: Callable[[Steps], None],
) -> None:
    run = Steps(segment_bytes=20_000)
    flush = run.writer.flush
    patch = pytest.MonkeyPatch()
    deadline_s = time.monotonic() + DEADLINE_S
    with Strikes() as strikes:
        patch.setattr(FastLogWriter, "flush", lambda writer, wait=False: strikes.during(flush))
        while strikes.number < 1000 and time.monotonic() < deadline_s:
            kind(run)
        patch.undo()
    steps = run.place.step
    events = run.written().events

    assert strikes.number == 1000
    assert [event.seq for event in events] == list(range(len(events)))
    ended = [event.step for event in events if type(event) is Hook and event.name == LAST_HOOK]
    assert ended == list(range(steps))
    values = [event for event in events if type(event) is Put]
    assert len(values) == (2 * steps if kind is Steps.with_a_metric else 0)
