"""Reads from a run's log what is compared, one stretch at a time: as keys, or event by event.

Making an event of each hook takes most of the time of reading a log. So runs are compared by keys,
made of the content of frames; only where keys differ are events made.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from ..errors import LogError, LogFormatError
from ..event_kinds import fields_as_text
from ..events import (
    Gap,
    Hook,
    Media,
    PlainUserEvent,
    Put,
    Resumed,
    RunEnded,
    RunStarted,
    Scalar,
    UserEvent,
)
from ..log.codec import DecodedEvent, FrameParts, decode_events, merge_parts
from ..log.format import Frame
from ..log.reader import EndKind, LogReader
from ..runs.cursor import AttemptLog
from ..runs.lineage import consistent_logs
from ..runs.run_folder import RunFolder

# A hook's key is its name, and its place if it differs from that of the hook before. The key of a
# metric, an image or the like is everything compared of it. So two logs have equal keys up to the
# first event that differs, however they are cut into frames and segments.
Key = str | tuple[object, ...]

# Saving and loading is not compared, because a resumed run has more of it.
_OF_CHECKPOINTS = frozenset({"on_save_checkpoint", "on_load_checkpoint"})

_float_bits = struct.Struct("<d").pack
_encode = msgspec.msgpack.Encoder().encode

# Keys or frames at a time: few, for the processor's caches and the garbage collector.
STRETCH = 256


class ComparedEvent(NamedTuple):
    """An event without its time and number.

    Attributes:
        kind: Hook, Put, Media or UserEvent.
        name: of the hook, metric, image or the like, or of the type of a user's event.
        value: a Put's value, bit by bit; a Media's bytes; a user's event's fields as they are
            recorded; empty for a Hook.
        shown: the value for people.
        details: destinations, hook and source of what was put.
        stage, epoch, step, batch_idx, dataloader_idx: the place in training.
        attempt, seq: where it is recorded; not compared.
    """

    kind: str
    name: str
    value: bytes
    shown: str
    details: tuple[str, ...]
    stage: str
    epoch: int
    step: int
    batch_idx: int
    dataloader_idx: int
    attempt: int
    seq: int

    @property
    def compared(self) -> tuple[object, ...]:
        """Return the fields that have to be equal."""
        return (*self[:3], *self[4:10])


class Choice:
    """Chooses the events that are compared.

    Args:
        ignore: shell patterns of names that are not compared.
        hooks: compare hooks too.

    Attributes:
        has_patterns: some names may be ignored.
    """

    def __init__(self, ignore: Iterable[str] = (), hooks: bool = True) -> None:
        self.hooks = hooks
        self._ignore = tuple(ignore)
        self.has_patterns = bool(self._ignore)
        self._is_ignored: dict[str, bool] = {}  # by name

    def takes(self, event: DecodedEvent) -> bool:
        """Return whether an event is compared."""
        if isinstance(event, Hook):
            return event.name not in _OF_CHECKPOINTS
        if isinstance(event, Put):
            return self.takes_put(event)
        return isinstance(event, Media | PlainUserEvent) and not self._ignores(event.name)

    def takes_put(self, put: Put) -> bool:
        """Return whether a metric is compared."""
        # The loss for the progress bar is put at times that depend on the clock.
        if put.source == "fit" and put.destinations == ("progress_bar",):
            return False
        return not self._ignores(put.name)

    def _ignores(self, name: str) -> bool:
        found = self._is_ignored.get(name)
        if found is None:
            found = any(fnmatchcase(name, pattern) for pattern in self._ignore)
            self._is_ignored[name] = found
        return found


class _Passage:
    """A pass over an attempt's events that selects those that count.

    Attributes:
        has_ended: the event of the run's end was read.
        is_over: what follows is superseded.
    """

    def __init__(self, until: int | None, in_setup: bool = False) -> None:
        self.has_ended = self.is_over = False
        self._until = until
        self._in_setup = in_setup  # of a resumed attempt

    def from_here(self) -> "_Passage":
        """Return a copy that begins where this one is."""
        return _Passage(self._until, self._in_setup)

    def events(self, events: Iterable[DecodedEvent]) -> Iterator[DecodedEvent]:
        """Yield the events that count, and Gaps."""
        for event in events:
            if self._until is not None and event.seq >= self._until:
                self.is_over = True
                return
            self.has_ended = self.has_ended or isinstance(event, RunEnded)
            if isinstance(event, Gap):
                yield event
            elif self._in_setup:
                self._in_setup = not isinstance(event, Resumed)
            elif isinstance(event, RunStarted):
                self._in_setup = event.fork is not None
            else:
                yield event

    def counts_all(self, parts: FrameParts, first_seq: int) -> bool:
        """Return whether every hook and metric of the next frame counts."""
        if self._in_setup:
            return False
        if self._until is None:
            return True
        others = parts.records
        last_seq = first_seq + len(parts.names) + len(others) - 1
        return max(last_seq, others[-1].seq if others else 0) < self._until


class Stretch:
    """Some frames of an attempt's log.

    Args:
        attempt: the attempt's number.
        choice: the events that are compared.
        passage: the state of the pass at the first frame.

    Attributes:
        frames: the frames, in order.
        keys: of the compared events in them.
        missing: what is missing of the recording, as the number of keys before it and a line for
            people.
    """

    def __init__(self, attempt: int, choice: Choice, passage: _Passage) -> None:
        self.frames: list[Frame] = []
        self.keys: list[Key] = []
        self.missing: list[tuple[int, str]] = []
        self._attempt = attempt
        self._choice = choice
        self._passage = passage.from_here()

    def miss(self, line: str) -> None:
        """Record that something is missing after the keys so far."""
        self.missing.append((len(self.keys), line))

    def events(self) -> Iterator[ComparedEvent]:
        """Yield the events that the keys belong to."""
        passage = self._passage.from_here()
        for frame in self.frames:
            events = decode_events(frame.payload, frame.first_seq, 0, self._choice.hooks)
            for event in passage.events(events):
                if self._choice.takes(event):
                    yield _compared(event, self._attempt)


class ComparedLog:
    """The compared part of a run's log.

    Args:
        run: the run.
        choice: the events that are compared.
        rank: of which process.
    """

    def __init__(self, run: RunFolder, choice: Choice, rank: int = 0) -> None:
        self._run = run
        self._choice = choice
        self._logs = consistent_logs(run, rank)
        self._place: tuple[object, ...] = ()  # of the previous hook

    def stretches(self) -> Iterator[Stretch]:
        """Yield all stretches, in order.

        Raises:
            LogError: a log's head is damaged, or it is from a newer major version.
        """
        for log in self._logs:
            reader = LogReader(log.store)
            try:
                yield from self._stretches_of(log, reader)
            finally:
                reader.close()

    def _stretches_of(self, log: AttemptLog, reader: LogReader) -> Iterator[Stretch]:
        name = f"{self._run.path} attempt {log.attempt}"
        passage = _Passage(log.until)
        stretch = Stretch(log.attempt, self._choice, passage)
        damage = ""
        try:
            for frame, parts in reader.parts(self._choice.hooks):
                stretch.frames.append(frame)
                keys = self._keys_of(parts, frame.first_seq, passage)
                if keys is not None:
                    stretch.keys += keys
                else:
                    events = merge_parts(parts, frame.first_seq, 0)
                    self._add_by_event(stretch, events, passage, name)
                if passage.is_over:
                    break
                if max(len(stretch.keys), len(stretch.frames)) >= STRETCH:
                    yield stretch
                    stretch = Stretch(log.attempt, self._choice, passage)
        except LogError as error:
            if not (reader.next_seq and isinstance(error, LogFormatError)):
                yield stretch  # what comes before is compared before this is reported
                raise
            damage = str(error)
        lacks = "" if passage.is_over else damage or _end_missing(log, reader, passage.has_ended)
        if lacks:
            goes_on = self._run.is_being_written(log.attempt)
            how = "goes on; this is what it had recorded" if goes_on else lacks
            stretch.miss(f"{name}: {how}")
        yield stretch

    def _add_by_event(
        self, stretch: Stretch, events: Iterable[DecodedEvent], passage: _Passage, name: str
    ) -> None:
        for event in passage.events(events):
            if isinstance(event, Gap):
                count = f"{event.count:,} events were not written"
                stretch.miss(f"{name}: {count}: {event.reason}")
            elif self._choice.takes(event):
                stretch.keys.append(self._key_of(event))

    def _key_of(self, event: DecodedEvent) -> Key:
        if isinstance(event, Put):
            return _key_of_put(event)
        if isinstance(event, Media):
            labels = (event.destinations, event.hook, event.source)
            return (event.data, event.name, event.kind, *labels, *_place_of(event))
        if isinstance(event, PlainUserEvent):
            what = UserEvent.__name__, event.hook, event.source
            return (event.data, event.name, *what, *_place_of(event))
        assert isinstance(event, Hook)
        before, self._place = self._place, _place_of(event)
        return event.name if self._place == before else (event.name, self._place)

    def _keys_of(
        self, parts: FrameParts, first_seq: int, passage: _Passage
    ) -> Sequence[Key] | None:
        """Return the keys of a frame that holds only hooks and metrics that count, as most do.

        Returns None for any other frame.
        """
        others = parts.records
        keys: list[Key] = list(parts.names)
        if not (passage.counts_all(parts, first_seq) and _OF_CHECKPOINTS.isdisjoint(keys)):
            return None
        before, last_at = self._place, -1
        for at, (epoch, step, batch_idx, dataloader_idx, stage) in parts.places:
            if at >= len(keys):
                break  # the place after the last hook
            if at <= last_at or (last_at < 0 and at):
                return None  # no writer writes this
            last_at = at
            now = stage, epoch, step, batch_idx, dataloader_idx
            if now != before:
                keys[at] = keys[at], now
                before = now
        choice = self._choice
        may_ignore = choice.has_patterns
        last_at, left_out = -1, 0
        for event in others:
            at = event.seq - first_seq
            if type(event) is not Put or at <= last_at:
                return None
            last_at = at
            if (may_ignore or event.source == "fit") and not choice.takes_put(event):
                left_out += 1
            else:
                keys.insert(at - left_out, _key_of_put(event))
        self._place = before
        return keys


def _end_missing(log: AttemptLog, reader: LogReader, has_ended: bool) -> str:
    """Return why a log lacks part of the recording, once it is read; empty if it does not."""
    indices = log.store.indices()
    is_whole = has_ended if log.until is None else reader.next_seq >= log.until
    end = reader.end()
    if indices and indices[0]:
        return f"its segments before {indices[0]} are missing"
    if indices and not is_whole and (log.until is not None or end.kind is not EndKind.SEALED):
        reason = end.reason if end.kind is EndKind.TORN else "it was cut off"
        return f"ends before event {end.next_seq:,}: {reason}"
    return ""


def _compared(event: DecodedEvent, attempt: int) -> ComparedEvent:
    assert isinstance(event, Hook | Put | Media | PlainUserEvent)
    kind = type(event).__name__
    details: tuple[str, ...] = ()
    value, shown = b"", ""
    if isinstance(event, Put):
        value, shown = _bits(event.value), repr(event.value)
        details = (*event.destinations, event.hook, event.source)
    elif isinstance(event, Media):
        value, shown = bytes(event.data), f"{len(event.data)} bytes"
        details = (event.kind, *event.destinations, event.hook, event.source)
    elif isinstance(event, PlainUserEvent):
        kind = UserEvent.__name__
        value, shown = event.data, fields_as_text(event)
        details = (event.hook, event.source)
    return ComparedEvent(
        kind,
        event.name,
        value,
        shown,
        details,
        event.stage,
        event.epoch,
        event.step,
        event.batch_idx,
        event.dataloader_idx,
        attempt,
        event.seq,
    )


# Written out, because operator.attrgetter takes five times as long.
def _key_of_put(put: Put) -> Key:
    value = put.value
    return (
        _float_bits(value) if type(value) is float else _encode(value),
        put.name,
        put.destinations,
        put.hook,
        put.source,
        put.stage,
        put.epoch,
        put.step,
        put.batch_idx,
        put.dataloader_idx,
    )


def _place_of(at: Hook | Media | PlainUserEvent) -> tuple[object, ...]:
    return at.stage, at.epoch, at.step, at.batch_idx, at.dataloader_idx


def _bits(value: Scalar) -> bytes:
    """Return a number as bytes that differ for different numbers, including the bits of NaN."""
    return _float_bits(value) if type(value) is float else _encode(value)
