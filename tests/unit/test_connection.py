"""Connection: messages between two ranks, in both directions."""

import socket
from collections.abc import Iterator

import pytest

from nightbus.bus.ranks.connection import Connection
from nightbus.bus.ranks.messages import Done, Ended


@pytest.fixture
def ends() -> Iterator[list[Connection]]:
    """Both ends."""
    both = [Connection(each) for each in socket.socketpair()]
    yield both
    for end in both:
        end.close()


def test_the_last_words_of_who_has_closed_are_read_by_who_sends_before_it_reads(
    ends: list[Connection],
) -> None:
    ours, its = ends
    its.send(Done())
    its.close()

    ours.send(Ended())
    ours.send(Ended())

    assert not ours.has_ended
    assert ours.receive() == [Done()]
    assert ours.has_ended
