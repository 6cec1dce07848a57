"""Sink: the base of everything that carries events to a destination."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import trio

from ..bus.actor import Actor, actor_name
from ..bus.errors import SinkError, UsageError
from ..bus.event_kinds import is_of_types
from ..bus.events import Event, Fault, Hook, Media, Put, RunEnded, RunStarted
from ..bus.log.codec import DecodedEvent, HookSelection
from ..bus.own_names import keeps_own_names
from ..bus.runs.cursor import PlainState, Position
from ..bus.system.logging_setup import get_logger
from .logger_calls import LoggerCalls

OF_LOGGERS = ("experiment", "log_image", "log_text", "log_table", "watch")
"""Attributes of Lightning loggers that sinks do not have."""

# What loggers tell about where they write: None before the first run.
_PLACES: dict[str, Callable[[Path], str]] = {
    "log_dir": str,  # the run's folder
    "root_dir": lambda run: str(run.parent),
    "save_dir": lambda run: str(run.parent.parent),  # the trainer's default_root_dir
    "version": lambda run: run.name.rpartition("-")[2],
}

MAX_REPORTED_REFUSALS = 100  # names of a sink; each is reported once
MAX_NAMES_REPORTED = 3

_log = get_logger("nightbus.sinks")


@keeps_own_names
class Sink(LoggerCalls, Actor):
    """Carries events to a destination, at its own pace, live or in replay.

    Write one by overriding ``write``; the rest has defaults. A plain ``write`` runs in a worker
    thread, a coroutine on the bus thread: neither can slow training. When ``write`` raises, the
    sink is opened again with the state of the last good write and gets the batch once more.

    Attributes:
        destination: takes puts with this label; None takes all puts.
        events: the types of events that ``write`` gets.
        batch_size: maximum number of events in one ``write``.
        run_id: id of the run that is delivered.
        attempt: number of its attempt, from 0.
    """

    destination: str | None = "loggers"
    events: tuple[type[Event], ...] = (Put,)
    batch_size: int = 1000
    poll_interval_s = 0.25
    run_id: str = ""
    attempt: int = 0
    _nightbus_good_state: PlainState | None = None
    _nightbus_run_of_state: Path | None = None
    _nightbus_wall_offset_ns: int = 0
    _nightbus_is_open: bool = False
    _nightbus_refused: tuple[tuple[str, str], ...] = ()  # error and message, not yet recorded
    _nightbus_reported_refusals: frozenset[tuple[str, ...]] = frozenset()  # names of metrics
    _nightbus_made_with: tuple[tuple[Any, ...], dict[str, Any]]

    if not TYPE_CHECKING:  # so that type checkers report missing names

        def __getattr__(self, name: str) -> Any:
            if name in _PLACES:  # as attributes, so that a sink may have its own of this name
                path = self._run_path_or_none()
                return None if path is None else _PLACES[name](path)
            if name == "experiment":
                if hasattr(type(self), name):  # a property of its own, which has raised
                    return object.__getattribute__(self, name)
                if (writer := self._experiment()) is not None:
                    return writer
            kind = type(self).__name__
            message = f"{kind!r} object has no attribute {name!r}"
            if name in OF_LOGGERS:
                message += (
                    f": {kind} is a sink, which receives what training records; record metrics "
                    "with self.log or self.put, media with self.put_image and the like, and "
                    "hyperparameters with self.save_hyperparameters, or give a logger: "
                    "Trainer(logger=nb.TensorBoardLogger('logs'))"
                )
            if name == "experiment":
                message += ". In a run it is a SummaryWriter, if TensorBoard is installed"
            raise AttributeError(message)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        sink = super().__new__(cls)
        sink._nightbus_made_with = (args, kwargs)
        return sink

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy as a new sink with the same arguments: open files are not shared."""
        args, kwargs = self._nightbus_made_with
        return _made_again, (type(self), args, kwargs)

    def open(self, resumed: bool) -> None:
        """Prepare for events; called before the first event and again after a restart.

        Args:
            resumed: continue from the state given to ``load_state``; otherwise begin from nothing,
                even if the sink served another run before.
        """

    def write(self, batch: list[Any]) -> Any:
        """Write events to the destination, in order; may be a coroutine function."""
        raise UsageError(f"{type(self).__name__} must define write(self, batch)")

    def flush(self) -> None:
        """Hand everything written so far to the operating system; called after each batch."""

    def close(self) -> None:
        """Close the destination; called once after the last event, and before each restart."""

    def finish(self) -> None:
        """Complete what was held back: an attempt or the log has ended."""

    def state(self) -> PlainState:
        """Return what is needed to continue from here, as plain data; called after each batch."""
        return {}

    def load_state(self, state: PlainState) -> None:
        """Restore what ``state`` returned; called before ``open``."""

    def is_lost(self, state: PlainState) -> bool:
        """Return whether everything written is gone, for example because the file was removed.

        If so, the sink takes all back, and the run is delivered again from its start.

        Args:
            state: the last result of ``state``, and what the sink keeps for itself.
        """
        return False

    def take_back(
        self, first_superseded: Position, replacement_start: Position, state: PlainState
    ) -> Position:
        """Take back what was written of superseded events.

        The run was resumed from a checkpoint, which superseded the events after it. By default
        nothing is
        taken back, because most destinations only grow: there, the steps after the checkpoint
        appear twice,
        as they were first and as they are now.

        Args:
            first_superseded: attempt and sequence number of the first superseded event.
            replacement_start: attempt and sequence number of the first event that replaces them.
            state: the last result of ``state``, and what the sink keeps for itself.

        Returns:
            Where to continue; ``replacement_start`` by default.
        """
        self.load_cursor_state(state)
        return replacement_start

    def begin_anew(self, others: Sequence[PlainState]) -> None:
        """Prepare for a run that others have begun, without a cursor of one's own.

        Called when a run is resumed, or a replay delivers the rest, and this sink has committed
        nothing:
        it is new, or its process was killed at the very start.

        Args:
            others: what other sinks of the run, and of replays that keep their cursors in the same
                folder, keep with their cursors.
        """

    def refuse(self, names: Iterable[str], step: int, error: Exception) -> None:
        """Leave out a record that the destination cannot hold; to be called in ``write``.

        A Fault in the log and a warning name the record. Further records of the same metrics are
        left out silently.

        Args:
            names: the metrics in the record.
            step: its step.
            error: why it was refused.
        """
        which = tuple(names)
        if (
            which in self._nightbus_reported_refusals
            or len(self._nightbus_reported_refusals) >= MAX_REPORTED_REFUSALS
        ):
            return
        self._nightbus_reported_refusals |= {which}
        names_text = ", ".join(
            repr(name[:MAX_REPORTED_REFUSALS]) for name in which[:MAX_NAMES_REPORTED]
        )
        more = (
            f" and {len(which) - MAX_NAMES_REPORTED} more"
            if len(which) > MAX_NAMES_REPORTED
            else ""
        )
        message = f"left out {names_text}{more} of step {step}: {error}"
        _log.warning(f"{actor_name(self)} {message}; it continues with the next")
        self._nightbus_refused += ((type(error).__name__, message),)

    def _record_refused(self) -> None:
        """Record refused records as faults, on the bus thread."""
        refused, self._nightbus_refused = self._nightbus_refused, ()
        context = self._nightbus_context
        for kind, message in refused:
            if context is not None:
                context.emit(Fault, kind, message, "", "write", source=actor_name(self))

    def wants(self, event: DecodedEvent) -> bool:
        """Return whether ``write`` gets this event."""
        kind = type(event)
        if kind is Put or kind is Media:
            destination = self.destination
            is_for_me = destination is None or destination in event.destinations  # type: ignore[union-attr]
            return is_for_me and kind in self.events
        return is_of_types(event, self.events)

    @property
    def needs_run_folder(self) -> bool:
        """True if the sink writes into the run's folder, so that there has to be one."""
        return False

    @property
    def run_path(self) -> Path:
        """The run's folder.

        Raises:
            UsageError: the run keeps no folder.
            SinkError: the folder was removed or renamed; it is not created again under its old
                name.
        """
        path = self._require_context("run_path").run_path
        if path is None:
            raise UsageError(
                f"{type(self).__name__} needs a place to write, and this run keeps no folder; pass "
                "a path to it"
            )
        if not path.is_dir():
            raise SinkError(f"the run's folder {path} was removed or renamed")
        return path

    def wall_ns(self, event: Event) -> int:
        """Return the wall clock of an event, in ns since 1970; the same live and in replay."""
        return event.time_ns + self._nightbus_wall_offset_ns

    # -- called by the bus --------------------------------------------------------------------

    def _is_observer(self) -> bool:
        return True

    def _hook_selection(self) -> HookSelection:
        return "all" if Hook in self.events else "none"

    def _observed_hooks(self) -> set[str] | None:
        return None

    async def on_start(self) -> None:
        if self._nightbus_run_of_state != self._run_path_or_none():
            self._nightbus_good_state = None  # left by another run that this sink served
        resumed = self._nightbus_good_state is not None
        await self._in_thread(self._open, resumed)

    async def on_stop(self) -> None:
        await self._in_thread(self._close)

    def _open(self, resumed: bool) -> None:
        if self._nightbus_is_open:  # a restart
            self.close()
        good_state = self._nightbus_good_state
        if good_state is not None:
            self.load_state({k: v for k, v in good_state.items() if k not in _OWN_STATE})
        self.open(resumed)
        self._nightbus_is_open = True
        self._after_write()

    def _close(self) -> None:
        self._finish()
        self.close()
        self._nightbus_is_open = False
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
                await self._in_thread(self._finish)  # a start ends an attempt that was killed
                self._record_refused()
                if type(event) is RunStarted:
                    self._nightbus_wall_offset_ns = event.wall_ns - event.time_ns
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
        if self._nightbus_refused:
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
        self._nightbus_good_state = {
            **self.state(),
            "wall_offset_ns": self._nightbus_wall_offset_ns,
            "run_id": self.run_id,
            "attempt": self.attempt,
        }
        self._nightbus_run_of_state = self._run_path_or_none()

    def _experiment(self) -> Any:
        """Return the SummaryWriter of the run's folder; None where there is none."""
        run, trainer = self._run_path_or_none(), self._nightbus_for_loggers
        return None if run is None or trainer is None else trainer.experiment_of(run)

    def _run_path_or_none(self) -> Path | None:
        return self._nightbus_context.run_path if self._nightbus_context is not None else None

    async def _in_thread(self, function: Callable[..., None], *arguments: Any) -> None:
        # Abandoned when the time to drain is over, because it may hang for ever.
        await trio.to_thread.run_sync(function, *arguments, abandon_on_cancel=True)

    def cursor_state(self) -> PlainState:
        """Return what the cursor's file keeps besides the position."""
        return self._nightbus_good_state or {}

    def load_cursor_state(self, state: PlainState) -> None:
        """Restore the state of a committed cursor."""
        self._nightbus_good_state = dict(state)
        self._nightbus_run_of_state = self._run_path_or_none()
        try:
            self._nightbus_wall_offset_ns = int(state.get("wall_offset_ns", 0))  # type: ignore[arg-type]
            self.attempt = int(state.get("attempt", 0))  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            name = actor_name(self)
            raise SinkError(
                f"what {name} keeps with its cursor in the run's folder is damaged: {error}; "
                f"delete cursors/{name}.json to deliver the run from its start"
            ) from None
        self.run_id = str(state.get("run_id", ""))


_OWN_STATE = ("wall_offset_ns", "run_id", "attempt")


def _made_again(kind: type[Sink], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sink:
    return kind(*args, **kwargs)
