"""The desk of rank 0: who has the token is connected, and all else is refused and counted."""

import fcntl
import os
import random
import selectors
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightbus.bus.ranks.connection import Connection
from nightbus.bus.ranks.desk import GREETING_S, MAX_STRANGERS, Desk
from nightbus.bus.ranks.messages import (
    Answer,
    Decision,
    Failure,
    Hello,
    Message,
    Whereabouts,
    encode,
)
from nightbus.bus.ranks.private_folder import PREFIX

TOKEN = "0123456789abcdef"


class Room:
    """A desk, with what its side thread would do."""

    def __init__(self, ranks: int = 3) -> None:
        self.selector = selectors.DefaultSelector()
        self.desk = Desk(ranks, TOKEN, self.selector, takes_other_machines=True)
        self.sockets: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A connection to it."""
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(str(self.desk.path))
        self.sockets.append(connected)
        return connected

    def rank(self, rank: int, token: str = TOKEN) -> Connection:
        """A rank that has said who it is."""
        connection = Connection(self.connect())
        connection.send(Hello(token, rank))
        self.turn()
        return connection

    def turn(self) -> list[tuple[int, Message | None]]:
        """Let the desk do what there is to do; return what arrived."""
        while ready := self.selector.select(0):
            for key, _ in ready:
                key.data()
        arrived = list(self.desk.arrived)
        self.desk.arrived.clear()
        return arrived

    def close(self) -> None:
        """Close everything."""
        self.desk.close()
        self.selector.close()
        for each in self.sockets:
            each.close()


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.close()


def test_what_a_rank_sends_arrives_with_its_number(room: Room) -> None:
    rank = room.rank(2)
    rank.send(Answer(0, "ready"))

    assert room.turn() == [(2, Answer(0, "ready"))]


def test_what_the_desk_sends_reaches_all_ranks(room: Room) -> None:
    ranks = [room.rank(1), room.rank(2)]
    room.desk.send_all(Decision(0, holds=True))

    assert [each.receive() for each in ranks] == [[Decision(0, holds=True)]] * 2


def test_what_is_sent_to_all_reaches_a_rank_that_says_later_who_it_is(room: Room) -> None:
    first = room.rank(1)
    for message in (Whereabouts(0, 1, 7), Decision(0, holds=True), Decision(1, holds=False)):
        room.desk.send_all(message)
    last = room.rank(2)
    room.desk.send_all(Decision(2, holds=True))

    said = [Decision(0, holds=True), Decision(1, holds=False), Decision(2, holds=True)]
    assert first.receive()[1:] == said
    assert last.receive() == said


def test_a_rank_of_another_machine_comes_over_tcp(room: Room) -> None:
    connected = socket.create_connection(("127.0.0.1", room.desk.port))
    room.sockets.append(connected)
    connected.sendall(encode(Hello(TOKEN, 1)) + b"\n" + encode(Answer(0, "late")) + b"\n")

    assert (1, Answer(0, "late")) in room.turn()


def test_the_end_of_a_connection_is_known_at_once(room: Room) -> None:
    room.rank(1).close()

    assert room.turn() == [(1, None)]


def test_once_all_ranks_are_there_nobody_else_can_connect_and_nothing_is_on_disk(
    room: Room,
) -> None:
    room.rank(1)
    room.rank(2)

    assert not room.desk.path.parent.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", room.desk.port))


def test_only_the_user_can_enter_the_folder_of_the_socket(room: Room) -> None:
    assert room.desk.path.parent.stat().st_mode & 0o077 == 0


@pytest.fixture
def abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a desk, as a process leaves it that is killed, an hour later."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"{PREFIX}x"
    folder.mkdir()
    (folder / "desk").touch()
    os.utime(folder, (time.time() - 3600,) * 2)
    return folder


def test_the_folder_that_a_killed_process_has_left_is_removed(abandoned: Path) -> None:
    Room().close()

    assert not abandoned.exists()


@pytest.mark.parametrize("how", ["in use", "just made", "of something else"])
def test_a_folder_that_may_be_in_use_stays(abandoned: Path, how: str) -> None:
    fd = os.open(abandoned, os.O_RDONLY)
    if how == "in use":
        fcntl.flock(fd, fcntl.LOCK_SH)
    elif how == "just made":
        os.utime(abandoned)
    else:
        (abandoned / "another").touch()
        os.utime(abandoned, (time.time() - 3600,) * 2)
    Room().close()
    os.close(fd)

    assert abandoned.exists()


@pytest.mark.parametrize(
    "greeting",
    [
        encode(Hello("f" * 16, 1)),
        encode(Hello(TOKEN, 0)),
        encode(Hello(TOKEN, 3)),
        encode(Answer(0, "ready")),
        b"GET / HTTP/1.1",
        b"\x80\x04\x95",
        b"x" * 300_000,
    ],
    ids=["another token", "rank 0", "rank 3 of 3", "no hello", "http", "pickle", "endless"],
)
def test_whoever_does_not_greet_as_a_rank_is_refused(room: Room, greeting: bytes) -> None:
    stranger = room.connect()
    stranger.settimeout(0)
    with_end = greeting + b"\n"
    while with_end:
        try:
            with_end = with_end[stranger.send(with_end) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            break
        room.turn()

    assert room.turn() == []
    assert room.desk.refused == 1


def test_a_rank_that_is_there_cannot_be_impersonated(room: Room) -> None:
    rank = room.rank(1)
    room.rank(1)
    rank.send(Answer(0, "ready"))

    assert room.desk.refused == 1
    assert room.turn() == [(1, Answer(0, "ready"))]


def test_a_rank_that_sends_no_messages_is_dropped(room: Room) -> None:
    room.rank(1)
    room.sockets[-1].send(b'{"type": "answer"}\n')

    (word, end) = room.turn()
    assert isinstance(word[1], Failure)
    assert word[1].what.startswith("it sent what ranks do not send: a message of 18 bytes")
    assert end == (1, None)
    assert room.desk.refused == 1


def test_whoever_does_not_greet_in_time_is_refused(room: Room) -> None:
    room.connect()
    room.turn()
    room.desk.look(time.monotonic() + GREETING_S + 1)

    assert room.desk.refused == 1


def test_only_so_many_may_be_there_without_a_greeting(room: Room) -> None:
    for _ in range(MAX_STRANGERS + 2):
        room.connect()
        room.turn()

    assert room.desk.refused == 2
    assert room.rank(1).receive() == []


def test_mutants_of_messages_never_do_more_than_drop_their_connection() -> None:
    chance = random.Random(7)
    valid = b"".join(
        encode(each) + b"\n" for each in (Hello(TOKEN, 1), Whereabouts(1, 1, 7), Answer(0, "late"))
    )
    for _ in range(200):
        room = Room()
        data = bytearray(valid)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        room.connect().sendall(data)
        room.turn()
        arrived = room.rank(2)
        room.close()

        assert not arrived.receive()


def test_a_connection_whose_other_side_does_not_read_is_given_up(room: Room) -> None:
    room.rank(1)
    most = Whereabouts(0, 1, 1, hook="x" * 100)
    while room.desk.pid_of(1):
        room.desk.send(1, most)

    assert room.turn() == [(1, None)]
