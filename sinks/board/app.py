"""The board's routes: what may be asked, and what is answered."""

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, get_args

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ...bus.errors import NightbusError, UsageError
from .answers import (
    MAX_ROWS,
    UNREADABLE,
    metrics_answer,
    names_answer,
    open_folder,
    plain,
    run_answer,
    table_answer,
)
from .live import SLICE_S, Live
from .page_files import PageFile
from .series_cache import Picture, SeriesCache, XAxis
from .shelf import Shelf, UnknownRunError

MAX_RUNS = 100  # of one question
MAX_STRETCHES = 1_000  # of a picture
MAX_SMOOTHING = 0.999
_THREADS = 2

Ask = Callable[[Request], Awaitable[Response]]


class BoardApp:
    """The application, without its guard.

    Args:
        shelf: the runs.
        page: path -> file of the built page.
    """

    def __init__(self, shelf: Shelf, page: dict[str, PageFile]) -> None:
        self._shelf, self._page = shelf, page
        self._cache = SeriesCache()
        self._limiter = trio.CapacityLimiter(_THREADS)
        self.live = Live(shelf, self._cache)
        routes = {
            "/api/table": self._table,
            "/api/names": self._names,
            "/api/run/{key}": self._run,
            "/api/metrics": self._metrics,
            "/api/curves": self._curves,
        }
        self.starlette = Starlette(
            routes=[
                Route("/api/live", self._live),
                *(Route(path, self._answering(ask)) for path, ask in routes.items()),
                Route("/{path:path}", self._file),
            ]
        )

    def _answering(self, ask: Callable[[Request], bytes]) -> Ask:
        """Return a route that answers in a thread, and says what is wrong with a question."""

        async def answer(request: Request) -> Response:
            is_curves = request.url.path.endswith("/curves")
            media_type = "application/octet-stream" if is_curves else "application/json"
            try:
                body = await trio.to_thread.run_sync(ask, request, limiter=self._limiter)
            except UnknownRunError as error:
                return _problem(404, error)
            except UsageError as error:
                return _problem(400, error)
            except (NightbusError, OSError) as error:
                return _problem(409, error)
            return Response(body, media_type=media_type)

        return answer

    # -- questions, each answered in a thread ------------------------------------------------

    def _table(self, request: Request) -> bytes:
        asked = request.query_params
        first = _whole(request, "offset", 0, 10_000_000)
        number = _whole(request, "limit", 100, MAX_ROWS)
        answer = table_answer(
            self._shelf.table(),
            asked.get("where", ""),
            asked.get("sort", ""),
            asked.get("reverse") == "1",
            asked.getlist("column"),
            range(first, first + number),
        )
        return msgspec.json.encode({"root": plain(str(self._shelf.root)), **answer})

    def _names(self, request: Request) -> bytes:
        return msgspec.json.encode(names_answer(self._shelf.table()))

    def _metrics(self, request: Request) -> bytes:
        return msgspec.json.encode(metrics_answer([self._shelf.run(key) for key in _keys(request)]))

    def _run(self, request: Request) -> bytes:
        key = request.path_params["key"]
        run = self._shelf.run(key)
        folder = open_folder(run)
        series, _ = self._cache.read_on(key, folder, SLICE_S)
        return msgspec.json.encode(run_answer(run, folder, series))

    def _curves(self, request: Request) -> bytes:
        metric = request.query_params.get("metric", "")
        x: XAxis = _one_of(request, "x", get_args(XAxis))
        span = _number(request, "from", -math.inf), _number(request, "to", math.inf)
        stretches = max(_whole(request, "stretches", 250, MAX_STRETCHES), 1)
        weight = min(max(_number(request, "smooth", 0.0), 0.0), MAX_SMOOTHING)
        entries: list[dict[str, Any]] = []
        arrays = []
        for key in _keys(request):
            run = self._shelf.run(key)
            try:
                series, _ = self._cache.read_on(key, open_folder(run), SLICE_S)
            except UNREADABLE as error:
                entries.append({"key": key, "points": 0, "problem": plain(str(error))})
                continue
            state = {"key": key, "is_read": series.is_read, "problem": plain(series.problem)}
            for each in dict.fromkeys((0.0, weight)):
                picture = series.picture(metric, x, *span, stretches, each)
                if picture is None:
                    entries.append({**state, "points": 0})
                    break
                entries.append({**state, **_head(picture), "is_smooth": each > 0})
                arrays += [picture.x, picture.y]
        head = msgspec.json.encode({"runs": entries})
        head += b" " * (-(4 + len(head)) % 8)  # so that the numbers are aligned
        parts = [len(head).to_bytes(4, "little"), head, *(each.tobytes() for each in arrays)]
        return b"".join(parts)

    # -- others ------------------------------------------------------------------------------

    async def _live(self, request: Request) -> Response:
        try:
            keys = _keys(request)
        except UsageError as error:
            return _problem(400, error)
        return StreamingResponse(self.live.events(keys), media_type="text/event-stream")

    async def _file(self, request: Request) -> Response:
        if (file := self._page.get(request.url.path)) is None:
            return Response("there is nothing here", 404, media_type="text/plain")
        return Response(file.content, media_type=file.media_type)


def _head(picture: Picture) -> dict[str, Any]:
    return {
        "points": len(picture.x),
        "values": picture.values,
        "is_exact": picture.is_exact,
    }


def _problem(status: int, error: Exception) -> Response:
    body = msgspec.json.encode({"problem": plain(str(error))})
    return Response(body, status, media_type="application/json")


def _keys(request: Request) -> list[str]:
    keys = list(dict.fromkeys(request.query_params.getlist("run")))
    if len(keys) > MAX_RUNS:
        raise UsageError(f"{len(keys)} runs were asked for; at most {MAX_RUNS} can be at once")
    return keys


def _number(request: Request, name: str, otherwise: float) -> float:
    given = request.query_params.get(name, "")
    with suppress(ValueError):
        value = float(given) if given else otherwise
        if value == value:
            return value
    raise UsageError(f"{name}={given[:80]!r}: expected a number")


def _whole(request: Request, name: str, otherwise: int, most: int) -> int:
    value = _number(request, name, otherwise)
    if not value >= 0:
        raise UsageError(f"{name}={value:g}: expected 0 or more")
    return int(min(value, most))


def _one_of(request: Request, name: str, names: Sequence[str]) -> Any:
    given = request.query_params.get(name, names[0])
    if given not in names:
        raise UsageError(f"{name}={given[:80]!r}: expected {', '.join(names)}")
    return given
