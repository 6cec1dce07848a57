"""nightbus show --plot, nightbus plot, and the curves behind them."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import DEADLINE_S
from models import Small, loader, trainer

import nightbus as nb
from nightbus.bus.curves import Curve, read_curves, thinned


class Puts(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.put("falling", 1 / (1 + self.trainer.global_step))
        self.put("constant", 2.0)
        return super().training_step(batch, batch_idx)


def fit(tmp_path: Path, **arguments: Any) -> Path:
    run = trainer(tmp_path, **arguments)
    run.fit(Puts(), loader(), loader(8))
    assert run.log_dir is not None
    return Path(run.log_dir)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("run"), max_epochs=4)


def nightbus(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nightbus", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
        timeout=DEADLINE_S,
    )


def test_a_curve_has_steps_times_and_values_in_order(run: Path) -> None:
    curves = read_curves(nb.RunFolder.open(run))

    assert list(curves) == ["falling", "constant", "train_loss", "val_loss"]
    curve = curves["falling"]
    assert list(curve.steps) == list(range(24))
    assert list(curve.values) == [1 / (1 + step) for step in range(24)]
    assert list(curve.times) == sorted(curve.times)
    assert 0 < curve.times[0] < 60
    assert list(curves["val_loss"].steps) == [6, 12, 18, 24]


def test_a_resumed_run_is_one_curve_without_what_it_superseded(tmp_path: Path) -> None:
    folder = fit(tmp_path, max_epochs=2)
    kept = folder / "checkpoints" / "kept"
    shutil.copytree((folder / "checkpoints" / "last").resolve(), kept)
    for epochs in (3, 4):  # the second supersedes the first
        run = trainer(tmp_path, max_epochs=epochs)
        run.fit(Puts(), loader(), loader(8), ckpt_path=kept)

    curve = read_curves(nb.RunFolder.open(folder))["falling"]

    assert list(curve.steps) == list(range(24))


def test_thinning_keeps_the_mean_and_leaves_out_what_is_not_finite() -> None:
    curve = Curve()
    for step in range(1000):
        curve.steps.append(step)
        curve.values.append(math.nan if step == 500 else 7.0)

    xs, ys = thinned(curve, curve.steps, 100)

    assert 90 <= len(xs) <= 100
    assert set(ys) == {7.0}
    assert xs == sorted(xs)


def test_show_draws_each_metric_within_the_terminals_width(run: Path) -> None:
    shown = nightbus("show", run, "--plot")

    assert shown.returncode == 0, shown.stderr
    plots = shown.stdout[shown.stdout.index("(falling)") :]
    assert max(len(line) for line in plots.splitlines()) <= 80
    assert re.findall(r"\((\w+)\) +\^", plots) == ["falling", "constant", "train_loss", "val_loss"]
    assert "(step)" in plots


def test_show_draws_only_the_metrics_that_were_asked_for(run: Path) -> None:
    shown = nightbus("show", run, "--plot", "--metric", "constant", "--x", "time")

    assert "(constant)" in shown.stdout
    assert "(falling)" not in shown.stdout
    assert "(time (s))" in shown.stdout


def test_plot_writes_one_figure_for_several_runs(tmp_path: Path, run: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    other = fit(tmp_path)

    done = nightbus("plot", run, other, "-o", tmp_path / "out.png")

    assert done.returncode == 0, done.stderr
    assert "4 metrics of 2 runs drawn in" in done.stderr
    with image.open(tmp_path / "out.png") as picture:
        assert picture.size[0] > 1000


def test_a_figure_names_its_metrics_runs_and_axis(tmp_path: Path, run: Path) -> None:
    nightbus("plot", run, "-o", tmp_path / "out.svg", "--metric", "falling", "--x", "time")

    text = (tmp_path / "out.svg").read_text()
    assert "<!-- falling -->" in text
    assert "<!-- time (s) -->" in text
    assert f"<!-- {run.name} -->" in text
    assert "constant" not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metric", "lost"], "no metric lost; recorded: falling, constant, train_loss, val_loss"),
        (["-o", "out.txt"], r"out\.txt: expected one of the endings"),
    ],
)
def test_a_wrong_call_is_told_what_there_is(run: Path, arguments: list[str], said: str) -> None:
    output = [] if "-o" in arguments else ["-o", "out.png"]

    done = nightbus("plot", run, *output, *arguments)

    assert done.returncode == 2
    assert re.search(said, done.stderr)
