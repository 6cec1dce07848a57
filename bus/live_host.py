"""LiveHost: runs observers of a run while it is recorded; replay has a host of its own."""

from collections.abc import Callable, Sequence

import trio

from .actor import Actor, actor_name
from .bus_thread import BusThread
from .copies import StaysInRun
from .event_recorder import EventRecorder
from .observer import Observer
from .post_office import PostOffice
from .runs.cursor import AttemptLog, CursorFile, Position, RunReader
from .runs.resume_cursor import go_on, states_of_others
from .runs.run_folder import RunFolder


class LiveHost(StaysInRun):
    """Starts observers where they have to begin, and gives them what ``observer.Host`` says.

    Args:
        recorder: writes the log that they read.
        thread: runs them.
        post_office: has their mailboxes.
        stop_run: asks the run to end, for a reason.
        run: has their cursors; None if nothing is kept.
        earlier: logs of the run's earlier attempts, for observers that have not read them all.
    """

    def __init__(
        self,
        recorder: EventRecorder,
        thread: BusThread,
        post_office: PostOffice,
        stop_run: Callable[[str], None],
        run: RunFolder | None,
        earlier: Sequence[AttemptLog],
    ) -> None:
        self.emit = recorder.emit
        self.stop_run = stop_run
        self.make_dead_letter = post_office.make_dead_letter
        self._recorder = recorder
        self._thread = thread
        self._post_office = post_office
        self._run = run
        self._earlier = list(earlier)
        self._turns: dict[Observer, trio.Event] = {}  # set when an observer may stop

    def observe(self, actor: Actor, start: Position | None, keep_cursor: bool) -> None:
        """Run a registered actor on the bus thread.

        Args:
            actor: the actor.
            start: the first event it gets; the next one if not given.
            keep_cursor: commit its position in the run's folder, and continue from there if one
                is committed already.
        """
        recorder = self._recorder
        assert recorder.writer is not None
        if actor._hook_selection() != "none":
            recorder.want_hooks(actor._observed_hooks())
        name = actor_name(actor)
        cursor_file = CursorFile(self._run, name) if keep_cursor and self._run else None
        if cursor_file is not None:
            start = self._continuation(actor, cursor_file) or start
        if start is None:
            start = Position(recorder.attempt, recorder.writer.written_seq)
        mailbox = self._post_office.mailboxes[name]
        mailbox.arrived = None  # the bus thread takes from it, from now on
        self._thread.add(Observer(actor, start, self, cursor_file, mailbox=mailbox))

    def _continuation(self, actor: Actor, cursor_file: CursorFile) -> Position | None:
        """Return where an actor continues that has committed a cursor; None if it has not."""
        cursor = cursor_file.load()
        if cursor is not None:
            store = self._recorder.store
            assert store is not None
            now = AttemptLog(self._recorder.attempt, store)
            return go_on(actor, cursor, [*self._earlier, now])  # type: ignore[arg-type]
        if self._run is not None and self._recorder.attempt > 0:
            actor.begin_anew(states_of_others(self._run))  # type: ignore[attr-defined]
        return None

    # -- for observers -----------------------------------------------------------------------

    def open_reader(self, start: Position) -> RunReader:
        """Return a reader of the run's log at a position."""
        writer, store = self._recorder.writer, self._recorder.store
        assert writer is not None
        assert store is not None
        live = AttemptLog(self._recorder.attempt, store, lambda: writer.committed)
        return RunReader([*self._earlier, live], start)

    def is_closing(self, observer: Observer) -> bool:
        """Return whether the log is complete and it is the observer's turn to stop."""
        turn = self._turns.get(observer)
        return turn is not None and turn.is_set()

    async def pause(self, observer: Observer, seconds: float) -> None:
        """Sleep, at most until the log is complete, and then until it is the observer's turn.

        Args:
            observer: the observer.
            seconds: how long, in s.
        """
        event = self._thread.closing
        assert event is not None
        if event.is_set():
            event = self._turn_of(observer)
        with trio.move_on_after(seconds):
            await event.wait()

    def give_turn(self, observer: Observer) -> None:
        """Let an observer read the end and stop; called on the bus thread."""
        self._turn_of(observer).set()

    def _turn_of(self, observer: Observer) -> trio.Event:
        return self._turns.setdefault(observer, trio.Event())
