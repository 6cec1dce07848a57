"""``nightbus doctor RUN``: find what is wrong with a run's folder, and what to do.

``nightbus doctor --self`` describes the machine, for a bug report.
"""

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
        help="check a run's folder, or describe this machine for a bug report",
        description="Read all of a run and check it: structure, checksums, order, gaps, "
        "permissions, checkpoints, leftovers. Each finding comes with what to do; nothing is "
        "changed.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("run", metavar="RUN", nargs="?", help=RUN_HELP)
    what.add_argument(
        "--self",
        action="store_true",
        dest="of_self",
        help="instead of a run, show what a bug report needs: versions of nightbus, Python and "
        "packages, the machine, its GPUs, and the variables that change what a run does",
    )
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    if options.of_self:
        return _describe(options.json)
    from ..bus.inspection.doctor import examine

    found = examine(find_run(options.run))
    sys.stdout.write(as_json(found) if options.json else _text(found))
    if found.is_newer:
        return REFUSED
    return ERROR if found.problems else OK


def _describe(is_json: bool) -> int:
    from .self_report import self_report

    report = self_report()
    sys.stdout.write(as_json(report) if is_json else _text_of_self(report))
    return OK


def _text_of_self(report: Any) -> str:
    extras = {
        extra: ", ".join(f"{name} {version or 'missing'}" for name, version in names.items())
        for extra, names in report.extras.items()
    }
    lines = [
        f"nightbus   {report.nightbus}",
        f"Python     {report.python}",
        f"machine    {report.machine}",
        *(f"GPU        {gpu}" for gpu in report.gpus or ["none that nvidia-smi knows"]),
        f"folder     {report.folder}",
        f"terminal   {report.terminal}",
        "packages   "
        + ", ".join(f"{name} {version or 'MISSING'}" for name, version in report.packages.items()),
        *(f"extra {extra}: {held}" for extra, held in extras.items()),
        *(f"{name}={value}" for name, value in report.variables.items()),
    ]
    return "".join(f"{plain(line)}\n" for line in lines)


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
