"""The board's routes: what may be asked, and what is answered."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, cast

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ...bus.errors import NightbusError, UsageError
from .answers import (
    MAX_ROWS,
    metrics_answer,
    names_answer,
    open_folder,
    run_answer,
    table_answer,
)
from .asked import keys_of, whole_of
from .columns import MAX_NAMES, columns_answer
from .compared import CompareQuestions
from .curves import CurveQuestions
from .kept_answers import KeptAnswers
from .live import Live
from .media import MediaQuestions
from .moments import MomentQuestions
from .page_files import PageFile
from .plain_values import plain
from .series_cache import SLICE_S, SeriesCache
from .shelf import Shelf, Table, UnknownRunError
from .sparklines import Sparklines
from .steering import MAX_BODY_BYTES, Steering

JSON, NUMBERS = "application/json", "application/octet-stream"
_THREADS = 2
_STEERING_THREADS = 8

Ask = Callable[[Request], Awaitable[Response]]
Question = Callable[[Request], bytes | Response]


class _Events(StreamingResponse):
    """Events for a page, which end with its connection, wherever they are then."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(cast("AsyncGenerator[bytes, None]", self.body_iterator)):
            await super().__call__(scope, receive, send)


class BoardApp:
    """The application, without its guard.

    Args:
        shelf: the runs.
        page: path -> file of the built page.
        steering: steers runs; None if pages may only read.
    """

    def __init__(
        self, shelf: Shelf, page: dict[str, PageFile], steering: Steering | None = None
    ) -> None:
        self._shelf, self._page, self._steering = shelf, page, steering
        self._cache = SeriesCache()
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._sparks = Sparklines(self._cache)
        self._kept = KeptAnswers()
        self.numbers = CurveQuestions(shelf, self._cache)
        self._steering_limiter = trio.CapacityLimiter(_STEERING_THREADS)
        self.live = Live(shelf, self._cache)
        routes: dict[str, Question] = {
            "/api/table": self._table,
            "/api/names": self._names,
            "/api/run/{key}": self._run,
            "/api/metrics": self._metrics,
            "/api/columns": self._columns,
            "/api/sparklines": self._sparklines,
            "/api/steering": self._offer,
        }
        media, compared = MediaQuestions(shelf, self._cache), CompareQuestions(shelf)
        routes |= {
            "/api/media": media.index,
            "/api/medium/{key}": media.medium,
            "/api/histograms/{key}": media.histograms,
            "/api/compare": compared.compare,
        }
        moments = MomentQuestions(shelf, self._cache)
        routes |= {"/api/history/{key}": moments.history, "/api/moment/{key}": moments.moment}
        first = self._answering(compared.first_difference, comparing=trio.CapacityLimiter(1))
        numbers = {"/api/curves": self.numbers.curves, "/api/bands": self.numbers.bands}
        self.starlette = Starlette(
            routes=[
                Route("/api/live", self._live),
                Route("/api/first-difference", first),
                Route("/api/steer/{key}", self._steer, methods=["POST"]),
                *(Route(path, self._answering(ask)) for path, ask in routes.items()),
                *(Route(path, self._answering(ask, NUMBERS)) for path, ask in numbers.items()),
                Route("/{path:path}", self._file),
            ]
        )

    def _answering(
        self, ask: Question, media_type: str = JSON, comparing: trio.CapacityLimiter | None = None
    ) -> Ask:
        """Return a route that answers in a thread, and says what is wrong with a question.

        Args:
            ask: the question.
            media_type: of the answer.
            comparing: for what takes long and only reads, so that a board that ends does not wait.
        """

        async def answer(request: Request) -> Response:
            try:
                found = await trio.to_thread.run_sync(
                    ask,
                    request,
                    limiter=comparing or self._limiter,
                    abandon_on_cancel=comparing is not None,
                )
            except (NightbusError, OSError) as error:
                return _problem(_status_of(error), error)
            if isinstance(found, Response):
                return found
            return Response(found, media_type=media_type)

        return answer

    # -- questions, each answered in a thread ------------------------------------------------

    def _table(self, request: Request) -> bytes:
        asked = request.query_params
        first = whole_of(request, "offset", 0, 10_000_000)
        number = whole_of(request, "limit", 100, MAX_ROWS)
        table = self._known_table() if asked.get("listens") == "1" else self._shelf.table()

        def rows() -> bytes:
            answer = table_answer(
                table,
                asked.get("where", ""),
                asked.get("sort", ""),
                asked.get("reverse") == "1",
                asked.getlist("column"),
                range(first, first + number),
                asked.get("group", ""),
            )
            choice = self._shelf.choice(asked.get("where", ""))
            shown = {"root": plain(str(self._shelf.root)), "choice": plain(choice)}
            return msgspec.json.encode(shown | answer)

        return self._kept.answer(table, f"table?{asked}", rows)

    def _known_table(self) -> Table:
        """Return the runs as they were read last, for a page that is told what has changed."""
        if self.live.is_gone or self._shelf.known.number == 0:
            return self._shelf.table()
        trio.from_thread.run_sync(self.live.look)
        return self._shelf.known

    def _names(self, request: Request) -> bytes:
        table = self._shelf.table()
        return self._kept.answer(table, "names", lambda: msgspec.json.encode(names_answer(table)))

    def _offer(self, request: Request) -> bytes:
        return msgspec.json.encode(None if self._steering is None else self._steering.offer())

    def _metrics(self, request: Request) -> bytes:
        runs = [self._shelf.run(key) for key in keys_of(request)]
        return msgspec.json.encode(metrics_answer(runs))

    def _run(self, request: Request) -> bytes:
        key = request.path_params["key"]
        run = self._shelf.run(key)
        folder = open_folder(run)
        series, _ = self._cache.read_on(key, folder, SLICE_S)
        return msgspec.json.encode(run_answer(run, folder, series))

    def _columns(self, request: Request) -> bytes:
        asked = request.query_params
        table, names = self._shelf.table(), asked.getlist("name")
        return msgspec.json.encode(
            columns_answer(table, names[:MAX_NAMES], asked.get("where", ""), keys_of(request))
        )

    def _sparklines(self, request: Request) -> bytes:
        runs = [self._shelf.run(key) for key in keys_of(request)]
        metric = request.query_params.get("metric", "")
        return msgspec.json.encode({"runs": self._sparks.answer(runs, metric, SLICE_S)})

    # -- others ------------------------------------------------------------------------------

    async def _live(self, request: Request) -> Response:
        try:
            keys = keys_of(request)
        except UsageError as error:
            return _problem(400, error)
        return _Events(self.live.events(keys), media_type="text/event-stream")

    async def _steer(self, request: Request) -> Response:
        """Pass on a wish; the run may take its time, so it does not hold up what others ask."""
        steering = self._steering
        assert steering is not None  # the guard passes on none
        body = b""
        async with aclosing(request.stream()) as parts:
            async for part in parts:
                body += part
                if len(body) > MAX_BODY_BYTES:
                    said = f"the wish is longer than {MAX_BODY_BYTES} bytes"
                    return _problem(413, UsageError(said))

        def pass_on() -> dict[str, Any]:
            return steering.pass_on(self._shelf.run(request.path_params["key"]), body)

        try:
            answer = await trio.to_thread.run_sync(
                pass_on, limiter=self._steering_limiter, abandon_on_cancel=True
            )
        except (NightbusError, OSError) as error:
            return _problem(_status_of(error), error)
        return Response(msgspec.json.encode(answer), media_type="application/json")

    async def _file(self, request: Request) -> Response:
        if (file := self._page.get(request.url.path)) is None:
            return Response("there is nothing here", 404, media_type="text/plain")
        return Response(file.content, media_type=file.media_type)


def _status_of(error: Exception) -> int:
    if isinstance(error, UnknownRunError):
        return 404
    return 400 if isinstance(error, UsageError) else 409


def _problem(status: int, error: Exception) -> Response:
    body = msgspec.json.encode({"problem": plain(str(error))})
    return Response(body, status, media_type="application/json")
