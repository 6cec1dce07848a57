"""``nightbus doctor RUN``: find what is wrong with a run's folder, and what to do."""

import argparse
import sys
from typing import Any

from ..bus.runs.find_run import find_run
from .find import RUN_HELP
from .text import ERROR, OK, REFUSED, as_json, how_many, one_line, plain


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "doctor",
        help="check a run's folder",
        description="Read all of a run and check it: structure, checksums, order, gaps, "
        "permissions, checkpoints, leftovers. Each finding comes with what to do; nothing is "
        "changed.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from ..bus.inspection.doctor import examine

    found = examine(find_run(options.run))
    sys.stdout.write(as_json(found) if options.json else _text(found))
    if found.is_newer:
        return REFUSED
    return ERROR if found.problems else OK


def _text(found: Any) -> str:
    lines = [f"{found.id}  {found.path}"]
    if found.written_by is not None:
        lines.append(f"it is being written by process {found.written_by}")
    for finding in found.findings:
        lines.append(f"{finding.level}: {finding.where}: {one_line(finding.what)}")
        if finding.fix:
            lines.append(f"  to mend it: {finding.fix}")
    read = (
        f"{how_many(found.attempts, 'attempt')}, {how_many(found.segments, 'segment')}, "
        f"{how_many(found.events, 'event')} read"
    )
    if found.checkpoints:
        read += f", {how_many(found.checkpoints, 'checkpoint')} checked"
    lines.append(f"{read}; {how_many(len(found.problems), 'problem')}")
    return "".join(f"{plain(line)}\n" for line in lines)
