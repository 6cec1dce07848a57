"""``nightbus attach RUN --csv DIR``: a new observer on a run that goes on."""

import argparse
from pathlib import Path
from typing import Any

from .file_sinks import WANTED, add_folder_options, given_folders, make_file_sinks
from .find import RUN_HELP, find_run
from .text import LOSSY, OK, how_many, tell


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
    parser.set_defaults(command=_attach)


def _attach(options: argparse.Namespace) -> int:
    from ..bus.errors import UsageError

    folders = given_folders(options)
    if not folders:
        raise UsageError(f"name a destination: {WANTED}")
    from ..bus.replay import replay

    run = find_run(options.run)
    tell(
        "following the run until it ends"
        if run.goes_on()
        else "the run has ended: this is all of it"
    )
    sinks, cursors = make_file_sinks(folders), Path(next(iter(folders.values())))
    try:
        replayed = replay(run, sinks=sinks, follow=True, cursors=cursors)
    except KeyboardInterrupt:
        tell("let go of the run; the same command goes on from here")
        raise
    for sink, number in zip(sinks, replayed.events.values(), strict=True):
        tell(f"{how_many(number, 'event')} read, their metrics are in {sink.path}")
    if not replayed.unclean:
        return OK
    tell(f"the run was cut off, this is what it had recorded: {replayed.unclean}")
    return LOSSY
