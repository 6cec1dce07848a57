"""What a page is told of runs that go on, without a server between."""

import gc
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
from board_asked import PAGE, begun, put, recorded

from nightbus.sinks.board.app import BoardApp
from nightbus.sinks.board.live import Live
from nightbus.sinks.board.series_cache import SeriesCache
from nightbus.sinks.board.shelf import Shelf


async def next_of(told: AsyncGenerator[bytes, None]) -> Any:
    """What a page is told next."""
    with trio.fail_after(60):
        async for line in told:
            if line.startswith(b"data: "):
                return json.loads(line[6:])
    raise AssertionError("nothing more is told")


async def test_a_row_s_last_values_are_told_before_the_table_is_read_again(tmp_path: Path) -> None:
    run, attempt = begun(tmp_path, {})
    key = run.path.name
    shelf = Shelf(tmp_path)
    live = Live(shelf, SeriesCache())
    async with trio.open_nursery() as nursery, aclosing(live.events([key])) as told:
        nursery.start_soon(live.watch)
        await next_of(told)
        number = shelf.table().number
        put(attempt, "loss", 2.0, float("nan"))
        put(attempt, "accuracy", 0.5)

        said = await next_of(told)
        while said["latest"][key][2].keys() != {"loss", "accuracy"}:
            said = await next_of(told)

        assert said["latest"][key] == [0, 0, {"loss": "NaN", "accuracy": 0.5}]
        assert shelf.table().number == number
        attempt.end()
        while said["runs"][key][1] == "running":
            said = await next_of(told)
        assert (said["runs"][key], key in said["latest"]) == ([3, "completed"], False)
        nursery.cancel_scope.cancel()


async def test_what_has_not_changed_is_not_told_again(tmp_path: Path) -> None:
    still, its_attempt = begun(tmp_path, {})
    moving, attempt = begun(tmp_path, {})
    put(its_attempt, "loss", 1.0)
    live = Live(Shelf(tmp_path), SeriesCache())
    async with (
        trio.open_nursery() as nursery,
        aclosing(live.events([still.path.name, moving.path.name])) as told,
    ):
        nursery.start_soon(live.watch)
        said = await next_of(told)
        put(attempt, "loss", 2.0)
        while moving.path.name not in said["latest"] or not said["latest"][moving.path.name][2]:
            said = await next_of(told)

        assert [*said["latest"]] == [moving.path.name]
        nursery.cancel_scope.cancel()
    its_attempt.abandon()
    attempt.abandon()


async def test_a_page_that_goes_while_it_is_told_something_is_followed_no_longer(
    tmp_path: Path,
) -> None:
    board = BoardApp(Shelf(tmp_path), PAGE)
    scope = {"type": "http", "method": "GET", "path": "/api/live", "query_string": b""}
    scope |= {"headers": [], "asgi": {"spec_version": "2.1"}}  # type: ignore[dict-item]
    async with trio.open_nursery() as nursery:

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                nursery.cancel_scope.cancel()
                await trio.sleep_forever()

        nursery.start_soon(board.starlette, scope, trio.sleep_forever, send)

    gc.collect()  # what was not closed is complained of here


async def test_a_page_that_opens_gets_the_table_as_it_is_known_which_is_read_again_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightbus.sinks.board.shelf._KEPT_S", 0.0)
    monkeypatch.setattr("nightbus.sinks.board.shelf._COSTS", 0)
    recorded(tmp_path, 0.1, 1.0)
    board = BoardApp(Shelf(tmp_path), PAGE)

    async def rows(query: bytes = b"listens=1") -> int:
        answer: list[bytes] = []

        async def send(message: Any) -> None:
            answer.append(message.get("body", b""))

        scope = {"type": "http", "method": "GET", "path": "/api/table", "query_string": query}
        await board.starlette(scope | {"headers": []}, trio.sleep_forever, send)
        return len(json.loads(b"".join(answer))["rows"])

    assert await rows() == 1
    recorded(tmp_path, 0.2, 2.0)
    assert await rows() == 1
    assert await rows(b"") == 2  # for a program, which is told nothing
    recorded(tmp_path, 0.3, 2.0)
    assert await rows() == 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.live.watch)
        with trio.fail_after(60):
            while await rows() == 2:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


def test_a_table_with_values_that_are_no_number_changes_only_when_a_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightbus.sinks.board.shelf._KEPT_S", 0.0)
    monkeypatch.setattr("nightbus.sinks.board.shelf._COSTS", 0)
    recorded(tmp_path, 0.1, 1.0, float("nan"))
    shelf = Shelf(tmp_path)
    first = shelf.table().number

    assert [shelf.table().number for _ in range(3)] == [first] * 3
    recorded(tmp_path, 0.2, float("nan"))
    assert shelf.table().number == first + 1
