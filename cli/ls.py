"""``nightbus ls [ROOT]``: list the runs of a folder."""

import argparse
import sys
from typing import Any

from ..bus.errors import RunFolderError
from ..bus.system.paths import as_path
from .text import ERROR, OK, as_json, duration, moment, plain, print_note, print_problem, size

_HEADER = ("run", "started", "took", "ended", "epochs", "steps", "size")
_LEFT = 4  # columns of words, aligned left


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "ls",
        help="list runs",
        description="List the runs of a folder, oldest first: when they began, how long they took, "
        "how they ended.",
    )
    parser.add_argument(
        "root",
        metavar="ROOT",
        nargs="?",
        default="runs",
        help="the folder the runs lie in, or the one that holds its folder runs; ./runs by default",
    )
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.set_defaults(command=_ls)


def _ls(options: argparse.Namespace) -> int:
    from ..bus.runs.run_list import list_runs

    root = as_path(options.root)
    if not root.is_dir():
        raise RunFolderError(
            f"{root} is not a folder; give the folder the runs lie in, the trainer's "
            "default_root_dir/runs"
        )
    runs = list_runs(root) or list_runs(root / "runs")
    if options.json:
        sys.stdout.write(as_json(runs))
    elif runs:
        _print_table([_row(run) for run in runs])
    else:
        print_note(f"there are no runs in {root}")
    for run in runs:
        if run.problem:
            print_problem(run.problem, run.path, f"{run.id}: ")
    return ERROR if any(run.problem for run in runs) else OK


def _row(run: Any) -> tuple[str, ...]:
    started = ""
    if run.created_ns:
        started = moment(run.created_ns)
    took = duration(run.duration_s) if run.duration_s else ""
    numbers = (f"{run.epochs:,}", f"{run.steps:,}", size(run.size_bytes))
    return (plain(run.id), started, took, run.how, *numbers)


def _print_table(rows: list[tuple[str, ...]]) -> None:
    # Without rich, which takes longer to load than all of this takes to run.
    widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
    for row in (_HEADER, *rows):
        cells = [
            cell.ljust(width) if number < _LEFT else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
