"""``nightbus recover RUN -o OUT``: save what is readable of a damaged run."""

import argparse
import sys
from typing import Any

from ..bus.errors import RunFolderError
from ..bus.runs.find_run import find_run
from ..bus.runs.run_folder import RunFolder, RunInfo
from ..bus.system.paths import as_path
from .find import RUN_HELP
from .text import LOSSY, OK, as_json, how_many, one_line, plain, print_note


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "recover",
        help="save what is readable of a damaged run",
        description="Write all readable events of a run's logs to a new run folder, and report "
        "what is lost. The damaged run, its checkpoints and what sinks wrote stay as they are; "
        "rewrite the files of sinks with nightbus replay.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="the new run's folder")
    parser.add_argument("--json", action="store_true", help="the report for programs")
    parser.set_defaults(command=_recover)


def _recover(options: argparse.Namespace) -> int:
    from ..bus.inspection.recover import recover

    done = recover(_find_damaged(options.run), as_path(options.out))
    if options.json:
        sys.stdout.write(as_json(done))
    else:
        for loss in done.losses:
            print(plain(f"{loss.where}: {one_line(loss.what)}"))
        lost = ""
        if done.lost_events:
            lost = f", {how_many(done.lost_events, 'event')} known to be lost"
        elif done.losses:
            lost = ", some may be lost"
        print(plain(f"{how_many(done.events, 'event')} recovered{lost}: {done.path}"))
    return LOSSY if done.losses else OK


def _find_damaged(given: str) -> RunFolder:
    """Return the named run, even if its run.json is damaged or missing."""
    try:
        return find_run(given)
    except RunFolderError as error:
        path = as_path(given)
        if not path.is_dir() or not list(path.glob("attempt-*")):
            raise
        print_note(f"{error}; its name and begin are made up")
        return RunFolder(path, RunInfo(path.resolve().name, path.resolve().name, 0, []))
