"""``nightbus replay`` with a rate, a stretch, filters and actors."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from recorded_runs import RecordedRun

from nightbus.__main__ import main

RULES = """
import nightbus as nb

class HighLoss(nb.Actor):
    @nb.on(nb.Put, name="loss")
    async def watch(self, put):
        if put.value > 4:
            self.put("high", put.value)
            await self.tell("fit", nb.Stop(reason="too high"))

class NeedsArgument(nb.Actor):
    def __init__(self, limit):
        pass

NOT_AN_ACTOR = 1
class NoActor: pass
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rules.py, and us in it."""
    (tmp_path / "rules.py").write_text(RULES)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "needs.py").write_text("import no_such_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    for name in ("rules", "broken", "needs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def replay(run: Path, *arguments: Any) -> int:
    return main(["replay", str(run), *map(str, arguments)])


def steps_in(folder: Path) -> list[int]:
    rows = (folder / "metrics.csv").read_text().splitlines()[1:]
    return [int(row.split(",")[1]) for row in rows]


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        (["--from", "step=3"], [3, 4, 5, 6]),
        (["--until", "step=3"], [1, 2]),
        (["--from", "time=2s", "--until", "time=4s"], [2, 3]),
        (["--steps", "2..3"], [2, 3]),
        (["--times", "..2s"], [1, 2]),
        (["--stage", "train", "--steps", "6"], [6]),
        (["--event", "Put", "--steps", "6"], [6]),
        (["--rate", "x200", "--from", "step=5"], [5, 6]),
        (["--rate", "200", "--clock", "wall", "--from", "step=5"], [5, 6]),
    ],
)
def test_a_stretch_is_written(tmp_path: Path, arguments: list[str], steps: list[int]) -> None:
    path = RecordedRun(tmp_path).steps(6)

    assert replay(path, "--csv", tmp_path, *arguments) == 0

    assert steps_in(tmp_path) == steps


def test_metrics_are_picked_by_pattern(tmp_path: Path) -> None:
    path = RecordedRun(tmp_path).steps(10)

    assert replay(path, "--csv", tmp_path, "--metric", "val_*", "--metric", "lr") == 0

    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == "epoch,step,stage,lr,val_loss"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "7"], "--from '7': expected step=N, epoch=N, seq=N, seq=ATTEMPT:N or time="),
        (["--until", "epoch=x"], "--until 'epoch=x': expected step=N"),
        (["--from", "step=5", "--until", "step=5"], "--until 'step=5' comes before --from 'step"),
        (["--rate", "fast"], "--rate 'fast': expected max, realtime, or how many times faster"),
        (["--steps", "a..b"], "--steps 'a..b': expected 100..200, where one end may be left out"),
        (["--times", "2..1"], "--times '2..1': the end comes before the begin"),
        (["--event", "Putt"], "--event 'Putt': there is no such type of event; expected some of"),
        (["--stage", "fit"], "--stage 'fit': there is no such stage; expected train, validate"),
    ],
)
def test_a_call_that_is_wrong_says_what_is_expected_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code = replay(RecordedRun(tmp_path).steps(1), "--csv", tmp_path, *arguments)

    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "metrics.csv").exists()


@pytest.mark.parametrize("argument", [["--from", "step=1"], ["--rate", "x2"], ["--metric", "x"]])
def test_the_rest_for_the_runs_own_sinks_is_not_a_stretch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: list[str]
) -> None:
    assert replay(RecordedRun(tmp_path).steps(1), "--resume", *argument) == 2

    assert "--resume delivers all that the run's own sinks lack" in capsys.readouterr().err


def test_a_metric_that_was_not_recorded_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(RecordedRun(tmp_path).steps(1), "--csv", tmp_path, "--metric", "acc") == 1

    assert "'acc' of the metrics" in capsys.readouterr().err


# -- actors --------------------------------------------------------------------------------------


def test_an_actor_is_given_the_run_and_what_it_emits_is_printed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = RecordedRun(here).steps(5)

    assert replay(path, "--actor", "rules:HighLoss") == 0

    put, told = map(json.loads, capsys.readouterr().out.splitlines())
    assert put == {"put": "high", "value": 5.0, "source": "highloss"}
    assert told == {
        "tell": "Stop",
        "target": "fit",
        "arguments": {"reason": "too high"},
        "source": "highloss",
        "attempt": 0,
        "seq": 14,
        "epoch": 0,
        "step": 5,
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("rules", "expected MODULE:CLASS, such as rules:NanWatch"),
        ("rules:", "expected MODULE:CLASS"),
        (":HighLoss", "expected MODULE:CLASS"),
        ("missing:HighLoss", "there is no module missing in this folder or installed"),
        ("rules:Missing", "the module rules has no Missing"),
        ("rules:NoActor", "NoActor is not an actor; expected a class derived from"),
        ("rules:NOT_AN_ACTOR", "NOT_AN_ACTOR is not an actor"),
        ("rules:NeedsArgument", "cannot be made without arguments"),
        ("broken:Any", "importing broken failed: ZeroDivisionError: division by zero"),
        ("needs:Any", "importing needs failed: No module named 'no_such_package'"),
    ],
)
def test_an_actor_that_cannot_be_made_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], given: str, message: str
) -> None:
    assert replay(RecordedRun(here).steps(1), "--actor", given) == 2

    assert message in capsys.readouterr().err


def test_after_a_call_that_names_what_is_not_there_the_corrected_one_goes_through(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RecordedRun(here).steps(3)

    wrong = replay(run, "--csv", here / "out", "--metric", "foo")
    said = capsys.readouterr().err
    right = replay(run, "--csv", here / "out", "--metric", "loss")

    assert (wrong, right) == (1, 0)
    assert (
        "'foo' of the metrics of this stretch of the run was not recorded; recorded are: " in said
    )
    assert steps_in(here / "out") == [1, 2, 3]


def test_a_hook_that_is_not_there_is_missed_for_files_too(here: Path) -> None:
    assert replay(RecordedRun(here).steps(3), "--csv", here / "out", "--hook", "on_nope") == 1
    assert not (here / "out").exists()
