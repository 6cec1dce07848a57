"""``nightbus note RUN TEXT``: write down something about a run."""

import argparse
import sys
from typing import Any

from ..bus.runs.find_run import find_run
from .find import RUN_HELP
from .text import OK, as_json, plain, print_note


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "note",
        help="write notes about a run, or read them",
        description="Write notes about a run in place of those there are; without a text, print "
        "them.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("text", metavar="TEXT", nargs="?", default=None, help="the notes")
    parser.add_argument("--append", action="store_true", help="add a line to those there are")
    parser.add_argument("--json", action="store_true", help="the result, for programs")
    parser.set_defaults(command=_note)


def _note(options: argparse.Namespace) -> int:
    import msgspec

    from ..bus.runs.marks import changing_marks, checked_text, read_marks, write_marks

    run = find_run(options.run)
    if options.text is None:
        notes = read_marks(run).notes
        shown = f"{plain(notes)}\n" if notes else ""
        as_data = as_json({"run": run.info.id, "notes": notes})
        sys.stdout.write(as_data if options.json else shown)
        return OK
    with changing_marks(run) as marks:
        before = f"{marks.notes}\n" if options.append and marks.notes else ""
        notes = checked_text("TEXT", before + options.text)
        write_marks(run, msgspec.structs.replace(marks, notes=notes))
    if options.json:
        sys.stdout.write(as_json({"run": run.info.id, "notes": notes}))
    print_note(f"noted about {run.info.id}")
    return OK
