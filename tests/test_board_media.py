"""The board: images, histograms, texts and tables over steps, shown as what they are."""

import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from board_asked import PAGE, Asked, begun, put
from PIL import Image
from recorded_runs import SECOND_NS, RecordedRun

import nightbus as nb
from nightbus.sinks.board import export, media, series_cache
from nightbus.sinks.board.export import exported
from nightbus.sinks.board.series_cache import RunSeries
from nightbus.sinks.board.shelf import Shelf


def a_picture(kind: str = "PNG") -> bytes:
    """Two pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (2, 1)).save(buffer, kind)
    return buffer.getvalue()


def a_histogram(*counts: int) -> bytes:
    """Counts between whole numbers."""
    return json.dumps({"edges": [*range(len(counts) + 1)], "counts": counts}).encode()


def with_media(root: Path, *media: tuple[str, str, bytes]) -> RecordedRun:
    """A run that ended, with what was put of names and kinds, a step apart."""
    run, attempt = begun(root, {})
    for step, (name, kind, data) in enumerate(media):
        attempt.now_ns += SECOND_NS
        attempt.place.move(step=step)
        attempt.add(nb.Media, name, kind, data, ("loggers",), "training_step")
    attempt.end()
    return run


def one(board: Asked, run: RecordedRun, number: int = 0) -> Any:
    """The first medium that a run has, as the page asks for it."""
    key = run.path.name
    its = board.said("/api/media", run=key)["runs"][key]["names"][0]
    attempt, seq = its["places"][number]
    return board.get(f"/api/medium/{key}", {"attempt": attempt, "seq": seq})


def test_media_are_listed_by_name_with_their_places(tmp_path: Path) -> None:
    run = with_media(
        tmp_path,
        ("seen", "image", a_picture()),
        ("weights", "histogram", a_histogram(1, 2)),
        ("seen", "image", a_picture()),
    )
    other = with_media(tmp_path)

    said = Asked(tmp_path).said("/api/media", run=[run.path.name, other.path.name])["runs"]

    seen, weights = said[run.path.name]["names"]
    assert (seen["name"], seen["kind"], seen["steps"]) == ("seen", "image", [0, 2])
    assert (weights["name"], weights["kind"], weights["steps"]) == ("weights", "histogram", [1])
    assert said[other.path.name] == {"is_read": True, "problem": "", "names": []}


@pytest.mark.parametrize(
    ("written", "kind"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp")],
)
def test_a_picture_is_answered_as_the_picture_that_it_is(
    tmp_path: Path, written: str, kind: str
) -> None:
    run = with_media(tmp_path, ("seen", "image", a_picture(written)))

    answer = one(Asked(tmp_path), run)

    assert (answer.status_code, answer.content) == (200, a_picture(written))
    assert answer.headers["content-type"] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"<html><script>alert(1)</script></html>",
        b"\x89PN",
        b"",
    ],
)
def test_what_is_no_picture_is_not_shown_whatever_it_was_called(
    tmp_path: Path, data: bytes
) -> None:
    run = with_media(tmp_path, ("seen", "image", data))

    answer = one(Asked(tmp_path), run)

    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/json")
    assert "is no PNG, JPEG, GIF or WebP" in answer.json()["problem"]


def test_a_text_is_json_and_never_html(tmp_path: Path) -> None:
    run = with_media(tmp_path, ("said", "text", "<b>é</b>".encode()))

    answer = one(Asked(tmp_path), run)

    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"text": "<b>é</b>", "length": 8}


def test_a_table_is_answered_up_to_its_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "MAX_ROWS", 1)
    monkeypatch.setattr(media, "MAX_COLUMNS", 2)
    rows = [[1, "a", None], [2, "b", None]]
    run = with_media(
        tmp_path, ("t", "table", json.dumps({"columns": "xyz", "rows": rows}).encode())
    )

    assert one(Asked(tmp_path), run).json() == {
        "columns": ["x", "y"],
        "rows": [[1, "a"]],
        "length": 2,
        "width": 3,
    }


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("table", b"[1]"),
        ("table", b'{"columns": 1, "rows": 2}'),
        ("table", b"{"),
        ("text", b"\xff"),
        ("table", b"[" * 100_000),
    ],
)
def test_what_cannot_be_read_says_so(tmp_path: Path, kind: str, data: bytes) -> None:
    answer = one(Asked(tmp_path), with_media(tmp_path, ("odd", kind, data)))

    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/json")


@pytest.mark.parametrize("depth", [100, 900, 100_000])
def test_of_a_table_of_lists_in_lists_only_the_outer_ones_are_shown(
    tmp_path: Path, depth: int
) -> None:
    data = b'{"columns": ["a"], "rows": [[' + b"[" * depth + b"]" * depth + b"]]}"
    run = with_media(tmp_path, ("deep", "table", data))
    can_be_read = depth < 100_000

    answer = one(Asked(tmp_path), run)

    assert answer.status_code == (200 if can_be_read else 409)
    assert ("..." if can_be_read else "cannot be read") in answer.text
    assert run.path.name.encode() in exported(Shelf(tmp_path), PAGE)


def test_histograms_are_answered_over_steps_evenly_many(tmp_path: Path) -> None:
    run = with_media(tmp_path, *(("w", "histogram", a_histogram(n, 1)) for n in range(9)))

    said = Asked(tmp_path).said(f"/api/histograms/{run.path.name}", name="w", most=3)

    assert (said["all"], said["is_read"]) == (9, True)
    assert [each["step"] for each in said["histograms"]] == [0, 4, 8]
    assert said["histograms"][1] == {
        "step": 4,
        "epoch": 0,
        "edges": [0, 1, 2],
        "counts": [4, 1],
        "problem": "",
    }


@pytest.mark.parametrize(
    "data",
    [
        b'{"edges": [0, 1], "counts": [1, 2]}',
        b'{"edges": [1, 0], "counts": [1]}',
        b'{"edges": [0, 1], "counts": [-1]}',
        b'{"edges": [0, 1e999], "counts": ["x"]}',
        b'{"edges": [], "counts": []}',
        b"{",
    ],
)
def test_what_is_no_histogram_says_so_among_the_others(tmp_path: Path, data: bytes) -> None:
    run = with_media(tmp_path, ("w", "histogram", data), ("w", "histogram", a_histogram(1)))

    bad, good = Asked(tmp_path).said(f"/api/histograms/{run.path.name}", name="w")["histograms"]

    assert (bad["counts"], bad["problem"] != "") == ([], True)
    assert (good["counts"], good["problem"]) == ([1], "")


def test_only_what_is_recorded_as_a_medium_can_be_asked_for(tmp_path: Path) -> None:
    run = with_media(tmp_path, ("seen", "image", a_picture()))
    board = Asked(tmp_path)

    answers = [
        board.get(f"/api/medium/{run.path.name}", {"attempt": 0, "seq": 0}),
        board.get(f"/api/medium/{run.path.name}", {"attempt": 7, "seq": 1}),
        board.get("/api/medium/..%2f..%2fetc", {"attempt": 0, "seq": 1}),
        board.get(f"/api/medium/{run.path.name}", {"attempt": "../x", "seq": 1}),
    ]

    assert [answer.status_code for answer in answers] == [409, 409, 404, 400]


@pytest.mark.parametrize("number", [8, 9, 50, 1000])
def test_of_many_of_a_name_evenly_many_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(series_cache, "MAX_OF_A_NAME", 40)
    run = with_media(tmp_path, *[("seen", "text", b"hi")] * number)

    said = Asked(tmp_path).said("/api/media", run=run.path.name)["runs"]

    steps = said[run.path.name]["names"][0]["steps"]
    between = [later - before for before, later in pairwise(steps)]
    assert min(number, 40 // 2) <= len(steps) <= 40
    assert (steps[0], steps[-1]) == (0, number - 1)
    assert len({*between[:-1]}) == 1  # the last is there besides
    assert between[-1] <= between[0]


def test_bytes_of_media_are_kept_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "MAX_KEPT_BYTES", len(a_picture()))
    run = with_media(tmp_path, *[("seen", "image", a_picture())] * 3)
    board = Asked(tmp_path)

    answers = [one(board, run, number).status_code for number in (0, 1, 0, -1)]

    assert answers == [200] * 4


def test_media_are_answered_as_they_were_though_the_run_is_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_cache, "MAX_OF_A_NAME", 4)
    run, attempt = begun(tmp_path, {})

    def more(number: int) -> None:
        for _ in range(number):
            attempt.place.move(step=attempt.place.step + 1)
            attempt.add(nb.Media, "seen", "text", b"hi", ("loggers",), "")
        attempt.writer.flush()

    more(4)
    series = RunSeries(run.folder)
    series.read_on(60.0)

    before = series.media()["seen"]
    more(5)
    series.read_on(60.0)
    after = series.media()["seen"]
    series.close()
    attempt.abandon()

    assert [each.step for each in before] == [1, 2, 3, 4]
    assert [each.step for each in after] == [1, 5, 9]


def test_a_file_has_media_evenly_chosen_and_says_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAX_MEDIA", 3)
    svg = ("odd", "image", b"<svg/>")
    run = with_media(tmp_path, *[("seen", "image", a_picture())] * 9, svg, ("t", "text", b"hi"))

    data = _in_file(exported(Shelf(tmp_path), PAGE))
    monkeypatch.setattr(export, "MAX_MEDIA", 9)
    whole = _in_file(exported(Shelf(tmp_path), PAGE))
    monkeypatch.setattr(export, "MAX_MEDIA_BYTES", 20)
    small = _in_file(exported(Shelf(tmp_path), PAGE))

    seen, odd, text = data["runs"][run.path.name]["media"]
    assert seen["steps"] == [0, 4, 8]
    assert seen["items"][0]["picture"].startswith("data:image/png;base64,")
    assert "is no PNG" in odd["items"][0]["problem"]
    assert text["items"] == [{"text": "hi", "length": 2}]
    assert ("at most 3 images" in data["cut"], whole["cut"]) == (True, "")
    assert (small["runs"][run.path.name]["media"], small["cut"] != "") == ([], True)


def test_an_exported_page_says_that_it_lacks_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, attempt = begun(tmp_path, {})
    put(attempt, "one", 1.0)
    put(attempt, "two", 1.0)
    attempt.end()
    monkeypatch.setattr(export, "MAX_METRICS", 1)

    data = _in_file(exported(Shelf(tmp_path), PAGE))

    assert [*data["runs"][run.path.name]["curves"]] == ["one"]
    assert "1 metrics of a run" in data["cut"]


def _in_file(file: bytes) -> Any:
    found = re.search(rb'id="data">(.*?)</script>', file, re.DOTALL)
    assert found
    return json.loads(found.group(1))
