"""``nightbus attach RUN --csv DIR``: a new observer on a run that goes on."""

import argparse
import sys
from typing import Any

from ..bus.runs.find_run import find_run
from ..bus.system.paths import as_path
from .file_sinks import (
    WANTED,
    add_folder_options,
    given_folders,
    make_file_sinks,
    sink_reports,
    tell_sinks,
)
from .find import RUN_HELP
from .text import LOSSY, OK, as_json, tell, tell_missing


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "attach",
        help="have a run that goes on written to more files",
        description="Write a run's metrics to new files, from its begin and following it until it "
        "ends. Only its log is read, by this process: the run does not notice. Given again after "
        "Ctrl-C, it goes on where it stood.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    add_folder_options(parser)
    parser.add_argument("--json", action="store_true", help="the report for programs, at the end")
    parser.set_defaults(command=_attach)


def _attach(options: argparse.Namespace) -> int:
    from ..bus.errors import UsageError

    folders = given_folders(options)
    if not folders:
        raise UsageError(f"name a destination: {WANTED}")
    from ..bus.replay.replay import replay

    run = find_run(options.run)
    goes_on = run.goes_on()
    tell("following the run until it ends" if goes_on else "the run has ended: this is all of it")
    sinks, cursors = make_file_sinks(folders), as_path(next(iter(folders.values())))
    try:
        replayed = replay(run, sinks=sinks, follow=True, cursors=cursors)
    except KeyboardInterrupt:
        tell("let go of the run; the same command goes on from here")
        raise
    numbers = list(replayed.events.values())
    if options.json:
        report = {
            "id": run.info.id,
            "path": str(run.path),
            "sinks": sink_reports(sinks, numbers),
            "unclean": replayed.unclean,
            "missing": replayed.missing,
        }
        sys.stdout.write(as_json(report))
    else:
        tell_sinks(sinks, numbers)
    tell_missing(replayed.missing)
    if not replayed.unclean:
        return LOSSY if replayed.missing else OK
    tell(f"the run was cut off, this is what it had recorded: {replayed.unclean}")
    return LOSSY
