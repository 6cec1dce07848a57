"""``nightbus diff RUN_A RUN_B``: tell whether two runs did the same."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ..bus.runs.find_run import find_run
from .find import RUN_HELP
from .text import DIFFERS, LOSSY, OK, as_json, how_many, one_line, plain, print_note

if TYPE_CHECKING:
    from ..bus.inspection.compared_log import ComparedEvent


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
    parser.add_argument("--json", action="store_true", help="the result for programs")
    parser.set_defaults(command=_diff)


def _diff(options: argparse.Namespace) -> int:
    from ..bus.inspection.compare import compare_runs

    left, right = find_run(options.left), find_run(options.right)
    equal, difference, missing = compare_runs(
        left, right, ignore=tuple(options.ignore), hooks=not options.metrics
    )
    if options.json:
        shown = {
            "equal": difference is None,
            "events": equal,
            "missing": missing,
            "left": None if difference is None else _fields(difference.left),
            "right": None if difference is None else _fields(difference.right),
        }
        sys.stdout.write(as_json(shown))
    elif difference is None:
        how = "equal as far as both can be read" if missing else "equal"
        print(f"{how}: {how_many(equal, 'event')} compared")
    else:
        print(f"they differ after {how_many(equal, 'equal event')}:")
        print(plain(f"  {left.path.name}: {_shown(difference.left)}"))
        print(plain(f"  {right.path.name}: {_shown(difference.right)}"))
    for line in missing:
        print_note(one_line(line))
    if missing:  # where events are missing, nobody knows whether the runs did the same
        return LOSSY
    return OK if difference is None else DIFFERS


def _shown(event: "ComparedEvent | None") -> str:
    if event is None:
        return "has no more events"
    what = event.name if event.kind == "Hook" else f"{event.name} = {event.shown}"
    where = f"{event.stage or 'between stages'}, epoch {event.epoch}, step {event.step}"
    batch = f", batch {event.batch_idx}" if event.batch_idx >= 0 else ""
    how = "" if event.kind == "Hook" else f", put with {', '.join(map(repr, event.details))}"
    return f"{what}  ({where}{batch}{how}; attempt {event.attempt}, event {event.seq})"


def _fields(event: "ComparedEvent | None") -> dict[str, Any] | None:
    if event is None:
        return None
    return {**event._asdict(), "value": event.shown}
