"""The roll call: from signs of life decides which rank is lost, and why.

There are four ways of being lost, in the order in which they are looked for:

- **dead**: its process ended without saying that it was done; whoever kept its socket open, or
  waited for it, knows. So is one that was done while others are in a run that needs it.
- **silent**: nothing new was heard of it for ``silence_s``: stopped, or its host is gone. Code that
  keeps Python's lock makes a rank silent too, so a process that is seen to run is not.
- **astray**: it waits in an exchange, such as a barrier, that another rank has passed by without
  calling it. That one waits where all meet next, as for the gradients of a step, and each for the
  other. How long a rank waits for one that is still on its way has no limit.
- **stuck**: it answers, but its training thread has stood still in a batch for ``hang_s``, and so
  have all others that still train, none of them at rest. The culprit is the one that is behind: at
  the least point; there has come to the fewest exchanges, where others may wait for it; and since
  then has done least. All others wait for it, those that wait at the end of an evaluation or have
  left too. If nobody is behind, all are stuck together, by something that no rank is guilty of;
  nobody is lost.

There is one culprit, the first; the first word stands. What others suffer from it (their sockets
close, they fall silent) is no news.

It knows no clock: times are passed in, all from one clock, and are those at which something was
heard, so that the clocks of others do not matter. While nobody calls the roll, because its process
was stopped or starved, nothing can be heard, so that this time counts against nobody.
"""

import math
import signal
from collections.abc import Iterable

from ..errors import RankMessageError, RankMismatchError
from .messages import Failure, Whereabouts, describe_place, failure

ASTRAY_S = 5.0
"""How long a rank is heard to wait in an exchange that another one has passed by: what is known of
two ranks is of different moments."""
ASTRAY = f"{RankMismatchError.__name__}: "
"""Begins the word of a rank that is astray, which raises this itself."""


class _Rank:
    """What was heard of a rank."""

    __slots__ = (
        "awaits_s",
        "done_s",
        "heard_s",
        "met_s",
        "moved_s",
        "rank",
        "told_s",
        "where",
    )

    def __init__(self, rank: int, now_s: float) -> None:
        self.rank = rank
        self.where = Whereabouts(rank, 0, 0, activity="left")  # it says so when it is in a run
        self.heard_s = self.moved_s = self.told_s = now_s  # told by itself
        self.awaits_s = self.met_s = now_s  # since when it does, and when it last did
        self.done_s = math.inf

    @property
    def is_done(self) -> bool:
        """Whether it said that it is done."""
        return self.done_s < math.inf

    @property
    def place(self) -> tuple[int, int, int, bool]:
        """How far it has come."""
        where = self.where
        return where.point, where.met, where.progress, where.awaits != ""


class RollCall:
    """Knows when each rank was last heard of and when it last moved, and names the one culprit.

    Args:
        ranks: how many there are.
        silence_s: how long a rank may be silent.
        hang_s: how long a rank may stand still while others wait for it.
        now_s: what time it is.

    Attributes:
        culprit: the rank that is lost, and why; None as long as none is.
        hang_s: as given.
    """

    def __init__(self, ranks: int, silence_s: float, hang_s: float, now_s: float) -> None:
        self.culprit: Failure | None = None
        self._silence_s, self.hang_s = silence_s, hang_s
        self._ranks = [_Rank(rank, now_s) for rank in range(ranks)]
        self._called_s = now_s

    # -- what was heard ----------------------------------------------------------------------

    def heard(self, where: Whereabouts, now_s: float) -> None:
        """Take a rank's sign of life.

        Args:
            where: what came.
            now_s: when it came.

        Raises:
            RankMessageError: it names a rank that does not exist.
        """
        rank = self._of(where.rank)
        if where.beat <= rank.where.beat:
            return  # a message that was repeated is no sign of life
        rank.heard_s = rank.told_s = now_s
        if (where.awaits, where.met) != (rank.where.awaits, rank.where.met):
            rank.awaits_s = now_s
        if (where.run, where.met) != (rank.where.run, rank.where.met):
            rank.met_s = now_s
        before, rank.where = (rank.where.activity, rank.place), where
        if (where.activity, rank.place) != before:
            rank.moved_s = now_s

    def runs(self, rank: int, now_s: float) -> None:
        """Take notice that a rank's process runs, though nothing is heard of it.

        Args:
            rank: which.
            now_s: when that was seen.
        """
        self._of(rank).heard_s = now_s

    def silent_for_s(self, now_s: float) -> list[tuple[int, float]]:
        """Return how long each rank that is not done has been silent.

        Args:
            now_s: what time it is.
        """
        return [(each.rank, now_s - each.heard_s) for each in self._not_done()]

    def done(self, rank: int, now_s: float) -> None:
        """Take a rank's word that it is done: it may end and be silent from now on.

        Args:
            rank: which.
            now_s: when the word came.

        Raises:
            RankMessageError: there is no such rank.
        """
        self._of(rank).done_s = now_s

    def ended(self, rank: int, exit_code: int | None = None) -> None:
        """Take notice that a rank's process has ended.

        Args:
            rank: which.
            exit_code: minus the signal that killed it, as in ``subprocess``; None if only its
                socket is known to be closed.

        Raises:
            RankMessageError: there is no such rank.
        """
        of = self._of(rank)
        if not of.is_done:
            self.word(failure(rank, "dead", _end_of(exit_code), of.where))

    def word(self, failure: Failure) -> None:
        """Take a word of a lost rank that comes from elsewhere, such as from itself."""
        if self.culprit is None:
            self.culprit = failure

    # -- what follows from it ----------------------------------------------------------------

    def call(self, now_s: float) -> Failure | None:
        """Return the culprit, if a rank is lost; to be called several times in ``silence_s``."""
        away_s, self._called_s = now_s - self._called_s, now_s
        if away_s > self._silence_s / 2:
            for rank in self._ranks:
                rank.heard_s = min(now_s, rank.heard_s + away_s)
                rank.moved_s = min(now_s, rank.moved_s + away_s)
        if self.culprit is None:
            self.culprit = (
                self._deserter() or self._silent(now_s) or self._astray() or self._stuck(now_s)
            )
        return self.culprit

    def _deserter(self) -> Failure | None:
        """Return the word of a rank whose script has ended, if others are in a run."""
        first = min(self._ranks, key=lambda each: each.done_s)
        # What was heard before is no reason: each rank leaves a run before any comes out of it.
        in_runs = (each for each in self._not_done() if each.where.activity != "left")
        needing = next((each for each in in_runs if each.told_s > first.done_s), None)
        if needing is None:
            return None
        what = f"its script has ended, and rank {needing.rank} is in a run that needs it"
        return failure(first.rank, "dead", what)

    def _silent(self, now_s: float) -> Failure | None:
        """Return the word of the rank that has been silent longest, if that is too long."""
        last = min(self._not_done(), key=lambda each: each.heard_s, default=None)
        if last is None or now_s - last.heard_s < self._silence_s:
            return None
        what = f"it has been silent for {now_s - last.heard_s:.1f} s"
        return failure(last.rank, "silent", what, last.where)

    def _astray(self) -> Failure | None:
        """Return the word of a rank that waits for one that has passed by."""
        in_runs = [each for each in self._not_done() if each.where.activity != "left"]
        if not any(each.where.awaits for each in in_runs):
            return None
        first = max(in_runs, key=lambda each: (each.where.run, each.where.met))
        for each in in_runs:
            since_s = max(each.awaits_s, first.met_s)
            waits = each.where.awaits and each.told_s - since_s >= ASTRAY_S
            if waits and first.where.run == each.where.run and first.where.met > each.where.met:
                return _of_astray(each.where, first.where)
        return None

    def _stuck(self, now_s: float) -> Failure | None:
        """Return the word of the rank that is behind, if all that train stand still too long."""
        train = [each for each in self._not_done() if each.where.activity == "trains"]
        moved_s = max((each.moved_s for each in train), default=now_s)
        if now_s - moved_s < self.hang_s:
            return None
        if any(each.where.activity == "rests" for each in self._not_done()):
            return None
        least = min(each.place for each in train)
        behind = [each for each in train if each.place == least]
        waiting = len(self._ranks) - len(behind)
        if not waiting:
            return None
        guilty = behind[0]
        if guilty.where.batch_idx < 0:
            return None
        what = f"it has stood still for {now_s - guilty.moved_s:.1f} s, and {waiting} wait for it"
        if len(behind) > 1:
            what += f"; with it stand {len(behind) - 1} more"
        return failure(guilty.rank, "stuck", what, guilty.where)

    def _not_done(self) -> Iterable[_Rank]:
        return (each for each in self._ranks if not each.is_done)

    def _of(self, rank: int) -> _Rank:
        if not 0 <= rank < len(self._ranks):
            raise RankMessageError(
                f"a message names rank {rank}; expected 0 to {len(self._ranks) - 1}"
            )
        return self._ranks[rank]


def _of_astray(waiting: Whereabouts, passed: Whereabouts) -> Failure:
    where = describe_place(passed)
    what = (
        f"{ASTRAY}rank {waiting.rank} waits in {waiting.awaits}, and rank {passed.rank} "
        f"did not call it: that is {where}; all ranks have to call the same in the same order; "
        "move the call out of the `if` that only some ranks run"
    )
    return failure(waiting.rank, "raised", what, waiting)


def _end_of(exit_code: int | None) -> str:
    """Return how a process ended, for people."""
    if exit_code is None:
        return "its process ended without a word"
    if exit_code >= 0:
        return f"its process exited with code {exit_code} before it was done"
    try:
        return f"its process was killed by {signal.Signals(-exit_code).name}"
    except ValueError:  # a real-time signal
        return f"its process was killed by signal {-exit_code}"
