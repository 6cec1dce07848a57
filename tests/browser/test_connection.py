"""The page of a board that is stopped, started again or not heard; runs that are removed."""

import hmac
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from board_asked import TOKEN, begun, put, recorded
from board_browser import OpenPage, port_of, served
from helpers import eventually

pytestmark = pytest.mark.long

LOST = "connection lost"


@contextmanager
def started(root: Path, port: int = 0) -> Iterator[tuple[Any, str]]:
    """``nightbus board`` in another process, and the address that it prints."""
    with subprocess.Popen(
        [sys.executable, "-m", "nightbus", "board", str(root), "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline().split()
            yield process, next(word for word in said if word.startswith("http"))
        finally:
            process.kill()


def test_an_open_page_comes_back_by_itself_when_the_board_is_started_again(
    open_page: OpenPage, tmp_path: Path
) -> None:
    old = recorded(tmp_path, 0.1, 0.5, 0.25)
    live, attempt = begun(tmp_path, {"lr": 0.3})
    put(attempt, "val_loss", 0.75)
    with started(tmp_path) as (process, address):
        page = open_page(address)
        page.wait_for_selector(f"figure[aria-label*='{live.path.name}: last 0.75']")
        page.get_by_label("condition").fill("lr > 0.2")
        page.get_by_text("1 of 2 runs").wait_for()
        process.send_signal(signal.SIGINT)
        process.wait()
        page.get_by_text(LOST).wait_for()
    page.get_by_label("condition").fill("")  # asked while nobody answers
    put(attempt, "val_loss", 0.625)
    attempt.end()
    newer = recorded(tmp_path, 0.4, 0.125)

    with started(tmp_path, port_of(address)) as (_, again):
        assert again == address
        page.get_by_text("3 runs").wait_for()
        page.get_by_label(f"draw {newer.path.name}").wait_for()
        page.wait_for_selector(f"figure[aria-label*='{live.path.name}: last 0.625']")
        assert page.get_by_text(LOST).count() == 0
        assert page.get_by_label(f"draw {old.path.name}").is_visible()

        other = page.context.new_page()
        other.goto(page.url)  # a bookmark has no token: the browser has kept it
        other.get_by_text("3 runs").wait_for()


def test_a_page_that_hears_nothing_for_long_says_so_and_comes_back(
    open_page: OpenPage, tmp_path: Path
) -> None:
    recorded(tmp_path, 0.1, 0.5)
    with started(tmp_path) as (process, address):
        page = open_page("about:blank")
        page.clock.install()
        page.goto(address)
        page.get_by_text("1 run; ").wait_for()
        process.send_signal(signal.SIGSTOP)  # as a tunnel that is dead, or a machine that sleeps
        page.clock.run_for(60_000)
        page.get_by_text(LOST).wait_for()

        process.send_signal(signal.SIGCONT)
        page.clock.run_for(120_000)
        page.get_by_text(LOST).wait_for(state="detached")


def test_a_board_with_another_token_says_which_address_to_open(
    open_page: OpenPage, tmp_path: Path
) -> None:
    recorded(tmp_path, 0.1, 0.5)
    with served(tmp_path) as address:
        page = open_page(address)
        page.get_by_text("1 run; ").wait_for()
    with served(tmp_path, port=port_of(address), token="another"):
        page.get_by_text("open the address that nightbus board has printed").wait_for()


class Listener(BaseHTTPRequestHandler):
    """Another user's program, which keeps what is sent to it."""

    sent: ClassVar[list[tuple[str, str | None]]] = []
    proof: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        self.sent.append((self.path, self.headers.get("Authorization")))
        said = json.dumps(self.proof).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize("claim", ["nothing", "a proof that it does not know", "another's place"])
def test_a_program_that_listens_where_the_board_did_is_not_sent_the_token(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claim: str
) -> None:
    recorded(tmp_path, 0.1, 0.5)
    sent = list[tuple[str, str | None]]()
    monkeypatch.setattr(Listener, "sent", sent)

    class Relaying(Listener):
        def do_GET(self) -> None:
            if claim == "nothing":
                type(self).proof = {}
            elif claim == "another's place":  # what another board of the same token proves
                nonce = self.path.rpartition("=")[2]
                proof = hmac.digest(TOKEN.encode(), f"elsewhere\n{nonce}".encode(), "sha256").hex()
                type(self).proof = {"place": "elsewhere", "proof": proof}
            else:
                type(self).proof = {"place": "here", "proof": "0" * 64}
            super().do_GET()

    with served(tmp_path) as address:
        page = open_page(address)
        page.get_by_text("1 run; ").wait_for()
    with ThreadingHTTPServer(("127.0.0.1", port_of(address)), Relaying) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            page.get_by_text("does not know the board's token").first.wait_for()
            eventually(lambda: len(sent) > 2)
        finally:
            server.shutdown()

    assert {authorization for _, authorization in sent} == {None}
    assert {path.partition("?")[0] for path, _ in sent if "api" in path} == {"/api/proof"}

    with served(tmp_path, port=port_of(address)):
        page.get_by_text("1 run; ").wait_for()
        page.get_by_text(LOST).wait_for(state="detached")


def test_a_run_whose_folder_is_removed_leaves_the_table_and_its_page_says_so(
    open_page: OpenPage, tmp_path: Path
) -> None:
    stays, goes = recorded(tmp_path, 0.1, 0.5), recorded(tmp_path, 0.2, 0.25)

    def name(run: Any) -> str:
        return str(run.path.name)

    with served(tmp_path) as address:
        page = open_page(address)
        page.wait_for_selector(f"figure[aria-label*='{name(goes)}: last 0.25']")
        other = page.context.new_page()
        other.goto(f"{address}&open={name(goes)}")
        other.get_by_role("row", name="lr 0.2").wait_for()

        shutil.rmtree(goes.path)

        page.get_by_label(f"draw {name(goes)}").wait_for(state="detached")
        page.wait_for_selector(f"figure:not([aria-label*='{name(goes)}'])")
        assert page.get_by_label(f"draw {name(stays)}").is_visible()
        other.get_by_text(f"there is no run '{name(goes)}'").wait_for()


def test_when_the_folder_of_runs_is_removed_the_page_says_that_and_finds_it_again(
    open_page: OpenPage, tmp_path: Path
) -> None:
    recorded(tmp_path, 0.1, 0.5)
    with served(tmp_path / "runs") as address:
        page = open_page(address)
        page.get_by_text("1 run; ").wait_for()
        shutil.rmtree(tmp_path / "runs")
        page.get_by_text("is not a folder").first.wait_for()

        run = recorded(tmp_path, 0.3, 0.5)
        page.get_by_label(f"draw {run.path.name}").wait_for()
        page.get_by_text("is not a folder").first.wait_for(state="detached")
