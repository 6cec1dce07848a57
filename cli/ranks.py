"""``nightbus ranks RUN``: say which rank the others waited for, and in which phase."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..bus.runs.find_run import find_run
from .find import RUN_HELP
from .text import LOSSY, OK, as_json, how_many, one_line, plain, print_problem

if TYPE_CHECKING:
    from ..bus.inspection.waits import RankReport, Straggler, WaitReport

MAX_ROWS = 16
_PHASES = ("data", "forward", "backward", "waits", "optimizer")


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "ranks",
        help="say which rank the others waited for, and in which phase",
        description="Compare the training steps of a run's ranks: where each ran, how long its "
        "phases took, and in which share of the steps the others waited for it. A rank is named "
        "that was waited for in more than 60 % of 100 steps.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--attempt", type=int, metavar="N", help="which attempt; the last that trained if not given"
    )
    parser.add_argument("--json", action="store_true", help="all ranks, for programs")
    parser.set_defaults(command=_ranks)


def _ranks(options: argparse.Namespace) -> int:
    from ..bus.inspection.waits import compare_ranks

    run = find_run(options.run)
    goes_on = run.is_running()
    report = compare_ranks(run, options.attempt)
    sys.stdout.write(as_json(report) if options.json else _text(report))
    problems = [] if goes_on else report.problems
    for problem in problems:
        print_problem(problem, run.path)
    return LOSSY if problems else OK


def _text(report: "WaitReport") -> str:
    shown = report.ranks
    if len(shown) > MAX_ROWS:
        shown = sorted(shown, key=lambda rank: (-rank.waited_for, rank.rank))[:MAX_ROWS]
    lines = [
        f"{report.id}  attempt {report.attempt}, {how_many(report.world_size, 'rank')}",
        "",
        *_tables(shown, _width()),
    ]
    if rest := len(report.ranks) - len(shown):
        lines.append(f"and {how_many(rest, 'more rank')} that were waited for less; --json has all")
    lines += ["", *_conclusions(report)]
    return "".join(f"{plain(line)}\n" for line in lines)


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def _tables(ranks: Sequence["RankReport"], width: int) -> list[str]:
    """Return the lines of one table, or of two if the terminal is too narrow for one."""
    numbers = [str(rank.rank) for rank in ranks]
    places = [(one_line(rank.host), str(rank.pid or ""), rank.device) for rank in ranks]
    times = [_times(rank) for rank in ranks]
    first, where, how = ("rank",), ("host", "pid", "device"), ("steps", *_PHASES, "waited for")
    together = _aligned(
        [
            first + where + how,
            *((n, *p, *t) for n, p, t in zip(numbers, places, times, strict=True)),
        ]
    )
    if max(map(len, together)) > width:
        together = [
            *_aligned([first + where, *((n, *p) for n, p in zip(numbers, places, strict=True))]),
            "",
            *_aligned([first + how, *((n, *t) for n, t in zip(numbers, times, strict=True))]),
        ]
    return [*together, "(phases in ms a step, on average)"]


def _times(rank: "RankReport") -> tuple[str, ...]:
    phases = rank.data_ms, rank.forward_ms, rank.backward_ms, rank.waits_ms, rank.optimizer_ms
    shown = ("" if phase is None else f"{phase:.3g}" for phase in phases)
    return (f"{rank.steps:,}", *shown, f"{rank.waited_for:.0%}")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines: a host's name to the left, all else to the right."""
    host = rows[0].index("host") if "host" in rows[0] else -1
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if at == host else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _conclusions(report: "WaitReport") -> list[str]:
    from ..bus.inspection.waits import WINDOW

    lines = [
        f"lost: rank {lost.rank}: {one_line(lost.what)}" if lost.what else f"lost: rank {lost.rank}"
        for lost in report.lost
    ]
    if len(report.ranks) < 2:
        return [*lines, "there is one rank, which waits for nobody"]
    if report.steps < WINDOW:
        few = f"{how_many(report.steps, 'step')} that all ranks recorded are too few"
        return [*lines, f"{few} to tell who is waited for: it takes {WINDOW}"]
    told = [_told(straggler) for straggler in report.stragglers[:MAX_ROWS]]
    if rest := len(report.stragglers) - len(told):
        told.append(f"and {how_many(rest, 'more stretch')}es; --json has all")
    lines += told or ["no rank is waited for more than others"]
    if not report.knows_backward:
        lines.append(
            "(it is not recorded when the ranks' own gradients were there, so a slow backward "
            "does not show)"
        )
    return lines


def _told(straggler: "Straggler") -> str:
    phase = f"in {straggler.phase}" if straggler.phase else "in no phase that is recorded"
    return (
        f"rank {straggler.rank} was waited for in {straggler.share:.0%} of the steps "
        f"{straggler.first_step:,} to {straggler.last_step:,}, for {straggler.by_ms:.3g} ms: "
        f"it took longer {phase}"
    )
