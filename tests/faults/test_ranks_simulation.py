"""Simulated ranks: no seed violates a promise, and what is broken on purpose is found."""

from collections.abc import Callable

import pytest
from ranks_simulation import CAUSES, search, simulate

from nightbus.bus.ranks.agreement import Chair, Member
from nightbus.bus.ranks.asks import Asks
from nightbus.bus.ranks.messages import Ask, Decision, Met, Proposal, Readiness

SEEDS = 500
SEEDS_TO_FIND = 300
MANY_RANKS = 4096


def test_no_seed_violates_a_promise(capsys: pytest.CaptureFixture[str]) -> None:
    counts, violations = search(1, SEEDS)

    assert violations == 0, capsys.readouterr().out
    # And it was worth looking.
    for what in (
        "waits",
        "pauses",
        "meetings",
        "points without a batch",
        *CAUSES,
        *(f"found {cause}" for cause in CAUSES.values()),
    ):
        assert counts[what] > 0, what
    assert counts["proposals"] > counts["agreed"]  # some were dropped


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_seed_does_the_same_again(seed: int) -> None:
    first, second = (simulate(seed, is_traced=True).trace for _ in range(2))

    assert len(first) > 5
    assert first == second


@pytest.mark.parametrize("seed", [1, 2])  # kept together by collectives, and not
def test_four_thousand_ranks_agree(seed: int) -> None:
    world = simulate(seed, MANY_RANKS)

    assert world.violation == ""
    assert world.counts["agreed"] > 0
    assert world.counts["ranks"] == MANY_RANKS


# -- what is broken on purpose ---------------------------------------------------------------------


class ClearsAttentionWhenDone(Member):
    """A lost wake-up: the next proposal may have asked for attention already."""

    def take(self) -> tuple[Ask, ...]:
        asks = super().take()
        if asks:
            self.attention = False
        return asks


class HasRoomForOnePoint(Member):
    """A lost wake-up: an agreed point overwrites one to which the rank has not come yet."""

    def _decide(self, decision: Decision) -> None:
        if decision.holds:
            self._agreed.clear()
        super()._decide(decision)


class ReadsThePointBeforeTheHold(Member):
    def _answer(self, proposal: Proposal) -> Readiness:
        point = self.point
        super()._answer(proposal)
        return "late" if point >= proposal.point else "ready"


class LooksBeforeItCounts(Member):
    def come(self, recorded: int = 0) -> bool:
        attention = self.attention
        super().come()
        return attention


class DoesNotWait(Member):
    @property
    def must_wait(self) -> bool:
        return False


class WaitsThoughARankIsLost(Member):
    @property
    def must_wait(self) -> bool:
        return self._held is not None and self.point >= self._held.point


class ComesToNoPointAtAMeeting(Member):
    """All others end at an agreed point, and it waits for them."""

    @property
    def is_behind(self) -> bool:
        return self._goal is not None and super().is_behind


class LeavesAMeetingWhereItIs(Member):
    @property
    def has_met(self) -> bool:
        return self._goal is not None


class IsNeverLate(Member):
    def _answer(self, proposal: Proposal) -> Readiness:
        super()._answer(proposal)
        return "ready"


class ForgetsWhatIsDropped(Chair):
    def count(self, ready: int, late: int) -> Decision | None:
        decision = super().count(ready, late)
        if decision is not None and not decision.holds:
            self.asks = Asks()
        return decision


class DoesNotCountTheLast(Chair):
    def count(self, ready: int, late: int) -> Decision | None:
        return super().count(ready + 1, late)


class MeetsBeforeWhatWasProposed(Chair):
    """Who has arrived comes to an agreed point that another comes to after the meeting."""

    def meet(self) -> Met | None:
        highest, self._highest = self._highest, 0
        met = super().meet()
        self._highest = highest
        return met


class ProposesAnyPoint(Chair):
    def propose(self, own_point: int) -> Proposal | None:
        self._highest = 0
        return super().propose(own_point)


class TakesAskForThatOfBefore(Chair):
    """Takes an ask for one with the last of its kind, though that was acted on before."""

    def hear(self, ask: Ask) -> None:
        super().hear(Ask(ask.kind, ask.rank, 0, ask.payload))


@pytest.mark.parametrize(
    "broken",
    [
        ClearsAttentionWhenDone,
        HasRoomForOnePoint,
        ReadsThePointBeforeTheHold,
        LooksBeforeItCounts,
        DoesNotWait,
        WaitsThoughARankIsLost,
        IsNeverLate,
        ComesToNoPointAtAMeeting,
        LeavesAMeetingWhereItIs,
    ],
)
def test_a_broken_member_is_found(broken: type[Member]) -> None:
    found = find(lambda seed: simulate(seed, member_type=broken).violation)

    assert found, f"{SEEDS_TO_FIND} seeds did not find {broken.__name__}"


@pytest.mark.parametrize(
    "broken",
    [
        ForgetsWhatIsDropped,
        DoesNotCountTheLast,
        ProposesAnyPoint,
        TakesAskForThatOfBefore,
        MeetsBeforeWhatWasProposed,
    ],
)
def test_a_broken_chair_is_found(broken: type[Chair]) -> None:
    found = find(lambda seed: simulate(seed, chair_type=broken).violation)

    assert found, f"{SEEDS_TO_FIND} seeds did not find {broken.__name__}"


def find(violation: Callable[[int], str]) -> int:
    """The first seed of some that violates a promise; 0 if none does."""
    return next((seed for seed in range(1, SEEDS_TO_FIND + 1) if violation(seed)), 0)
