"""Answers of numbers: curves of runs, and bands of groups of runs."""

import math
from collections.abc import Sequence
from typing import Any, get_args

import msgspec
from starlette.requests import Request

from ...bus.errors import UsageError
from ...bus.runs.run_folder import RunFolder
from .answers import UNREADABLE, open_folder
from .asked import keys_of, number_of, one_of, whole_of
from .bands import Points, band
from .exact_parts import ExactParts
from .plain_values import plain
from .series_cache import SLICE_S, Picture, RunSeries, SeriesCache, XAxis, axis_of
from .shelf import Shelf
from .thinning import Numbers

MAX_STRETCHES = 1_000  # of a picture
MAX_SMOOTHING = 0.999


class CurveQuestions:
    """Answers in numbers, the head of which says what they are.

    Args:
        shelf: the runs.
        cache: their metrics.
    """

    def __init__(self, shelf: Shelf, cache: SeriesCache) -> None:
        self._shelf, self._cache = shelf, cache
        self.parts = ExactParts()

    def curves(self, request: Request) -> bytes:
        """Answer with the curves of a metric, of each run by itself.

        Args:
            request: the question.

        Raises:
            UsageError: it is wrong.
            UnknownRunError: there is no such run.
        """
        entries: list[dict[str, Any]] = []
        arrays: list[Numbers] = []
        asked = _Asked(request)
        for key in keys_of(request):
            run = self._shelf.run(key)
            try:
                folder = open_folder(run)
                series, _ = self._cache.read_on(key, folder, SLICE_S)
                pictures, is_read = self._pictures(key, folder, series, asked)
            except UNREADABLE as error:
                entries.append({"key": key, "points": 0, "problem": plain(str(error))})
                continue
            state = {"key": key, "is_read": is_read, "problem": plain(series.problem)}
            state["marks"] = _marks(series, asked.x)
            for weight, picture in zip(asked.weights, pictures, strict=False):
                entries.append({**state, **_head(picture), "is_smooth": weight > 0})
                arrays += [picture.x, picture.y]
            if not pictures:
                entries.append({**state, "points": 0})
        return _packed(entries, arrays)

    def _pictures(
        self, key: str, folder: RunFolder, series: RunSeries, asked: "_Asked"
    ) -> tuple[list[Picture], bool]:
        """Return the pictures of one run, and whether all was read that belongs to them."""
        drawn = [
            series.picture(asked.metric, asked.x, *asked.span, asked.stretches, weight)
            for weight in asked.weights
        ]
        pictures = [each for each in drawn if each is not None]
        is_folded = any(not each.is_exact for each in pictures)
        if not is_folded or not series.is_read or not any(map(math.isfinite, asked.span)):
            return pictures, series.is_read
        what = (asked.metric, asked.x, asked.span, asked.stretches, asked.weights)
        exact = self.parts.picture(key, folder, series, *what, SLICE_S)
        return (pictures, False) if exact is None else exact

    def bands(self, request: Request) -> bytes:
        """Answer with mean and range of a metric over the runs of each group.

        Args:
            request: the question; of each run, ``group`` has the number of its group.

        Raises:
            UsageError: it is wrong.
            UnknownRunError: there is no such run.
        """
        asked, keys = _Asked(request), keys_of(request)
        groups = request.query_params.getlist("group")
        if len(groups) != len(keys):
            raise UsageError(f"{len(keys)} runs and {len(groups)} groups: expected one for each")
        members: dict[str, list[Points]] = {}
        unread: set[str] = set()
        for key, group in zip(keys, groups, strict=True):
            its = members.setdefault(group, [])
            try:
                folder = open_folder(self._shelf.run(key))
                series, _ = self._cache.read_on(key, folder, SLICE_S)
            except UNREADABLE:  # its own curve says why
                continue
            if not series.is_read:
                unread.add(group)
            points = series.points(asked.metric, asked.x, asked.weights[-1])
            if points is not None:
                its.append(points)
        entries, arrays = [], []
        for group, curves in members.items():
            found = band(curves, *asked.span, asked.stretches)
            said = {"group": plain(group), "runs": len(curves), "is_read": group not in unread}
            entries.append({**said, "points": len(found.x)})
            arrays += list(found)
        return _packed(entries, arrays)


class _Asked:
    """What a question about a metric asks."""

    def __init__(self, request: Request) -> None:
        self.metric = request.query_params.get("metric", "")
        self.x: XAxis = one_of(request, "x", get_args(XAxis))
        self.span = number_of(request, "from", -math.inf), number_of(request, "to", math.inf)
        self.stretches = max(whole_of(request, "stretches", 250, MAX_STRETCHES), 1)
        weight = min(max(number_of(request, "smooth", 0.0), 0.0), MAX_SMOOTHING)
        self.weights = tuple(dict.fromkeys((0.0, weight)))


def _marks(series: RunSeries, x: XAxis) -> list[tuple[str, float]]:
    shift = series.began_s if x == "wall" else 0.0
    at = axis_of(x)
    return [(kind, when[at] + shift) for kind, *when in list(series.marks)]


def _head(picture: Picture) -> dict[str, Any]:
    return {
        "points": len(picture.x),
        "values": picture.values,
        "is_exact": picture.is_exact,
    }


def _packed(entries: Sequence[dict[str, Any]], arrays: Sequence[Numbers]) -> bytes:
    head = msgspec.json.encode({"entries": entries})
    head += b" " * (-(4 + len(head)) % 8)  # so that the numbers are aligned
    parts = [len(head).to_bytes(4, "little"), head, *(each.tobytes() for each in arrays)]
    return b"".join(parts)
