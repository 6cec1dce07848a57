"""Puts: records what is put, and knows the latest value of each metric."""

import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...bus.bus import Bus
from ...bus.errors import MetricError
from ...bus.events import Event, Media, PlainUserEvent, Put, Scalar, UserEvent
from ...bus.log.flight_recorder import NOBODY
from ...bus.log.place import Place
from ...bus.media import LARGEST_MEDIA_BYTES, EncodedMedia
from ...bus.system.logging_setup import get_logger
from ...bus.user_events import encode_user_event
from ..arguments import check_at_least
from .pending_scalar import PendingScalar
from .values import MAX_NAME_CHARS, Value, as_tensors, is_name, resolved, to_scalar

NO_STEP = -1
NEVER = sys.maxsize  # an interval between steps that no run comes to the end of
_log = get_logger("nightbus.metrics")

DEFAULT_DESTINATIONS = ("progress_bar", "callbacks", "loggers")


class Puts:
    """What actors put in a run, and the latest values.

    Args:
        bus: the bus of the run.
        log_every_n_steps: steps between two step values for sinks; 0 for none.
        max_media_bytes: maximum size of an encoded image, text or the like.
    """

    def __init__(self, bus: Bus, log_every_n_steps: int, max_media_bytes: int) -> None:
        self.bus = bus
        self.max_media_bytes = max_media_bytes
        self.log_every_n_steps = _interval(log_every_n_steps)
        self.muted = False  # nothing is recorded, for example during the sanity check
        # Values from before the sanity check, which has its own meanwhile.
        self._set_aside: list[dict[str, Value]] | None = None
        self._callback: dict[str, Value] = {}
        self._progress_bar: dict[str, Value] = {}
        self._logged: dict[str, Value] = {}
        self._said_not_finite: set[str] = set()
        self.heard: set[str] = set()  # destinations that some actor takes values for
        self.unheard: Counter[str] = Counter()  # number of values put to other destinations
        self._directed: set[str] = set()  # names put with explicit destinations
        self.running_loss: object = None  # losses for the progress bar that no code logged
        self.step = NO_STEP  # that values belong to; the current one if unset
        self._stepped = self._step_before = NO_STEP
        self._is_due = False  # is_due, of the step that goes on
        self.asks_for_sinks = True  # at the next log(..., logger=True)

    def begin_puts(self, bus: Bus) -> None:
        """Drop all values, because a new run begins.

        Args:
            bus: the bus of the run.
        """
        self.bus = bus
        self.muted = False
        self._set_aside = None
        self._said_not_finite.clear()
        self.heard = set(DEFAULT_DESTINATIONS)
        self.unheard.clear()
        self._directed.clear()
        self.step = self._stepped = self._step_before = NO_STEP
        self.asks_for_sinks = True
        self.running_loss = None
        for values in self._latest:
            values.clear()

    def note_sinks(self, name: str, has_sinks: bool) -> None:
        """Warn, once in a run, if a metric is for sinks and there is none.

        Args:
            name: the metric.
            has_sinks: the Trainer has a sink.
        """
        self.asks_for_sinks = False
        if not has_sinks:
            _log.warning(
                f"log({name!r}, logger=True) reaches no logger: the Trainer has none, so that only "
                "the run's own log has the values; give it one: Trainer(logger=...)"
            )

    # -- which step --------------------------------------------------------------------------

    def begin_step(self, step: int) -> None:
        """Begin the first training batch of an optimizer step.

        What is recorded from here on belongs to this step, also after the optimizer has stepped and
        at the end of the epoch.

        Args:
            step: optimizer steps completed.
        """
        if self._step_before == NO_STEP:
            self._stepped = step
        elif step != self._step_before:
            self._stepped += 1
        self.step = self._step_before = step
        self._is_due = (self._stepped + 1) % self.log_every_n_steps == 0

    def set_log_every_n_steps(self, steps: int) -> None:
        """Set the number of steps between two step values for sinks; 0 for no step values."""
        self.log_every_n_steps = _interval(steps)
        self._is_due = self.is_due

    def end_steps(self) -> None:
        """End the assignment of values to the last batch."""
        self.step = NO_STEP

    @property
    def is_due(self) -> bool:
        """Return whether the step's values go to sinks, as every ``log_every_n_steps``.

        Several optimizers that step in one batch count as one.
        """
        steps = self.bus.place.step if self.step == NO_STEP else self._stepped
        return (steps + 1) % self.log_every_n_steps == 0

    # -- latest values -----------------------------------------------------------------------

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """Latest value of each metric for callbacks, as float64 tensors of shape ()."""
        return as_tensors(self._callback)

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """Latest value of each metric that was put or logged for the progress bar."""
        return {
            name: float(resolved(value))
            for name, value in self._progress_bar.copy().items()
            if value is not self.running_loss
        }

    @property
    def in_progress_bar(self) -> Mapping[str, Value]:
        """Latest value of each metric in the progress bar, as recorded."""
        return self._progress_bar

    @property
    def names(self) -> set[str]:
        """The metrics of this run."""
        return {*self._callback, *self._progress_bar, *self._logged, *self._directed}

    # -- put ---------------------------------------------------------------------------------

    def put(
        self, source: str, name: str, value: Any, destinations: Sequence[str] | None = None
    ) -> None:
        """Record a value as it is.

        Args:
            source: the name of the actor.
            name: the metric.
            value: a number or a one-element tensor.
            destinations: labels of its destinations; the default ones if None.

        Raises:
            MetricError: name, value or destinations are not usable.
        """
        self._check_name(name)
        if isinstance(destinations, str):
            destinations = (destinations,)
        labels = DEFAULT_DESTINATIONS if destinations is None else tuple(destinations)
        if destinations is not None:
            self._count_unheard(labels)
            self._directed.add(name)
        self._record(source, name, to_scalar(name, value), labels)

    def put_media(
        self, source: str, name: str, media: EncodedMedia, destinations: Sequence[str] | None = None
    ) -> None:
        """Record an image, a text or the like.

        Args:
            source: the name of the actor.
            name: its name.
            media: the encoded value.
            destinations: labels of its destinations; the default ones if None.

        Raises:
            MetricError: the name is not usable, or the value is too large.
        """
        self._check_name(name)
        kind, data = media
        if len(data) > self.max_media_bytes:
            raise MetricError(
                f"the {kind} {name!r} takes {len(data)} bytes, more than "
                f"max_media_bytes={self.max_media_bytes}; make it smaller, or raise the Trainer's "
                f"argument, up to {LARGEST_MEDIA_BYTES}"
            )
        if isinstance(destinations, str):
            destinations = (destinations,)
        labels = ("loggers",) if destinations is None else tuple(destinations)
        self._count_unheard(labels)
        self._emit(source, name, Media, name, kind, data, labels, self.bus.place.hook)

    def emit(self, source: str, event: UserEvent) -> None:
        """Record an event that a user defined.

        Args:
            source: the name of the actor.
            event: the event.

        Raises:
            UsageError: it cannot be recorded.
        """
        name, data = encode_user_event(event)
        self._emit(source, name, PlainUserEvent, self.bus.place.hook, name, data)

    def _emit(self, source: str, name: str, kind: type[Event], *fields: Any) -> None:
        """Record an event of the step that goes on; nothing while nothing is recorded."""
        bus = self.bus
        if self.muted:
            return
        writer = bus.writer
        if self.step == NO_STEP or writer is None or threading.get_ident() != writer.owner:
            if not bus.emit_in_time(kind, *fields, source=source):
                bus.admission.refuse_late_put(name, kind.__name__, source, kind)
            return
        with writer.alone():
            event = writer.event(kind, *fields, source=source, step=self.step)
            writer.append(event)
        bus.have_handled(event)

    def _count_unheard(self, labels: Sequence[str]) -> None:
        for label in labels:
            if label not in self.heard and not self.muted:
                self.unheard[label] += 1

    def _check_name(self, name: object) -> None:
        # The same as is_name, without a call for each put.
        if isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS and name.isascii():
            return
        if not is_name(name):
            raise MetricError(
                f"a metric's name is a string of 1 to {MAX_NAME_CHARS} characters, not "
                f"{str(name)[:80]!r}"
            )

    def _record(self, source: str, name: str, value: Value, labels: tuple[str, ...]) -> None:
        if self.muted:
            self._show(name, value, labels)
            return
        if type(value) is float and value - value != 0.0:
            self._warn_not_finite(name, value, self.bus.place)
        bus = self.bus
        writer, flight = bus.writer, bus.flight
        if writer is None:
            if flight is None:
                raise bus.admission.why_refused(f"{name!r} was to be recorded")
        elif (thread := threading.get_ident()) != writer.owner:
            self._record_elsewhere(source, name, value, labels)
            return
        # The same as _keep_latest, without a call for each put.
        if "callbacks" in labels:
            self._callback[name] = value
        if "progress_bar" in labels:
            self._progress_bar[name] = value
        if "loggers" in labels:
            self._logged[name] = value
        if writer is None:
            flight.put(source, name, value, labels)  # type: ignore[union-attr]
            return
        if bus.has_step_handlers:
            value = resolved(value)
        place = bus.place
        step = self.step
        writer.owner = NOBODY  # a signal handler that puts now is treated like another thread
        try:
            event = place.put_here(
                writer.next_seq(),
                writer.clock_ns(),
                place.step if step < 0 else step,
                source,
                name,
                value,
                labels,
            )
            is_pending = type(value) is PendingScalar
            (writer.append_pending if is_pending else writer.append)(event)
        finally:
            writer.owner = thread
        if bus.has_step_handlers:
            bus.have_handled(event)

    def _show(self, name: str, value: Value, labels: tuple[str, ...]) -> None:
        """Add a value that is not recorded to the latest ones, during the sanity check."""
        if self._set_aside is not None:
            self._keep_latest(name, value, labels)

    def _keep_latest(self, name: str, value: Value, labels: tuple[str, ...]) -> None:
        if "callbacks" in labels:
            self._callback[name] = value
        if "progress_bar" in labels:
            self._progress_bar[name] = value
        if "loggers" in labels:
            self._logged[name] = value

    def _record_elsewhere(
        self, source: str, name: str, value: Value, labels: tuple[str, ...]
    ) -> None:
        """Have the log's owner record another thread's value."""
        bus = self.bus
        assert bus.writer is not None
        value = resolved(value)
        if not bus.writer.emit_from_any_thread(
            Put, name, value, labels, bus.place.hook, source=source
        ):
            bus.admission.refuse_late_put(name, value, source)
            return  # refused values must not be among the latest
        self._keep_latest(name, value, labels)

    def warn_not_finite(self, put: Put) -> None:
        """Warn of a recorded value that has come from a GPU and is not finite.

        Args:
            put: the event.
        """
        self._warn_not_finite(put.name, put.value, put)

    def _warn_not_finite(self, name: str, value: Scalar, place: Place | Put) -> None:
        """Warn, once for each metric, of NaN and infinities, which are recorded as they are."""
        if name not in self._said_not_finite:
            self._said_not_finite.add(name)
            _log.warning(
                f"the metric {name} is {_in_words(value)} at epoch {place.epoch}, "
                f"step {place.step}; it is recorded as it is, and later ones are not warned of"
            )

    # -- the sanity check --------------------------------------------------------------------

    def begin_trial(self) -> None:
        """Keep what is logged from here on among the latest values, without recording it."""
        self.muted = True
        self._set_aside = [dict(values) for values in self._latest]

    def end_trial(self) -> None:
        """Restore the latest values from before the trial."""
        before, self._set_aside = self._set_aside, None
        for values, known in zip(self._latest, before or [], strict=False):
            values.clear()
            values.update(known)
        self.muted = False

    @property
    def _latest(self) -> tuple[dict[str, Value], ...]:
        return self._callback, self._progress_bar, self._logged

    def latest(self) -> list[dict[str, Value]]:
        """Return the latest values, for a copy that belongs to no run."""
        return [{name: resolved(v) for name, v in values.copy().items()} for values in self._latest]

    def take_latest(self, latest: Sequence[Mapping[str, Value]]) -> None:
        """Restore what ``latest`` returned."""
        for mine, values in zip(self._latest, latest, strict=True):
            mine.update(values)


def _interval(steps: int) -> int:
    """Return ``log_every_n_steps`` as a number to divide by: that of 0 is never reached."""
    check_at_least("log_every_n_steps", steps, 0)
    return steps or NEVER


def _in_words(value: Scalar) -> str:
    """Return a number that is not finite as people say it."""
    if value != value:
        return "NaN"
    return "infinite" if value > 0 else "minus infinity"
