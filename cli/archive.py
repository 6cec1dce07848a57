"""``nightbus archive RUN...``: leave runs out of tables, without removing anything."""

import argparse
import sys
from typing import Any

from ..bus.runs.find_run import find_run
from .find import RUN_HELP
from .text import OK, as_json, print_note


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "archive",
        help="leave runs out of tables, or put them back",
        description="Leave runs out of the table of ls, which lists them with --archived. Nothing "
        "is removed, and they are found as before.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help=RUN_HELP)
    parser.add_argument("--undo", action="store_true", help="put them back")
    parser.add_argument("--json", action="store_true", help="the result, for programs")
    parser.set_defaults(command=_archive)


def _archive(options: argparse.Namespace) -> int:
    import msgspec

    from ..bus.runs.marks import changing_marks, write_marks

    found = [find_run(given) for given in options.runs]
    for run in found:
        with changing_marks(run) as marks:
            write_marks(run, msgspec.structs.replace(marks, is_archived=not options.undo))
        print_note(f"{run.info.id} is {'back' if options.undo else 'put away'}")
    if options.json:
        ids = [run.info.id for run in found]
        sys.stdout.write(as_json({"runs": ids, "is_archived": not options.undo}))
    return OK
