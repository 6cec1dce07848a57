"""Messages of ranks: what is sent comes out the same, and all else is refused with the reason."""

import random

import msgspec
import pytest

from nightbus.bus.errors import RankMessageError
from nightbus.bus.ranks import messages
from nightbus.bus.ranks.messages import (
    MAX_ASKS,
    MAX_MESSAGE_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_TEXT_CHARS,
    Answer,
    Ask,
    Decision,
    Done,
    Ended,
    Failure,
    Hello,
    Lines,
    Message,
    Ping,
    Pong,
    Proposal,
    Whereabouts,
    decode,
    encode,
    failure,
)

ASK = Ask("nightbus.Stop", 3, 17, msgspec.Raw(b'{"reason": "enough"}'))
WHERE = Whereabouts(1, 5, 100, 7, "training_step", 12)
MESSAGES: list[Message] = [
    Hello("0123456789abcdef", 1),
    ASK,
    Proposal(2, 19, (ASK, Ask("save", 0, 17))),
    Answer(2, "late"),
    Decision(2, holds=True),
    Failure(1, "stuck", "it has stood still for 60.0 s", 100, "training_step", 12),
    WHERE,
    Whereabouts(2, 6, 100, activity="rests"),
    Done(),
    Ended(),
    Ping(123_456_789),
    Pong(123_456_789, 223_456_789),
    Ping((1 << 53) + 1),  # of a machine that has been up for more than 104 days
    Pong((1 << 53) + 1, (1 << 63) - 1),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    data = encode(message)

    assert b"\n" not in data
    assert decode(data) == message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"\x80\x04\x95", "malformed"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `type`"),
        (b'{"type": "shutdown"}', "Invalid value 'shutdown'"),
        (b'{"type": "decision", "number": 1}', "missing required field `holds`"),
        (b'{"type": "decision", "number": "1", "holds": true}', "Expected `int`, got `str`"),
        (b'{"type": "decision", "number": -1, "holds": true}', "Expected `int` >= 0"),
        (b'{"type": "decision", "number": 1, "holds": true, "x": 1}', "unknown field `x`"),
        (b'{"type": "answer", "number": 1, "readiness": "maybe"}', "Invalid enum value 'maybe'"),
        (b'{"type": "proposal", "number": 1, "point": 2, "asks": []}', "length >= 1"),
        (b'{"type": "hello", "token": "short", "rank": 0}', "length >= 16"),
        (
            b'{"type": "hello", "token": "0123456789abcdef", "rank": 99999999999999999999}',
            r"\$.rank",
        ),
        (b'{"type": "ping", "sent_ns": 9223372036854775808}', r"\$.sent_ns"),
        (b"[" * 100_000, "Expected `object`, got `array`"),
        (b'{"type": "ask", "kind": "a", "rank": 0, "point": 0, "payload": {}} x', "trailing"),
    ],
)
def test_what_is_no_message_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(RankMessageError, match=reason):
        decode(data)


def test_a_deeply_nested_payload_is_refused_unless_the_interpreter_has_the_stack_for_it() -> None:
    nested = b"[" * 8_000 + b"]" * 8_000
    data = encode(Ask("a", 0, 0)).replace(b"}", b', "payload": ' + nested + b"}")

    try:
        msgspec.json.decode(nested)
    except RecursionError:
        with pytest.raises(RankMessageError):
            decode(data)
    else:
        assert decode(data).payload == msgspec.Raw(nested)  # type: ignore[union-attr]


def test_a_message_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(RankMessageError, match=f"expected {MAX_MESSAGE_BYTES} at most"):
        decode(b" " * (MAX_MESSAGE_BYTES + 1))


def test_bytes_changed_at_random_are_a_message_or_refused() -> None:
    chance = random.Random(1)
    for _ in range(5_000):
        data = bytearray(encode(chance.choice(MESSAGES)))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            message = decode(bytes(data))
        except RankMessageError:
            continue
        assert isinstance(message, Message)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'"' + b"x" * MAX_PAYLOAD_BYTES + b'"', "send the name of a file instead"),
        (b"reason: enough", "is not JSON"),
        (b'{\n"reason": "enough"}', "one line of JSON"),
    ],
)
def test_a_payload_that_would_not_arrive_is_not_sent(payload: bytes, reason: str) -> None:
    with pytest.raises(RankMessageError, match=reason):
        encode(Ask("nightbus.Stop", 0, 0, msgspec.Raw(payload)))


def test_a_proposal_of_the_largest_asks_can_be_sent() -> None:
    payload = msgspec.Raw(b'"' + b"x" * (MAX_PAYLOAD_BYTES - 2) + b'"')
    largest = Proposal(1, 2, (Ask("\0" * 300, 0, 0, payload),) * MAX_ASKS)

    assert decode(encode(largest)) == largest


def test_a_message_that_is_too_large_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_MESSAGE_BYTES", 20)

    with pytest.raises(RankMessageError, match=r"a Ping of \d+ bytes is too large"):
        encode(Ping(1))


def test_messages_come_in_whatever_pieces() -> None:
    data = b"".join(encode(each) + b"\n" for each in MESSAGES)
    lines = Lines()

    got = [message for at in range(0, len(data), 7) for message in lines.feed(data[at : at + 7])]

    assert got == MESSAGES


def test_a_line_without_an_end_is_refused() -> None:
    lines = Lines()
    lines.feed(b"x" * MAX_MESSAGE_BYTES)

    with pytest.raises(RankMessageError, match="without a line's end"):
        lines.feed(b"x")


def test_the_word_of_a_lost_rank_is_cut_to_what_may_be_sent() -> None:
    word = failure(1, "raised", "x" * (MAX_TEXT_CHARS + 1), WHERE)

    assert decode(encode(word)) == word
    assert (word.point, word.hook, word.batch_idx) == (100, "training_step", 12)
