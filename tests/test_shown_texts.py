"""What the command line shows of texts and names that a stranger may have chosen."""

import json
import os
import subprocess
from pathlib import Path

import hostile
import msgspec
import pytest
from helpers import Recording

from nightbus.__main__ import main
from nightbus.bus.events import Put
from nightbus.bus.runs.run_folder import write_atomically
from nightbus.bus.shown_text import plain, quoted
from nightbus.cli.text import as_json, moment

UNSEEN = {
    "escape": "\x1b",
    "newline": "\n",
    "delete": "\x7f",
    "control of the second kind": "\x9b",
    "next line": "\x85",
    "soft hyphen": "\xad",
    "right to left": "\u202e",
    "isolate": "\u2066",
    "zero width": "\u200b",
    "joiner": "\u200d",
    "byte order mark": "\ufeff",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "half a surrogate pair": "\udcff",
    "tag": "\U000e0041",
    "filler": "\u3164",
}
NAMES = (
    "with space",
    "it's",
    'say "so"',
    "$(touch pwned)",
    "`touch pwned`",
    "-rf",
    "--help",
    "two\nlines",
    "a;touch pwned",
    "\u202eright to left",
    "back\\slash\x7f",
    "~",
    "*",
    "\udcff not utf-8",
)


@pytest.mark.parametrize("name", UNSEEN)
def test_what_nobody_sees_is_escaped_for_people_and_for_programs(name: str) -> None:
    sign = UNSEEN[name]

    assert sign not in plain(f"a{sign}b")
    assert plain(f"a{sign}b").isprintable()
    encoded = as_json({"name": f"a{sign}b"})
    assert sign not in encoded.replace("\n", "") if sign == "\n" else sign not in encoded
    assert json.loads(encoded) == {"name": f"a{sign}b"}


def test_letters_of_any_language_are_shown_as_they_are() -> None:
    text = "Übung 訓練 тренировка 🙂 a\u0301"

    assert plain(text) == text


@pytest.mark.parametrize("name", NAMES)
def test_a_quoted_name_is_one_word_for_a_shell_whatever_it_is(tmp_path: Path, name: str) -> None:
    command = f"printf '%s\\0' {quoted(name)} end"

    done = subprocess.run(["bash", "-c", command], capture_output=True, cwd=tmp_path, check=True)

    word, end, _ = done.stdout.split(b"\0")
    assert word.removeprefix(b"./" if name.startswith("-") else b"") == os.fsencode(name)
    assert end == b"end"
    assert list(tmp_path.iterdir()) == []
    assert quoted(name).isprintable()


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("-")])
@pytest.mark.parametrize("verb", ["ls", "show", "tail", "doctor"])
def test_the_command_that_a_verb_names_reaches_the_run_whatever_its_folder_is_called(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, verb: str
) -> None:
    run = hostile.make_run(tmp_path, 1).path
    damaged = run.rename(tmp_path / name)
    data = bytearray((damaged / hostile.LOG).read_bytes())
    data[len(data) // 2] ^= 1  # an event
    data[-40] ^= 1  # the footer
    whole = data if verb in ("show", "tail") else b"junk" * 40  # ls looks at no event
    (damaged / hostile.LOG).write_bytes(whole)
    every = ["-n", "1000"] if verb == "tail" else []

    main([verb, str(tmp_path if verb == "ls" else damaged), *every])

    said = capfd.readouterr()
    wanted = "nightbus doctor " if verb != "doctor" else "nightbus recover "
    commands = [
        line[line.index(wanted) + len(wanted) :].partition(" -o OUT")[0]
        for line in (said.out + said.err).splitlines()
        if wanted in line
    ]
    assert commands
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", f"printf '%s\\0' {command}"],
            capture_output=True,
            cwd=tmp_path,
            check=True,
        )
        assert done.stdout == os.fsencode(damaged) + b"\0"


@pytest.mark.long
def test_no_verb_shows_a_metrics_name_that_a_terminal_would_act_on(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "log")
    for sign in UNSEEN.values():
        if sign != "\udcff":  # no log can hold it
            event = recording.writer.event(Put, f"a{sign}b", 1.0, ("loggers",), "", source="m")
            recording.writer.append(event)
    recording.writer.close()
    run = hostile.make_run(tmp_path, 1)
    (run.path / hostile.LOG).write_bytes((tmp_path / "log/000000.nlog").read_bytes())

    for verb in hostile.READING_VERBS:
        shown = hostile.shown_by_verb(verb, run.path)
        assert not set(UNSEEN.values()) - {"\n"} & set(shown)


@pytest.mark.parametrize(
    "info",
    [
        b"[]",
        b"null",
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"id":' * 100_000,
        b'{"id": "x", "name": "x", "created_ns": 1e400, "argv": []}',
        b'{"id": "x", "name": 3, "created_ns": 0, "argv": []}',
        b'{"id": "x", "name": "x", "created_ns": 0, "argv": 3}',
    ],
)
def test_ls_and_plot_leave_out_a_run_whose_json_is_none_and_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], info: bytes
) -> None:
    good, bad = hostile.make_run(tmp_path, 1), hostile.make_run(tmp_path, 1)
    write_atomically(bad.path / "run.json", info)

    code = main(["ls", str(tmp_path)])
    listed = capsys.readouterr()
    assert code == 1
    assert good.info.id in listed.out
    assert bad.path.name in listed.err

    code = main(["plot", str(good.path), str(bad.path), "-o", str(tmp_path / "all.png")])
    said = capsys.readouterr().err
    assert code == 3
    assert "is left out" in said
    assert (tmp_path / "all.png").stat().st_size > 0


@pytest.mark.parametrize("created_ns", [1 << 62, (1 << 63) - 1, -(1 << 63), -1, 10**30])
def test_a_run_of_a_time_that_no_calendar_has_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], created_ns: int
) -> None:
    run = hostile.make_run(tmp_path, 1)
    info = msgspec.structs.asdict(run.info) | {"created_ns": created_ns}
    write_atomically(run.path / "run.json", json.dumps(info).encode())

    assert main(["ls", str(tmp_path)]) == 0

    assert run.info.id in capsys.readouterr().out
    assert moment(10**30) == "1e+21 s"
