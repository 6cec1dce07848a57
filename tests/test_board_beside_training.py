"""``nb.Board()``: the board in a process of its own beside the training one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer

import nightbus as nb
from nightbus.sinks.board import page_files

DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page, so that none has to be built."""
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html>")
    monkeypatch.setattr(page_files, "BUILT", folder)
    return folder


@pytest.fixture
def board() -> Iterator[nb.Board]:
    """A board at any free port, which is stopped when the test is over."""
    board = nb.Board(port=0)
    yield board
    board.stop()


def wait_until(is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def table(address: str) -> Any:
    """The table of runs, as the page asks for it."""
    at, _, token = address.partition("#token=")
    request = urllib.request.Request(at + "api/table", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        return json.load(answer)


def can_be_reached(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_run_s_board_is_served_by_another_process_at_the_address_that_is_printed(
    tmp_path: Path, board: nb.Board, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = trainer(tmp_path, max_steps=1, sinks=[board], record_console=True)
    fit.fit(Small(), loader())

    said = re.search(r"nightbus: the board is at (\S+)\n", capsys.readouterr().err)
    assert said is not None
    assert said[1] == board.address
    assert fit.run_folder is not None
    assert [row["id"] for row in table(board.address)["rows"]] == [fit.run_folder.info.id]
    run = nb.open_run(fit.run_folder.path)
    assert not [event for event in run.events() if said[1] in str(event)]  # nobody else has it

    trainer(tmp_path, max_steps=1, sinks=[board]).fit(Small(), loader())

    wait_until(lambda: len(table(said[1])["rows"]) == 2)  # the same board has the next run too
    assert "the board is at" not in capsys.readouterr().err


def test_no_board_is_left_when_the_process_that_trains_is_killed(
    tmp_path: Path, page: Path
) -> None:
    program = f"""
import os, signal, sys, time
from pathlib import Path
from nightbus.sinks.board import own_process, page_files
page_files.BUILT = Path({str(page)!r})
wanted = own_process.Wanted(Path({str(tmp_path)!r}), "127.0.0.1", 0, False, False)
board = own_process.BoardProcess(wanted)
print(board.address, flush=True)
if (child := os.fork()) == 0:  # as a dataloader's worker: it has nothing of the board's
    time.sleep(600)
print(child, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as training:
        assert training.stdout is not None
        address, child = training.stdout.readline(), int(training.stdout.readline())
        try:
            assert table(address.strip())["rows"] == []
            training.send_signal(signal.SIGKILL)
            training.wait()
            port = int(re.search(r":(\d+)/", address)[1])  # type: ignore[index]
            wait_until(lambda: not can_be_reached(port))
        finally:
            os.kill(child, signal.SIGKILL)


def test_training_goes_on_without_a_board_where_the_port_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        board = nb.Board(port=port)
        fit = trainer(tmp_path, max_steps=1, sinks=[board])
        fit.fit(Small(), loader())

    assert (fit.global_step, board.address) == (1, "")
    assert f"the board cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_a_checkout_without_the_page_is_refused_before_anything_is_trained(page: Path) -> None:
    (page / "index.html").unlink()

    with pytest.raises(nb.UsageError, match="make board-page"):
        nb.Board()


def test_a_process_that_trains_does_not_load_the_server() -> None:
    program = "import sys, nightbus.sinks.board.run_board; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert not {b"starlette", b"hypercorn", b"torch"} & set(loaded.stdout.split())


def test_a_board_that_is_replayed_says_what_to_do_instead(tmp_path: Path) -> None:
    fit = trainer(tmp_path, max_steps=1)
    fit.fit(Small(), loader())

    assert fit.run_folder is not None
    with pytest.raises(nb.UsageError, match=r"cannot be replayed: .*nightbus board"):
        nb.replay(fit.run_folder.path, sinks=[nb.Board()])
