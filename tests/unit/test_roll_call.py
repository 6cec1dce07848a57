"""The roll call: a table of situations, and who is lost in each."""

from typing import NamedTuple

import pytest

from nightbus.bus.errors import RankMessageError
from nightbus.bus.ranks.messages import Activity, Failure, Whereabouts
from nightbus.bus.ranks.roll_call import RollCall

SILENCE_S, HANG_S = 10.0, 60.0


class Seen(NamedTuple):
    """A rank as it is seen from some moment on: it sends this each second, until it is silent."""

    point: int
    progress: int = 0
    hook: str = "training_step"
    activity: Activity = "trains"
    until_s: float = float("inf")
    moves: bool = False
    met: int = 0
    awaits: str = ""


def watch(ranks: list[Seen], seconds: int, done: tuple[int, ...] = ()) -> Failure | None:
    """The culprit after so many seconds."""
    roll = RollCall(len(ranks), SILENCE_S, HANG_S, 0.0)
    for rank in done:
        roll.done(rank, 0.0)
    for now_s in range(1, seconds + 1):
        for rank, seen in enumerate(ranks):
            if now_s <= seen.until_s:
                point = seen.point + (now_s if seen.moves else 0)
                place = (point, seen.progress, seen.hook, 4, seen.activity, 1)
                where = Whereabouts(rank, now_s, *place, seen.met, seen.awaits)
                roll.heard(where, now_s)
        if roll.call(now_s):
            break
    return roll.culprit


@pytest.mark.parametrize(
    ("ranks", "seconds", "rank", "cause"),
    [
        pytest.param(
            [Seen(7, moves=True, until_s=3), Seen(7, moves=True)], 13, 0, "silent", id="silent"
        ),
        pytest.param(
            [Seen(7, until_s=5), Seen(7, until_s=4), Seen(7)], 20, 1, "silent", id="silent longest"
        ),
        pytest.param(
            [Seen(7), Seen(7, until_s=4), Seen(7, until_s=4)], 20, 1, "silent", id="a node's desk"
        ),
        pytest.param([Seen(8), Seen(7), Seen(8)], 61, 1, "stuck", id="at the least point"),
        pytest.param([Seen(7, 5), Seen(7, 5), Seen(7, 2)], 61, 2, "stuck", id="has done least"),
        pytest.param([Seen(8), Seen(7), Seen(7)], 61, 1, "stuck", id="two are behind"),
        pytest.param(
            [Seen(7, met=2), Seen(7, met=1)], 61, 1, "stuck", id="the other is at an exchange"
        ),
        pytest.param(
            [Seen(7, 5, met=1), Seen(7, 2, met=2)], 61, 0, "stuck", id="it has more to do there"
        ),
        pytest.param(
            [Seen(7, awaits="barrier"), Seen(7)], 61, 1, "stuck", id="the other waits in the store"
        ),
        pytest.param([Seen(9, activity="left"), Seen(9)], 61, 1, "stuck", id="who has left waits"),
    ],
)
def test_one_rank_is_lost(ranks: list[Seen], seconds: int, rank: int, cause: str) -> None:
    word = watch(ranks, seconds)

    assert word is not None
    assert (word.rank, word.cause) == (rank, cause)


@pytest.mark.parametrize(
    ("ranks", "seconds"),
    [
        pytest.param([Seen(7, moves=True), Seen(3, moves=True)], 200, id="all move"),
        pytest.param(
            [Seen(7, moves=True, until_s=3), Seen(7, moves=True)], 12, id="silent a while"
        ),
        pytest.param([Seen(8), Seen(7), Seen(8)], 60, id="behind for a while"),
        pytest.param([Seen(7, 3), Seen(7, 3)], 200, id="stuck together"),
        pytest.param([Seen(7)], 200, id="alone"),
        pytest.param([Seen(8), Seen(7, moves=True)], 200, id="waited for, and moves"),
        pytest.param([Seen(8, moves=True), Seen(7)], 200, id="behind, and nobody waits"),
        pytest.param([Seen(8, activity="rests"), Seen(7, activity="rests")], 200, id="paused"),
        pytest.param([Seen(8, activity="rests"), Seen(7)], 200, id="others are paused"),
        pytest.param([Seen(8, activity="left")] * 2, 200, id="all have left"),
    ],
)
def test_nobody_is_lost(ranks: list[Seen], seconds: int) -> None:
    assert watch(ranks, seconds) is None


def test_a_rank_that_is_done_may_be_silent() -> None:
    assert watch([Seen(7, activity="left"), Seen(7, until_s=0)], 200, done=(1,)) is None


def test_a_rank_that_is_done_is_lost_to_those_in_a_run_that_needs_it() -> None:
    left = Seen(7, activity="left")

    assert watch([left, left, Seen(7, moves=True)], 200, done=(0,)) == Failure(
        0, "dead", "its script has ended, and rank 2 is in a run that needs it"
    )


def test_a_rank_that_is_done_is_not_lost_to_one_whose_word_of_leaving_comes_after() -> None:
    roll = RollCall(2, SILENCE_S, HANG_S, 0.0)
    roll.heard(Whereabouts(1, 1, 7, activity="trains"), 1.0)
    roll.done(0, 1.0)

    assert roll.call(2.0) is None
    roll.heard(Whereabouts(1, 2, 7, activity="left"), 2.5)

    assert roll.call(3.0) is None


class Exchanging(NamedTuple):
    """A rank of a run, once it has come to where all meet so often.

    It waits in an exchange then, for so long.
    """

    met: int
    awaits_s: int = 0
    run: int = 1
    activity: Activity = "trains"


def watch_exchanges(ranks: list[Exchanging], seconds: int = 60) -> Failure | None:
    """The culprit after so many seconds."""
    roll = RollCall(len(ranks), SILENCE_S, float("inf"), 0.0)
    for now_s in range(1, seconds + 1):
        for rank, at in enumerate(ranks):
            awaits = "barrier()" if now_s <= at.awaits_s else ""
            where = Whereabouts(
                rank, now_s, 7, 0, "backward", 4, at.activity, at.run, at.met, awaits
            )
            roll.heard(where, now_s)
        if roll.call(now_s):
            break
    return roll.culprit


def test_a_rank_that_waits_in_an_exchange_that_another_has_passed_by_is_told_so() -> None:
    word = watch_exchanges([Exchanging(6), Exchanging(5, awaits_s=60), Exchanging(6)])

    assert word is not None
    assert (word.rank, word.cause, word.hook, word.batch_idx) == (1, "raised", "backward", 4)
    assert word.what.startswith(
        "RankMismatchError: rank 1 waits in barrier(), and rank 0 did not call it: that is in "
        "backward, batch 4, point 7; all ranks have to call the same"
    )


@pytest.mark.parametrize(
    "ranks",
    [
        pytest.param([Exchanging(5), Exchanging(5, awaits_s=60)], id="the other may still come"),
        pytest.param([Exchanging(4), Exchanging(5, awaits_s=60)], id="the other is behind"),
        pytest.param([Exchanging(6), Exchanging(5, awaits_s=4)], id="only for a moment"),
        pytest.param([Exchanging(6), Exchanging(5, 60, run=2)], id="the other is in a run before"),
        pytest.param([Exchanging(6), Exchanging(0, 60, 1, "left")], id="between runs"),
    ],
)
def test_a_rank_may_wait_in_an_exchange(ranks: list[Exchanging]) -> None:
    assert watch_exchanges(ranks) is None


def test_the_word_says_where_the_stuck_rank_stands_and_how_many_wait() -> None:
    word = watch([Seen(8), Seen(7, hook="on_train_batch_end"), Seen(8)], 61)

    assert word == Failure(
        1, "stuck", "it has stood still for 60.0 s, and 2 wait for it", 7, "on_train_batch_end", 4
    )


def test_others_that_stand_with_it_are_counted() -> None:
    word = watch([Seen(8), Seen(7), Seen(7)], 61)

    assert word is not None
    assert word.what.endswith("1 wait for it; with it stand 1 more")


@pytest.mark.parametrize(
    ("exit_code", "what"),
    [
        (None, "its process ended without a word"),
        (-9, "its process was killed by SIGKILL"),
        (-40, "its process was killed by signal 40"),
        (3, "its process exited with code 3 before it was done"),
    ],
)
def test_a_process_that_ended_is_dead(exit_code: int | None, what: str) -> None:
    roll = RollCall(2, SILENCE_S, HANG_S, 0.0)
    roll.heard(Whereabouts(1, 1, 7, 0, "training_step", 4), 1.0)
    roll.ended(1, exit_code)

    assert roll.call(1.0) == Failure(1, "dead", what, 7, "training_step", 4)


def test_a_process_that_is_done_may_end() -> None:
    roll = RollCall(2, SILENCE_S, HANG_S, 0.0)
    roll.done(1, 0.0)
    roll.ended(1)

    assert roll.call(1.0) is None


def test_the_first_word_stands() -> None:
    roll = RollCall(3, SILENCE_S, HANG_S, 0.0)
    raised = Failure(2, "raised", "ValueError: no data")
    roll.word(raised)
    roll.ended(1, -9)

    assert roll.call(100.0) == raised


def test_a_beat_that_comes_again_is_no_sign_of_life() -> None:
    roll = RollCall(2, SILENCE_S, HANG_S, 0.0)
    for now_s in range(1, 12):
        stopped = Whereabouts(1, 1, 7)
        roll.heard(Whereabouts(0, now_s, 7), now_s)
        roll.heard(stopped, now_s)
        roll.call(now_s)

    assert roll.culprit is not None
    assert (roll.culprit.rank, roll.culprit.cause) == (1, "silent")


def test_while_nobody_calls_the_roll_nobody_is_taken_for_silent_or_stuck() -> None:
    roll = RollCall(2, SILENCE_S, HANG_S, 0.0)
    for now_s in (*range(1, 5), *range(1000, 1008)):  # its host was asleep meanwhile
        for rank in range(2):
            if now_s != 1000:
                roll.heard(Whereabouts(rank, now_s, 7 + rank), now_s)
        assert roll.call(now_s) is None


def test_a_rank_that_does_not_exist_is_refused() -> None:
    roll = RollCall(2, SILENCE_S, HANG_S, 0.0)

    with pytest.raises(RankMessageError, match="names rank 2; expected 0 to 1"):
        roll.heard(Whereabouts(2, 1, 0), 1.0)
