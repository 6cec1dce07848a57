"""The base of everything that carries events to a destination."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import trio

from ..bus.actor import Actor, actor_name
from ..bus.errors import SinkError, UsageError
from ..bus.events import Event, Fault, Hook, Media, Put, RunEnded, RunStarted
from ..bus.log.codec import DecodedEvent, HookSelection
from ..bus.runs.cursor import PlainState, Position
from ..bus.system.logging_setup import get_logger
from .logger_calls import LoggerCalls

OF_LOGGERS = ("experiment", "log_image", "log_text", "log_table", "log_graph", "watch", "save_dir")
"""What modules ask of a logger of Lightning, and sinks do not have."""

MAX_SAID_REFUSALS = 100  # names, of a sink; each is said once
MAX_NAMES_SAID = 3

_log = get_logger("nightbus.sinks")


class Sink(LoggerCalls, Actor):
    """Carries events to a destination, at its own pace, live or in replay.

    Write one by overriding ``write``; the rest has defaults. A plain ``write`` runs in a worker
    thread, a coroutine on the bus thread: neither can slow training. When ``write`` raises, the
    sink is opened again with the state of the last good write and gets the batch once more.

    Attributes:
        destination: takes puts that carry this label; None takes all puts.
        events: the types of events that ``write`` gets.
        batch_size: at most so many events in one ``write``.
        run_id: the run whose events these are.
        attempt: which start of that run, from 0.
    """

    destination: str | None = "loggers"
    events: tuple[type[Event], ...] = (Put,)
    batch_size: int = 1000
    poll_interval_s = 0.25
    run_id: str = ""
    attempt: int = 0
    _good_state: PlainState | None = None
    _run_of_state: Path | None = None
    _wall_offset_ns: int = 0
    _is_open: bool = False
    _refused: tuple[tuple[str, str], ...] = ()  # error and words, not yet recorded
    _said_refusals: frozenset[tuple[str, ...]] = frozenset()  # names of which a record was refused
    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    if not TYPE_CHECKING:  # for which a name that is not there is an error

        def __getattr__(self, name: str) -> Any:
            kind = type(self).__name__
            message = f"{kind!r} object has no attribute {name!r}"
            if name in OF_LOGGERS:
                message += (
                    f": {kind} is a sink, which gets what training records; record metrics "
                    "with self.log or self.put, media with self.put_image and the like, and "
                    "hyperparameters with self.save_hyperparameters, or give a logger of "
                    "Lightning: Trainer(logger=...)"
                )
            raise AttributeError(message)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        sink = super().__new__(cls)
        sink._made_with = (args, kwargs)
        return sink

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A copy is a new sink of the same arguments: what one has open is its own."""
        args, kwargs = self._made_with
        return _made_again, (type(self), args, kwargs)

    def open(self, resumed: bool) -> None:
        """Get ready. Called before the first event and again after a restart.

        Args:
            resumed: go on from what ``load_state`` was given, instead of from nothing; a sink that
                served another run before begins from nothing.
        """

    def write(self, batch: list[Any]) -> Any:
        """Carry events, in order. May be a coroutine function."""
        raise UsageError(f"{type(self).__name__} must define write(self, batch)")

    def flush(self) -> None:
        """Hand everything written so far to the operating system. Called after each batch."""

    def close(self) -> None:
        """Finish. Called once after the last event, and before each restart."""

    def finish(self) -> None:
        """An attempt or the log has ended: what was held back for more is complete now."""

    def state(self) -> PlainState:
        """What is needed to go on from here later; plain data, taken after each batch."""
        return {}

    def load_state(self, state: PlainState) -> None:
        """Take up what ``state`` gave; called before ``open``."""

    def is_lost(self, state: PlainState) -> bool:
        """Whether all that was carried is gone, somebody removed the file say: then it is taken
        back and carried anew, from the run's start.

        Args:
            state: what ``state`` gave last, and what the sink keeps for itself.
        """
        return False

    def take_back(self, held: Position, beyond: Position, state: PlainState) -> Position:
        """The run was resumed from a checkpoint, and what came after it holds no more: take back
        what was carried of that.

        By default nothing is taken back, because most destinations only grow: what came after the
        checkpoint shows twice there, once as it was first and once as it is now.

        Args:
            held: attempt and sequence number of the first event that holds no more.
            beyond: the same of the first event that took their place.
            state: what ``state`` gave last, and what the sink keeps for itself.

        Returns:
            Where to go on, ``beyond`` by default.
        """
        self.load_cursor_state(state)
        return beyond

    def begin_anew(self, others: Sequence[PlainState]) -> None:
        """The run goes on, or a replay delivers the rest, and this sink has committed nothing: it
        is new there, or its process was killed at the very begin.

        Args:
            others: what the run's other sinks keep with their cursors.
        """

    def refuse(self, names: Iterable[str], step: int, error: Exception) -> None:
        """Leave out a record that the destination cannot hold, and go on with the next: to be
        called in ``write``. A Fault in the log names it, and so does a warning; further records of
        the same metrics are left out without a word.

        Args:
            names: the metrics in it.
            step: of it.
            error: why.
        """
        which = tuple(names)
        if which in self._said_refusals or len(self._said_refusals) >= MAX_SAID_REFUSALS:
            return
        self._said_refusals |= {which}
        said = ", ".join(repr(name[:MAX_SAID_REFUSALS]) for name in which[:MAX_NAMES_SAID])
        more = f" and {len(which) - MAX_NAMES_SAID} more" if len(which) > MAX_NAMES_SAID else ""
        message = f"left out {said}{more} of step {step}: {error}"
        _log.warning(f"{actor_name(self)} {message}; it goes on with the next")
        self._refused += ((type(error).__name__, message),)

    def _record_refused(self) -> None:
        """Record what was refused; on the bus thread."""
        refused, self._refused = self._refused, ()
        for kind, message in refused:
            if self._context is not None:
                self._context.emit(Fault, kind, message, "", "write", source=actor_name(self))

    def wants(self, event: DecodedEvent) -> bool:
        """Whether ``write`` gets this event."""
        kind = type(event)
        if kind is Put or kind is Media:
            destination = self.destination
            is_for_me = destination is None or destination in event.destinations  # type: ignore[union-attr]
            return is_for_me and kind in self.events
        return isinstance(event, self.events)

    @property
    def needs_run_folder(self) -> bool:
        """Whether it writes into the run's folder, so that there has to be one."""
        return False

    @property
    def run_path(self) -> Path:
        """The run's folder.

        Raises:
            UsageError: the run keeps none.
            SinkError: it was removed or renamed: it does not come back under its old name.
        """
        path = self._require_context("run_path").run_path
        if path is None:
            raise UsageError(
                f"{type(self).__name__} needs a place to write: this run keeps no folder, so give "
                "it a path"
            )
        if not path.is_dir():
            raise SinkError(f"the run's folder {path} was removed or renamed")
        return path

    def wall_ns(self, event: Event) -> int:
        """Wall clock of an event, in ns since 1970; the same live and in replay."""
        return event.time_ns + self._wall_offset_ns

    # -- what the bus asks -------------------------------------------------------------------

    def _is_observer(self) -> bool:
        return True

    def _hook_selection(self) -> HookSelection:
        return "all" if Hook in self.events else "none"

    def _observed_hooks(self) -> set[str] | None:
        return None

    async def on_start(self) -> None:
        if self._run_of_state != self._run_path_or_none():
            self._good_state = None  # of another run, that this sink served before
        resumed = self._good_state is not None
        await self._in_thread(self._open, resumed)

    async def on_stop(self) -> None:
        await self._in_thread(self._close)

    def _open(self, resumed: bool) -> None:
        if self._is_open:  # a restart
            self.close()
        if self._good_state is not None:
            self.load_state({k: v for k, v in self._good_state.items() if k not in _OWN_STATE})
        self.open(resumed)
        self._is_open = True
        self._after_write()

    def _close(self) -> None:
        self._finish()
        self.close()
        self._is_open = False
        self._remember()

    async def _deliver(
        self, events: Sequence[DecodedEvent], delivered: Callable[[int], None]
    ) -> None:
        batch: list[DecodedEvent] = []
        for event in events:
            if type(event) in (RunStarted, RunEnded):
                await self._write(batch)
                delivered(event.seq)
                batch = []
                await self._in_thread(self._finish)  # at a start: an attempt that was killed
                self._record_refused()
                if type(event) is RunStarted:
                    self._wall_offset_ns = event.wall_ns - event.time_ns
                    self.run_id, self.attempt = event.run, event.attempt
                    self._remember()
            if self.wants(event):
                batch.append(event)
                if len(batch) >= self.batch_size:
                    await self._write(batch)
                    batch = []
                    delivered(event.seq + 1)
        await self._write(batch)

    async def _write(self, batch: list[DecodedEvent]) -> None:
        if not batch:
            return
        if inspect.iscoroutinefunction(self.write):
            await self.write(batch)
            await self._in_thread(self._after_write)
        else:
            await self._in_thread(self._write_and_flush, batch)
        if self._refused:
            self._record_refused()

    def _write_and_flush(self, batch: list[DecodedEvent]) -> None:
        self.write(batch)
        self._after_write()

    def _finish(self) -> None:
        self.finish()
        self._after_write()

    def _after_write(self) -> None:
        self.flush()
        self._remember()

    def _remember(self) -> None:
        self._good_state = {
            **self.state(),
            "wall_offset_ns": self._wall_offset_ns,
            "run_id": self.run_id,
            "attempt": self.attempt,
        }
        self._run_of_state = self._run_path_or_none()

    def _run_path_or_none(self) -> Path | None:
        return self._context.run_path if self._context is not None else None

    async def _in_thread(self, function: Callable[..., None], *arguments: Any) -> None:
        # Abandoned, not waited for, when the time to drain is over: it may hang for ever.
        await trio.to_thread.run_sync(function, *arguments, abandon_on_cancel=True)

    def cursor_state(self) -> PlainState:
        """What the cursor's file keeps besides the position."""
        return self._good_state or {}

    def load_cursor_state(self, state: PlainState) -> None:
        """Go on from a committed cursor."""
        self._good_state = dict(state)
        self._run_of_state = self._run_path_or_none()
        self._wall_offset_ns = int(state.get("wall_offset_ns", 0))  # type: ignore[arg-type]
        self.run_id = str(state.get("run_id", ""))
        self.attempt = int(state.get("attempt", 0))  # type: ignore[arg-type]


_OWN_STATE = ("wall_offset_ns", "run_id", "attempt")


def _made_again(kind: type[Sink], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sink:
    return kind(*args, **kwargs)
