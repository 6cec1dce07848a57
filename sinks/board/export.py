"""The board as one HTML file, or as a folder of files, that needs no server."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ...bus.errors import NightbusError, UsageError
from ...bus.events import Media
from ...bus.runs.run_folder import RunFolder
from ...bus.runs.run_summary import RunSummary
from .answers import MAX_ROWS, UNREADABLE, names_answer, open_folder, run_answer, table_answer
from .media import evenly, named, picture_type, read_medium, shown
from .moments import history_of, moment_of
from .page_files import PageFile, page_files
from .plain_values import plain
from .series_cache import Medium, RunSeries
from .shelf import Shelf, Table, key_of
from .thinning import Numbers

MAX_RUNS = 200
MAX_METRICS = 200  # of a run
MAX_MEDIA = 12  # of a name; of histograms, three times as many
MOMENTS = 8  # of a run, evenly far apart
MAX_MEDIA_BYTES = 20 << 20  # of a file
STRETCHES = 150  # of a curve, of about 4 points each
MAX_RUNS_IN_FOLDER = MAX_ROWS
STRETCHES_IN_FOLDER = 600
PAGE, RUNS = "index.html", "runs"
_DOCTYPE, _TITLE = b"<!doctype html>\n", b"<title>nightbus board</title>"


def exported(shelf: Shelf, files: dict[str, PageFile] | None = None) -> bytes:
    """Return an HTML file that shows runs.

    Args:
        shelf: the runs.
        files: of the page; those that were built if not given.

    Raises:
        UsageError: there are too many runs, or the page is not built.
    """
    head = _head(shelf.table(), shelf, MAX_RUNS, "a file")
    room = _Room(MAX_MEDIA_BYTES)
    runs = {key_of(run): _run(run, room, STRETCHES) for run in shelf.table().runs.summaries}
    return _page(files or page_files(), {**head, "runs": runs, "cut": room.said}, loads="")


def exported_files(
    shelf: Shelf, files: dict[str, PageFile] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a folder that shows runs: the page, and each run, loaded when it is shown.

    A page that was opened as a file may load scripts from beside it, but no data, so that each
    run's data are a script.

    Args:
        shelf: the runs.
        files: of the page; those that were built if not given.

    Yields:
        The name of each, from the folder, and what it holds; the page first.

    Raises:
        UsageError: there are too many runs, or the page is not built.
    """
    table = shelf.table()
    head = _head(table, shelf, MAX_RUNS_IN_FOLDER, "a folder")
    told = {**head, "folder": RUNS, "cut": _cut("of a run")}
    yield PAGE, _page(files or page_files(), told, loads="'self' ")
    for run in table.runs.summaries:
        key = key_of(run)
        data = msgspec.json.encode(_run(run, _Room(MAX_MEDIA_BYTES), STRETCHES_IN_FOLDER)).decode()
        called = b", ".join(msgspec.json.encode(text) for text in (key, data))
        yield f"{RUNS}/{key}.js", b"takeRun(" + called + b")\n"


def is_exported(page: bytes) -> bool:
    """Return whether a page was written here.

    Args:
        page: what it holds.
    """
    return page.startswith(_DOCTYPE) and _TITLE in page[:2_000]


def _head(table: Table, shelf: Shelf, most: int, where: str) -> dict[str, Any]:
    """Return what there is of all runs together."""
    if len(table.runs) > most:
        raise UsageError(
            f"{len(table.runs):,} runs were chosen; {where} can hold {most}: choose with "
            "--where \"ending == 'completed' and lr < 0.01\""
        )
    names = names_answer(table)
    every = list(dict.fromkeys(name for kind in names.values() for name in kind))
    return {
        "root": plain(str(shelf.root)),
        "names": names,
        "default": table_answer(table, rows=range(0))["columns"],
        "table": table_answer(table, columns=every),
    }


def _cut(of: str) -> str:
    return (
        f"There are at most {MAX_MEDIA} images of a name and run here, histograms and others too, "
        f"evenly chosen, {MAX_MEDIA_BYTES >> 20} MB of them and of moments {of}, and {MAX_METRICS} "
        "metrics of a run: not every one that was recorded."
    )


class _Room:
    """What a file has room for, and what is said of what was left out."""

    def __init__(self, left: int) -> None:
        self._left = left
        self.has_left_out = False

    @property
    def said(self) -> str:
        """What was left out, for readers of the file; empty if nothing was."""
        return _cut("in all") if self.has_left_out else ""

    def takes(self, size: int) -> bool:
        """Return whether something goes in, which is counted then."""
        is_taken = size <= self._left
        self._left -= size if is_taken else 0
        self.has_left_out |= not is_taken
        return is_taken


def _run(run: RunSummary, room: _Room, stretches: int) -> dict[str, Any]:
    """Return all that the file has of one run; of one that cannot be read, why."""
    try:
        folder = open_folder(run)
        series = RunSeries(folder)
        while not series.is_read:
            series.read_on(for_s=60.0)
        series.close()
        room.has_left_out |= len(series.series) > MAX_METRICS
        return {
            "about": run_answer(run, folder, series),
            "began_s": series.began_s,
            "marks": list(series.marks),
            "media": [
                each
                for name, items in series.media().items()
                if (each := _media(folder, name, items, room)) is not None
            ],
            "history": {**history_of(series), "is_read": True, "problem": plain(series.problem)},
            "moments": _moments(folder, series, room),
            "curves": {
                plain(name): _curve(rows)
                for name in list(series.series)[:MAX_METRICS]
                if (rows := series.rows(name, stretches)) is not None
            },
        }
    except UNREADABLE as error:
        return {"problem": plain(str(error))}


def _moments(folder: RunFolder, series: RunSeries, room: _Room) -> list[dict[str, Any]]:
    """Return what a run looked like at some moments, evenly far apart, its end among them."""
    last_s = series.history.last_s
    times = [last_s * (number + 1) / MOMENTS for number in range(MOMENTS)] if last_s else [0.0]
    found = [moment_of(folder, series, time_s) for time_s in times]
    return [each for each in found if room.takes(len(msgspec.json.encode(each)))]


def _media(
    folder: RunFolder, name: str, items: Sequence[Medium], room: _Room
) -> dict[str, Any] | None:
    """Return the media of one name: where each is, and each as the page is answered it."""
    most = MAX_MEDIA * (3 if items[0].kind == "histogram" else 1)
    room.has_left_out |= len(items) > most
    kept, found = [], []
    for item in evenly(items, most):
        try:
            one = _medium(read_medium(folder, item.position))
        except (NightbusError, OSError) as error:
            one = {"problem": plain(str(error))}
        if room.takes(len(msgspec.json.encode(one))):
            kept.append(item)
            found.append(one)
    return {**named(name, kept), "items": found} if kept else None


def _medium(event: Media) -> dict[str, Any]:
    if event.kind not in ("image", "figure"):
        return shown(event)
    kind = picture_type(event.data)
    return {"picture": f"data:{kind};base64,{base64.b64encode(event.data).decode()}"}


def _curve(rows: Numbers) -> list[list[Any]]:
    steps, epochs, times, values = rows
    return [
        [int(step) for step in steps],
        [int(epoch) for epoch in epochs],
        [round(time, 3) for time in times.tolist()],
        [plain(float(f"{value:.8g}")) for value in values.tolist()],
    ]


def _page(files: dict[str, PageFile], shown: dict[str, Any], loads: str) -> bytes:
    """Put style, data and script of the page into one file.

    Args:
        files: of the page.
        shown: the data.
        loads: from where it may load scripts besides; all else is in it.
    """
    data = msgspec.json.encode(shown)
    style, script = files["/page.css"].content, files["/page.js"].content
    script = script.replace(b"</script", b"<\\/script").replace(b"<!--", b"<\\!--")
    # In JSON, these characters are the same when they are escaped.
    data = data.replace(b"&", b"\\u0026").replace(b"<", b"\\u003c").replace(b">", b"\\u003e")
    policy = (
        f"default-src 'none'; script-src {loads}'{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return b"".join(
        [
            _DOCTYPE + b'<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            b'<meta http-equiv="Content-Security-Policy" content="' + policy.encode() + b'">\n',
            b'<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            _TITLE + b"\n<style>" + style + b"</style>\n</head>\n<body>\n",
            b'<div id="board"></div>\n<script type="application/json" id="data">',
            data + b"</script>\n<script>" + script + b"</script>\n</body>\n</html>\n",
        ]
    )


def _digest(text: bytes) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}"
