"""``nightbus ls [ROOT]``: a table of runs."""

import argparse
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from ..bus.errors import UsageError
from .text import (
    ERROR,
    OK,
    as_json,
    cell,
    duration,
    moment,
    plain,
    print_note,
    print_problem,
    print_table,
    size,
)

if TYPE_CHECKING:
    from ..bus.library.table import Runs
    from ..bus.runs.run_summary import RunSummary

_HEADER = ("run", "started", "took", "ended", "epochs", "steps", "size")
_LEFT = 4  # columns of words, aligned left
_FIRST_HPARAMS = 3  # shown without being asked for
_UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SINCE = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d|w)")
_NAMES_HELP = (
    "a name: id, name, ending, reason, group, parent, tags, notes, created, duration, epochs, "
    "steps, size, attempts, faults, running, a hyperparameter, an argument of the Trainer, a "
    "metric (its last value; val_loss.min and val_loss.max), git.commit and others of its "
    "environment"
)


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "ls",
        help="list runs",
        description="List the runs of a folder, oldest first: when they began, how long they took, "
        "how they ended, the first hyperparameters that differ, and what else is asked for.",
    )
    add_root(parser)
    add_choice_options(parser)
    parser.add_argument(
        "--metric",
        metavar="NAME",
        action="append",
        default=[],
        help="also show this metric's last value; repeatable",
    )
    parser.add_argument(
        "--hparams",
        action="store_true",
        help=f"show all hyperparameters that differ, and not the first {_FIRST_HPARAMS}",
    )
    parser.add_argument(
        "--columns", metavar="NAME,...", default="", help=f"show these instead: {_NAMES_HELP}"
    )
    parser.add_argument("--sort", metavar="NAME", default="", help="sort by a name, smallest first")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument(
        "-n",
        "--number",
        type=int,
        default=None,
        metavar="N",
        help="the last N; the first, if sorted",
    )
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.set_defaults(command=_ls)


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add the argument for the folder of runs."""
    parser.add_argument(
        "root",
        metavar="ROOT",
        nargs="?",
        default="runs",
        help="the folder the runs lie in, or the one that holds its folder runs; ./runs by default",
    )


def add_choice_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for which runs are listed."""
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        default="",
        help="only runs for which this holds: \"lr < 0.01 and ending == 'completed'\"",
    )
    parser.add_argument(
        "--since", metavar="TIME", default="", help="only runs begun in the last 30min, 8h, 2d, 1w"
    )
    parser.add_argument(
        "--tag", metavar="TAG", action="append", default=[], help="only runs with this tag"
    )
    parser.add_argument("--group", metavar="GROUP", default="", help="only runs of this group")
    parser.add_argument("--archived", action="store_true", help="also those put away")


def _ls(options: argparse.Namespace) -> int:
    runs = _chosen(options)
    if options.json:
        sys.stdout.write(as_json([run_as_json(run) for run in runs.summaries]))
    elif runs.summaries:
        _print(runs, options)
    else:
        is_chosen = options.where or options.since or options.tag or options.group
        which = " that these options choose" if is_chosen else ""
        print_note(f"there are no runs{which} in {options.root}")
    for run in runs.summaries:
        if run.problem:
            print_problem(run.problem, run.path, f"{run.id}: ")
    return ERROR if any(run.problem for run in runs.summaries) else OK


def _chosen(options: argparse.Namespace) -> "Runs":
    from ..bus.library.table import runs

    if options.number is not None and options.number < 1:
        raise UsageError(f"-n {options.number}: expected 1 or more")
    found = runs(options.root, archived=options.archived)
    if options.since:
        found = found.begun_since(time.time_ns() - int(seconds_of(options.since) * 1e9))
    if options.group:
        found = found.of_group(options.group)
    found = found.tagged(*options.tag)
    if options.where:
        found = found.where(options.where)
    if options.sort:
        found = found.sort(options.sort, options.reverse)
        return found[: options.number]
    found = found[-options.number :] if options.number else found
    return found[::-1] if options.reverse else found


def seconds_of(text: str) -> float:
    """Return what ``--since`` says, in seconds.

    Args:
        text: such as ``2d``.

    Raises:
        UsageError: it is no duration.
    """
    match = _SINCE.fullmatch(text)
    if match is None:
        raise UsageError(f"--since {text}: expected a number and a unit: 30min, 8h, 2d or 1w")
    return float(match[1]) * _UNITS_S[match[2]]


def _print(runs: "Runs", options: argparse.Namespace) -> None:
    from ..bus.library.names import metric_columns, value_of

    metrics = metric_columns(runs.summaries, options.metric)
    if options.columns:
        names = [name.strip() for name in options.columns.split(",") if name.strip()]
        names += metrics
        runs.refuse_unknown(names)
        header, rows, left = names, [list[str]() for _ in runs.summaries], 0
    else:
        runs.refuse_unknown(metrics)
        header, rows, left = [*_HEADER], [_row(run) for run in runs.summaries], _LEFT
        hparams = runs.varied_hparams()[: None if options.hparams else _FIRST_HPARAMS]
        names = [*hparams, *metrics]
        if any(run.tags for run in runs.summaries):
            names.append("tags")
        header += names
    for row, run in zip(rows, runs.summaries, strict=True):
        row += [shown(name, value_of(run, name)) for name in names]
    print_table(header, rows, left or 1)


def shown(name: str, value: Any) -> str:
    """Return a run's value for people.

    Args:
        name: what it is of.
        value: the value; None if there is none.
    """
    if value is None:
        return ""
    if name == "created":
        return moment(int(value * 1e9)) if value else ""
    if name == "duration":
        return duration(value) if value else ""
    if name == "size":
        return size(value)
    return cell(value)


def _row(run: "RunSummary") -> list[str]:
    started = moment(run.created_ns) if run.created_ns else ""
    took = duration(run.duration_s) if run.duration_s else ""
    numbers = (f"{run.epochs:,}", f"{run.steps:,}", size(run.size_bytes))
    return [plain(run.id), started, took, plain(run.ending), *numbers]


def run_as_json(run: "RunSummary") -> dict[str, Any]:
    """Return a run in short for programs.

    Args:
        run: the run.
    """
    import msgspec

    left_out = ("encoded", "metrics")
    fields = {name: getattr(run, name) for name in run.__struct_fields__ if name not in left_out}
    said = msgspec.structs.asdict(run.said)
    metrics = {name: msgspec.structs.asdict(total) for name, total in run.metrics.items()}
    return {**fields, **said, "metrics": metrics}
