"""Who may steer runs from the board, and what it passes on to them."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from board_asked import PAGE, TOKEN, Answer, Asked, begun, recorded
from models import Small, loader, trainer

import nightbus as nb
from nightbus.sinks.board.app import BoardApp
from nightbus.sinks.board.guard import Guard
from nightbus.sinks.board.shelf import Shelf
from nightbus.sinks.board.steering import MAX_BODY_BYTES, Steering

HOST = "127.0.0.1:7979"
Headers = list[tuple[str, str]]


class SteeringBoard(Asked):
    """A browser at a board that steers, and a page of it that may."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.steering = Steering()
        self.board = BoardApp(Shelf(root), PAGE, self.steering)
        self._guarded = Guard(self.board.starlette, TOKEN, "127.0.0.1", self.steering.token)

    @property
    def headers(self) -> dict[str, str]:
        """What the board's own page sends."""
        return {
            "Host": HOST,
            "Authorization": f"Bearer {TOKEN}",
            "Origin": f"http://{HOST}",
            "Content-Type": "application/json",
            "Nightbus-Steering": self.steering.token,
        }

    def wish(self, key: str, headers: Headers | None = None, **wish: Any) -> Answer:
        """Ask something of a run."""
        sent = list(self.headers.items()) if headers is None else headers
        return self.get(f"/api/steer/{key}", None, "POST", sent, json.dumps(wish).encode())


def killed(root: Path) -> str:
    """The key of a run whose process is gone."""
    run, attempt = begun(root, {})
    attempt.abandon()
    return run.path.name


def with_header(board: SteeringBoard, name: str, *values: str) -> Headers:
    """The page's headers, one of them with other values."""
    others = [(each, value) for each, value in board.headers.items() if each != name]
    return [*others, *((name, value) for value in values)]


def test_a_board_that_was_not_asked_to_steers_no_run(tmp_path: Path) -> None:
    key = killed(tmp_path)
    headers = SteeringBoard(tmp_path).headers
    board = Asked(tmp_path)

    answer = board.get(f"/api/steer/{key}", None, "POST", headers, b'{"verb": "stop"}')

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert board.said("/api/steering") is None


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/api/table", "POST", "GET, HEAD"),
        ("/", "POST", "GET, HEAD"),
        ("/api/steer", "POST", "GET, HEAD"),
        ("/api/steer/x", "GET", "POST"),
        ("/api/steer/x", "PUT", "POST"),
        ("/api/steer/x", "OPTIONS", "POST"),
    ],
)
def test_wishes_are_posted_and_nothing_else_is(
    tmp_path: Path, path: str, method: str, allowed: str
) -> None:
    board = SteeringBoard(tmp_path)

    answer = board.get(path, None, method, board.headers, b'{"verb": "stop"}')

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("name", "values", "status"),
    [
        ("Authorization", [], 401),
        ("Authorization", ["Bearer wrong"], 401),
        ("Nightbus-Steering", [], 403),
        ("Nightbus-Steering", [""], 403),
        ("Nightbus-Steering", [TOKEN], 403),
        ("Nightbus-Steering", ["é"], 403),
        ("Origin", [], 403),
        ("Origin", ["null"], 403),
        ("Origin", ["http://evil.example"], 403),
        ("Origin", ["https://127.0.0.1:7979"], 403),
        ("Origin", [f"http://{HOST}", f"http://{HOST}"], 403),
        ("Sec-Fetch-Site", ["cross-site"], 403),
        ("Sec-Fetch-Site", ["same-site"], 403),
        ("Host", ["evil.example"], 403),
        ("Content-Type", [], 415),
        ("Content-Type", ["text/plain"], 415),  # which another page's form can send
        ("Content-Type", ["application/x-www-form-urlencoded"], 415),
    ],
)
def test_another_page_cannot_steer_whatever_it_leaves_out_or_makes_up(
    tmp_path: Path, name: str, values: list[str], status: int
) -> None:
    key = killed(tmp_path)
    board = SteeringBoard(tmp_path)

    answer = board.wish(key, with_header(board, name, *values), verb="stop")

    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


def test_the_token_of_steering_is_another_than_that_of_the_board_and_new_with_each(
    tmp_path: Path,
) -> None:
    board, again = SteeringBoard(tmp_path), SteeringBoard(tmp_path)
    recorded(tmp_path, 0.1, 0.5)

    offer = board.said("/api/steering")

    assert len(offer["token"]) == 22  # of 6 bits each
    assert len({offer["token"], again.steering.token, TOKEN}) == 3
    assert board.get("/api/steering", headers={"Authorization": "Bearer no"}).status_code == 401


def test_a_run_that_has_ended_or_was_never_there_is_not_steered(tmp_path: Path) -> None:
    run = recorded(tmp_path, 0.1, 0.5)
    board = SteeringBoard(tmp_path)

    ended = board.wish(run.path.name, verb="stop")
    unknown = [board.wish(key, verb="stop") for key in ("missing", "..", "x" * 500)]

    assert ended.status_code == 409
    assert "is not running: attempt 0 has ended (completed)" in ended.json()["problem"]
    assert [answer.status_code for answer in unknown] == [404, 404, 404]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "the wish cannot be read"),
        (b"[]", 400, "the wish cannot be read"),
        (b'{"verb": "stop", "path": "/etc"}', 400, "the wish cannot be read"),
        (b'{"verb": "command"}', 400, "expected stop, checkpoint, pause, resume, validate"),
        (b'{"command": "x", "fields": []}', 400, "the wish cannot be read"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "longer than"),
    ],
)
def test_what_is_no_wish_is_answered_with_what_is_wrong(
    tmp_path: Path, body: bytes, status: int, said: str
) -> None:
    key = killed(tmp_path)
    board = SteeringBoard(tmp_path)

    answer = board.get(f"/api/steer/{key}", None, "POST", board.headers, body)

    assert (answer.status_code, said in answer.json()["problem"]) == (status, True), answer.text


class SetRate(nb.Command, name="tests.SetRateFromPage"):
    """Sets a rate."""

    rate: float


class Steered(Small):
    """Takes a command, and has a page steer it once its first batch is over."""

    rate = 0.0
    page: threading.Thread

    @nb.on(SetRate)
    def set_rate(self, command: SetRate) -> str:
        self.rate = command.rate
        return f"the rate is {command.rate}"

    def on_train_batch_end(self, *_: Any) -> None:
        if self.page.ident is None:
            self.page.start()


def test_a_run_does_what_the_page_asks_and_the_page_has_each_answer(tmp_path: Path) -> None:
    answers: list[dict[str, Any]] = []
    fit = trainer(tmp_path, max_epochs=1_000_000, control=True)
    module = Steered()

    def page() -> None:
        assert fit.run_folder is not None
        board, key = SteeringBoard(fit.run_folder.path.parent), fit.run_folder.path.name
        name = "tests.SetRateFromPage"
        for wish in (
            {"verb": "pause"},
            {"verb": "status"},
            {"verb": "resume"},
            {"command": name, "to": "module", "fields": {"rate": 0.5}},
            {"command": name, "to": "module", "fields": {"rate": "<b>"}},
            {"verb": "stop", "reason": "seen enough"},
        ):
            answers.append(board.wish(key, **wish).json())

    module.page = threading.Thread(target=page)
    fit.fit(module, loader())
    module.page.join()

    assert [answer["kind"] for answer in answers] == ["done"] * 4 + ["refused", "done"]
    assert answers[0]["said"] == "the run holds here, until resume or stop"
    assert answers[1]["status"]["paused"]
    assert answers[3]["said"] == "the rate is 0.5"
    assert "the fields do not fit" in answers[4]["said"]
    assert (module.rate, fit.stop_reason) == (0.5, "seen enough")
