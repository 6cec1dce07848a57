"""A rank's clock is compared with rank 0's over many questions, of which the quickest counts."""

from nightbus.bus.ranks.clock_offset import ROUNDS, ClockExchange, Offset
from nightbus.bus.ranks.messages import Ping, Pong

AHEAD_NS = 5_000  # rank 0's clock


def exchanged(took_ns: list[int]) -> list[Ping | Offset | None]:
    """What an exchange finds whose questions and answers take so long, half of it each way."""
    exchange, now_ns = ClockExchange(), 1_000_000
    question: Ping | Offset | None = exchange.begin(now_ns)
    found = []
    for took in took_ns:
        assert isinstance(question, Ping)
        pong = Pong(question.sent_ns, now_ns + took // 2 + AHEAD_NS)
        now_ns += took
        question = exchange.hear(pong, now_ns)
        found.append(question)
    return found


def test_the_offset_is_that_of_the_quickest_answer_and_half_its_way_is_the_bound() -> None:
    found = exchanged([900, 700, 200] + [800] * (ROUNDS - 3))

    assert all(isinstance(each, Ping) for each in found[:-1])
    assert found[-1] == Offset(AHEAD_NS, 100)


def test_an_answer_to_another_question_counts_for_nothing() -> None:
    exchange = ClockExchange()
    exchange.begin(1_000)

    assert exchange.hear(Pong(999, 2_000), 1_500) is None
    assert exchange.hear(Pong(1_000, 2_000), 900) is None  # it came before it was asked for
    assert isinstance(exchange.hear(Pong(1_000, 2_000), 1_500), Ping)


def test_an_answer_after_the_last_counts_for_nothing() -> None:
    exchange = ClockExchange()
    question: Ping | Offset | None = exchange.begin(0)
    for _ in range(ROUNDS):
        assert isinstance(question, Ping)
        question = exchange.hear(Pong(question.sent_ns, 7), 10)

    assert exchange.hear(Pong(10, 7), 20) is None
