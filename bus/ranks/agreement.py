"""The ranks agree at which point all act on what was asked on one of them.

A *point* is the count of safe points that a rank's training thread has come to. All ranks come to
the same points in the same order, but not at the same time: a rank may be many points ahead of
another. What is asked on one rank (Stop, Pause, a checkpoint, a signal, a deadline) takes effect
on all ranks at one point, or their collectives would no longer match and each would wait for ever.

It takes two phases, and no collective. There is one chair, on rank 0, and a member on each rank::

    chair                                    member of each rank
    -----                                    -------------------
    asks wait, and no proposal is under way:
      P = own point + ahead,
          above all earlier P
      propose P for the asks    ---------->  hold at P; only then read the own point
    count the answers           <----------  "late" if it is at P or beyond, else "ready"
    all have answered:
      nobody was late:
        decide: P holds         ---------->  P into the queue of agreed points; hold no more
        ahead = 2
      somebody was late:
        decide: P does not hold ---------->  hold no more
        ahead = twice as much,
        and the asks wait again

    training thread, at each safe point:
      point = point + 1
      if attention:
        while held, and point has come to P, and no rank is lost: wait
        if a rank is lost: raise RankLostError
        if the first of the agreed points is this point: take it out, and act on its asks

Why it is so:

- **First hold, then read the point.** The training thread first counts, then looks. Whatever the
  order of the two threads, it sees the hold, or the side thread sees that it is at P: one of the
  two at least. The other way round it could pass P unseen between the reading and the hold.
- **It waits only while undecided**, at P: the proposal may hold, so it cannot go on; it may be
  dropped, so it cannot act. Side threads answer, so nobody has to come anywhere for the decision.
- **Agreed points are a queue, strictly ascending.** The next proposal may be decided before any
  rank has come to the point of the last one. A single place would be overwritten.
- **Attention is worked out from what there is, never just cleared.** Acting on a point ends the
  need for attention only if nothing else needs it; the next proposal may be here already.
- **Two points ahead**, because the training thread of rank 0 is about to come to the next. Where
  no collective keeps ranks together others are further ahead; doubling finds the distance in as
  many rounds as it has binary digits.
- **A rank that has come to its last point does not block.** Its side thread answers on, until all
  ranks have come to theirs. It must: if it were no longer counted, those that still train could
  agree on a point that it went past without acting.
- **News of a lost rank outranks all else.** It ends every wait, whatever is agreed or undecided.

What the caller has to do so that the count means the same on all ranks:

- Where ranks have different numbers of batches, as in an evaluation without padding, they meet at
  its end. Who has arrived there comes to agreed points without batches. When all have, and all that
  was asked has its point, the chair says to which point all come before they go on: the highest
  that one has come to or that was proposed. So no rank acts before the end of the meeting at a
  point at which another acts after, and what a rank asks in an evaluation is acted on in it.
- A paused training thread waits for attention; then it comes to points, with no steps between, as
  long as there is attention. So it comes to the point for Resume, which is the same on all ranks.
- A rank stays, with its side thread, until all ranks have come to their last points. What waits in
  ``Chair.asks`` then, or was agreed on for a later point, was asked too late.

The chair needs only how many answers there are of each sort.

Nothing here knows a socket, a thread, a clock or torch. The caller hands messages over in the order
in which they were sent, and sees to it that a member's methods do not run at the same time, with a
lock; the exceptions are ``come`` and reading ``attention`` and ``point``, which need none. While
``must_wait`` is true the training thread waits on a condition with that lock, which is notified
after each ``receive``.
"""

from collections import deque
from typing import NamedTuple

import msgspec

from ..errors import RankLostError, RankOrderError
from .asks import Asks
from .messages import (
    Answer,
    Arrived,
    Ask,
    Decision,
    Failure,
    Met,
    Proposal,
    Readiness,
    describe,
)

FIRST_AHEAD = 2


class Agreed(NamedTuple):
    """Asks with the point at which all ranks act on them."""

    point: int
    asks: tuple[Ask, ...]


class Chair:
    """Gathers asks, proposes points for them, and decides by the numbers of answers.

    Args:
        ranks: how many there are.

    Attributes:
        asks: those that wait to be proposed.
        proposal: the one that is under way; None if none is.
    """

    def __init__(self, ranks: int) -> None:
        self.asks = Asks()
        self.proposal: Proposal | None = None
        self._ranks = ranks
        self._number = 0  # of the next proposal
        self._highest = 0  # of all points that were proposed
        self._ahead = FIRST_AHEAD
        self._meeting = (0, 0)  # the latest that a rank has arrived at: its run and number
        self._arrived: dict[int, int] = {}  # rank -> its point

    def hear(self, ask: Ask) -> None:
        """Take an ask of any rank, unless it is one with an earlier one or overruled."""
        self.asks.add(ask)

    def propose(self, own_point: int) -> Proposal | None:
        """Return a proposal for all members, if there is something to agree on.

        Args:
            own_point: that of rank 0, now.

        Returns:
            None if one is under way, or nothing waits.
        """
        if self.proposal is not None or not self.asks:
            return None
        point = max(own_point + self._ahead, self._highest + 1)
        self.proposal = Proposal(self._number, point, self.asks.take(point))
        self._number += 1
        self._highest = point
        return self.proposal

    def count(self, ready: int, late: int) -> Decision | None:
        """Return the decision on the proposal under way, for all members.

        Args:
            ready: how many answers of this sort have come. It only grows, as ``late`` does, so the
                two need not be read at one moment.
            late: how many of this sort.

        Returns:
            None if answers are missing, or nothing is under way.
        """
        proposal = self.proposal
        if proposal is None or ready + late < self._ranks:
            return None
        self.proposal = None
        if late:
            self._ahead *= 2
            self.asks.put_back(proposal.asks)
        else:
            self._ahead = FIRST_AHEAD
        return Decision(proposal.number, holds=not late)

    def arrive(self, rank: int, arrived: Arrived) -> None:
        """Take notice that a rank has arrived at a meeting.

        Args:
            rank: which.
            arrived: where, and at which point it is.
        """
        meeting = arrived.run, arrived.number
        if meeting > self._meeting:  # an earlier one was left, because the run ended
            self._meeting, self._arrived = meeting, {}
        if meeting == self._meeting:
            self._arrived[rank] = arrived.point

    def meet(self) -> Met | None:
        """Return what all members are to be told, once all have arrived and nothing waits."""
        if len(self._arrived) < self._ranks or self.proposal is not None or self.asks:
            return None
        furthest = max(self._arrived.values())
        self._arrived = {}
        return Met(*self._meeting, max(furthest, self._highest))


class Member:
    """One rank's part: answers proposals, and tells the training thread where to act.

    Args:
        rank: the rank.

    Attributes:
        point: the safe points that the training thread has come to; only ``come`` changes it.
        recorded: what had been recorded there, as it was told to ``come``.
        attention: the training thread has to look, by ``must_wait`` and ``take``.
        failure: the first word of a lost rank.
    """

    __slots__ = (
        "_agreed",
        "_goal",
        "_held",
        "_meeting",
        "_next",
        "attention",
        "failure",
        "point",
        "rank",
        "recorded",
    )

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.point = self.recorded = 0
        self.attention = False
        self.failure: Failure | None = None
        self._held: Proposal | None = None
        self._agreed: deque[Agreed] = deque()
        self._next = 0  # the number of the proposal to be answered next
        self._meeting = (0, 0)  # its run and number
        self._goal: int | None = None  # the point to come to there, once all have arrived

    # -- the training thread -----------------------------------------------------------------

    def come(self, recorded: int = 0) -> bool:
        """Come to the next safe point.

        Args:
            recorded: how much this rank has recorded so far.

        Returns:
            Whether the training thread has to look, by must_wait and take.
        """
        self.recorded = recorded
        self.point += 1  # before attention is read: see the module
        return self.attention

    @property
    def must_wait(self) -> bool:
        """Whether the training thread has to wait here, for it is not decided if all act here."""
        held = self._held
        return held is not None and self.point >= held.point and self.failure is None

    def take(self) -> tuple[Ask, ...]:
        """Return the asks on which all ranks act at this point; it need not wait any more.

        Raises:
            RankLostError: a rank is lost.
            RankOrderError: the training thread went past an agreed point.
        """
        if self.failure is not None:
            raise RankLostError(self.failure.rank, describe(self.failure))
        asks: tuple[Ask, ...] = ()
        if self._agreed and self._agreed[0].point <= self.point:
            point, asks = self._agreed.popleft()
            if point < self.point:
                raise RankOrderError(
                    f"rank {self.rank} is at point {self.point}, and was to act at {point} on "
                    f"{', '.join(ask.kind for ask in asks)}"
                )
        self._look_again()
        return asks

    def arrive(self, run: int, number: int) -> Arrived:
        """Arrive at a meeting.

        Args:
            run: how many runs these processes have begun.
            number: of the meeting within the run.

        Returns:
            Word of it, to be sent to the chair.
        """
        self._meeting, self._goal = (run, number), None
        return Arrived(run, number, self.point)

    @property
    def is_behind(self) -> bool:
        """Whether the training thread, at a meeting, has to come to a further point."""
        return bool(self._agreed) if self._goal is None else self.point < self._goal

    @property
    def has_met(self) -> bool:
        """Whether the meeting is over for this rank."""
        return self._goal is not None and self.point >= self._goal

    # -- either thread -----------------------------------------------------------------------

    def ask(self, kind: str, payload: bytes = b"{}", run: int = 0) -> Ask:
        """Return the ask that is to be sent to the chair, for something decided on this rank.

        Args:
            kind: what is asked; asks of one kind are one.
            payload: a line of JSON with the rest.
            run: how many runs these processes have begun.
        """
        point = self.point
        is_held_there = self._held is not None and self._held.point == point
        if is_held_there or (self._agreed and self._agreed[0].point == point):
            point -= 1  # it is there, and has not acted yet
        return Ask(kind, self.rank, point, msgspec.Raw(payload), run)

    # -- the side thread ---------------------------------------------------------------------

    def receive(self, message: Proposal | Decision | Met | Failure) -> Answer | None:
        """Take a message; return the answer to send, if it is a proposal.

        Raises:
            RankOrderError: it is not the next one.
        """
        if isinstance(message, Failure):
            if self.failure is None:
                self.failure = message
            self._look_again()
        elif isinstance(message, Proposal):
            return Answer(message.number, self._answer(message))
        elif isinstance(message, Met):
            if (message.run, message.number) == self._meeting:  # not one that was left
                self._goal = message.point
        else:
            self._decide(message)
        return None

    def _answer(self, proposal: Proposal) -> Readiness:
        if self._held is not None or proposal.number != self._next:
            raise RankOrderError(
                f"rank {self.rank} got proposal {proposal.number} and expected {self._next}, "
                f"{'a decision before it' if self._held else 'none being under way'}"
            )
        self._next += 1
        self._held = proposal
        self._look_again()
        return "late" if self.point >= proposal.point else "ready"  # read after the hold

    def _decide(self, decision: Decision) -> None:
        held = self._held
        if held is None or decision.number != held.number:
            raise RankOrderError(
                f"rank {self.rank} got decision {decision.number}, and proposal "
                f"{held.number if held else 'none'} is under way"
            )
        self._held = None
        if decision.holds:
            self._agreed.append(Agreed(held.point, held.asks))
        self._look_again()

    def _look_again(self) -> None:
        """Work out whether the training thread has to look: from all that there is."""
        self.attention = self._held is not None or bool(self._agreed) or self.failure is not None
