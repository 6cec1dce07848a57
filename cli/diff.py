"""``nightbus diff RUN_A RUN_B``: tell whether two runs did the same."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..bus.runs.find_run import find_run
from ..bus.runs.run_folder import RunFolder
from .find import RUN_HELP, add_rank_option
from .text import DIFFERS, LOSSY, OK, as_json, cell, how_many, one_line, plain, print_note

if TYPE_CHECKING:
    from ..bus.inspection.compare import Difference
    from ..bus.inspection.compared_log import ComparedEvent
    from ..bus.library.differences import Difference as SetUpDifference

_SET_UP = ("hparams", "config", "code", "versions")
MAX_LISTED = 20


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "diff",
        help="say whether two runs did the same, or where they first differ",
        description="Compare the hooks and metrics of two runs in their order, times aside. A run "
        "that was resumed counts as the run that it became. Exits with 4 when they differ.",
    )
    parser.add_argument("left", metavar="RUN_A", help=RUN_HELP)
    parser.add_argument("right", metavar="RUN_B", help="the same for the other run")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="METRIC",
        help="leave out metrics of this name, or of this pattern, as *_seconds; may be repeated",
    )
    parser.add_argument("--metrics", action="store_true", help="compare metrics only, no hooks")
    add_rank_option(parser, "compare this rank only; otherwise all, one after the other")
    parser.add_argument("--json", action="store_true", help="the result for programs")
    parser.set_defaults(command=_diff)


def _diff(options: argparse.Namespace) -> int:
    from ..bus.inspection.compare import ranks_of_both
    from ..bus.library.differences import differences
    from ..bus.runs.run_summary import read_summary

    left, right = find_run(options.left), find_run(options.right)
    if options.rank is None:
        ranks = ranks_of_both(left, right)
    else:
        ranks = [options.rank]
        for run in (left, right):
            run.refuse_missing_rank(options.rank)
    set_up = differences([read_summary(left.path), read_summary(right.path)])
    equal, rank, difference, missing = _compare(left, right, ranks, options)
    if options.json:
        shown = {
            "equal": difference is None,
            "set_up": [each for each in set_up if each.kind in _SET_UP],
            "events": equal,
            "missing": missing,
            "rank": rank,
            "left": None if difference is None else _fields(difference.left),
            "right": None if difference is None else _fields(difference.right),
        }
        sys.stdout.write(as_json(shown))
    else:
        names = left.path.name, right.path.name
        of_rank = f" of rank {rank}" if len(ranks) > 1 or options.rank is not None else ""
        for line in _set_up_lines(set_up):
            sys.stdout.write(f"{line}\n")
        sys.stdout.write(_text(names, equal, difference, bool(missing), of_rank))
    for line in missing:
        print_note(one_line(line))
    if missing:  # where events are missing, nobody knows whether the runs did the same
        return LOSSY
    return OK if difference is None else DIFFERS


def _compare(
    left: RunFolder, right: RunFolder, ranks: Sequence[int], options: argparse.Namespace
) -> "tuple[int, int | None, Difference | None, list[str]]":
    """Compare one rank after the other, up to the first that differs.

    Args:
        left: one of the runs.
        right: the other.
        ranks: which ones.
        options: what is compared.

    Returns:
        The number of equal events, the rank that differs and how, and what is missing.
    """
    from ..bus.inspection.compare import compare_runs

    number, missing = 0, list[str]()
    for rank in ranks:
        equal, difference, lacks = compare_runs(
            left, right, ignore=tuple(options.ignore), hooks=not options.metrics, rank=rank
        )
        number += equal
        missing += [f"rank {rank}: {line}" if len(ranks) > 1 else line for line in lacks]
        if difference is not None:
            return number, rank, difference, missing
    return number, None, None, missing


def _set_up_lines(found: "Sequence[SetUpDifference]") -> list[str]:
    """Return what was configured differently, a line each."""
    chosen = [each for each in found if each.kind in _SET_UP]
    lines = [
        f"  {cell(each.name)}: {' and '.join(_said(each.kind, value) for value in each.values)}"
        for each in chosen[:MAX_LISTED]
    ]
    if len(chosen) > MAX_LISTED:
        lines.append(f"  and {len(chosen) - MAX_LISTED} more; nightbus compare has all")
    return ["they were set up differently:", *lines] if lines else []


def _said(kind: str, value: Any) -> str:
    if value is None:
        return "the default" if kind == "config" else "nothing"
    return cell(value)


def _text(
    names: tuple[str, str],
    equal: int,
    difference: "Difference | None",
    lacks_some: bool,
    of_rank: str,
) -> str:
    if difference is None:
        how = "equal as far as both can be read" if lacks_some else "equal"
        return f"{how}: {how_many(equal, 'event')} compared\n"
    lines = (
        f"they differ after {how_many(equal, 'equal event')}{of_rank}:",
        plain(f"  {names[0]}: {_shown(difference.left)}"),
        plain(f"  {names[1]}: {_shown(difference.right)}"),
    )
    return "".join(f"{line}\n" for line in lines)


def _shown(event: "ComparedEvent | None") -> str:
    from ..bus.inspection.compare import in_words

    return "has no more events" if event is None else in_words(event)


def _fields(event: "ComparedEvent | None") -> dict[str, Any] | None:
    if event is None:
        return None
    return {**event._asdict(), "value": event.shown}
