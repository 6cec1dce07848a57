"""Who may ask the board, what a browser is told with each answer, and names as a stranger's."""

import hmac
import os
import random
import re
import socket
from pathlib import Path

import pytest
from board_asked import PAGE, TOKEN, Asked, begun, put, recorded
from hostile import (
    LOG,
    STRANGE_NAMES,
    STRANGE_NUMBERS,
    make_run,
    mutate,
    mutate_inside,
    mutate_json,
)

import nightbus as nb
from nightbus.sinks.board.address import address_of, listening, new_token, place_of
from nightbus.sinks.board.export import exported
from nightbus.sinks.board.guard import Guard
from nightbus.sinks.board.shelf import Shelf

HOSTILE_TEXT = "</script><img src=x onerror=alert(1)><!-- ${1} & \"' --> <script>"
BEARER = f"Bearer {TOKEN}"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get"])
def test_nothing_but_reading_is_possible(tmp_path: Path, method: str) -> None:
    recorded(tmp_path, 0.1, 0.5)

    answer = Asked(tmp_path).get("/api/table", method=method)

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7979", "127.0.0.1.evil.example", "192.0.2.7", ""]
)
@pytest.mark.parametrize("path", ["/", "/page.js", "/api/table"])
def test_a_name_that_a_stranger_lets_lead_here_is_refused(
    tmp_path: Path, host: str, path: str
) -> None:
    assert Asked(tmp_path).get(path, headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("number", [0, 2])
def test_a_request_has_one_host(tmp_path: Path, number: int) -> None:
    headers = [("Authorization", BEARER), *[("Host", "127.0.0.1:7979")] * number]

    assert Asked(tmp_path).get("/api/names", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:7979", "localhost:8000", "[::1]:7979", "LOCALHOST"])
def test_this_machine_may_be_called_by_its_own_names_whatever_the_port(
    tmp_path: Path, host: str
) -> None:
    recorded(tmp_path, 0.1, 0.5)

    assert Asked(tmp_path).get("/api/names", headers={"Host": host}).status_code == 200


def test_on_another_address_any_address_may_be_asked_for_but_no_stranger_s_name(
    tmp_path: Path,
) -> None:
    recorded(tmp_path, 0.1, 0.5)
    board = Asked(tmp_path, host="0.0.0.0")

    found = [
        board.get("/api/names", headers={"Host": host}).status_code
        for host in ("192.0.2.7:7979", "[2001:db8::7]:7979", "evil.example")
    ]

    assert found == [200, 200, 403]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:7979"},
        {"Origin": "http://127.0.0.1:80"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_page_may_not_ask(tmp_path: Path, headers: dict[str, str]) -> None:
    answer = Asked(tmp_path).get("/api/table", headers=headers)

    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer wrong", f"bearer {TOKEN}", f"Bearer {TOKEN}x", f"Basic {TOKEN}"]
)
@pytest.mark.parametrize("path", ["/api/table", "/api/live", "/api/run/x", "/api/nothing"])
def test_without_the_token_nothing_is_said_of_any_run(
    tmp_path: Path, given: str, path: str
) -> None:
    recorded(tmp_path, 0.1, 0.5)

    assert Asked(tmp_path).get(path, headers={"Authorization": given}).status_code == 401


def test_a_token_has_128_bits_and_is_in_the_part_of_the_address_that_is_never_sent() -> None:
    tokens = {new_token() for _ in range(100)}
    with listening("127.0.0.1", 0) as listener:
        address = address_of(listener, "127.0.0.1", "secret")

    assert (len(tokens), {len(token) for token in tokens}) == (100, {22})  # of 6 bits each
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=secret", address)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_the_address_of_a_board_that_listens_everywhere_can_be_opened_elsewhere(host: str) -> None:
    with listening("127.0.0.1", 0) as listener:
        address = address_of(listener, host, "secret")

    assert address.startswith(f"http://{socket.gethostname()}:")


def test_by_default_only_this_machine_can_reach_it() -> None:
    with listening("127.0.0.1", None) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_whoever_knows_the_token_can_have_the_board_prove_that_it_knows_it(
    tmp_path: Path,
) -> None:
    nonce = "0123456789abcdef" * 2
    place = "here 127.0.0.1 7979"

    said = Asked(tmp_path, place=place).get(
        f"/api/proof?nonce={nonce}", headers=[("Host", "127.0.0.1:7979")]
    )

    expected = hmac.digest(TOKEN.encode(), f"{place}\n{nonce}".encode(), "sha256").hex()
    assert (said.status_code, said.json()) == (200, {"place": place, "proof": expected})
    assert TOKEN not in said.text


@pytest.mark.parametrize("query", ["", "nonce=", "nonce=ab", f"nonce={'a' * 33}", "nonce=%0a"])
def test_nothing_but_random_digits_is_proved(tmp_path: Path, query: str) -> None:
    assert Asked(tmp_path).get(f"/api/proof?{query}").status_code == 400


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_nothing_is_proved_to_another_page(tmp_path: Path, headers: dict[str, str]) -> None:
    path = f"/api/proof?nonce={'a' * 32}"

    assert Asked(tmp_path).get(path, headers=headers).status_code == 403


def test_no_two_boards_listen_in_one_place() -> None:
    with listening("127.0.0.1", 0) as one, listening("127.0.0.1", 0) as other:
        assert place_of(one) == place_of(one) != place_of(other)


async def test_it_speaks_no_websockets() -> None:
    sent = []

    async def send(message: object) -> None:
        sent.append(message)

    async def nothing(*_: object) -> None:
        raise AssertionError("it was passed on")

    await Guard(nothing, TOKEN, "127.0.0.1")({"type": "websocket"}, nothing, send)  # type: ignore[arg-type]

    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/missing", "/api/table", "/api/x"])
def test_each_answer_tells_the_browser_to_load_nothing_else_and_to_guess_no_type(
    tmp_path: Path, path: str
) -> None:
    recorded(tmp_path, 0.1, 0.5)

    headers = Asked(tmp_path).get(path).headers

    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%252e%252e/etc/passwd",
        "/page.js/../../run.json",
        "//etc/passwd",
        "/\0",
        "/page.js%00.html",
        "/.git/config",
    ],
)
def test_no_path_leads_to_a_file_that_is_not_of_the_page(tmp_path: Path, path: str) -> None:
    assert Asked(tmp_path).get(path).status_code == 404


@pytest.mark.parametrize("key", ["..%2f..%2fetc", "%2fetc", "..", "a%00b", "%252e%252e", "x" * 500])
def test_no_key_leads_out_of_the_folder_of_runs(tmp_path: Path, key: str) -> None:
    recorded(tmp_path / "inner", 0.1, 0.5)
    recorded(tmp_path, 0.1, 0.5)
    board = Asked(tmp_path / "inner")

    assert board.get(f"/api/run/{key}").status_code == 404
    assert board.get(f"/api/curves?metric=loss&run={key}").status_code == 404


def test_a_checkpoint_that_leads_out_of_the_run_is_not_looked_at(tmp_path: Path) -> None:
    run, attempt = begun(tmp_path, {})
    attempt.add(nb.CheckpointSaved, "link/passwd", "digest", 1)
    attempt.add(nb.CheckpointSaved, "/etc/passwd", "digest", 1)
    attempt.add(nb.CheckpointSaved, "a\0b", "digest", 1)
    attempt.end()
    os.symlink("/etc", run.path / "link")

    about = Asked(tmp_path).said(f"/api/run/{run.path.name}")

    assert [each["is_there"] for each in about["checkpoints"]] == [False, False, False]


def test_names_and_numbers_of_a_stranger_come_as_they_are_and_as_json(tmp_path: Path) -> None:
    names = [*dict.fromkeys(STRANGE_NAMES), HOSTILE_TEXT]
    run, attempt = begun(tmp_path, {HOSTILE_TEXT: HOSTILE_TEXT, "big": (1 << 63) - 1})
    for name in names:
        put(attempt, name, *STRANGE_NUMBERS)
    attempt.end()
    board = Asked(tmp_path)
    key = run.path.name

    answer = board.get("/api/table")
    about = board.said(f"/api/run/{key}")

    assert answer.headers["content-type"] == "application/json"
    assert about["hparams"] == {HOSTILE_TEXT: HOSTILE_TEXT, "big": str((1 << 63) - 1)}
    assert {*names} <= {*board.said("/api/metrics", run=key)}
    for name in names:
        curve = board.curves(name, key)[0]
        assert curve["points"] == len(STRANGE_NUMBERS)


def test_nothing_of_a_stranger_s_run_becomes_html_in_a_file(tmp_path: Path) -> None:
    run, attempt = begun(tmp_path, {HOSTILE_TEXT: HOSTILE_TEXT})
    put(attempt, HOSTILE_TEXT, 1.0)
    attempt.end()

    page = exported(Shelf(tmp_path), PAGE).decode()

    assert run.path.name in page
    assert "<img" not in page
    assert page.count("<script") == page.count("</script>") == 2


def test_hostile_runs_are_answered_with_what_is_wrong_and_never_fail(tmp_path: Path) -> None:
    chance = random.Random(7)
    sample = make_run(tmp_path / "runs", steps=4)
    log, info = (sample.path / LOG).read_bytes(), (sample.path / "run.json").read_bytes()
    board = Asked(tmp_path)
    for _ in range(20):
        (sample.path / LOG).write_bytes(chance.choice((mutate, mutate_inside))(log, chance))
        (sample.path / "run.json").write_bytes(
            mutate_json(info, chance) if chance.random() < 0.5 else info
        )
        board = Asked(tmp_path)
        for path in ("/api/table", "/api/names", f"/api/run/{sample.path.name}"):
            assert board.get(path).status_code in (200, 409), path
        for metric in board.said("/api/metrics", run=sample.path.name):
            board.curves(metric, sample.path.name)
