"""The examples run, learn, and are short enough to be read."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from helpers import DEADLINE_S
from programs import run_program

import nightbus as nb
from nightbus.__main__ import main

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of an example, whose runs go to a folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module(f"examples.{request.param}")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short(name: str) -> None:
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) < 150


@pytest.mark.parametrize("example", ["gan"], indirect=True)
@pytest.mark.parametrize("with_yield", [False, True])
def test_a_gan_gets_close_to_real_digits_of_most_kinds(example: Any, with_yield: bool) -> None:
    course = example.main(with_yield)

    assert course.first["distance"] > 6
    assert course.last["distance"] < 4.5
    assert course.last["digits"] >= 7


@pytest.mark.parametrize("example", ["kfold"], indirect=True)
def test_each_fold_begins_anew_and_learns(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    scores = example.main(num_folds=3, max_epochs=15)

    assert len(scores) == 3
    assert min(scores) > 0.9
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fold ")]
    assert len(lines) == 3
    assert len({line.split("after")[1] for line in lines}) <= 2  # folds differ by a batch at most


@pytest.mark.parametrize("example", ["gradient_scaled_by_validation"], indirect=True)
def test_steps_scaled_by_validation_learn_and_become_longer(example: Any) -> None:
    accuracy, losses = example.main(max_epochs=10)

    assert accuracy > 0.9
    assert losses[-1] < losses[0] / 3
    assert len(losses) == 80


@pytest.mark.parametrize("example", ["active_learning"], indirect=True)
def test_labels_where_the_margin_is_smallest_teach_more_than_random_ones(example: Any) -> None:
    active = example.main(rounds=6)
    at_random = example.main(rounds=6, at_random=True)

    assert active[0] == at_random[0]
    assert active[-1] > active[0] + 0.05
    assert sum(active) > sum(at_random)


@pytest.mark.parametrize("example", ["maml"], indirect=True)
def test_learnt_weights_adapt_better_than_random_ones(example: Any) -> None:
    before, after = example.main(steps=300)

    assert after > before + 0.1


@pytest.mark.parametrize("example", ["tbptt"], indirect=True)
def test_digits_are_remembered_only_if_hidden_states_are_carried(example: Any) -> None:
    assert example.main(carry=True) > 0.7
    assert example.main(carry=False, max_epochs=3) < 0.2


@pytest.mark.parametrize("example", ["lbfgs"], indirect=True)
def test_lbfgs_reaches_the_loss_of_another_solver(example: Any) -> None:
    mine, theirs = example.main()

    assert mine == pytest.approx(theirs, rel=1e-6)


def test_an_example_is_a_command(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}

    done = run_program("-m", "examples.lbfgs", cwd=tmp_path, env=environment, timeout=DEADLINE_S)

    assert done.returncode == 0, done.stderr
    assert "scikit-learn's LogisticRegression: 37.75" in done.stdout
    assert list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("example", ["optuna_sweep"], indirect=True)
def test_the_trials_of_a_sweep_are_a_group_of_runs_and_the_best_is_named(
    example: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prunes = [False, True, True]
    monkeypatch.setattr(
        example.optuna.trial.Trial, "should_prune", lambda trial: prunes[trial.number]
    )

    study = example.main(trials=3, max_epochs=2, size=300)

    runs = {run.name: run for run in nb.runs("runs", where="group == 'sweep'")}
    assert [runs[f"trial-{number}"].ending for number in range(3)] == [
        "completed",
        "stopped",
        "stopped",
    ]
    assert runs["trial-0"].hparams == study.best_params
    assert f"run {runs['trial-0'].id}" in capsys.readouterr().out
    assert main(["ls", "--group", "other"]) == 0
    assert "there are no runs that these options choose" in capsys.readouterr().err
    assert main(["ls", "--group", "sweep", "--columns", "id"]) == 0
    assert capsys.readouterr().out.split()[1:] == sorted(run.id for run in runs.values())
