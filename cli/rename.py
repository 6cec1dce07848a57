"""``nightbus rename RUN NAME``: call a run by another name."""

import argparse
import sys
from typing import Any

from ..bus.errors import UsageError
from ..bus.runs.find_run import find_run
from .find import RUN_HELP
from .text import OK, as_json, print_note

MAX_CHARS = 200


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "rename",
        help="call a run by another name",
        description="Call a run by another name in tables, and find it by that. Its id and folder "
        'stay, and ckpt_path="last" goes on by the name that the Trainer gave it.',
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("name", metavar="NAME", help="the new name")
    parser.add_argument("--json", action="store_true", help="the result, for programs")
    parser.set_defaults(command=_rename)


def _rename(options: argparse.Namespace) -> int:
    import msgspec

    from ..bus.runs.marks import changing_marks, checked_text, write_marks

    run = find_run(options.run)
    name = checked_text("NAME", options.name, MAX_CHARS).strip()
    if not name:
        raise UsageError("NAME is empty; expected what the run is to be called")
    with changing_marks(run) as marks:
        write_marks(run, msgspec.structs.replace(marks, name=name))
    if options.json:
        sys.stdout.write(as_json({"run": run.info.id, "name": name}))
    print_note(f"{run.info.id} is now called {name}")
    return OK
