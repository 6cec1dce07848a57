"""Images, figures, histograms, texts and tables of runs: which there are, and one as what it is."""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

from ...bus.errors import MALFORMED, NightbusError
from ...bus.events import Media
from ...bus.media import decoded
from ...bus.runs.cursor import Position, RunReader
from ...bus.runs.lineage import consistent_logs
from ...bus.runs.run_folder import RunFolder
from .answers import UNREADABLE, open_folder
from .asked import keys_of, whole_of
from .plain_values import plain
from .series_cache import SLICE_S, Medium, SeriesCache
from .shelf import Shelf

if TYPE_CHECKING:  # an export needs no server
    from starlette.requests import Request
    from starlette.responses import Response

MAX_KEPT_BYTES = 16 << 20
MAX_HISTOGRAMS = 100  # of one question
MAX_ROWS, MAX_COLUMNS = 500, 50  # of a table
_PICTURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}


class NotShownError(NightbusError):
    """What was recorded is not what its kind says, so that it is not shown."""


class MediaQuestions:
    """Answers about media. What was recorded is looked up by run and number, never by a path.

    Args:
        shelf: the runs.
        cache: what was read of them.
    """

    def __init__(self, shelf: Shelf, cache: SeriesCache) -> None:
        self._shelf, self._cache = shelf, cache
        self._kept: OrderedDict[tuple[str, Position], Media] = OrderedDict()
        self._lock = threading.Lock()

    def index(self, request: "Request") -> bytes:
        """Answer what runs have: of each name its kind, and where each is.

        Args:
            request: the question.

        Raises:
            UsageError: there are too many runs.
            UnknownRunError: there is no such run.
        """
        runs: dict[str, Any] = {}
        for key in keys_of(request):
            run = self._shelf.run(key)
            try:
                series, _ = self._cache.read_on(key, open_folder(run), SLICE_S)
            except UNREADABLE as error:
                runs[key] = {"is_read": True, "problem": plain(str(error)), "names": []}
                continue
            names = [named(name, items) for name, items in series.media().items()]
            runs[key] = {
                "is_read": series.is_read,
                "problem": plain(series.problem),
                "names": names,
            }
        return msgspec.json.encode({"runs": runs})

    def medium(self, request: "Request") -> "Response":
        """Answer with one: bytes of a picture, or JSON of anything else.

        Args:
            request: the question.

        Raises:
            UsageError: it is wrong.
            UnknownRunError: there is no such run.
            NotShownError: there is no such medium, or it is not what its kind says.
        """
        from starlette.responses import Response

        position = Position(*(whole_of(request, each, 0, 1 << 62) for each in ("attempt", "seq")))
        key = request.path_params["key"]
        folder = open_folder(self._shelf.run(key))
        event = self._read(key, folder, [position])[0]
        if event.kind in ("image", "figure"):
            return Response(event.data, media_type=picture_type(event.data))
        return Response(msgspec.json.encode(shown(event)), media_type="application/json")

    def histograms(self, request: "Request") -> bytes:
        """Answer with histograms of one name over steps, evenly many of them.

        Args:
            request: the question.

        Raises:
            UsageError: it is wrong.
            UnknownRunError: there is no such run.
        """
        key, name = request.path_params["key"], request.query_params.get("name", "")
        most = max(whole_of(request, "most", 60, MAX_HISTOGRAMS), 2)
        folder = open_folder(self._shelf.run(key))
        series, _ = self._cache.read_on(key, folder, SLICE_S)
        items = series.media().get(name, [])
        chosen = evenly([each for each in items if each.kind == "histogram"], most)
        events = self._read(key, folder, [each.position for each in chosen])
        found = [histogram(event) for event in events]
        answer = {"all": len(items), "is_read": series.is_read, "histograms": found}
        return msgspec.json.encode(answer)

    def _read(self, key: str, folder: RunFolder, positions: Sequence[Position]) -> list[Media]:
        """Return media of a run by their places, those asked for last from memory."""
        found = []
        for position in positions:
            with self._lock:
                event = self._kept.get((key, position))
                if event is not None:
                    self._kept.move_to_end((key, position))
            found.append(event or self._keep((key, position), read_medium(folder, position)))
        return found

    def _keep(self, place: tuple[str, Position], event: Media) -> Media:
        with self._lock:
            self._kept[place] = event
            size = sum(len(each.data) for each in self._kept.values())
            while size > MAX_KEPT_BYTES:
                size -= len(self._kept.popitem(last=False)[1].data)
        return event


def named(name: str, items: Sequence[Medium]) -> dict[str, Any]:
    """Return what the page is told of the media of one name.

    Args:
        name: the name.
        items: where each is.
    """
    return {
        "name": plain(name),
        "kind": items[0].kind,
        "steps": [each.step for each in items],
        "epochs": [each.epoch for each in items],
        "times": [round(each.time_s, 3) for each in items],
        "places": [each.position for each in items],
    }


def read_medium(folder: RunFolder, position: Position) -> Media:
    """Return what was recorded at a place.

    Args:
        folder: the run's.
        position: the place.

    Raises:
        NotShownError: there is none.
        LogError: the log cannot be read there.
    """
    reader = RunReader(consistent_logs(folder), position)
    try:
        for event in reader.read("none", 1):
            if type(event) is Media and (reader.position.attempt, event.seq) == position:
                return event
    finally:
        reader.close()
    raise NotShownError(
        f"event {position.seq} of attempt {position.attempt} is no image, histogram or the like"
    )


def picture_type(data: bytes) -> str:
    """Return the type of a picture, by its first bytes: what it calls itself does not count.

    Args:
        data: the picture.

    Raises:
        NotShownError: it is none that a page may show; SVG may hold programs.
    """
    for beginning, kind in _PICTURES.items():
        if data.startswith(beginning):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise NotShownError(
        f"what was recorded as a picture, {len(data):,} bytes, is no PNG, JPEG, GIF or WebP; "
        "nb.open_run(...).media has its bytes"
    )


def shown(event: Media) -> dict[str, Any]:
    """Return a text, table or histogram as plain data, and how much of it there is.

    Args:
        event: what was recorded.

    Raises:
        NotShownError: it is not what its kind says.
    """
    try:
        value = decoded(event)
    except (ValueError, RecursionError) as error:
        raise NotShownError(f"this {event.kind} cannot be read: {error}") from error
    if event.kind == "text":
        return {"text": plain(value), "length": len(value)}
    if event.kind == "histogram":
        return histogram(event)
    try:
        columns, rows = list(value["columns"]), list(value["rows"])
        part = [list(row)[:MAX_COLUMNS] for row in rows[:MAX_ROWS]]
    except (KeyError, TypeError) as error:
        raise NotShownError("this table has no columns and rows") from error
    titles = [plain(str(column)) for column in columns[:MAX_COLUMNS]]
    return {"columns": titles, "rows": plain(part), "length": len(rows), "width": len(columns)}


def histogram(event: Media) -> dict[str, Any]:
    """Return a histogram: its edges and counts, or why it is none.

    Args:
        event: what was recorded.
    """
    place = {"step": event.step, "epoch": event.epoch}
    try:
        value = msgspec.json.decode(event.data, type=_Histogram)
    except (*MALFORMED, json.JSONDecodeError) as error:
        return {**place, "edges": [], "counts": [], "problem": plain(str(error))}
    edges, counts = value.edges, value.counts
    is_one = len(edges) == len(counts) + 1 and all(a <= b for a, b in pairwise(edges))
    if not counts or not is_one or min(counts) < 0 or not all(map(isfinite, edges + counts)):
        said = "its edges do not ascend, or are not one more than its counts, or are not finite"
        return {**place, "edges": [], "counts": [], "problem": said}
    return {**place, "edges": edges, "counts": counts, "problem": ""}


class _Histogram(msgspec.Struct):
    edges: list[float]
    counts: list[float]


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """Return some of many, the first and the last among them.

    Args:
        items: all.
        most: how many, 2 or more.
    """
    if len(items) <= most:
        return list(items)
    return [items[round(at * (len(items) - 1) / (most - 1))] for at in range(most)]
