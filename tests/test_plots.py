"""nightbus show --plot, nightbus plot, and the curves behind them."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import nightbus
from models import Small, loader, trainer

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.events import Put
from nightbus.bus.inspection.metric_series import Curve, read_curves, thinned
from nightbus.bus.inspection.plots import draw_in_terminal
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.shown_text import plain


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


def test_a_curve_has_steps_times_and_values_in_order(run: Path) -> None:
    curves = read_curves(nb.RunFolder.open(run))

    assert list(curves) == ["falling", "constant", "train_loss", "val_loss"]
    curve = curves["falling"]
    assert list(curve.steps) == list(range(24))
    assert list(curve.values) == [1 / (1 + step) for step in range(24)]
    assert list(curve.times) == sorted(curve.times)
    assert 0 < curve.times[0] < 60
    assert list(curves["val_loss"].steps) == [5, 11, 17, 23]


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


@pytest.mark.long
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


def test_in_the_terminal_several_runs_are_drawn_with_a_letter_each() -> None:
    runs = {"up": {"a": curve_of(1.0, 2.0)}, "down": {"a": curve_of(2.0, 1.0)}}

    legend, plot = draw_in_terminal(runs, ["a"], "step", 80).split("\n\n", 1)

    assert legend.splitlines() == ["a up", "b down"]
    rows = [line.partition("| ")[2].replace("\u2800", " ").split() for line in plot.splitlines()]
    assert [row for row in rows if {"a", "b"} <= {*row}] == [["b", "a"], ["a", "b"]]


def curve_of(*values: float) -> Curve:
    curve = Curve()
    for step, value in enumerate(values):
        curve.append(
            nb.Put(step, step, 0, "train", 0, step, 0, 0, "", "a", value, (), ""), 0, value
        )
    return curve


def test_without_a_file_a_run_is_drawn_in_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", str(recorded(tmp_path, {"a": [1.0, 2.0]}))]) == 0
    assert "(a)" in capsys.readouterr().out


def test_a_logarithmic_axis_needs_a_file(tmp_path: Path) -> None:
    run = recorded(tmp_path, {"a": [1.0]})

    assert main(["plot", str(run), "--log"]) == 2


# -- whatever a log may hold ---------------------------------------------------------------------


def recorded(root: Path, puts: dict[str, list[float]]) -> Path:
    """A run with these values of metrics, step by step."""
    run = nb.RunFolder.create(root, "strange")
    lock = run.begin_attempt()
    place = Place()
    writer = LogWriter(run.store(0), LogIdentity(run.info.id, 0), place)
    for name, values in puts.items():
        for value in values:
            writer.append(writer.event(Put, name, value, ("loggers",), "", source="m"))
    writer.close()
    lock.release()
    return run.path


STRANGE = {
    "huge": [1.7e308, -1.7e308],
    "largest integers": [2**63, 2**64 - 1, -(2**63)],
    "denormal": [5e-324, -5e-324, 0.0],
    "tiny": [1e-310, 3e-310],
    "zeros of both signs": [0.0, -0.0],
    "not finite": [math.nan, math.inf, -math.inf, 1.0],
    "all equal": [1e308, 1e308],
    "one point": [0.3],
    "nearly equal": [1.0, 1.0000000000000002],
}


@pytest.mark.parametrize("values", STRANGE.values(), ids=STRANGE)
def test_any_numbers_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: list[float]
) -> None:
    path = recorded(tmp_path, {"a": values})

    assert main(["plot", str(path), "-o", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").stat().st_size > 1_000
    assert main(["show", "--plot", str(path)]) == 0

    assert "a" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [["plot", "-o", "a.png"], ["show", "--plot"]])
def test_that_a_metric_is_nan_alone_is_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    verb: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = recorded(tmp_path, {"diverged": [math.nan, math.nan], "fine": [1.0, 2.0]})

    assert main([verb[0], str(path), *verb[1:]]) == 0

    said = capsys.readouterr()
    assert "diverged" in said.out + said.err
    assert "no finite values" in said.out + said.err


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
@pytest.mark.parametrize(
    "name",
    [
        r"$\frac{1}{$",
        "$a$ and $b",
        "\x1b]0;title\x07",
        "\u202eback",
        "_hidden",
        "a\nb",
        "x" * 3_000,
    ],
)
def test_a_name_is_drawn_as_it_is_and_not_taken_for_a_formula(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, ending: str
) -> None:
    path = recorded(tmp_path, {name: [1.0, 2.0]})
    file = tmp_path / f"a.{ending}"

    assert main(["plot", str(path), "-o", str(file)]) == 0

    assert file.stat().st_size > 1_000
    assert plain(capfd.readouterr().err.replace("\n", "")).isprintable()


def test_a_run_without_metrics_is_left_out_and_the_others_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_metric, without = recorded(tmp_path, {"a": [1.0]}), recorded(tmp_path, {})

    assert main(["plot", str(with_metric), str(without), "-o", str(tmp_path / "a.png")]) == 0

    said = capsys.readouterr().err
    assert f"{without} is left out: it has no metrics" in said
    assert "1 metric of 1 run drawn" in said


def test_runs_of_which_none_has_a_metric_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(recorded(tmp_path, {})) for _ in range(2)]

    assert main(["plot", *runs, "-o", str(tmp_path / "a.png")]) == 2

    assert not (tmp_path / "a.png").exists()


@pytest.mark.long
def test_of_many_metrics_a_page_is_drawn_and_it_is_said_how_to_see_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recorded(tmp_path, {f"m{number}": [1.0] for number in range(130)})
    file = str(tmp_path / "a.png")

    assert main(["plot", str(path), "-o", file, "--json"]) == 0
    first = capsys.readouterr()
    assert main(["plot", str(path), "-o", file, "--json", "--page", "3"]) == 0
    last = capsys.readouterr()

    assert json.loads(first.out)["metrics"] == [f"m{number}" for number in range(60)]
    assert "metrics 1 to 60 of 130, page 1 of 3; the next with --page 2" in first.err
    assert json.loads(last.out)["metrics"] == [f"m{number}" for number in range(120, 130)]
    assert main(["plot", str(path), "-o", file, "--page", "4"]) == 2
