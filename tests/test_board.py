"""The board: what it answers of runs, recorded and going on."""

import json
import math
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import trio
from board_asked import PAGE, TOKEN, Asked, begun, put, recorded
from recorded_runs import RecordedRun

import nightbus as nb
from nightbus.__main__ import main
from nightbus.sinks.board import compared, series_cache
from nightbus.sinks.board.address import listening
from nightbus.sinks.board.export import exported
from nightbus.sinks.board.page_files import page_files
from nightbus.sinks.board.series_cache import RunSeries, Series, SeriesCache
from nightbus.sinks.board.server import serve
from nightbus.sinks.board.shelf import Shelf

# -- the table -----------------------------------------------------------------------------------


def test_the_table_has_the_newest_run_first_with_what_differs(tmp_path: Path) -> None:
    older, newer = recorded(tmp_path, 0.1, 0.5, 0.25), recorded(tmp_path, 0.01, 0.75)

    table = Asked(tmp_path).said("/api/table")

    assert [row["key"] for row in table["rows"]] == [newer.path.name, older.path.name]
    assert table["columns"] == ["lr", "val_loss", "steps", "epochs", "created", "duration"]
    assert [row["cells"][:2] for row in table["rows"]] == [[0.01, 0.75], [0.1, 0.25]]
    assert (table["all"], table["found"]) == (2, 2)


def test_the_table_is_filtered_by_a_condition_sorted_and_read_in_parts(tmp_path: Path) -> None:
    for lr in (0.3, 0.1, 0.2):
        recorded(tmp_path, lr, lr)
    board = Asked(tmp_path)

    part = board.said("/api/table", where="lr < 0.25", sort="lr", column=["lr"])
    last = board.said("/api/table", sort="lr", column=["lr"], offset=1, limit=1)

    assert [row["cells"] for row in part["rows"]] == [[0.1], [0.2]]
    assert (part["all"], part["found"]) == (3, 2)
    assert ([row["cells"] for row in last["rows"]], last["first"]) == ([[0.2]], 1)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/table?where=lr <", "a value or a name is missing"),
        ("/api/table?offset=-1", "offset=-1: expected 0 or more"),
        ("/api/curves?x=day", "x='day': expected step, epoch, time, wall"),
        ("/api/curves?from=nan", "from='nan': expected a number"),
        ("/api/metrics?" + "&".join(f"run={n}" for n in range(101)), "at most 100 can be at once"),
        ("/api/live?" + "&".join(f"run={n}" for n in range(101)), "at most 100 can be at once"),
    ],
)
def test_a_wrong_question_is_answered_with_what_is_wrong(
    tmp_path: Path, path: str, said: str
) -> None:
    recorded(tmp_path, 0.1, 0.5)

    answer = Asked(tmp_path).get(path)

    assert (answer.status_code, said in answer.json()["problem"]) == (400, True), answer.text


def test_names_are_by_kind(tmp_path: Path) -> None:
    recorded(tmp_path, 0.1, 0.5)

    names = Asked(tmp_path).said("/api/names")

    assert "ending" in names["fields"]
    assert (names["hparams"], names["metrics"]) == (["lr"], ["val_loss"])
    assert (names["config"], names["environment"]) == (["max_epochs"], ["host"])


# -- one run -------------------------------------------------------------------------------------


def test_a_run_has_what_it_said_of_itself_its_attempts_hooks_and_checkpoints(
    tmp_path: Path,
) -> None:
    run, attempt = begun(tmp_path, {"lr": 0.1})
    attempt.writer.add_hook("on_train_batch_end", attempt.now_ns, 2_000)
    attempt.add(nb.CheckpointSaved, "checkpoints/one", "digest", 1234)
    attempt.add(nb.CheckpointSaved, "../../outside", "digest", 1)
    attempt.end()
    (run.path / "checkpoints/one").mkdir(parents=True)
    (tmp_path / "outside").mkdir()

    about = Asked(tmp_path).said(f"/api/run/{run.path.name}")

    assert (about["hparams"], about["config"]) == ({"lr": 0.1}, {"max_epochs": 3})
    assert [each["how"] for each in about["attempts"]] == ["completed"]
    assert about["hooks"][0]["name"] == "on_train_batch_end"
    one, outside = about["checkpoints"]
    assert (one["path"], one["size_bytes"], one["is_there"]) == ("checkpoints/one", 1234, True)
    assert not outside["is_there"]  # not looked at, though it exists


def test_an_unknown_run_is_none_whatever_it_is_called(tmp_path: Path) -> None:
    recorded(tmp_path, 0.1, 0.5)

    answers = [Asked(tmp_path).get(f"/api/run/{key}") for key in ("missing", "..%2f..%2fetc")]

    assert [answer.status_code for answer in answers] == [404, 404]


def test_a_damaged_run_says_why_it_cannot_be_read_and_others_go_on(tmp_path: Path) -> None:
    damaged, sound = recorded(tmp_path, 0.1, 0.5), recorded(tmp_path, 0.2, 0.6)
    (damaged.path / "run.json").write_text("{")
    board = Asked(tmp_path)

    answer = board.get(f"/api/run/{damaged.path.name}")
    curves = board.curves("val_loss", damaged.path.name, sound.path.name)

    assert (answer.status_code, "cannot be read" in answer.json()["problem"]) == (409, True)
    assert "cannot be read" in curves[0]["problem"]
    assert curves[1]["y"].tolist() == [0.6]


# -- curves --------------------------------------------------------------------------------------


def test_a_curve_has_all_values_if_they_are_few_along_any_axis(tmp_path: Path) -> None:
    run = recorded(tmp_path, 0.1, 3.0, math.nan, 1.0, math.inf)
    board = Asked(tmp_path)

    by_step = board.curves("val_loss", run.path.name)[0]
    by_time = board.curves("val_loss", run.path.name, x="time")[0]

    np.testing.assert_array_equal(by_step["y"], [3.0, math.nan, 1.0, math.inf])
    assert by_step["x"].tolist() == [0, 1, 2, 3]
    assert np.diff(by_time["x"]).tolist() == [1, 1, 1]
    assert (by_step["values"], by_step["is_exact"], by_step["is_read"]) == (4, True, True)


def test_outliers_and_gaps_are_in_a_curve_of_many_values(tmp_path: Path) -> None:
    values = [float(n % 7) for n in range(5000)]
    values[1234], values[2345], values[3456] = 1e6, -1e6, math.nan
    run = recorded(tmp_path, 0.1, *values)

    curve = Asked(tmp_path).curves("val_loss", run.path.name, stretches=50)[0]

    assert len(curve["x"]) <= 6 * 50
    assert {1234, 2345, 3456} <= set(curve["x"].astype(int))
    assert np.nanmax(curve["y"]) == 1e6


def test_a_part_of_a_curve_has_its_neighbours_to_draw_lines_to(tmp_path: Path) -> None:
    run = recorded(tmp_path, 0.1, *map(float, range(100)))

    curve = Asked(tmp_path).curves("val_loss", run.path.name, **{"from": 10, "to": 12})[0]

    assert curve["x"].tolist() == [9, 10, 11, 12, 13]


def test_means_are_of_all_values_and_come_with_the_values_themselves(tmp_path: Path) -> None:
    run = recorded(tmp_path, 0.1, 0.0, 1.0)

    values, means = Asked(tmp_path).curves("val_loss", run.path.name, smooth=0.5)

    assert (values["is_smooth"], means["is_smooth"]) == (False, True)
    assert means["y"].tolist() == pytest.approx([0.0, 2 / 3])


def test_a_resumed_run_has_one_curve_without_what_was_superseded(tmp_path: Path) -> None:
    run, attempt = begun(tmp_path, {})
    put(attempt, "loss", 1.0)
    fork = attempt.fork()
    put(attempt, "loss", 7.0)
    attempt.abandon()
    board = Asked(tmp_path)
    before = board.curves("loss", run.path.name)[0]["y"].tolist()

    resumed = run.attempt(fork=fork)
    put(resumed, "loss", 2.0)
    resumed.end()

    assert before == [1.0, 7.0]
    assert board.curves("loss", run.path.name)[0]["y"].tolist() == [1.0, 2.0]


# -- memory --------------------------------------------------------------------------------------


def test_a_long_series_is_folded_and_keeps_its_extremes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_cache, "MAX_POINTS", 1000)
    values = [math.sin(n) for n in range(3000)]
    values[700], values[2900] = 50.0, -50.0
    run = recorded(tmp_path, 0.1, *values)

    curve = Asked(tmp_path).curves("val_loss", run.path.name)[0]

    assert (curve["values"], curve["is_exact"]) == (3000, False)
    assert {700, 2900} <= set(curve["x"].astype(int))


@pytest.mark.parametrize("at_once", [1, 7, 1000, 40_000])
def test_a_folded_series_has_evenly_many_points_of_all_its_past(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(series_cache, "MAX_POINTS", 1000)
    values = np.sin(np.arange(40_000.0) ** 1.5)
    values[[123, 20_001]] = 50.0, np.nan
    steps = np.arange(40_000.0)
    rows = np.stack([steps, steps, steps, values], axis=1)
    series = Series()

    for begin in range(0, len(rows), at_once):
        series.add(rows[begin : begin + at_once])

    of_tenths = np.histogram(series.rows[0], bins=10, range=(0, 40_000))[0]
    assert (series.values, series.is_folded) == (40_000, True)
    assert of_tenths.sum() <= 1000
    assert of_tenths.max() <= 1.5 * of_tenths.min()
    assert {0, 123, 20_001, 39_999} <= set(series.rows[0].astype(int))


def test_a_series_that_gave_way_goes_on_as_evenly() -> None:
    steps = np.arange(20_000.0)
    rows = np.stack([steps, steps, steps, np.sin(steps**1.5)], axis=1)
    series = Series()

    series.add(rows[:10_000])
    series.fold(400)
    series.add(rows[10_000:])

    of_tenths = np.histogram(series.rows[0], bins=10, range=(0, 20_000))[0]
    assert of_tenths.max() <= 1.5 * of_tenths.min()


def test_runs_that_nobody_asks_for_give_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_cache, "FEWEST_POINTS", 64)
    cache = SeriesCache(max_bytes=12_000)
    runs = [recorded(tmp_path, 0.1, *map(float, range(400))).folder for _ in range(8)]

    for run in runs:
        cache.read_on(run.path.name, run, 60.0)

    assert cache.size_bytes <= 12_000
    again, _ = cache.read_on(runs[0].path.name, runs[0], 60.0)
    assert again.series["val_loss"].values == 400


def with_console(root: Path, lines: int) -> RecordedRun:
    """A run that printed lines of 900 characters."""
    run, attempt = begun(root, {})
    put(attempt, "loss", 1.0, 2.0)
    for number in range(lines):
        attempt.add(nb.ConsoleLine, "stdout", f"{number:900}", 0)
    attempt.end()
    return run


def test_what_runs_printed_counts_and_gives_way_before_their_metrics(tmp_path: Path) -> None:
    runs = [with_console(tmp_path, 200).folder for _ in range(5)]
    cache = SeriesCache(max_bytes=500_000)

    read = [cache.read_on(run.path.name, run, 60.0)[0] for run in runs]

    assert 180_000 <= read[-1].size_bytes <= 300_000
    assert cache.size_bytes <= 500_000
    assert [cache.has(run.path.name) for run in runs] == [True] * 5
    assert read[-1].keeps_history


def test_of_runs_that_are_read_for_small_curves_no_history_is_kept_until_it_is_asked_for(
    tmp_path: Path,
) -> None:
    run = with_console(tmp_path, 200)
    board = Asked(tmp_path)

    board.said("/api/sparklines", metric="loss", run=run.path.name)
    size = board.board._cache.size_bytes
    board.said(f"/api/history/{run.path.name}")
    console = board.said(f"/api/moment/{run.path.name}", time=1e9)["console"]

    assert size <= 20_000
    assert console[-1]["text"] == f"{199:900}"


def test_what_a_run_records_is_read_on_from_where_it_was(tmp_path: Path) -> None:
    run, attempt = begun(tmp_path, {})
    put(attempt, "loss", 1.0)
    series = RunSeries(run.folder)
    assert series.read_on(60.0)
    assert series.is_read  # though zeros were allocated behind what is written
    first = series.series["loss"]

    put(attempt, "loss", 2.0)

    assert series.read_on(60.0)
    assert series.series["loss"] is first
    assert first.rows[3].tolist() == [1.0, 2.0]
    assert not series.read_on(60.0)
    series.close()
    attempt.abandon()


# -- live ----------------------------------------------------------------------------------------


async def test_a_page_is_told_of_new_values_of_a_run_and_of_its_end(tmp_path: Path) -> None:
    run, attempt = begun(tmp_path, {"lr": 0.1})
    put(attempt, "loss", 1.0)
    key = run.path.name
    stop = trio.Event()
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        async with trio.open_nursery() as nursery:
            files = (Shelf(tmp_path), PAGE, listener, "127.0.0.1", TOKEN, stop.wait)
            await nursery.start(serve, *files)
            with trio.fail_after(60):
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await stream.send_all(
                        f"GET /api/live?run={key} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                        f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
                    )
                    lines = Lines(stream)
                    assert await _next_of(lines, key) == [1, "running"]
                    put(attempt, "loss", 2.0)
                    assert await _next_of(lines, key) == [2, "running"]
                    attempt.end()
                    assert await _next_of(lines, key) == [2, "completed"]
            stop.set()


async def test_a_board_that_is_stopped_does_not_wait_for_a_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [recorded(tmp_path, 0.1, 1.0).path.name for _ in range(2)]
    compares, goes_on, stop = threading.Event(), threading.Event(), trio.Event()

    def compared_for_long(*_: object) -> dict[str, Any]:
        compares.set()
        goes_on.wait()
        return {}

    monkeypatch.setattr(compared, "_first_difference", compared_for_long)
    query = urlencode({"run": keys}, doseq=True)
    with listening("127.0.0.1", 0) as listener, trio.fail_after(60):
        port = listener.getsockname()[1]
        try:
            async with trio.open_nursery() as nursery:
                files = (Shelf(tmp_path), PAGE, listener, "127.0.0.1", TOKEN, stop.wait)
                await nursery.start(serve, *files)
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await stream.send_all(
                        f"GET /api/first-difference?{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                        f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
                    )
                    await trio.to_thread.run_sync(compares.wait, 60.0)
                    stop.set()
            assert not goes_on.is_set()
        finally:
            goes_on.set()


class Lines:
    """Reads a stream line by line."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream, self._left = stream, b""

    async def next(self) -> str:
        while b"\n" not in self._left:
            part = await self._stream.receive_some()
            assert part, "the stream has ended"
            self._left += part
        line, _, self._left = self._left.partition(b"\n")
        return line.decode()


async def _next_of(lines: Lines, key: str) -> Any:
    """What is told of a run next."""
    while True:
        line = await lines.next()
        if line.startswith("data: ") and key in (said := json.loads(line[6:]))["runs"]:
            return said["runs"][key]


# -- the verb and its file -----------------------------------------------------------------------


def test_a_checkout_without_the_built_page_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="make board-page"):
        page_files(tmp_path)


def test_a_file_holds_page_runs_and_curves_and_loads_nothing(tmp_path: Path) -> None:
    run = recorded(tmp_path, 0.1, 0.5, math.nan)

    page = exported(Shelf(tmp_path), PAGE).decode()

    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])  # type: ignore[index]
    assert data["runs"][run.path.name]["curves"]["val_loss"][3] == [0.5, "NaN"]
    assert data["runs"][run.path.name]["about"]["hparams"] == {"lr": 0.1}
    assert "default-src 'none'" in page
    assert "start()" in page


def test_no_more_runs_go_into_a_file_than_it_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightbus.sinks.board.export.MAX_RUNS", 1)
    recorded(tmp_path, 0.1, 0.5)
    recorded(tmp_path, 0.2, 0.5)

    with pytest.raises(nb.UsageError, match="2 runs were chosen; a file can hold 1"):
        exported(Shelf(tmp_path), PAGE)
    assert exported(Shelf(tmp_path, where="lr < 0.15"), PAGE)


def test_the_verb_refuses_a_folder_that_is_not_there_and_a_port_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nightbus.sinks.board.server.page_files", lambda: PAGE)
    RecordedRun(tmp_path).steps(1)

    assert main(["board", str(tmp_path / "missing")]) == 2
    with listening("127.0.0.1", 0) as listener:
        port = str(listener.getsockname()[1])
        assert main(["board", str(tmp_path), "--port", port]) == 2

    said = capsys.readouterr().err
    assert "missing is not a folder" in said
    assert f"the board cannot listen on 127.0.0.1:{port}" in said


def test_without_its_extra_the_verb_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "hypercorn", None)

    assert main(["board", str(tmp_path)]) == 2
    assert "pip install 'nightbus[board]'" in capsys.readouterr().err


def test_a_key_of_a_folder_with_a_strange_name_is_not_its_name(tmp_path: Path) -> None:
    run = recorded(tmp_path, 0.1, 0.5)
    os.rename(run.path, run.path.with_name("A <b> & Å"))
    board = Asked(tmp_path)

    [row] = board.said("/api/table")["rows"]

    assert re.fullmatch(r"x-[0-9a-f]{16}", row["key"])
    assert board.curves("val_loss", row["key"])[0]["y"].tolist() == [0.5]
