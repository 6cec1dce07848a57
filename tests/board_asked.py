"""A board in this process, and what it answers."""

import json
import struct
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlencode

import numpy as np
import trio
from recorded_runs import SECOND_NS, RecordedAttempt, RecordedRun

import nightbus as nb
from nightbus.sinks.board.app import BoardApp
from nightbus.sinks.board.guard import Guard
from nightbus.sinks.board.page_files import PageFile
from nightbus.sinks.board.shelf import Shelf

TOKEN = "the-token"
DEADLINE_S = 60.0
PAGE = {
    "/": PageFile(b"<!doctype html>", "text/html"),
    "/page.js": PageFile(b"start()", "text/javascript"),
    "/page.css": PageFile(b"b{}", "text/css"),
}


def put(attempt: RecordedAttempt, name: str, *values: float) -> None:
    """Record values, a second and a step apart."""
    for step, value in enumerate(values):
        attempt.now_ns += SECOND_NS
        attempt.place.move(step=step, epoch=step // 10)
        attempt.add(nb.Put, name, value, ("loggers",), "training_step")
    attempt.writer.flush()


def begun(root: Path, hparams: dict[str, Any], name: str = "") -> tuple[RecordedRun, Any]:
    """A run that goes on, with hyperparameters."""
    run = RecordedRun(root)
    attempt = run.attempt(is_silent=True)
    about: tuple[Any, ...] = ({"max_epochs": 3}, {"torch": "2.9"}, None, hparams, ("max_epochs",))
    begun_ns = attempt.now_ns
    attempt.add(nb.RunStarted, name or run.path.name, 0, "fit", begun_ns, *about, {"host": "here"})
    attempt.writer.flush()
    return run, attempt


def recorded(root: Path, lr: float, *losses: float) -> RecordedRun:
    """A run that ended, with a learning rate and losses."""
    run, attempt = begun(root, {"lr": lr})
    put(attempt, "val_loss", *losses)
    attempt.end()
    return run


class Answer(NamedTuple):
    """What the board answers."""

    status_code: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


class Asked:
    """A browser that has the board's token.

    Args:
        root: where the runs are.
        host: the address that the board listens on.
        place: where it says that it listens.
    """

    def __init__(self, root: Path, host: str = "127.0.0.1", place: str = "") -> None:
        self.board = BoardApp(Shelf(root), PAGE)
        self._guarded = Guard(self.board.starlette, TOKEN, host, place=place)

    def get(
        self,
        path: str,
        params: dict[str, Any] | None = None,
        method: str = "GET",
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Ask; headers are added to those that a browser sends, or take their place."""
        path, _, query = path.partition("?")
        query = query or urlencode(params or {}, doseq=True)
        sent = {"Host": "127.0.0.1:7979", "Authorization": f"Bearer {TOKEN}"}
        all_headers = headers if isinstance(headers, list) else [*(sent | (headers or {})).items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.replace(" ", "+").encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in all_headers],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 7979),
        }
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        trio.run(self._guarded, scope, receive, send)
        start, *bodies = messages
        found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], found, b"".join(each.get("body", b"") for each in bodies))

    def said(self, path: str, **asked: Any) -> Any:
        """The answer to a question that is allowed."""
        answer = self._whole(path, asked)
        assert answer.status_code == 200, answer.text
        return json.loads(answer.content)

    def _whole(self, path: str, asked: dict[str, Any]) -> Answer:
        """Ask again, as the page does, until all was read that belongs to the answer."""
        until_s = time.monotonic() + DEADLINE_S
        while True:
            answer = self.get(path, params=asked)
            if b'"is_read":false' not in answer.content or time.monotonic() > until_s:
                return answer

    def curves(self, metric: str, *keys: str, **asked: Any) -> list[dict[str, Any]]:
        """The curves of a metric, with x and y of each."""
        return self._numbers("curves", ("x", "y"), {"metric": metric, "run": keys, **asked})

    def bands(self, metric: str, groups: dict[str, str], **asked: Any) -> list[dict[str, Any]]:
        """The bands of a metric, of runs with their groups."""
        asked |= {"metric": metric, "run": list(groups), "group": list(groups.values())}
        return self._numbers("bands", ("x", "mean", "low", "high"), asked)

    def _numbers(
        self, what: str, names: tuple[str, ...], asked: dict[str, Any]
    ) -> list[dict[str, Any]]:
        answer = self._whole(f"/api/{what}", asked)
        assert answer.status_code == 200, answer.text
        (length,) = struct.unpack_from("<I", answer.content)
        entries: list[dict[str, Any]] = json.loads(answer.content[4 : 4 + length])["entries"]
        numbers = np.frombuffer(answer.content, np.float64, offset=4 + length)
        for entry in entries:
            for name in names:
                entry[name], numbers = np.split(numbers, [entry["points"]])
        return entries
