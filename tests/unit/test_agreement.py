"""The agreement on a point: what chair and member answer, message by message."""

import pytest

from nightbus.bus.errors import RankLostError, RankOrderError
from nightbus.bus.ranks.agreement import Chair, Member
from nightbus.bus.ranks.asks import STOP
from nightbus.bus.ranks.messages import Answer, Arrived, Ask, Decision, Failure, Met, Proposal

SAVE = Ask("save", 0, 0)
LOST = Failure(3, "raised", "ValueError: no data", 7, "training_step", 12)


def proposal(number: int, point: int, ask: Ask = SAVE) -> Proposal:
    return Proposal(number, point, (ask,))


def member_at(point: int) -> Member:
    member = Member(1)
    for _ in range(point):
        member.come()
    return member


def agree(member: Member, number: int, point: int, ask: Ask = SAVE) -> None:
    member.receive(proposal(number, point, ask))
    member.receive(Decision(number, holds=True))


# -- the chair -------------------------------------------------------------------------------------


def test_the_chair_proposes_two_points_ahead() -> None:
    chair = Chair(ranks=2)
    chair.hear(SAVE)

    assert chair.propose(own_point=5) == proposal(0, 7)


def test_the_chair_proposes_nothing_if_nothing_is_asked() -> None:
    assert Chair(ranks=2).propose(own_point=5) is None


def test_the_chair_waits_for_all_answers() -> None:
    chair = Chair(ranks=3)
    chair.hear(SAVE)
    chair.propose(own_point=0)

    assert chair.count(ready=2, late=0) is None
    assert chair.count(ready=3, late=0) == Decision(0, holds=True)


def test_if_a_rank_is_late_the_chair_proposes_twice_as_far() -> None:
    chair = Chair(ranks=2)
    chair.hear(SAVE)
    chair.propose(own_point=10)

    assert chair.count(ready=1, late=1) == Decision(0, holds=False)
    assert chair.propose(own_point=10) == proposal(1, 14)


def test_the_distance_is_short_again_once_a_point_holds() -> None:
    chair = Chair(ranks=1)
    chair.hear(SAVE)
    chair.propose(own_point=0)
    chair.count(ready=0, late=1)
    chair.propose(own_point=0)
    chair.count(ready=1, late=0)
    chair.hear(Ask("save", 0, 100))

    assert chair.propose(own_point=100) == proposal(2, 102, Ask("save", 0, 100))


def test_a_point_is_above_all_that_were_proposed_before() -> None:
    chair = Chair(ranks=1)
    for number, kind in enumerate(["a", "b", "c"]):
        chair.hear(Ask(kind, 0, 0))
        made = chair.propose(own_point=0)
        chair.count(ready=1, late=0)

        assert made is not None
        assert made.point == 2 + number


def test_one_proposal_is_under_way_at_a_time() -> None:
    chair = Chair(ranks=1)
    chair.hear(SAVE)
    chair.propose(own_point=0)
    chair.hear(Ask("validate", 0, 0))

    assert chair.propose(own_point=0) is None


def test_what_waits_together_gets_one_point() -> None:
    chair = Chair(ranks=1)
    asks = (SAVE, Ask("validate", 1, 0), Ask(STOP, 0, 0))
    for ask in asks:
        chair.hear(ask)

    assert chair.propose(own_point=0) == Proposal(0, 2, asks)


def test_ranks_go_on_from_a_meeting_at_the_point_of_the_furthest_when_all_have_arrived() -> None:
    chair = Chair(ranks=2)
    chair.arrive(0, Arrived(1, 1, 4))
    alone = chair.meet()
    chair.arrive(1, Arrived(1, 1, 9))

    assert (alone, chair.meet(), chair.meet()) == (None, Met(1, 1, 9), None)


def test_what_was_asked_before_a_meeting_gets_its_point_before_ranks_go_on() -> None:
    chair = Chair(ranks=2)
    chair.hear(SAVE)
    for rank in range(2):
        chair.arrive(rank, Arrived(1, 1, 2))
    met = [chair.meet()]
    chair.propose(own_point=0)
    met.append(chair.meet())
    chair.count(ready=1, late=1)
    met.append(chair.meet())
    chair.propose(own_point=2)
    chair.count(ready=2, late=0)

    assert met == [None] * 3
    assert chair.meet() == Met(1, 1, 6)


# -- the member ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("point", "readiness"), [(6, "ready"), (7, "late"), (8, "late")])
def test_a_rank_is_late_at_the_point_or_beyond(point: int, readiness: str) -> None:
    answer = member_at(point).receive(proposal(0, 7))

    assert answer is not None
    assert answer.readiness == readiness


def test_nothing_needs_attention_while_nothing_is_asked() -> None:
    member = Member(1)

    assert [member.come() for _ in range(3)] == [False] * 3


def test_the_training_thread_waits_at_an_undecided_point_and_not_before() -> None:
    member = member_at(0)
    member.receive(proposal(0, 2))

    assert member.come()
    assert not member.must_wait
    assert member.take() == ()
    assert member.come()
    assert member.must_wait


def test_all_act_at_a_point_that_holds() -> None:
    member = member_at(1)
    agree(member, 0, 2)

    assert member.come()
    assert not member.must_wait
    assert member.take() == (SAVE,)
    assert not member.come()


def test_nobody_acts_at_a_point_that_was_dropped() -> None:
    member = member_at(1)
    member.receive(proposal(0, 2))
    member.receive(Decision(0, holds=False))

    assert not member.come()
    assert member.take() == ()


def test_acting_on_a_point_leaves_the_attention_that_the_next_proposal_needs() -> None:
    member = member_at(0)
    agree(member, 0, 1)
    member.receive(proposal(1, 2))

    member.come()
    member.take()

    assert member.come()
    assert member.must_wait


def test_a_point_agreed_on_later_leaves_the_earlier_one() -> None:
    member = member_at(0)
    validate = Ask("validate", 0, 0)
    agree(member, 0, 2)
    agree(member, 1, 3, validate)

    acted = [(member.point, member.take()) for _ in range(4) if member.come()]

    assert acted == [(1, ()), (2, (SAVE,)), (3, (validate,))]


def test_news_of_a_lost_rank_ends_the_wait() -> None:
    member = member_at(2)
    member.receive(proposal(0, 2))
    member.receive(LOST)

    assert not member.must_wait
    with pytest.raises(
        RankLostError,
        match=r"rank 3 is lost: ValueError: no data \(last seen in training_step, batch 12, point",
    ):
        member.take()


def test_news_of_a_lost_rank_outranks_an_agreed_point() -> None:
    member = member_at(0)
    agree(member, 0, 1)
    member.receive(LOST)

    assert member.come()
    with pytest.raises(RankLostError):
        member.take()


def test_the_first_word_of_a_lost_rank_stands() -> None:
    member = member_at(0)
    member.receive(LOST)
    member.receive(Failure(0, "silent", "it has been silent for 10.0 s"))

    assert member.failure == LOST


def test_an_ask_tells_the_last_point_that_its_rank_has_done_with() -> None:
    member = member_at(1)
    before = member.ask("save").point
    agree(member, 0, 2)
    member.come()
    at_the_point = member.ask("save").point
    member.take()

    assert (before, at_the_point, member.ask("save").point) == (1, 1, 2)


def test_an_ask_made_while_its_rank_waits_at_a_point_is_met_there() -> None:
    member = member_at(1)
    member.receive(proposal(0, 2))
    member.come()

    assert member.ask("save").point == 1


def test_messages_out_of_order_are_refused() -> None:
    member = member_at(0)

    with pytest.raises(RankOrderError, match="rank 1 got proposal 4 and expected 0"):
        member.receive(proposal(4, 2))
    with pytest.raises(RankOrderError, match="decision 0, and proposal none is under way"):
        member.receive(Decision(0, holds=True))
    assert member.receive(proposal(0, 2)) == Answer(0, "ready")
    with pytest.raises(RankOrderError, match="expected 1, a decision before it"):
        member.receive(proposal(1, 3))


def test_a_training_thread_that_went_past_an_agreed_point_is_told() -> None:
    member = member_at(0)
    agree(member, 0, 1)
    member.come()
    member.come()

    with pytest.raises(RankOrderError, match="rank 1 is at point 2, and was to act at 1 on save"):
        member.take()
