"""``nightbus attach RUN --csv DIR``: write a run's metrics to more files while it runs."""

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
    print_sinks,
    sink_reports,
)
from .find import RUN_HELP
from .text import LOSSY, OK, as_json, print_missing, print_note


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "attach",
        help="write the metrics of a running run to more files",
        description="Write a run's metrics to new files, from its beginning until it ends. This "
        "process reads the log; the run does not notice. After Ctrl-C, the same command continues "
        "where it stopped.",
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
    goes_on = run.is_running()
    print_note(
        "following the run until it ends" if goes_on else "the run has ended: this is all of it"
    )
    sinks, cursors = make_file_sinks(folders), as_path(next(iter(folders.values())))
    try:
        replayed = replay(run, sinks=sinks, follow=True, cursors=cursors)
    except KeyboardInterrupt:
        print_note("detached from the run; the same command continues from here")
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
        print_sinks(sinks, numbers)
    print_missing(replayed.missing)
    if not replayed.unclean:
        return LOSSY if replayed.missing else OK
    print_note(f"the recording ends early, this is what there is of it: {replayed.unclean}")
    return LOSSY
