"""The board: what a run looked like at a moment."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from board_asked import PAGE, Asked, begun, put
from recorded_runs import SECOND_NS, RecordedRun

import nightbus as nb
from nightbus.sinks.board import history, moments, past_loops
from nightbus.sinks.board.export import exported
from nightbus.sinks.board.past_loops import PastLoops
from nightbus.sinks.board.shelf import Shelf


@pytest.fixture
def run(tmp_path: Path) -> RecordedRun:
    """A run of some seconds in which everything happens, a second apart."""
    run, attempt = begun(tmp_path, {})

    def later(kind: Any, *fields: Any) -> None:
        attempt.now_ns += SECOND_NS
        attempt.add(kind, *fields)

    attempt.add(nb.LoopStarted, 3, "epoch")
    later(nb.ActorStarted, "CSV", 0)  # second 1
    later(nb.ConsoleLine, "stdout", "hello", 0)  # 2
    later(nb.SystemMetrics, {"process/cpu_percent": 50.0})  # 3
    put(attempt, "loss", 5.0, 4.0)  # 4 and 5: steps 0 and 1
    attempt.now_ns += SECOND_NS
    attempt.writer.add_hook("training_step", attempt.now_ns, SECOND_NS)  # from 5 to 6
    later(nb.Fault, "ValueError", "no", "", "training_step")  # 7
    later(nb.CheckpointSaved, "checkpoints/one", "digest", 1234)  # 8
    later(nb.ActorTotals, "CSV", "drained", 9, 2, 0, 0, 0, 0, 0, 0, 3)  # 9
    attempt.end()
    return run


def at(run: RecordedRun, time_s: float) -> Any:
    """The run at a moment."""
    board = Asked(run.path.parent)
    board.said(f"/api/history/{run.path.name}")  # all of it is read then
    return board.said(f"/api/moment/{run.path.name}", time=time_s)


def test_a_moment_has_the_values_and_the_progress_of_then(run: RecordedRun) -> None:
    before, after = at(run, 4.5), at(run, 5.5)

    assert before["metrics"] == [{"name": "loss", "value": 5.0, "step": 0}]
    assert after["metrics"] == [{"name": "loss", "value": 4.0, "step": 1}]
    assert (after["stage"], after["epoch"], after["step"]) == ("train", 0, 1)
    assert before["loops"] == [{"name": "module", "total": 3, "unit": "epoch", "completed": 0}]


def test_outer_loops_are_known_however_often_inner_ones_begin_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_loops, "MAX_SPANS", 40)
    run, attempt = begun(tmp_path, {})

    def later(kind: Any, source: str, *fields: Any) -> None:
        attempt.now_ns += SECOND_NS
        attempt.writer.append(attempt.writer.event(kind, *fields, source=source))

    later(nb.LoopStarted, "fit", 600, "epoch")
    for _ in range(600):
        later(nb.LoopStarted, "train", 4, "batch")
        later(nb.LoopStarted, "validate", 2, "batch")
        later(nb.LoopEnded, "validate", 2)
        later(nb.LoopEnded, "train", 4)
    attempt.writer.flush()
    board = Asked(tmp_path)
    last_s = board.said(f"/api/history/{run.path.name}")["last_s"]
    asked = [
        board.said(f"/api/moment/{run.path.name}", time=last_s * share / 20)["loops"]
        for share in range(1, 21)
    ]
    attempt.abandon()

    assert [loops[0]["name"] for loops in asked] == ["fit"] * 20


def test_of_inner_loops_evenly_many_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_loops, "MAX_SPANS", 200)
    loops = PastLoops()

    loops.begin("fit", None, "epoch", 0.0)
    for number in range(4_000):
        loops.begin("train", 4, "batch", number + 0.0)
        loops.end("train", number + 0.75)

    at_times = [[each.name for each in loops.at(number + 0.5)] for number in range(4_000)]
    of_tenths = [at_times[at : at + 400].count(["fit", "train"]) for at in range(0, 4_000, 400)]
    assert len(loops) <= 201
    assert min(of_tenths) >= 10
    assert max(of_tenths) <= 1.5 * min(of_tenths)


def test_loops_of_an_attempt_that_was_killed_do_not_run_on(tmp_path: Path) -> None:
    run, attempt = begun(tmp_path, {})
    attempt.add(nb.LoopStarted, 3, "epoch")
    fork = attempt.fork()
    attempt.abandon()
    resumed = run.attempt(fork=fork)
    put(resumed, "loss", 1.0)
    resumed.end()
    last_s = Asked(tmp_path).said(f"/api/history/{run.path.name}")["last_s"]

    assert [each["name"] for each in at(run, 0.0)["loops"]] == ["module"]
    assert at(run, last_s)["loops"] == []


def test_a_moment_has_the_hooks_that_run_and_those_of_its_step(run: RecordedRun) -> None:
    inside, after = at(run, 5.25), at(run, 7.5)

    assert inside["running"] == [
        {"name": "training_step", "stage": "train", "begin_s": -0.25, "end_s": 0.75}
    ]
    assert after["running"] == []
    assert [each["name"] for each in after["hooks"]] == ["training_step"]
    assert after["hooks_step"] == 1


def test_after_the_last_step_the_hooks_are_those_of_the_step_before(tmp_path: Path) -> None:
    run, attempt = begun(tmp_path, {})
    attempt.place.move(step=4)
    attempt.writer.add_hook("training_step", attempt.now_ns + SECOND_NS, SECOND_NS)
    attempt.now_ns += 2 * SECOND_NS
    attempt.place.move(step=5)
    attempt.end()

    end = at(run, 2.0)

    assert (end["step"], end["hooks_step"]) == (5, 4)
    assert [each["name"] for each in end["hooks"]] == ["training_step"]


def test_a_moment_has_how_far_actors_were_behind_then(tmp_path: Path) -> None:
    run, attempt = begun(tmp_path, {})
    for backlogs in (({"csv": 4}, {}), ({"csv": 0}, {"csv": 2})):
        attempt.now_ns += SECOND_NS
        attempt.add(nb.ActorBacklogs, *backlogs)
    attempt.end()

    assert at(run, 1.5)["actors"] == [{"name": "csv", "lag": 4}]
    assert at(run, 2.5)["actors"] == [{"name": "csv", "lag": 0, "waiting": 2}]


def test_of_many_backlogs_every_second_stays_and_what_became_of_the_actor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_SAMPLES", 12)
    run, attempt = begun(tmp_path, {})
    attempt.add(nb.ActorStarted, "CSV", 0)
    for lag in range(1, 30):
        attempt.now_ns += SECOND_NS
        attempt.add(nb.ActorBacklogs, {"module": lag}, {})
    attempt.end()

    (actor,) = at(run, 29.5)["actors"]

    assert (actor["kind"], actor["state"]) == ("CSV", "running")
    assert 25 < actor["lag"] <= 29
    assert 8 < at(run, 12.5)["actors"][0]["lag"] <= 12


def test_a_moment_has_console_system_faults_checkpoints_and_actors_of_before(
    run: RecordedRun,
) -> None:
    first, late, end = at(run, 0.5), at(run, 7.5), at(run, 10.0)

    assert (first["console"], first["system"], first["actors"]) == ([], {}, [])
    assert list(first["happened"]) == ["attempt"]
    assert [line["text"] for line in late["console"]] == ["hello"]
    assert late["system"] == {"process/cpu_percent": 50.0}
    assert late["happened"]["fault"][0]["words"] == "ValueError: no (in training_step)"
    assert late["actors"] == [{"name": "module", "kind": "CSV", "state": "running"}]
    assert end["happened"]["checkpoint"][0]["words"] == "checkpoints/one"
    (actor,) = end["actors"]
    assert (actor["state"], actor["lag"], actor["most_waiting"]) == ("drained", 2, 3)


def test_the_history_of_a_run_has_its_length_what_happened_and_its_system(
    run: RecordedRun,
) -> None:
    said = Asked(run.path.parent).said(f"/api/history/{run.path.name}")

    assert (said["last_s"], said["is_read"]) == (9.0, True)
    kinds = [(each["kind"], each["time_s"]) for each in said["happened"]]
    assert kinds == [("attempt", 0.0), ("fault", 7.0), ("checkpoint", 8.0), ("end", 9.0)]
    assert said["system"] == {"process/cpu_percent": {"x": [3.0], "y": [50.0]}}


def test_a_resumed_run_is_one_time_without_what_was_superseded(tmp_path: Path) -> None:
    run, attempt = begun(tmp_path, {})
    put(attempt, "loss", 1.0)
    fork = attempt.fork()
    attempt.add(nb.ConsoleLine, "stdout", "superseded", 0)
    attempt.abandon()
    resumed = run.attempt(step=1, fork=fork)
    put(resumed, "loss", 2.0)
    resumed.add(nb.ConsoleLine, "stdout", "goes on", 0)
    resumed.end()
    said = Asked(tmp_path).said(f"/api/history/{run.path.name}")

    end = at(run, said["last_s"])

    assert [line["text"] for line in end["console"]] == ["goes on"]
    assert (end["attempt"], end["metrics"][0]["value"]) == (1, 2.0)


def test_what_is_kept_of_a_long_run_is_bounded_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_SAMPLES", 10)
    monkeypatch.setattr(moments, "MAX_LINES", 3)
    run, attempt = begun(tmp_path, {})
    for number in range(history.MAX_LINES + 5):
        attempt.now_ns += SECOND_NS
        attempt.add(nb.ConsoleLine, "stdout", f"line {number}", 0)
        attempt.add(nb.SystemMetrics, {"x": float(number)})
    attempt.end()

    end = at(run, 1e9)

    assert [line["text"] for line in end["console"]] == ["line 2002", "line 2003", "line 2004"]
    assert end["has_more_lines"]
    assert end["system"]["x"] > 1000


def test_a_file_has_the_history_of_a_run_and_moments_of_it(run: RecordedRun) -> None:
    file = exported(Shelf(run.path.parent), PAGE)
    found = re.search(rb'id="data">(.*?)</script>', file, re.DOTALL)
    assert found

    data = json.loads(found.group(1))["runs"][run.path.name]

    assert (data["history"]["last_s"], data["history"]["is_read"]) == (9.0, True)
    assert [each["time_s"] for each in data["moments"]] == [9 * (n + 1) / 8 for n in range(8)]
    assert data["moments"][-1]["actors"][0]["state"] == "drained"
