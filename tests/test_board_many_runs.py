"""The board: many runs as small curves, colours, groups and bands; long metrics in full."""

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from board_asked import PAGE, Asked, begun, put, recorded

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.runs.marks import Marks, write_marks
from nightbus.sinks.board import columns, exact_parts, series_cache, sparklines
from nightbus.sinks.board.bands import band
from nightbus.sinks.board.series_cache import RunSeries, SeriesCache
from nightbus.sinks.board.shelf import Shelf
from nightbus.sinks.board.sparklines import Sparklines

# -- small curves --------------------------------------------------------------------------------


def test_a_small_curve_has_few_points_with_the_extremes_and_gaps(tmp_path: Path) -> None:
    values = [float(n % 5) for n in range(2000)]
    values[100], values[1500], values[1900] = 70.0, -70.0, math.nan
    run = recorded(tmp_path, 0.1, *values)

    said = Asked(tmp_path).said("/api/sparklines", metric="val_loss", run=run.path.name)
    curve = said["runs"][run.path.name]

    assert curve["is_read"]
    assert len(curve["x"]) <= 6 * sparklines.STRETCHES
    assert {100: 70.0, 1500: -70.0, 1900: None}.items() <= dict(
        zip(curve["x"], curve["y"], strict=True)
    ).items()


def test_small_curves_are_kept_until_the_run_has_more(tmp_path: Path) -> None:
    run, attempt = begun(tmp_path, {})
    put(attempt, "loss", 1.0)
    shelf, cache = Shelf(tmp_path), SeriesCache()
    lines = Sparklines(cache)
    lines.answer([shelf.run(run.path.name)], "loss", 60.0)
    kept: Any = lines.answer([shelf.run(run.path.name)], "loss", 0.0)[run.path.name]

    put(attempt, "loss", 2.0)
    again: Any = lines.answer([Shelf(tmp_path).run(run.path.name)], "loss", 60.0)[run.path.name]
    attempt.abandon()

    assert (b"[1.0]" in bytes(kept), b"[1.0,2.0]" in bytes(again)) == (True, True)


def test_what_there_was_no_time_to_read_is_asked_for_again_and_large_runs_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Shelf(tmp_path / "runs")
    key = recorded(tmp_path, 0.1, 1.0).path.name
    lines = Sparklines(SeriesCache())

    late: Any = lines.answer([run.run(key)], "val_loss", 0.0)[key]
    monkeypatch.setattr(sparklines, "LARGEST_READ", 10)
    large: Any = lines.answer([run.run(key)], "val_loss", 60.0)[key]

    assert b'"is_read":false' in bytes(late)
    assert large == {"is_read": True, "x": [], "y": [], "is_large": True}


# -- the table -----------------------------------------------------------------------------------


def test_who_asks_while_the_runs_are_read_again_gets_them_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path, 0.1, 1.0)
    shelf = Shelf(tmp_path)
    before = shelf.table()
    recorded(tmp_path, 0.2, 1.0)
    is_reading, may_end, chosen = threading.Event(), threading.Event(), shelf._chosen

    def slow() -> Any:
        is_reading.set()
        may_end.wait(60)
        return chosen()

    monkeypatch.setattr(shelf, "_chosen", slow)
    monkeypatch.setattr(shelf, "_read_again_s", 0.0)
    reader = threading.Thread(target=shelf.table)
    reader.start()
    assert is_reading.wait(60)

    meanwhile = shelf.table()
    may_end.set()
    reader.join(60)

    assert meanwhile is before
    assert (len(before.runs), len(shelf.known.runs)) == (1, 2)


# -- colours, groups -----------------------------------------------------------------------------


def test_values_of_all_runs_come_as_columns_with_those_that_are_drawn(tmp_path: Path) -> None:
    old, new = recorded(tmp_path, 0.1, 0.5), recorded(tmp_path, 0.2, math.nan)

    said = Asked(tmp_path).said(
        "/api/columns", name=["lr", "val_loss", "none"], where="lr > 0.15", run=old.path.name
    )

    assert said["keys"] == [new.path.name, old.path.name]
    assert said["columns"] == [[0.2, 0.1], ["NaN", 0.5], [None, None]]
    assert said["found"] == 1


def test_a_table_in_groups_has_them_in_order_with_their_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lr, loss in ((0.2, 4.0), (0.1, 1.0), (0.2, 2.0), (0.1, math.nan)):
        recorded(tmp_path, lr, loss)
    board = Asked(tmp_path)

    said = board.said("/api/table", group="lr", sort="val_loss", column=["lr", "val_loss", "id"])
    monkeypatch.setattr(columns, "MAX_GROUPS", 1)
    first = board.said("/api/table", group="lr")["groups"]

    assert [row["cells"][:2] for row in said["rows"]] == [
        [0.1, 1.0],
        [0.1, "NaN"],
        [0.2, 2.0],
        [0.2, 4.0],
    ]
    assert said["groups"] == [
        {"value": 0.1, "count": 2, "means": [0.1, 1.0, None]},
        {"value": 0.2, "count": 2, "means": [0.2, 3.0, None]},
    ]
    assert len(first) == 1


def test_a_row_says_why_its_run_ended(tmp_path: Path) -> None:
    _, attempt = begun(tmp_path, {})
    attempt.add(nb.RunEnded, "stopped", "pruned: " + 500 * "x")
    attempt.abandon()

    (row,) = Asked(tmp_path).said("/api/table")["rows"]

    assert (row["ending"], row["reason"][:10], len(row["reason"])) == ("stopped", "pruned: xx", 300)


@pytest.mark.parametrize("asked", ["group", "sort"])
def test_a_table_by_what_no_run_has_says_so_and_is_there(tmp_path: Path, asked: str) -> None:
    ids = [recorded(tmp_path, lr, 1.0).path.name for lr in (0.1, 0.2)]

    said = Asked(tmp_path).said("/api/table", **{asked: "lrr"})

    assert [row["id"] for row in said["rows"]] == ids[::-1]
    assert said["unknown"] == "no run has 'lrr'; did you mean lr?"


def test_who_asks_for_a_run_that_is_being_read_gets_what_there_is_by_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunSeries(recorded(tmp_path, 0.1, *map(float, range(100))).folder)
    is_reading, is_waiting, may_end = threading.Event(), threading.Event(), threading.Event()
    moved, whole = list[bool](), run._read

    class Lock:
        def __init__(self) -> None:
            self._lock = threading.Lock()
            self.release = self._lock.release

        def acquire(self, blocking: bool = True) -> bool:
            if blocking:
                is_waiting.set()
            return self._lock.acquire(blocking)

    def slow(until_s: float) -> None:
        is_reading.set()
        may_end.wait(60)
        whole(until_s)
        run.is_read = False  # as if there were more

    monkeypatch.setattr(run, "_lock", Lock())
    monkeypatch.setattr(run, "_read", slow)
    first = threading.Thread(target=run.read_on, args=(60.0,))
    first.start()
    assert is_reading.wait(60)
    monkeypatch.setattr(run, "_read", lambda until_s: pytest.fail("it has read on, too"))
    second = threading.Thread(target=lambda: moved.append(run.read_on(60.0)))
    second.start()
    assert is_waiting.wait(60)
    may_end.set()
    first.join(60)
    second.join(60)

    assert (moved, run.values) == ([True], 100)


# -- bands ---------------------------------------------------------------------------------------


def test_a_band_has_mean_and_range_of_runs_that_put_at_the_same_steps(tmp_path: Path) -> None:
    runs = [recorded(tmp_path, 0.1, *values) for values in ((1.0, 2.0), (3.0, 6.0), (9.0,))]
    keys = [run.path.name for run in runs]

    same, other = Asked(tmp_path).bands("val_loss", dict(zip(keys, "001", strict=True)))

    assert (same["group"], same["runs"], same["is_read"]) == ("0", 2, True)
    assert [same[name].tolist() for name in ("x", "mean", "low", "high")] == [
        [0.0, 1.0],
        [2.0, 4.0],
        [1.0, 2.0],
        [3.0, 6.0],
    ]
    assert (other["group"], other["mean"].tolist()) == ("1", [9.0])


def test_a_band_of_many_values_has_means_of_stretches_and_goes_on_between_values() -> None:
    many = np.arange(10_000.0), np.tile([0.0, 2.0], 5000)
    few = np.array([0.0, 4999.0, 5000.0, 9999.0]), np.array([10.0, math.nan, 10.0, 10.0])

    found = band([many, few], -math.inf, math.inf, 100)

    assert len(found.x) == 100
    np.testing.assert_allclose(found.mean[1:-1], (1.0 + 10.0) / 2)
    np.testing.assert_allclose(found.low[1:-1], 1.0)


def test_a_run_counts_only_where_it_has_values() -> None:
    long = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0])
    short = np.array([0.0, 1.0]), np.array([3.0, 3.0])

    found = band([long, short], -math.inf, math.inf, 100)

    assert found.mean.tolist() == [2.0, 2.0, 1.0]
    assert len(band([], 0.0, 1.0, 10).x) == 0


# -- parts of long metrics -----------------------------------------------------------------------


def test_a_part_of_a_folded_metric_is_read_again_in_full_from_near_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_cache, "MAX_POINTS", 2000)
    values = [float(n * n % 97) for n in range(5000)]
    run = recorded(tmp_path, 0.1, *values)
    board = Asked(tmp_path)
    asked = {"from": 3000, "to": 3100, "stretches": 500}

    whole = board.curves("val_loss", run.path.name)[0]
    part, means = board.curves("val_loss", run.path.name, smooth=0.5, **asked)

    assert (whole["is_exact"], part["is_exact"], part["is_read"]) == (False, True, True)
    inside = (part["x"] >= 3000) & (part["x"] <= 3100)
    assert part["y"][inside].tolist() == values[3000:3101]
    assert (means["is_smooth"], means["is_exact"]) == (True, True)
    assert part["values"] == 5000


def test_a_part_with_too_many_values_is_folded_as_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_cache, "MAX_POINTS", 1000)
    run = recorded(tmp_path, 0.1, *map(float, range(5000)))

    part = Asked(tmp_path).curves("val_loss", run.path.name, **{"from": 10, "to": 4900})[0]

    assert (part["is_exact"], part["is_read"]) == (False, True)
    of_tenths = np.histogram(part["x"], bins=10, range=(10, 4900))[0]
    assert of_tenths.max() <= 1.5 * of_tenths.min()


def test_who_looks_while_a_resume_begins_is_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_cache, "MAX_POINTS", 100)
    run, attempt = begun(tmp_path, {})
    put(attempt, "loss", *map(float, range(500)))
    series, _ = SeriesCache().read_on(run.path.name, run.folder, 60.0)
    part: Any = (run.path.name, run.folder, series, "loss", "step", (10.0, 20.0), 100, (0.0,), 60.0)
    parts, lines = exact_parts.ExactParts(), Sparklines(SeriesCache())
    before = parts.picture(*part)

    series._begin()  # what another thread does first when it finds that an attempt has begun

    attempt.abandon()
    assert before is not None
    assert parts.picture(*part) is None
    assert b'"x":[]' in bytes(lines._keep((run.path.name, "loss"), ("running", 500), series))


def parts_of(root: Path, runs: int, values: int) -> list[Any]:
    """Questions for the end of a folded metric of so many runs, with no time to read."""
    cache = SeriesCache()
    folders = [recorded(root, 0.1, *map(float, range(values))).folder for _ in range(runs)]
    read = [
        (each.path.name, each, cache.read_on(each.path.name, each, 60.0)[0]) for each in folders
    ]
    return [(*each, "val_loss", "step", (values / 2, values), 100, (0.0,), 0.0) for each in read]


def test_parts_of_many_runs_are_all_read_to_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_cache, "MAX_POINTS", 400)
    monkeypatch.setattr(exact_parts, "BEFORE", 10)
    monkeypatch.setattr(exact_parts, "FEWEST_POINTS", 30)
    monkeypatch.setattr(exact_parts, "MAX_PART_BYTES", 1)
    parts = exact_parts.ExactParts()
    asked = parts_of(tmp_path, 6, 500)

    for _ in range(20):
        answers = [parts.picture(*each) for each in asked]

    assert [answer is not None and answer[1] for answer in answers] == [True] * 6
    drawn = [answer[0][0] for answer in answers if answer is not None]
    assert {(len(each.x) <= 30, each.x[-1], each.is_exact) for each in drawn} == {
        (True, 499.0, False)
    }


def test_parts_that_nobody_asks_for_give_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_cache, "MAX_POINTS", 1000)
    monkeypatch.setattr(exact_parts, "KEPT_S", 0.0)
    monkeypatch.setattr(exact_parts, "MAX_PART_BYTES", 100_000)
    parts = exact_parts.ExactParts()
    asked = parts_of(tmp_path, 6, 1500)

    for each in asked:
        parts.picture(*each)

    assert parts.size_bytes <= 100_000
    assert 1 <= len(parts) < 6


def test_a_curve_has_marks_where_an_attempt_went_on_and_where_exceptions_were(
    tmp_path: Path,
) -> None:
    run, attempt = begun(tmp_path, {})
    put(attempt, "loss", 1.0, 2.0, 3.0)
    fork = attempt.fork()
    attempt.add(nb.Fault, "ValueError", "no", "", "training_step")
    attempt.abandon()
    resumed = run.attempt(step=3, fork=fork)
    put(resumed, "loss", 4.0)
    resumed.add(nb.Fault, "ValueError", "no", "", "training_step")
    resumed.end()

    curve = Asked(tmp_path).curves("loss", run.path.name)[0]

    assert curve["marks"] == [["attempt", 0.0], ["fault", 0.0]]


def test_the_table_says_how_a_command_chooses_the_same_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightbus.sinks.board.export.page_files", lambda: PAGE)
    for lr, group in ((0.1, "public"), (0.2, "public"), (0.3, "secret"), (10.0, "public")):
        folder = nb.RunFolder.open(recorded(tmp_path, lr, 1.0).path)
        write_marks(folder, Marks(tags=("x", "y z"), group=group))
    everything = {"since_s": 36500 * 86400.0, "tags": ["x", "y z"], "group": "public"}
    shelf = Shelf(tmp_path, True, "lr > 0.15", **everything)  # type: ignore[arg-type]

    choice = shelf.choice("lr < 0.05 or lr < 9")
    assert main(["board", *choice, "--export", str(tmp_path / "out")]) == 0

    assert choice[0] == str(tmp_path)
    assert len(list((tmp_path / "out" / "runs").glob("*.js"))) == 1


def test_a_board_says_what_it_was_asked_for_besides_what_it_chose(tmp_path: Path) -> None:
    recorded(tmp_path, 0.1, 1.0)

    choice = Asked(tmp_path).said("/api/table", where="lr < 1")["choice"]

    assert choice == [str(tmp_path), "--where", "lr < 1"]
