"""``nightbus rm RUN...``: remove runs with all their files."""

import argparse
import shutil
import sys
from typing import Any

from ..bus.errors import RunFolderError, UsageError
from ..bus.runs.find_run import find_run
from ..bus.runs.run_folder import RunFolder
from ..bus.system.paths import as_path
from .find import RUN_HELP
from .text import ERROR, OK, as_json, how_many, moment, plain, print_note, size


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "rm",
        help="remove runs with all their files",
        description="Remove runs with their logs, checkpoints and all other files, after asking. A "
        "run that goes on is refused.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help=RUN_HELP)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="the result, for programs")
    parser.set_defaults(command=_rm)


def _rm(options: argparse.Namespace) -> int:
    from ..bus.runs.run_summary import size_of

    found = {run.path.resolve(): run for run in map(_whole, options.runs)}
    for path, run in found.items():
        if run.is_running():
            raise RunFolderError(f"{path} goes on; stop it first: nightbus send {run.info.id} stop")
        created = moment(run.info.created_ns)
        print_note(f"{run.info.id}, begun {created}, {size(size_of(path))}: {plain(str(path))}")
    if not (options.yes or _agrees(len(found))):
        print_note("nothing was removed")
        return ERROR
    for run in found.values():
        _remove(run)
    if options.json:
        sys.stdout.write(as_json({"removed": [run.info.id for run in found.values()]}))
    print_note(f"{how_many(len(found), 'run')} removed")
    return OK


def _whole(text: str) -> RunFolder:
    """Return the run of a name or path; unlike for other verbs, not what it lies in."""
    run = find_run(text)
    path = as_path(text)
    if path.exists() and run.path.resolve() in path.resolve().parents:
        raise UsageError(
            f"{plain(text)} lies in the run {plain(str(run.path))}, and rm removes whole runs: "
            "name the run, or remove the file otherwise"
        )
    return run


def _agrees(number: int) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("rm asks before it removes anything, and there is no terminal; add --yes")
    sys.stderr.write(f"remove {how_many(number, 'run')} with all files? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(run: RunFolder) -> None:
    lock = run.begin_attempt()  # so that no process goes on with it meanwhile
    try:
        shutil.rmtree(run.path.resolve())
        if run.path.is_symlink():
            run.path.unlink()
    finally:
        lock.release()
