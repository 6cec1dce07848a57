"""Link: the side thread of a rank, by which it agrees with the others and hears who is lost."""

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ...bus.copies import StaysInRun
from ...bus.errors import RankLostError, RankMessageError, RankMismatchError
from ...bus.events import ClockOffset, Event, Fault, RankLost
from ...bus.log.place import Place
from ...bus.ranks.agreement import Member
from ...bus.ranks.clock_offset import ClockExchange, Offset
from ...bus.ranks.connection import Connection
from ...bus.ranks.desk import Desk
from ...bus.ranks.messages import (
    Activity,
    Answer,
    Ask,
    Decision,
    Done,
    Ended,
    Failure,
    Hello,
    Message,
    Met,
    Pong,
    Proposal,
    Whereabouts,
    describe,
    encode,
    failure,
)
from ...bus.ranks.office import Office
from ...bus.ranks.processes import runs
from ...bus.ranks.roll_call import ASTRAY
from ...bus.system.forks import keep_when_forked, leave_when_forked
from ...bus.system.logging_setup import get_logger
from .last_act import ENDING_S, LastAct
from .world import World

BEAT_S = 1.0
SILENCE_S = 10.0
"""How long nothing may be heard of a rank of this machine, unless its process is seen to run."""
SILENCE_OF_MACHINES_S = 60.0
"""The same on several machines. Code that keeps Python's lock for longer is silent too."""
CLOCK_EVERY_S = 60.0
ANSWER_WITHIN_S = 1.0
"""How long one waits for the word of the rank that is lost, or for one's own to arrive."""
LEAVE_WITHIN_S = 5.0
_LOOK_S = 0.05  # between looks at whether the culprit's process has ended

_log = get_logger("nightbus.ranks")


class LinkedRun(StaysInRun):
    """What the side thread knows of an open run, and does with it.

    Args:
        place: where training is.
        is_paused: returns whether steps wait for Resume.
        record: records an event, from any thread.
        write_last: writes the log's last events, if the training thread does not come back.
        report_hang: writes down where all threads are.
        hang_s: how long a rank may stand still while others wait for it; None for no limit.
        met: returns ``Group.met``.
    """

    def __init__(
        self,
        place: Place,
        is_paused: Callable[[], bool],
        record: Callable[..., None],
        write_last: Callable[[str], None],
        report_hang: Callable[[str], None],
        hang_s: float | None,
        met: Callable[[], int],
    ) -> None:
        self.place = place
        self.met: Callable[[], int] = met
        self.is_paused = is_paused
        self.record: Callable[..., None] = record
        self.write_last = write_last
        self.report_hang = report_hang
        self.hang_s = float("inf") if hang_s is None else hang_s

    def emit(self, kind: type[Event], *fields: Any) -> None:
        """Record an event of this rank; from any thread.

        Args:
            kind: the event's type.
            *fields: its own fields, in order.
        """
        self.record(kind, *fields, source="ranks")


class Link(StaysInRun):
    """The side thread of a rank, from joining the others to the end of the process.

    It never touches a process group, and waits in one place, without asking again and again. The
    training thread has its member come to each safe point, and calls the rest where there is a
    reason.

    Args:
        world: which rank this is.
        token: of the run.
        desk: on rank 0, whose side thread keeps it; its selector is this link's.
        connection: to the desk, on all others.
        selector: where the sockets wait.

    Attributes:
        member: this rank's part in the agreement.
        runs: how many runs this process has begun; the same on all ranks within a run.
        awaits: the exchange in which the training thread waits for others; empty if in none.
    """

    def __init__(
        self,
        world: World,
        token: str,
        selector: selectors.BaseSelector,
        desk: Desk | None,
        connection: Connection | None,
    ) -> None:
        self.world = world
        self.member = Member(world.rank)
        self._changed = threading.Condition(threading.Lock())
        self._selector = selector
        self._connection = connection
        now_s = time.monotonic()
        self._silence_s = SILENCE_S if world.num_nodes == 1 else SILENCE_OF_MACHINES_S
        self._office: Office | None = None
        if desk is not None:
            self._office = Office(world.size, desk, self.member, self._silence_s, now_s)
        self._desk_heard_s = self._turned_s = now_s
        self._desk_is_done = False
        self._to_send: deque[Message] = deque()
        self._beats = 0
        self._beat_due_s = now_s
        self._clock = ClockExchange()
        self._clock_due_s = now_s
        self._offset: Offset | None = None
        self._run: LinkedRun | None = None
        self.runs = 0
        self.awaits = ""
        self._met_before = 0  # this run
        self._meetings = 0  # of the run
        self._is_waiting = False  # at one
        self._is_over = self._is_left = False
        self._refused_to_report = 1
        self._last_act = LastAct(world)
        self._wake_reader, self._wake_writer = socket.socketpair()
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        selector.register(self._wake_reader, selectors.EVENT_READ, self._be_woken)
        if connection is not None:
            selector.register(connection, selectors.EVENT_READ, self._hear_desk)
            connection.send(Hello(token, world.rank))
        self._arrived: deque[Message] = deque()
        self._thread = threading.Thread(target=self._work, name="nightbus-ranks", daemon=True)
        leave_when_forked(self)
        self._thread.start()

    def leave_to_parent(self) -> None:
        """Close the sockets in a forked child, or they would stay open when its parent ends."""
        self._is_over = self._is_left = True
        if self._connection is not None:
            self._connection.close()
        if self._office is not None:
            self._office.desk.leave_to_parent()
        self._wake_reader.close()
        self._wake_writer.close()
        self._selector.close()

    # -- the training thread -----------------------------------------------------------------

    def begin_run(self, run: LinkedRun) -> None:
        """Take part in a run from now on.

        Args:
            run: the open run.

        Raises:
            RankLostError: a rank is lost already.
        """
        with self._changed:
            self._run = run
            self.runs += 1
            self._meetings, self._is_waiting = 0, False
            self._met_before = run.met()
            if self._office is not None:
                self._office.hang_s = run.hang_s
            self._send_whereabouts()
            if self._offset is not None:
                run.emit(ClockOffset, *self._offset)
        self._wake()
        self.check()

    def end_run(self) -> None:
        """Take part in no run from now on: this rank has come to the last point of its run."""
        with self._changed:
            self._run = None
            self._send_whereabouts()
        self._wake()

    def check(self) -> None:
        """Check that no rank is lost.

        Raises:
            RankLostError: one is.
            RankMismatchError: it is this one, because it waits in an exchange that others have
                passed by.
        """
        word = self.member.failure
        if word is None:
            return
        if self._is_astray(word):
            raise RankMismatchError(word.what.removeprefix(ASTRAY))
        raise self._loss()

    def _is_astray(self, word: Failure) -> bool:
        """Return whether this rank is told that it waits in vain, which its own thread raises."""
        return word.rank == self.world.rank and word.what.startswith(ASTRAY)

    def take(self) -> tuple[Ask, ...]:
        """Return the asks on which all ranks act at the safe point that this one has come to.

        Raises:
            RankLostError: a rank is lost.
        """
        with self._changed:
            while self.member.must_wait:
                self._changed.wait()
            if self.member.failure is not None:
                raise self._loss()
            return self.member.take()

    def arrive(self) -> None:
        """Arrive at the end of an evaluation, where all ranks meet; ``has_met`` is to follow."""
        with self._changed:
            self._meetings += 1
            self._is_waiting = True
            self._to_send.append(self.member.arrive(self.runs, self._meetings))
            self._send_whereabouts()
        self._wake()

    def has_met(self, within_s: float) -> bool:
        """Return whether all ranks have arrived, and this one has come as far as they all do.

        Args:
            within_s: how long to wait for that, or for a further point to come to.

        Raises:
            RankLostError: a rank is lost.
        """
        member = self.member
        with self._changed:
            self._changed.wait_for(
                lambda: member.has_met or member.is_behind or member.failure is not None, within_s
            )
            if member.failure is not None:
                raise self._loss()
            if member.has_met:
                self._is_waiting = False
            return member.has_met

    def ask(self, kind: str, payload: bytes = b"{}") -> None:
        """Ask that all ranks act on something at the same point.

        Args:
            kind: what is asked; asks of one kind are one.
            payload: a line of JSON with the rest.
        """
        with self._changed:
            ask = self.member.ask(kind, payload, self.runs)
            encode(ask)  # so that what is wrong with it is raised here
            self._to_send.append(ask)
        self._wake()

    def fail(self, what: str) -> RankLostError | None:
        """Say that this rank cannot go on, before anything else is done about it.

        Args:
            what: what happened, a sentence for people.

        Returns:
            Who is lost, if it is another rank, whose word came first.
        """
        with self._changed:
            if self.member.failure is None:
                self._last_act.has_own_failure = True
                where = self._whereabouts()
                self._to_send.append(failure(self.world.rank, "raised", what, where))
        self._wake()
        return self.lost(ANSWER_WITHIN_S)

    def lost(self, within_s: float = 0.0) -> RankLostError | None:
        """Return which other rank is lost, if one is.

        Args:
            within_s: how long to wait for word of it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.member.failure is not None, within_s)
            word = self.member.failure
            return None if word is None or word.rank == self.world.rank else self._loss()

    def lose(self, rank: int, what: str) -> RankLostError:
        """Take notice that another rank is lost, which only who waits for it can see.

        Args:
            rank: which.
            what: what happened, a sentence for people.

        Returns:
            Who is lost: this one, unless another's word came first.
        """
        with self._changed:
            if self.member.failure is None:
                self.member.receive(failure(rank, "dead", what))
        self._wake()
        return self._loss()

    def _loss(self) -> RankLostError:
        assert self.member.failure is not None
        self._last_act.is_ending = True
        return RankLostError(self.member.failure.rank, describe(self.member.failure))

    @property
    def is_lost(self) -> bool:
        """Whether a rank is lost, this one or another."""
        return self.member.failure is not None

    @property
    def has_failed(self) -> bool:
        """Whether this rank has said first that it cannot go on."""
        return self._last_act.has_own_failure

    @property
    def has_raised(self) -> bool:
        """Whether a lost rank has ended what the training thread did."""
        return self._last_act.is_ending

    def leave(self) -> None:
        """Say that this rank's process ends; if another rank was lost, let that one end first."""
        self._last_act.ends_by_itself = True
        if self._is_left or self._last_act.has_own_failure:
            return  # the others see the end of the connection when the process ends
        if self.has_raised:
            with self._changed:
                self._changed.wait_for(lambda: self._last_act.is_others_turn, ENDING_S)
            self._last_act.name_culprit()
        with self._changed:
            if self.member.failure is None:
                self._to_send.append(Done())
            self._is_over = True
        self._wake()
        self._thread.join(LEAVE_WITHIN_S)
        keep_when_forked(self)

    def process_ended(self, rank: int, exit_code: int) -> None:
        """Take notice of how the process of a rank has ended; from any thread.

        Args:
            rank: which.
            exit_code: its exit code; minus the signal that killed it.
        """
        if self._office is not None:
            with self._changed:
                self._office.ended(rank, exit_code, time.monotonic())
            self._wake()

    def _wake(self) -> None:
        try:
            self._wake_writer.send(b"w")
        except OSError:  # it is awake, or at its end
            return

    # -- the side thread ---------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._turn():
                pass
        except Exception as error:
            if self._is_over:  # as in a forked child, whose sockets are closed
                return
            _log.error("the link to the other ranks broke", exc_info=error)
            word = failure(self.world.rank, "raised", f"its link to the others broke: {error}")
            with self._changed:
                self._send(word)
                self.member.receive(word)
                self._changed.notify_all()
            self._act_on_loss(word, time.monotonic())

    def _turn(self) -> bool:
        """Wait for something to do, and do it; return whether this was the last turn."""
        for key, _ in self._selector.select(self._pause_s()):
            key.data()
        now_s = time.monotonic()
        with self._changed:
            self._allow_for_absence(now_s)
            if self._office is not None:
                self._office.take_all(now_s)
            while self._arrived:
                self._take(self._arrived.popleft(), now_s)
            while self._to_send:
                self._send(self._to_send.popleft())
            if now_s >= self._beat_due_s:
                self._beat(now_s)
            if self._office is not None:
                self._office.go_on(now_s)
            else:
                self._look_at_desk(now_s)
            if self._is_over:
                self._say_goodbye()
                return True
        if self.member.failure is not None:
            self._act_on_loss(self.member.failure, now_s)
        with self._changed:
            self._changed.notify_all()
        return False

    def _pause_s(self) -> float:
        now_s = time.monotonic()
        dues = [max(0.0, self._beat_due_s - now_s)]
        if self._office is not None and (next_s := self._office.next_s(now_s)) is not None:
            dues.append(next_s)
        if self._run is not None and (due_s := self._last_act.due_s) is not None:
            dues.append(max(0.0, due_s - now_s))
        if self._last_act.ends_by_itself and self._last_act.has_begun:
            dues.append(_LOOK_S)
        return min(dues)

    def _be_woken(self) -> None:
        self._wake_reader.recv(1024)

    def _hear_desk(self) -> None:
        assert self._connection is not None
        self._arrived += self._connection.receive()

    def _allow_for_absence(self, now_s: float) -> None:
        """Count no time in which this process was stopped or starved against the desk."""
        away_s, self._turned_s = now_s - self._turned_s, now_s
        if away_s > self._silence_s / 2:
            self._desk_heard_s += away_s

    def _send(self, message: Message) -> None:
        """Send a message to the desk, or hand it over to the office."""
        if self._office is not None:
            self._office.take(0, message, time.monotonic())
        elif self._connection is not None:
            self._connection.send(message)

    def _take(self, message: Message, now_s: float) -> None:
        """Take a message of the desk."""
        self._desk_heard_s = now_s
        if isinstance(message, Proposal | Decision | Met | Failure):
            answer: Answer | None = self.member.receive(message)
            if answer is not None:
                self._send(answer)
        elif isinstance(message, Pong):
            self._go_on_with_clock(message)
        elif isinstance(message, Ended):
            self._last_act.culprit_has_ended(now_s)
        elif isinstance(message, Done):
            self._desk_is_done = True

    def _look_at_desk(self, now_s: float) -> None:
        """Look whether rank 0 is still there."""
        assert self._connection is not None
        if self._connection.has_ended:
            if self._connection in self._registered():
                self._selector.unregister(self._connection)
                if self.member.failure is not None and self.member.failure.rank == 0:
                    self._last_act.culprit_has_ended(now_s)
            if not self._desk_is_done:
                self._lose_desk("dead", "its process ended without a word")
            elif self._run is not None:
                self._lose_desk("dead", "its script has ended, and this rank is in a run")
        elif now_s - self._desk_heard_s > self._silence_s / 2 and runs(self._connection.pid):
            self._desk_heard_s = now_s
        elif now_s - self._desk_heard_s > self._silence_s:
            silent_s = now_s - self._desk_heard_s
            self._lose_desk("silent", f"it has been silent for {silent_s:.1f} s")

    def _registered(self) -> list[object]:
        return [key.fileobj for key in self._selector.get_map().values()]

    def _lose_desk(self, cause: Any, what: str) -> None:
        if self.member.failure is None:
            self.member.receive(failure(0, cause, what))

    # -- signs of life -----------------------------------------------------------------------

    def _beat(self, now_s: float) -> None:
        self._beat_due_s = now_s + BEAT_S
        where = self._whereabouts()
        self._send(where)
        if self._office is not None:
            self._office.desk.send_all(where)
            self._report_refused(self._office.desk.refused)
        elif now_s >= self._clock_due_s and self.member.failure is None:
            self._clock_due_s = now_s + CLOCK_EVERY_S
            self._send(self._clock.begin(time.monotonic_ns()))

    def _report_refused(self, refused: int) -> None:
        """Record how many connections were refused, again when their number has doubled."""
        if self._run is not None and refused >= self._refused_to_report:
            self._refused_to_report = 2 * refused
            what = f"{refused} connections to rank 0 were refused: they are not of this run's ranks"
            self._run.emit(Fault, RankMessageError.__name__, what, "", "")

    def _send_whereabouts(self) -> None:
        self._to_send.append(self._whereabouts())

    def _whereabouts(self) -> Whereabouts:
        """Return where the training thread is."""
        self._beats += 1
        run, point = self._run, self.member.point
        if run is None:
            return Whereabouts(self.world.rank, self._beats, point, activity="left")
        place = run.place
        progress = max(0, place.recorder.trace.recorded - self.member.recorded)
        activity: Activity = "rests" if run.is_paused() else "trains"
        if self._is_waiting:
            activity = "waits"
        return Whereabouts(
            self.world.rank,
            self._beats,
            point,
            progress,
            place.hook[:100],
            place.batch_idx,
            activity,
            self.runs,
            run.met() - self._met_before + self._meetings,
            self.awaits[:100],
        )

    def _go_on_with_clock(self, pong: Pong) -> None:
        found = self._clock.hear(pong, time.monotonic_ns())
        if isinstance(found, Offset):
            self._offset = found
            if self._run is not None and self.member.failure is None:  # or it may have ended
                self._run.emit(ClockOffset, *found)
        elif found is not None:
            self._send(found)

    # -- the end -----------------------------------------------------------------------------

    def _say_goodbye(self) -> None:
        """Send what is left, and close everything."""
        if self._office is not None:
            self._office.desk.send_all(Done())
            self._office.desk.close()
        elif self._connection is not None:
            self._connection.close()
        self._selector.close()

    def _act_on_loss(self, word: Failure, now_s: float) -> None:
        act, run = self._last_act, self._run
        if not act.has_begun:
            act.has_own_failure |= self._is_astray(word)
            act.begin(word, now_s)
            if run is not None:
                fields = word.rank, word.cause, word.what, word.point, word.hook
                run.emit(RankLost, *fields)
                if word.rank == self.world.rank and word.cause == "stuck":
                    run.report_hang(word.what)
        if self._office is not None:
            act.others_have_ended = self._office.all_have_ended
            if self._office.has_ended(word.rank):
                act.culprit_has_ended(now_s)
        # Out of a run it is the user's code that goes on, and may.
        if run is not None and act.due_s is not None and now_s >= act.due_s:
            act.end(lambda: run.write_last(describe(word)))
