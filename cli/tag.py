"""``nightbus tag RUN TAG...``: give a run words to find it by."""

import argparse
import sys
from typing import Any

from ..bus.runs.find_run import find_run
from .find import RUN_HELP
from .text import OK, as_json, print_note


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "tag",
        help="give a run tags, or take them away",
        description="Give a run tags, words by which it is found and listed, or take them away.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("tags", metavar="TAG", nargs="+", help="a word to find it by")
    parser.add_argument("--remove", action="store_true", help="take these tags away")
    parser.add_argument("--json", action="store_true", help="the result, for programs")
    parser.set_defaults(command=_tag)


def _tag(options: argparse.Namespace) -> int:
    import msgspec

    from ..bus.runs.marks import changing_marks, checked_tags, write_marks

    run = find_run(options.run)
    given = checked_tags(options.tags)
    with changing_marks(run) as marks:
        kept = tuple(tag for tag in marks.tags if tag not in given)
        tags = kept if options.remove else checked_tags([*marks.tags, *given])
        write_marks(run, msgspec.structs.replace(marks, tags=tags))
    if options.json:
        sys.stdout.write(as_json({"run": run.info.id, "tags": tags}))
    print_note(f"tags of {run.info.id}: {', '.join(tags) or 'none'}")
    return OK
