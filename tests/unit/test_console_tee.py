"""What is printed is noted, and the streams do what they did."""

import io
import logging
import os
import sys
import warnings

import pytest
from rich.console import Console
from rich.text import Text

from nightbus.bus import console_recording
from nightbus.bus.console_recording import ConsoleRecording
from nightbus.bus.events import ConsoleLine, Event
from nightbus.bus.log.writer import LogWriter
from nightbus.bus.system.console_tee import MAX_NOTES, ConsoleTee, unnoted
from nightbus.sinks.progress_bar import _Terminal


class Stream(io.StringIO):
    """What is a terminal for those who ask."""

    def isatty(self) -> bool:
        return True


class Recorder:
    """Keeps what is recorded."""

    writer: LogWriter | None = None

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, int]] = []

    def emit_in_time(self, kind: type[Event], *fields: object, source: str = "") -> bool:
        assert kind is ConsoleLine
        self.lines.append(fields)  # type: ignore[arg-type]
        return True

    @property
    def texts(self) -> list[str]:
        return [text for _, text, _ in self.lines]


def replaced(monkeypatch: pytest.MonkeyPatch) -> tuple[Stream, Stream]:
    """Streams in place of pytest's, which it sets anew before each test."""
    out, err = Stream(), Stream()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


def recorded(*pieces: str) -> list[str]:
    """The lines of what is written on standard output piece by piece."""
    recorder = Recorder()
    recording = ConsoleRecording(recorder)
    recording.begin()
    for piece in pieces:
        sys.stdout.write(piece)
    recording.end()
    return recorder.texts


def test_print_and_logging_are_recorded_and_shown_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, err = replaced(monkeypatch)
    recorder = Recorder()
    handler = logging.StreamHandler()  # keeps the stream that it finds
    recording = ConsoleRecording(recorder)
    recording.begin()
    print("one", 1)
    handler.emit(logging.makeLogRecord({"msg": "logged"}))
    recording.end()

    assert out.getvalue() == "one 1\n"
    assert err.getvalue() == "logged\n"
    assert recorder.lines == [
        ("stdout", "one 1", 0),
        ("stderr", "logged", 0),
    ]


def test_the_streams_are_the_same_and_get_their_write_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = replaced(monkeypatch)
    recording = ConsoleRecording(Recorder())
    recording.begin()
    assert (sys.stdout, sys.stderr) == streams
    recording.end()

    assert not any("write" in vars(stream) for stream in streams)


def test_what_somebody_else_has_put_in_place_of_write_stays_and_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, _ = replaced(monkeypatch)
    recorder = Recorder()
    recording = ConsoleRecording(recorder)
    recording.begin()
    ours = out.write
    out.write = lambda text: ours(text.upper())  # type: ignore[method-assign]
    print("a")
    recording.end()
    print("b")

    assert out.getvalue() == "A\nB\n"
    assert recorder.texts == ["A"]


def test_of_a_line_drawn_again_and_again_what_it_showed_last_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replaced(monkeypatch)
    bar = [f"\r{done}%" for done in range(0, 101, 20)]

    assert recorded(*bar, "\n", "next\r\n") == ["100%", "next"]
    assert recorded(*bar) == ["100%"]


def test_colours_are_left_out_and_pieces_make_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch)
    assert recorded("\x1b[1;31mre", "d\x1b[0m\n\nrest") == ["red", "", "rest"]


def test_secrets_are_struck_out_also_of_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch)
    key = "-----BEGIN PRIVATE KEY-----\ncanary18\n-----END PRIVATE KEY-----\n"

    shown = "\n".join(recorded("api_key=canary17\n", key))

    assert "canary1" not in shown
    assert "api_key=" in shown


def test_too_much_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch)
    monkeypatch.setattr(console_recording, "MAX_BURST_CHARS", 100)
    recorder = Recorder()
    recording = ConsoleRecording(recorder)
    recording.begin()
    for _ in range(4):
        print("x" * 50)
    recording.end()

    assert recorder.lines == [("stdout", "x" * 50, 0)] * 2 + [("stdout", "", 2 * 51)]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch)
    tee = ConsoleTee()
    tee.watch_streams()
    for _ in range(MAX_NOTES + 3):
        sys.stdout.write("ab")
    tee.close()

    assert len(tee.take(10 * MAX_NOTES)) == MAX_NOTES
    assert tee.missed == 6


def test_what_the_progress_bar_draws_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = replaced(monkeypatch)
    recorder = Recorder()
    recording = ConsoleRecording(recorder)
    recording.begin()
    terminal = _Terminal(Console(file=out, force_terminal=True, width=40))
    with unnoted():
        terminal.update(Text("the bar"))
    print("a line of the user")
    sys.stdout.write("without an end")
    sys.stdout.flush()
    with unnoted():
        terminal.stop()
    recording.end()

    assert recorder.texts == ["a line of the user", "without an end"]
    assert "a line of the user" in out.getvalue()


def test_a_stream_without_attributes_of_its_own_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Bare:
        __slots__ = ()

        def write(self, text: str) -> int:
            return len(text)

    monkeypatch.setattr(sys, "stdout", Bare())
    monkeypatch.setattr(sys, "stderr", None)

    assert recorded("a\n") == []


def test_a_forked_child_notes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch)
    tee = ConsoleTee()
    tee.watch_streams()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, at a fork
        pid = os.fork()
    if pid == 0:
        os._exit("write" in vars(sys.stdout))
    tee.close()

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
