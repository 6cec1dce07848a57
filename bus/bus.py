"""Bus: connects the log, the routes, the actors and the bus thread."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from .actor import Actor
from .bus_thread import BusThread
from .closing import Closing
from .console_recording import ConsoleRecording
from .control.server import ControlServer, Steered
from .drain import Drain
from .event_recorder import EventRecorder
from .events import Command, Ending, Fault, Stop, UserEvent
from .housekeeping import Housekeeping
from .live_host import LiveHost
from .log.hook_recorder import AT_ONCE
from .log.place import Place
from .log.segments import FolderStore
from .mail.mailbox import Envelope, Told
from .mail.reply import Reply
from .media import EncodedMedia
from .members import Members
from .observer import Observer, describe
from .post_office import PostOffice
from .run_counts import RunCounts
from .runs.cursor import AttemptLog, Position
from .runs.run_folder import RunFolder
from .statistics import BusStatistics
from .system.forks import leave_when_forked, refusal
from .system.logging_setup import get_logger
from .system.usage import Reading
from .system_sampling import SystemSampling
from .threads import Threads

_log = get_logger("nightbus.bus")


class Bus(EventRecorder):
    """Carries one attempt of a run.

    The thread that creates it is the training thread: it emits events, takes commands at safe
    points and closes the bus. Everything else happens on the bus thread, which starts with the
    first observer, or at once if the log is kept in a folder.

    It records events itself, since each step does; the rest is the work of its parts.

    Args:
        place: the place in training.
        earlier: logs of the run's earlier attempts, for observers that have not read them all.
        run: the run's folder; None if nothing is kept.
        threads: instead of this process's own.

    Attributes:
        attention: something was requested for the next safe point.
        is_open: it was started, and is not closed.
        ending: how the run ends and why, once it is being closed.
        post_office: delivers commands.
        members: the actors, by their addresses.
        thread: the bus thread.
        housekeeping: maintains the log on it.
        observers: those that run on it, or did.
    """

    def __init__(
        self,
        place: Place,
        earlier: Sequence[AttemptLog] = (),
        run: RunFolder | None = None,
        threads: Threads | None = None,
    ) -> None:
        threads = threads or Threads()
        super().__init__(place, threads)
        self.attention = False
        self.is_open = False
        self.ending: tuple[Ending, str] | None = None
        self._progress: Callable[[], object] = place.as_tuple
        self._run = run
        self.post_office = PostOffice(self, threads)
        self.members = Members(self, self, self.post_office)
        self.housekeeping = Housekeeping(self, run)
        self.thread = BusThread(threads, self.post_office, self.housekeeping)
        self.observers = self.thread.observers
        self._host = LiveHost(self, self.thread, self.post_office, self.stop_run, run, earlier)
        self._counts = RunCounts(self, self.members, self.observers, self.post_office)
        self._drain = Drain(self, self.thread, self._host, threads)
        self._closing = Closing(
            self, self.thread, self._drain, self.post_office, self._counts, self.housekeeping
        )
        leave_when_forked(self)

    def call_attention(self) -> None:
        """Have the training thread look at what was requested, at the next safe point.

        Any thread, and a signal handler, may call this.
        """
        self.attention = True

    # -- a forked child ----------------------------------------------------------------------

    @property
    def is_left(self) -> bool:
        """Whether this is a forked child of the process that owns the run."""
        return self.admission.is_left

    def leave_to_parent(self) -> None:
        """Refuse, in a forked child, everything that would continue the parent's run."""
        self.admission.leave_to_parent()
        self.routes.refuse(lambda: refusal("training went on"))
        self.place.hook = ""
        self.place.recorder.flush_due_ns = AT_ONCE
        self.thread.leave_to_parent()

    def check_is_here(self, what: str) -> None:
        """Check that this is not a forked child of the process that owns the run.

        Args:
            what: what is about to be done.

        Raises:
            ForkedChildError: it is one.
        """
        self.admission.check_is_here(what)

    # -- from start to end -------------------------------------------------------------------

    def serve_control(self, steered: Steered) -> None:
        """Let others steer the run through a socket in its folder; to call before ``start``."""
        if self._run is not None:
            self.thread.control = ControlServer(self._run.path, steered, self, self.post_office)

    def record_system(
        self, sources: Sequence[Callable[[], Reading]], every_s: float | None = None
    ) -> None:
        """Record what the machine uses and how far actors are behind, every few seconds.

        To call before ``start``.

        Args:
            sources: what is read.
            every_s: seconds between two samples; 5 if not given.
        """
        sampling = SystemSampling(self, sources, self.statistics, every_s)
        self.thread.beside.append(partial(self._run_beside, "system metrics", sampling.run))

    def record_console(self) -> ConsoleRecording:
        """Record what the process prints from now on; to call before ``start``.

        Returns:
            What records it, for ``end_console``.
        """
        recording = ConsoleRecording(self)
        self.thread.beside.append(partial(self._run_beside, "console", recording.run))
        recording.begin()
        return recording

    async def _run_beside(self, what: str, run: Callable[[], Awaitable[None]]) -> None:
        """Record something beside training; an error ends that alone."""
        try:
            await run()
        except Exception as error:
            self._report_beside(what, error)

    def end_console(self, recording: ConsoleRecording) -> None:
        """Record the rest of what was printed; to call before ``close``.

        Args:
            recording: returned by ``record_console``.
        """
        try:
            recording.end()
        except Exception as error:
            self._report_beside("console", error)

    def _report_beside(self, what: str, error: Exception) -> None:
        _log.error(f"{what}: nothing more is recorded of it in this run", exc_info=error)
        self.emit_in_time(Fault, *describe(error), "", source=what)

    def watch(self, progress: Callable[[], object]) -> None:
        """Say how actors find out whether the run moves; to call before ``start``.

        Args:
            progress: returns a value that changes as training goes on; None while it is paused.
        """
        self._progress = progress

    def start(self) -> None:
        """Start the bus thread, if there is something for it to do."""
        self.is_open = True
        records = self._run is not None and isinstance(self.store, FolderStore)
        if records or self.thread.control is not None:
            self.thread.ensure_started()

    def stop_run(self, reason: str) -> None:
        """Ask the run to end gracefully."""
        self.post("fit", Stop(reason=reason), "supervisor", None)

    def hurry(self) -> None:
        """Stop waiting for observers, but end properly; for signal handlers."""
        self._drain.hurry()

    def write_last(self, how: Ending, reason: str) -> None:
        """Remove the run's socket, and write pending events and the run's end.

        For another thread, as the last act of a process whose training thread does not come back.

        Args:
            how: how the run ended.
            reason: why.
        """
        if self.thread.control is not None:
            self.thread.control.withdraw()
        super().write_last(how, reason)

    def close(
        self, drain_timeout_s: float, ended: tuple[Ending, str] | None = None
    ) -> list[Observer]:
        """Close the bus: drain observers, record the end, stop observers one by one, seal the log.

        This ends in time, whatever actors on the bus thread do: within ``drain_timeout_s``, the
        observers' ``stop_timeout_s``, and a few seconds for those that ignore cancellation.

        Args:
            drain_timeout_s: how long observers may take to read up to the end, in s.
            ended: how the run ended and why, for the last event; None for a log that just stops.

        Returns:
            The observers that have not read everything.

        Raises:
            Exception: a plain handler's exception on the last events; everything is closed then.
        """
        self.is_open = False
        self.ending = ended
        return self._closing.close(drain_timeout_s, ended)

    # -- actors ------------------------------------------------------------------------------

    def register(self, actor: Actor, address: str | None = None) -> str:
        """Give an actor an address and a mailbox.

        Args:
            actor: the actor.
            address: its address; its name, or its class's, if not given.

        Returns:
            The address.

        Raises:
            UsageError: another actor has the address.
        """
        return self.members.register(actor, address)

    def observe(
        self, actor: Actor, start: Position | None = None, keep_cursor: bool = False
    ) -> None:
        """Run a registered actor on the bus thread.

        Args:
            actor: the actor.
            start: the first event it gets; the next one if not given.
            keep_cursor: commit its position in the run's folder, and continue from there if one
                is committed already.
        """
        self._host.observe(actor, start, keep_cursor)

    def remove(self, actor: Actor, reason: str) -> None:
        """Remove an actor: its observer stops, its mailbox refuses commands, its name is free.

        Args:
            actor: the actor.
            reason: why, for the log.
        """
        for observer in self.observers:
            if observer.actor is actor:
                observer.stop_early(reason)
        self.members.remove(actor, reason)

    def actor_at(self, address: str) -> Actor:
        """Return the actor with an address."""
        return self.members.at(address)

    # -- for actors (actor.Context) ----------------------------------------------------------

    @property
    def run_path(self) -> Path | None:
        """The run's folder; None if the run keeps none."""
        return self._run.path if self._run else None

    def progress(self) -> object:
        """Return a value that changes as training goes on; None while it is paused."""
        return self._progress()

    def post(self, target: str, command: Command, sender: str, reply: Reply | None) -> Told:
        """Deliver a command, or make a dead letter of it; any thread may call this.

        Args:
            target: the address of the actor.
            command: the command.
            sender: the name of the sender.
            reply: where to set the reply; None if none is expected.

        Returns:
            An awaitable that waits for room in the mailbox, if the policy demands it.
        """
        self.check_is_here(f"{type(command).__name__} was sent to {target!r}")
        return self.post_office.post(target, Envelope(command, sender, reply))

    def statistics(self) -> BusStatistics:
        """Return counts of log, mailboxes and cursors, the last ones if the run is over.

        Any thread may call this.
        """
        return self._counts.statistics()

    def put(
        self, source: str, name: str, value: object, destinations: Sequence[str] | None
    ) -> None:
        """Record a metric of an actor, in the way that the trainer chose.

        Args:
            source: the name of the actor.
            name: the metric.
            value: the value, as for ``Actor.put``.
            destinations: labels of its destinations; the default ones if None.
        """
        self.admission.record_put(source, name, value, destinations)

    def put_media(
        self, source: str, name: str, media: EncodedMedia, destinations: Sequence[str] | None
    ) -> None:
        """Record an image, a text or the like of an actor, in the way that the trainer chose.

        Args:
            source: the name of the actor.
            name: its name.
            media: the encoded value.
            destinations: labels of its destinations; the default ones if None.
        """
        self.admission.record_media(source, name, media, destinations)

    def emit_user_event(self, source: str, event: UserEvent) -> None:
        """Record an event that a user defined, in the way that the trainer chose.

        Args:
            source: the name of the actor.
            event: the event, with its own fields alone.
        """
        self.admission.record_user_event(source, event)
