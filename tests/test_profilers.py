"""What profilers say of a run."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, assert_same, loader, trainer, weights

import nightbus as nb


class Names(Small):
    """Names an action of its own in each step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        with self.trainer.profiler.profile("mine"):
            return super().training_step(batch, batch_idx)


def test_a_simple_profile_has_each_hook_and_each_action_that_was_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, profiler="simple")

    run.fit(Names(), loader(24), loader(4))

    assert isinstance(run.profiler, nb.SimpleProfiler)
    durations = run.profiler.recorded_durations
    counts = {name: len(durations[name]) for name in ("training_step", "mine", "backward")}
    assert counts == dict.fromkeys(counts, 6)
    assert len(durations["validation_step"]) == 2
    assert sum(durations["training_step"]) >= sum(durations["mine"]) > 0
    said = capsys.readouterr().err
    assert "nightbus: profile of fit" in said
    assert {"mine", "training_step", "configure_optimizers"} <= set(said.split())


def test_without_a_profiler_actions_that_are_named_do_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path)

    run.fit(Names(), loader(8))

    assert isinstance(run.profiler, nb.PassThroughProfiler)
    assert "profile" not in capsys.readouterr().err


@pytest.mark.parametrize("profiler", ["simple", "advanced", "pytorch"])
def test_training_is_the_same_with_a_profiler(tmp_path: Path, profiler: str) -> None:
    plain, profiled = Small(), Small()

    trainer(tmp_path).fit(plain, loader())
    trainer(tmp_path, profiler=profiler).fit(profiled, loader())

    assert_same(weights(profiled), weights(plain))


def test_an_advanced_profile_has_the_functions_of_each_action(tmp_path: Path) -> None:
    profiler = nb.AdvancedProfiler(tmp_path / "profile", "mine", 5, dump_stats=True)

    trainer(tmp_path, profiler=profiler).fit(Names(), loader(8))

    text = (tmp_path / "profile/fit-mine.txt").read_text()
    assert "training_step\n" in text
    assert "cumtime" in text
    assert list((tmp_path / "profile").glob("*.prof"))


def test_a_profile_of_torch_has_operations_and_a_trace_in_the_runs_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, profiler="pytorch")

    run.fit(Names(), loader(24))

    assert "aten::" in capsys.readouterr().err
    assert run.run_folder is not None
    trace = json.loads((run.run_folder.path / "fit-trace.json").read_text())
    named = {event.get("name") for event in trace["traceEvents"]}
    assert {"mine", "training_step", "backward"} <= named


def test_a_profiler_of_ones_own_is_used(tmp_path: Path) -> None:
    class Counts(nb.Profiler):
        def __init__(self) -> None:
            super().__init__(tmp_path, "counts")
            self.begun: list[str] = []

        def start(self, action_name: str) -> None:
            self.begun.append(action_name)

        def stop(self, action_name: str) -> None:
            pass

        def summary(self) -> str:
            return f"{self.begun.count('training_step')} steps"

    trainer(tmp_path, profiler=Counts()).fit(Small(), loader(8))

    assert (tmp_path / "fit-counts.txt").read_text() == "2 steps\n"


@pytest.mark.parametrize("profiler", ["simple", "advanced", "pytorch"])
def test_a_trainer_with_a_profiler_can_be_copied(tmp_path: Path, profiler: str) -> None:
    run = trainer(tmp_path, profiler=profiler)
    run.fit(Small(), loader(4))

    for twin in (copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
        assert type(twin.profiler) is type(run.profiler)


@pytest.mark.parametrize(
    ("profiler", "message"),
    [
        ("fast", "expected 'simple', 'advanced', 'pytorch', a nightbus.Profiler"),
        (torch, "expected 'simple'"),
    ],
)
def test_what_is_no_profiler_is_refused(profiler: Any, message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        nb.Trainer(profiler=profiler)


def test_actions_that_do_not_match_are_refused() -> None:
    simple, advanced = nb.SimpleProfiler(), nb.AdvancedProfiler()
    simple.start("a")
    advanced.start("a")
    advanced.start("b")

    with pytest.raises(nb.UsageError, match="has begun already"):
        simple.start("a")
    with pytest.raises(nb.UsageError, match="has not begun"):
        simple.stop("b")
    with pytest.raises(nb.UsageError, match="running: a, b"):
        advanced.stop("a")
    advanced.stop("b")
    advanced.stop("a")
    with pytest.raises(nb.UsageError, match="nor has torch"):
        nb.PyTorchProfiler(no_such=True)


def test_ranges_for_nsight_systems_are_refused_with_what_makes_them() -> None:
    nb.PyTorchProfiler(emit_nvtx=False)
    with pytest.raises(nb.UsageError, match=r"autograd\.profiler\.emit_nvtx\(\).*nsys profile"):
        nb.PyTorchProfiler(emit_nvtx=True)


def test_actions_outside_of_a_run_are_profiled_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for profiler in (
        nb.SimpleProfiler(filename="simple"),
        nb.AdvancedProfiler(filename="advanced", dump_stats=True),
        nb.PyTorchProfiler(filename="pytorch", schedule=None),
    ):
        with profiler.profile("a/b"):
            torch.ones(3)
        profiler.describe()

    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("simple.txt", "advanced.txt", "advanced-a_b.prof", "pytorch.txt"),
        "pytorch-trace.json",
    }
    assert isinstance(profiler, nb.PyTorchProfiler)
    assert "a/b" in {event.name for event in profiler.function_events or ()}


def test_too_few_steps_for_the_schedule_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path, profiler="pytorch").fit(Small(), loader(4))

    assert "too few steps for its schedule" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["row_limit", "nonsense"])
def test_arguments_that_the_table_does_not_take_are_refused(name: str) -> None:
    with pytest.raises(nb.UsageError, match=f"table_kwargs has '{name}'"):
        nb.PyTorchProfiler(table_kwargs={name: 1})


def test_files_lie_where_the_logger_writes(tmp_path: Path) -> None:
    logger = nb.CSVLogger(tmp_path / "csv", name="mine", version=3)
    profiler = nb.SimpleProfiler(filename="times")
    trainer(tmp_path, profiler=profiler, logger=logger).fit(Small(), loader(4))

    assert (tmp_path / "csv/mine/version_3/fit-times.txt").exists()
