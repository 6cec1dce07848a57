"""What other processes write on the terminals that are lent to them is printed on stderr."""

import fcntl
import os
import struct
import termios

import pytest
from helpers import eventually

from nightbus.bus.system.terminal_message import drawn_lines
from nightbus.bus.system.terminal_relay import TerminalRelay, carry_over

Captured = pytest.CaptureFixture[bytes]
Patch = pytest.MonkeyPatch


@pytest.fixture
def lent() -> int:
    """A terminal that another process could have."""
    return TerminalRelay().lend()


def test_where_nothing_is_drawn_it_goes_on_as_it_is(lent: int, capfdbinary: Captured) -> None:
    os.write(lent, b"50 %\r100 %\xff\nname: ")
    carry_over()
    os.close(lent)

    assert capfdbinary.readouterr().err == b"50 %\r100 %\xff\nname: "


def test_what_is_written_is_read_without_being_asked_for(lent: int, capfdbinary: Captured) -> None:
    read = b""

    def has_come() -> bool:
        nonlocal read
        read += capfdbinary.readouterr().err
        return read == b"a line\n"

    os.write(lent, b"a line\n")
    eventually(has_come)
    os.close(lent)


def test_above_drawn_lines_only_whole_lines_are_printed(lent: int) -> None:
    printed: list[str] = []
    drawn_lines(2, printed.append)
    try:
        for text in (b"first", b" line\r\nsec", b"ond\n\nbegun"):
            os.write(lent, text)
            carry_over()
        os.close(lent)  # as at the process's end
        carry_over()
    finally:
        drawn_lines(0)

    assert "\n".join(printed) == "first line\nsecond\n\nbegun"


def test_it_is_a_terminal_and_changes_no_byte(lent: int) -> None:
    assert os.isatty(lent)
    assert not termios.tcgetattr(lent)[1] & termios.OPOST
    os.close(lent)


def test_it_follows_the_size_of_the_terminal_that_it_prints_on(monkeypatch: Patch) -> None:
    size = os.terminal_size((80, 24))
    monkeypatch.setattr(os, "get_terminal_size", lambda _: size)
    relay = TerminalRelay()
    lent = relay.lend()
    assert _size_of(lent) == (24, 80)

    size = os.terminal_size((120, 30))
    relay.carry_over()

    assert _size_of(lent) == (30, 120)
    os.close(lent)


def _size_of(terminal: int) -> tuple[int, int]:
    asked = fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8))
    lines, columns, _, _ = struct.unpack("HHHH", asked)
    return lines, columns
