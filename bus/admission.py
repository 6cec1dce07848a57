"""Admission: what may be recorded now, and what is reported about the rest."""

from collections.abc import Callable, Sequence
from typing import Any

from .copies import StaysInRun
from .errors import OutsideRunError, UsageError
from .events import ActorStopped, CommandTaken, Event, PlainUserEvent, Put, UserEvent
from .media import EncodedMedia
from .system.forks import refusal
from .system.logging_setup import get_logger
from .threads import Threads

_log = get_logger("nightbus.bus")


class Admission(StaysInRun):
    """Refuses records before a run has begun, after its end, and in a forked child.

    The thread that creates it is the training thread.

    Args:
        threads: tells which thread a put comes from.

    Attributes:
        is_left: this is a forked child of the process that owns the run.
        record_put: records a metric of an actor, or refuses it.
        record_media: the same for an image, a text or the like.
        record_user_event: the same for an event that a user defined.
    """

    record_put: Callable[[str, str, Any, Sequence[str] | None], None]
    record_media: Callable[[str, str, EncodedMedia, Sequence[str] | None], None]
    record_user_event: Callable[[str, UserEvent], None]

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._training_thread = threads.current()
        self._is_over = self.is_left = False
        self._refuse_puts()

    def take_puts(
        self,
        put: Callable[[str, str, Any, Sequence[str] | None], None],
        put_media: Callable[[str, str, EncodedMedia, Sequence[str] | None], None],
        emit: Callable[[str, UserEvent], None],
    ) -> None:
        """Set how puts and events of actors are recorded from now on.

        Args:
            put: records a metric.
            put_media: records an image, a text or the like.
            emit: records an event that a user defined.
        """
        self.record_put, self.record_media, self.record_user_event = put, put_media, emit

    def end(self) -> None:
        """Refuse puts from now on, because the run is over."""
        self._is_over = True
        self._refuse_puts()

    def leave_to_parent(self) -> None:
        """Refuse puts from now on, because this is a forked child."""
        self.is_left = True
        self._refuse_puts()

    def _refuse_puts(self) -> None:
        self.take_puts(self._refuse_put, self._refuse_put, self._refuse_user_event)

    def _refuse_put(self, source: str, name: str, *_: object) -> None:
        raise self.why_refused(f"put({name!r}) was called")

    def _refuse_user_event(self, source: str, event: UserEvent) -> None:
        raise self.why_refused(f"emit({type(event).__name__}(...)) was called")

    def why_refused(self, what: str) -> UsageError:
        """Return the error for a record in a forked child, or while no run is open.

        Args:
            what: what was to be recorded, such as a call.
        """
        if self.is_left:
            return refusal(what)
        if self._is_over:
            return OutsideRunError(
                f"{what} after the run's end, which is the last that its log holds; put it in a "
                "hook, on_fit_end at the latest, and have other threads end before the run does"
            )
        return OutsideRunError(
            f"{what} before the run has begun; put it in a hook, setup at the earliest"
        )

    def check_is_here(self, what: str) -> None:
        """Check that this is not a forked child of the process that owns the run.

        Args:
            what: what is about to be done.

        Raises:
            ForkedChildError: it is one.
        """
        if self.is_left:
            raise refusal(what)

    @property
    def is_training_thread(self) -> bool:
        """Whether this is the thread that trains, in the process that owns the run."""
        return not self.is_left and self._threads.current() == self._training_thread

    def check_is_training_thread(self, what: str) -> None:
        """Check that this is the thread that trains.

        Args:
            what: what is about to be done.

        Raises:
            UsageError: it is another one.
            ForkedChildError: this is a forked child.
        """
        self.check_is_here(what)
        if self._threads.current() != self._training_thread:
            raise UsageError(
                f"{what} was called on another thread than the one that trains; call it in a hook, "
                "in a loop or in a method of an actor that is no coroutine"
            )

    def refuse_late_put(
        self, name: str, value: object, source: str, kind: type[Event] = Put
    ) -> None:
        """Refuse a put, or another event of an actor, after the run's end.

        Args:
            name: of the metric, or of the event's type.
            value: its value.
            source: the name of the actor.
            kind: the type of the event.

        Raises:
            OutsideRunError: always, except on the training thread: an interruption there while the
                run's end is written, such as a signal handler, must not end that; a warning is
                logged instead.
            ForkedChildError: this is a forked child.
        """
        what = f"{'emit' if kind is PlainUserEvent else 'put'}({name!r}) was called"
        self.check_is_here(what)
        if self._threads.current() != self._training_thread:
            self._is_over = True
            raise self.why_refused(what)
        self.warn_too_late(kind, (name, value), source)

    def warn_too_late(self, kind: type[Event], fields: tuple[Any, ...], source: str) -> None:
        """Warn about an event that the log cannot hold, because the run's end is its last event.

        Args:
            kind: the event's type.
            fields: its own fields, in order.
            source: the name of the actor it comes from.

        Raises:
            ForkedChildError: this is a forked child.
        """
        self.check_is_here(f"{kind.__name__} was to be recorded")
        if kind not in (ActorStopped, CommandTaken):
            shown = [str(field)[:200] for field in fields[:2]]
            _log.warning(
                "too late for the log", event_type=kind.__name__, source=source, fields=shown
            )
