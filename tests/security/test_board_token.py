"""The token that is kept for a user's boards: who can read it, and when it is made anew."""

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nightbus.bus.errors import NightbusError
from nightbus.sinks.board.kept_token import FILE, kept_token, state_folder, token_for


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's state is."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "nightbus"


def test_a_board_that_is_started_again_has_the_token_it_had(folder: Path) -> None:
    assert token_for("127.0.0.1") == token_for("localhost") == token_for("::1")


def test_only_its_user_can_read_it_whatever_the_umask_is(folder: Path) -> None:
    before = os.umask(0)
    try:
        token_for("127.0.0.1")
    finally:
        os.umask(before)

    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / FILE)]
    assert (modes, os.listdir(folder)) == ([0o700, 0o600], [FILE])


def test_a_board_that_other_machines_can_reach_has_a_token_of_its_own(folder: Path) -> None:
    tokens = {token_for(host) for host in ("127.0.0.1", "0.0.0.0", "0.0.0.0", "here.example")}

    assert len(tokens) == 4


def test_one_that_others_could_have_read_is_not_used_any_more(folder: Path) -> None:
    before = token_for("127.0.0.1")
    (folder / FILE).chmod(0o640)

    after = token_for("127.0.0.1")

    assert after != before
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert token_for("127.0.0.1") == after


@pytest.mark.parametrize("held", [b"", b"short\n", b"a" * 22, b"a" * 5000, b"\xff" * 22 + b"\n"])
def test_what_is_no_token_is_replaced(folder: Path, held: bytes) -> None:
    token_for("127.0.0.1")
    (folder / FILE).write_bytes(held)

    assert len(token_for("127.0.0.1")) == 22
    assert (folder / FILE).read_text() == token_for("127.0.0.1") + "\n"


def test_one_that_no_board_was_started_with_for_a_week_is_replaced(folder: Path) -> None:
    before = token_for("127.0.0.1")
    day_s = 24 * 3600
    os.utime(folder / FILE, times=(0, time.time() - 6 * day_s))
    assert token_for("127.0.0.1") == before  # and is kept for another week

    assert time.time() - (folder / FILE).stat().st_mtime < day_s
    os.utime(folder / FILE, times=(0, time.time() - 8 * day_s))
    assert token_for("127.0.0.1") != before


def test_one_of_a_time_to_come_is_replaced(folder: Path) -> None:
    before = token_for("127.0.0.1")
    os.utime(folder / FILE, times=(0, time.time() + 10**9))

    assert token_for("127.0.0.1") != before


def test_a_removed_one_is_made_anew(folder: Path) -> None:
    before = token_for("127.0.0.1")
    (folder / FILE).unlink()

    assert token_for("127.0.0.1") != before


def test_a_folder_that_others_can_write_to_is_not_trusted(folder: Path) -> None:
    token_for("127.0.0.1")
    folder.chmod(0o770)

    with pytest.raises(NightbusError, match=r"not this user's alone: expected chmod 700"):
        kept_token(folder)


def test_a_link_in_its_place_is_not_followed(folder: Path, tmp_path: Path) -> None:
    token_for("127.0.0.1")
    (tmp_path / "elsewhere").write_text("a" * 22 + "\n")
    (folder / FILE).unlink()
    (folder / FILE).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match=FILE):
        kept_token(folder)


def test_where_none_can_be_kept_the_board_serves_with_one_for_this_start(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.parent.mkdir()
    folder.write_text("a file")

    tokens = {token_for("127.0.0.1") for _ in range(2)}

    assert len(tokens) == 2
    assert "the board's token is for this start alone" in capsys.readouterr().err


def test_boards_that_start_at_once_have_one_token(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = {*pool.map(lambda _: kept_token(folder), range(50))}

    assert len(tokens) == 1


def test_a_relative_folder_of_state_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    monkeypatch.setenv("HOME", "/home/someone")

    assert state_folder() == Path("/home/someone/.local/state/nightbus")
