"""``nightbus compare RUN...``: what differs between runs, and their metrics side by side."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ..bus.errors import UsageError
from ..bus.runs.find_run import find_run
from .find import RUN_HELP
from .ls import run_as_json
from .text import OK, as_json, cell, print_note, print_table

if TYPE_CHECKING:
    from ..bus.runs.run_summary import RunSummary

_TITLES = {
    "hparams": "hyperparameters",
    "config": "arguments of the Trainer",
    "code": "code",
    "environment": "environment",
    "versions": "versions",
}
MAX_CHARS = 40  # of a cell


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "compare",
        help="put runs side by side: what differs, and their metrics",
        description="Show in what the set-ups of runs differ (hyperparameters, the Trainer's "
        "arguments, code, environment, versions), and their metrics side by side.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help=RUN_HELP)
    parser.add_argument(
        "--metric", metavar="NAME", action="append", default=[], help="only this; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.set_defaults(command=_compare)


def _compare(options: argparse.Namespace) -> int:
    from ..bus.library.differences import differences
    from ..bus.runs.run_summary import read_summary

    runs = [read_summary(find_run(given).path) for given in dict.fromkeys(options.runs)]
    if len(runs) < 2:
        raise UsageError("compare needs two runs or more; nightbus show has all of one")
    found = differences(runs)
    if options.json:
        different = [
            {"kind": each.kind, "name": each.name, "values": each.values} for each in found
        ]
        runs_as_json = [run_as_json(run) for run in runs]
        sys.stdout.write(as_json({"differences": different, "runs": runs_as_json}))
        return OK
    header = ["", *(run.id for run in runs)]
    rows = [["ended", *(run.ending for run in runs)], ["steps", *(f"{r.steps:,}" for r in runs)]]
    for kind, title in _TITLES.items():
        of_kind = [each for each in found if each.kind == kind]
        if of_kind:
            rows.append([f"-- {title}", *("" for _ in runs)])
        for each in of_kind:
            missing = "(default)" if kind == "config" else "-"
            rows.append([cell(each.name), *(_value(value, missing) for value in each.values)])
    rows += _metric_rows(runs, options.metric)
    print_table(header, rows, 1)
    if not found:
        print_note("they were set up in the same way")
    return OK


def _value(value: Any, missing: str) -> str:
    text = missing if value is None else cell(value)
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 3]}..."


def _metric_rows(runs: "list[RunSummary]", wanted: list[str]) -> list[list[str]]:
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    if missing := [name for name in wanted if name not in names]:
        raise UsageError(f"no run has the metric {', '.join(missing)}")
    rows = [["-- metrics, last (lowest to highest)", *("" for _ in runs)]]
    for name in wanted or names:
        totals = [run.metrics.get(name) for run in runs]
        shown = [
            "-" if total is None else f"{total.last:.5g} ({total.low:.5g} to {total.high:.5g})"
            for total in totals
        ]
        rows.append([cell(name), *shown])
    return rows if len(rows) > 1 else []
