"""``nightbus plot RUN... -o FILE``: draw the metrics of runs."""

import argparse
import math
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..bus.errors import NightbusError, UsageError
from ..bus.runs.find_run import find_events
from ..bus.runs.run_folder import RunFolder
from ..bus.system.paths import as_path
from .find import LAST_EVENTS_HELP, add_rank_option, chosen_rank
from .text import LOSSY, OK, as_json, cell, how_many, one_line, plain, print_note, print_problem

if TYPE_CHECKING:
    from ..bus.inspection.metric_series import Curve
    from ..bus.inspection.plots import XAxis

METRICS_A_PAGE = 60
MAX_IN_LABEL = 3  # hyperparameters


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "plot",
        help="draw the metrics of runs",
        description="Draw metrics of one run, or of several to compare them: in the terminal, or "
        "as one figure into a file.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help=LAST_EVENTS_HELP)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default=None,
        help="a .png, .svg or .pdf to write; by default it is drawn in the terminal, of several "
        "runs with a letter for each",
    )
    add_plot_options(parser)
    parser.add_argument("--log", action="store_true", help="a logarithmic axis of values")
    parser.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="WEIGHT",
        help="draw exponential means: the weight of the values before, from 0 to below 1",
    )
    add_rank_option(parser, "what this rank recorded; of several, rank 0 is drawn")
    parser.add_argument("--json", action="store_true", help="what was drawn, for programs")
    parser.set_defaults(command=_plot)


def add_plot_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for which metrics are drawn, and along which axis."""
    parser.add_argument(
        "--metric",
        metavar="NAME",
        action="append",
        default=[],
        help="draw only this metric, or those of this pattern, as 'val/*'; repeatable",
    )
    parser.add_argument(
        "--system",
        action="store_true",
        help="draw what the process and its machine used, instead of metrics",
    )
    parser.add_argument(
        "--x",
        choices=("step", "epoch", "time", "wall"),
        default=None,
        help="the axis: steps (default) or epochs completed, time since the start (default with "
        "--system), or since 1970",
    )
    parser.add_argument(
        "--page",
        type=int,
        default=None,
        metavar="N",
        help=f"of more than {METRICS_A_PAGE} metrics, the N-th {METRICS_A_PAGE}; 1 by default",
    )


def drawn_in_terminal(
    run: RunFolder, options: argparse.Namespace, all_attempts: bool = False
) -> str:
    """Return a run's metrics as plots of dots, as wide as the terminal.

    Args:
        run: the run.
        options: of ``add_plot_options``, and the rank.
        all_attempts: also draw superseded values.

    Raises:
        UsageError: the run has none of the metrics.
    """
    from ..bus.inspection.plots import draw_in_terminal

    read = _read(run, options, options.rank or 0, all_attempts)
    if not read.curves:
        raise UsageError(f"{run.path} has {read.lacks}")
    page = _page(list(read.curves), options.page)
    columns = shutil.get_terminal_size().columns
    drawn = draw_in_terminal({run.info.id: read.curves}, page, _axis(options), columns)
    return "\n".join(plain(line) for line in drawn.split("\n"))


def _plot(options: argparse.Namespace) -> int:
    from ..bus.inspection.plots import has_finite

    _check_weight(options.smooth)
    if options.log and options.output is None:
        raise UsageError("--log is for files; give one with -o FILE")
    found, curves, is_lossy = _read_all(options)
    names = [run.info.id for run in found]
    if len(set(names)) < len(names):  # the same name in different folders
        names = [str(run.path) for run in found]
    by_run = dict(zip(names, curves, strict=True))
    recorded = list(dict.fromkeys(name for run in curves for name in run))
    _check_wanted(options.metric, recorded)
    asked = dict.fromkeys(name for each in options.metric for name in _matching(each, recorded))
    metrics = _page(list(asked) or recorded, options.page)
    x = _axis(options)
    path = _draw(_labelled(found, by_run), metrics, x, options)
    for metric in metrics:
        if not any(has_finite(run[metric]) for run in curves if metric in run):
            print_note(f"{metric} has no finite values")
    if options.json:
        drawn = [
            {
                "name": name,
                "path": str(run.path),
                "points": {metric: len(curve) for metric, curve in by_run[name].items()},
            }
            for name, run in zip(names, found, strict=True)
        ]
        report = {"path": path and str(path), "x": x, "metrics": metrics, "runs": drawn}
        sys.stdout.write(as_json(report))
    elif path is not None:
        what = f"{how_many(len(metrics), 'metric')} of {how_many(len(found), 'run')}"
        print_note(f"{what} drawn in {path}")
    return LOSSY if is_lossy else OK


def _draw(
    runs: "Mapping[str, dict[str, Curve]]",
    metrics: list[str],
    x: "XAxis",
    options: argparse.Namespace,
) -> Path | None:
    """Draw into the file that is asked for, and return its path; without one, in the terminal."""
    from ..bus.inspection.plots import draw_in_terminal, save_figure

    if options.output is not None:
        path = as_path(options.output)
        save_figure(runs, metrics, x, path, options.log, options.smooth)
        return path
    columns = shutil.get_terminal_size().columns
    drawn = draw_in_terminal(runs, metrics, x, columns, options.smooth)
    if not options.json:
        sys.stdout.write("\n".join(plain(line) for line in drawn.split("\n")))
    return None


def _axis(options: argparse.Namespace) -> "XAxis":
    x: XAxis = options.x or ("time" if options.system else "step")
    return x


def _read_all(
    options: argparse.Namespace,
) -> "tuple[list[RunFolder], list[dict[str, Curve]], bool]":
    """Return the runs that have metrics, their curves, and whether something could not be read."""
    found: list[RunFolder] = []
    curves: list[dict[str, Curve]] = []
    left_out: list[NightbusError | OSError] = []
    is_lossy = False
    for given in options.runs:
        try:
            run = find_events(given)
            rank = chosen_rank(run, options.rank) or 0
            read = _read(run, options, rank)
        except (NightbusError, OSError) as error:
            left_out.append(error)
            if len(options.runs) > 1:
                print_note(f"{plain(given)} is left out: {one_line(str(error))}")
                is_lossy = True
            continue
        for problem in read.problems:
            print_problem(problem, run.path, f"{run.path.name}: ")
            is_lossy = True
        if read.curves:
            found.append(run)
            curves.append(read.curves)
            continue
        left_out.append(UsageError(f"{run.path} has {read.lacks}"))
        if len(options.runs) > 1:
            print_note(f"{given} is left out: it has {read.lacks}")
    if not found:
        raise left_out[0]
    return found, curves, is_lossy


def _check_weight(smooth: float) -> None:
    if not 0 <= smooth < 1:
        raise UsageError(f"--smooth {smooth:g}: expected a weight from 0 to below 1")


def _labelled(
    found: Sequence[RunFolder], by_run: "Mapping[str, dict[str, Curve]]"
) -> "dict[str, dict[str, Curve]]":
    """Return curves under labels that say in which hyperparameters their runs differ."""
    from ..bus.library.differences import differences
    from ..bus.runs.run_summary import read_summary

    if len(found) < 2 or any(run.path.is_file() for run in found):
        return dict(by_run)
    different = differences([read_summary(run.path) for run in found])
    chosen = [each for each in different if each.kind == "hparams"][:MAX_IN_LABEL]
    labels = [
        ", ".join([name, *(f"{each.name}={cell(each.values[number])}" for each in chosen)])
        for number, name in enumerate(by_run)
    ]
    return dict(zip(labels, by_run.values(), strict=True))


class _Read(NamedTuple):
    """The metrics read from a run.

    Attributes:
        curves: the requested metrics that the run has.
        problems: what could not be read, a line each.
        lacks: what the run does not have, for a message.
    """

    curves: "dict[str, Curve]"
    problems: list[str]
    lacks: str


def _read(
    run: RunFolder, options: argparse.Namespace, rank: int, all_attempts: bool = False
) -> _Read:
    from ..bus.inspection.metric_series import read_curves

    problems: list[str] = []
    metrics: Sequence[str] = options.metric
    has_pattern = any(character in name for name in metrics for character in "*?[")
    wanted = frozenset[str]() if has_pattern else frozenset(metrics)
    curves = read_curves(run, wanted, rank, all_attempts, problems, options.system)
    if has_pattern:
        metrics = [name for each in metrics for name in _matching(each, curves)] or metrics
        curves = {name: curves[name] for name in metrics if name in curves}
    known = ""
    if not curves and metrics:
        every = read_curves(run, (), rank, all_attempts, [], options.system)
        known = one_line(", ".join(every))
    what = f"no metric {', '.join(metrics)}" if metrics else "no metrics"
    return _Read(
        {name: curves[name] for name in metrics or curves if name in curves},
        problems,
        f"{what}; recorded: {known or 'nothing'}",
    )


def _matching(wanted: str, recorded: Iterable[str]) -> list[str]:
    """Return the names that a name or a pattern means."""
    return [name for name in recorded if name == wanted or fnmatchcase(name, wanted)]


def _check_wanted(wanted: Sequence[str], recorded: Sequence[str]) -> None:
    missing = [name for name in wanted if not _matching(name, recorded)]
    if missing:
        raise UsageError(f"no run has the metric {', '.join(missing)}")


def _page(metrics: list[str], page: int | None) -> list[str]:
    """Return the metrics to draw, and report the others."""
    pages = math.ceil(len(metrics) / METRICS_A_PAGE)
    number = 1 if page is None else page
    if not 1 <= number <= pages:
        raise UsageError(f"--page {number}: {how_many(len(metrics), 'metric')} make 1 to {pages}")
    first = (number - 1) * METRICS_A_PAGE
    shown = metrics[first : first + METRICS_A_PAGE]
    if pages > 1:
        more = f"; the next with --page {number + 1}" if number < pages else ""
        which = f"metrics {first + 1} to {first + len(shown)} of {len(metrics)}"
        print_note(f"{which}, page {number} of {pages}{more}; some by name with --metric NAME")
    return shown
