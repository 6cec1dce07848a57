"""``nightbus plot RUN... -o FILE``: the metrics of runs, drawn."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bus.errors import UsageError
from ..bus.find_run import find_events
from ..bus.run_folder import RunFolder
from .find import LAST_EVENTS_HELP
from .text import OK, as_json, how_many, plain, tell

if TYPE_CHECKING:
    from ..bus.curves import Curve
    from ..bus.plots import XAxis


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "plot",
        help="draw the metrics of runs into a file",
        description="Draw metrics of one run, or of several to compare them, as one figure.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help=LAST_EVENTS_HELP)
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="where to: a .png, .svg or .pdf"
    )
    add_plot_options(parser)
    parser.add_argument("--json", action="store_true", help="what was drawn, for programs")
    parser.set_defaults(command=_plot)


def add_plot_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which metrics are drawn, and along what."""
    parser.add_argument(
        "--metric", metavar="NAME", action="append", default=[], help="draw only this; repeatable"
    )
    parser.add_argument(
        "--x", choices=("step", "time"), default=None, help="the axis; step by default"
    )


def drawn_in_terminal(
    run: RunFolder, metrics: Sequence[str], x: "XAxis | None", all_attempts: bool = False
) -> str:
    """A run's metrics as plots of dots, as wide as the terminal."""
    from ..bus.plots import draw_in_terminal

    drawn = draw_in_terminal(
        _curves(run, metrics, all_attempts), x or "step", shutil.get_terminal_size().columns
    )
    return "\n".join(plain(line) for line in drawn.split("\n"))


def _plot(options: argparse.Namespace) -> int:
    from ..bus.plots import save_figure

    found = [find_events(run) for run in options.runs]
    names = [run.info.id for run in found]
    if len(set(names)) < len(names):  # of different folders
        names = [str(run.path) for run in found]
    curves = {name: _curves(run, options.metric) for name, run in zip(names, found, strict=True)}
    metrics = options.metric or list(dict.fromkeys(name for run in curves.values() for name in run))
    path = Path(options.output)
    x: XAxis = options.x or "step"
    save_figure(curves, metrics, x, path)
    if options.json:
        drawn = [
            {
                "name": name,
                "path": str(run.path),
                "points": {metric: len(curve) for metric, curve in curves[name].items()},
            }
            for name, run in zip(names, found, strict=True)
        ]
        report = {"path": str(path), "x": x, "metrics": metrics, "runs": drawn}
        sys.stdout.write(as_json(report))
        return OK
    tell(f"{how_many(len(metrics), 'metric')} of {how_many(len(found), 'run')} drawn in {path}")
    return OK


def _curves(
    run: RunFolder, metrics: Sequence[str], all_attempts: bool = False
) -> "dict[str, Curve]":
    from ..bus.curves import read_curves

    curves = read_curves(run, frozenset(metrics), all_attempts=all_attempts)
    missing = [name for name in metrics if name not in curves]
    if missing or not curves:
        known = ", ".join(curves if not metrics else read_curves(run)) or "nothing"
        what = f"no metric {', '.join(missing)}" if missing else "no metrics"
        raise UsageError(f"{run.path} has {what}; recorded: {known}")
    return curves
