"""Office: what rank 0 does for all ranks: it leads their agreement, and knows who is lost."""

import time
from typing import NamedTuple

from ..errors import RankMessageError
from .agreement import Chair, Member
from .desk import Desk
from .messages import (
    Answer,
    Arrived,
    Ask,
    Done,
    Ended,
    Failure,
    Hello,
    Message,
    Ping,
    Pong,
    Whereabouts,
)
from .processes import runs
from .roll_call import RollCall

LAST_WORDS_S = 0.3
"""How long a rank whose connection has ended is not dead yet: its word that it raised, or how its
process ended, may still be under way."""


class _Gone(NamedTuple):
    """A rank whose connection or process has ended.

    Attributes:
        dead_s: when it counts as dead.
        exit_code: of its process; None if only its connection is known to be closed.
    """

    dead_s: float
    exit_code: int | None


class Office:
    """Passes on what ranks ask and say; the side thread of rank 0 calls it.

    Args:
        ranks: how many there are.
        desk: where the others are connected.
        member: that of rank 0.
        silence_s: how long a rank may be silent.
        now_s: what time it is.
    """

    def __init__(
        self,
        ranks: int,
        desk: Desk,
        member: Member,
        silence_s: float,
        now_s: float,
    ) -> None:
        self.desk = desk
        self._ranks = ranks
        self._member, self._silence_s = member, silence_s
        self._chair = Chair(ranks)
        self._roll_call = RollCall(ranks, silence_s, float("inf"), now_s)
        self._ready = self._late = 0  # answers to the proposal under way
        self._gone: dict[int, _Gone] = {}
        self._has_told_end = False  # of the culprit's process

    @property
    def hang_s(self) -> float:
        """How long a rank may stand still while others wait for it."""
        return self._roll_call.hang_s

    @hang_s.setter
    def hang_s(self, seconds: float) -> None:
        self._roll_call.hang_s = seconds

    # -- what comes --------------------------------------------------------------------------

    def take_all(self, now_s: float) -> None:
        """Take what has arrived at the desk.

        Args:
            now_s: what time it is.
        """
        while self.desk.arrived:
            rank, message = self.desk.arrived.popleft()
            if message is None:
                self.ended(rank, None, now_s)
                continue
            try:
                self.take(rank, message, now_s)
            except RankMessageError as error:
                self.desk.refuse(rank, error)

    def take(self, rank: int, message: Message, now_s: float) -> None:
        """Take a message of a rank, which speaks for itself alone.

        Args:
            rank: the sender.
            message: the message.
            now_s: what time it is.

        Raises:
            RankMessageError: ranks do not send this to the desk.
        """
        if isinstance(message, Whereabouts | Ask | Failure) and message.rank != rank:
            what = type(message).__name__
            raise RankMessageError(f"rank {rank} sent the {what} of rank {message.rank}")
        if isinstance(message, Whereabouts):
            self._roll_call.heard(message, now_s)
        elif isinstance(message, Ask):
            self._chair.hear(message)
        elif isinstance(message, Answer):
            self._count(message)
        elif isinstance(message, Arrived):
            self._chair.arrive(rank, message)
        elif isinstance(message, Failure):
            self._roll_call.word(message)
        elif isinstance(message, Ping):
            self.desk.send(rank, Pong(message.sent_ns, time.monotonic_ns()))
        elif isinstance(message, Done):
            self._roll_call.done(rank, now_s)
        elif not isinstance(message, Hello):
            raise RankMessageError(f"rank {rank} sent a {type(message).__name__} to the desk")

    def ended(self, rank: int, exit_code: int | None, now_s: float) -> None:
        """Take notice that a rank's connection or process has ended.

        Args:
            rank: which.
            exit_code: minus the signal that killed it; None if only its connection is known to be
                closed.
            now_s: what time it is.
        """
        known = self._gone.get(rank, _Gone(now_s + LAST_WORDS_S, exit_code))
        self._gone[rank] = known if exit_code is None else known._replace(exit_code=exit_code)

    def _count(self, answer: Answer) -> None:
        proposal = self._chair.proposal
        if proposal is not None and answer.number == proposal.number:
            self._ready += answer.readiness == "ready"
            self._late += answer.readiness == "late"

    # -- what goes out -----------------------------------------------------------------------

    def go_on(self, now_s: float) -> None:
        """Propose, decide and call the roll; to be called after all that came, and now and then.

        Args:
            now_s: what time it is.
        """
        self.desk.look(now_s)
        self._agree()
        self._meet()
        for rank, gone in self._gone.items():
            if now_s >= gone.dead_s:
                self._roll_call.ended(rank, gone.exit_code)
        self._look_for_running(now_s)
        culprit = self._roll_call.call(now_s)
        if culprit is not None and self._member.failure is None:
            self.desk.send_all(culprit)
            self._member.receive(culprit)
        if culprit is not None and culprit.rank in self._gone and not self._has_told_end:
            self._has_told_end = True
            self.desk.send_all(Ended())

    def _agree(self) -> None:
        """Go on with the agreement as far as it goes without other ranks."""
        while self._member.failure is None:
            if self._chair.proposal is None:
                proposal = self._chair.propose(self._member.point)
                if proposal is None:
                    return
                self._ready = self._late = 0
                self.desk.send_all(proposal)
                answer = self._member.receive(proposal)
                assert answer is not None
                self._count(answer)
            decision = self._chair.count(self._ready, self._late)
            if decision is None:
                return
            self.desk.send_all(decision)
            self._member.receive(decision)

    def _meet(self) -> None:
        """Tell all ranks to go on from a meeting, if they can."""
        met = self._chair.meet()
        if met is not None:
            self.desk.send_all(met)
            self._member.receive(met)

    def _look_for_running(self, now_s: float) -> None:
        """Look which ranks run, of those of which nothing is heard."""
        for rank, silent_s in self._roll_call.silent_for_s(now_s):
            if silent_s <= self._silence_s / 2:
                continue
            if self.desk.waits_for(rank) or runs(self.desk.pid_of(rank)):
                self._roll_call.runs(rank, now_s)

    def has_ended(self, rank: int) -> bool:
        """Return whether a rank's connection or process has ended."""
        return rank in self._gone

    @property
    def all_have_ended(self) -> bool:
        """Whether the connections or processes of all other ranks have ended."""
        return len(self._gone) == self._ranks - 1

    def next_s(self, now_s: float) -> float | None:
        """Return in how many seconds something is due; None if nothing is known to be.

        Args:
            now_s: what time it is.
        """
        if self._member.failure is not None or not self._gone:
            return None
        dues = [gone.dead_s - now_s for gone in self._gone.values() if gone.dead_s > now_s]
        return max(0.0, min(dues)) if dues else None
