"""``nightbus replay RUN``: a recorded run into sinks."""

import argparse
from typing import TYPE_CHECKING, Any

from ..bus.errors import NightbusError, RunFolderError, UsageError
from ..bus.run_folder import RunFolder
from .file_sinks import FILE_SINKS, WANTED, add_folder_options, given_folders, make_file_sinks
from .find import RUN_HELP, find_run
from .text import ERROR, LOSSY, OK, how_many, tell

# This verb has no way to a server: a server is named in a program.
NETWORK_SINKS = ("MLflow", "WandB")
NETWORK_HINT = "; add allow_network=True if it is to send to a server"

if TYPE_CHECKING:
    from ..bus.cursor import Cursor


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "replay",
        help="deliver a recorded run to sinks",
        description="Deliver a recorded run to new files, or what its own sinks had not got.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    add_folder_options(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="deliver what the files that the run's own sinks wrote lack",
    )
    parser.set_defaults(command=_replay)


def _replay(options: argparse.Namespace) -> int:
    folders = given_folders(options)
    if options.resume:
        if folders:
            raise UsageError(f"--resume goes on with the run's own sinks; leave out {WANTED}")
        return _resume(find_run(options.run))
    if not folders:
        raise UsageError(f"name a destination: {WANTED}, or --resume")
    return _replay_into(find_run(options.run), folders)


def _replay_into(run: RunFolder, folders: dict[str, str]) -> int:
    from ..bus.replay import replay

    sinks = make_file_sinks(folders)
    is_written = _is_being_written(run)
    replayed = replay(run, sinks=sinks)
    for sink, number in zip(sinks, replayed.events.values(), strict=True):
        tell(f"{how_many(number, 'event')} read, their metrics are in {sink.path}")
    if not replayed.unclean:
        return OK
    if is_written:
        tell("the run goes on: this is what it had recorded so far")
    else:
        tell(f"the run was cut off, this is what it had recorded: {replayed.unclean}")
    return LOSSY


def _resume(run: RunFolder) -> int:
    """Deliver the rest to the sinks that nightbus brings; sinks of the user's need their class."""
    from ..bus.cursor import CursorFile, list_cursors

    if _is_being_written(run):
        tell(f"{run.path} is still being written: its own sinks are at work; wait for its end")
        return ERROR
    codes = [
        _resume_sink(run, name, cursor)
        for name in list_cursors(run)
        if (cursor := CursorFile(run, name).load()) is not None
    ]
    if not codes:
        raise UsageError(f"{run.path} had no sinks; name a destination: {WANTED}")
    return ERROR if ERROR in codes else max(codes)


def _resume_sink(run: RunFolder, name: str, cursor: "Cursor") -> int:
    from ..bus.replay import replay

    # By name from this table alone: a file never says what code to load.
    kind = cursor.kind
    if not kind.isidentifier():  # what is shown below is for pasting: it must be no code
        raise RunFolderError(
            f"the cursor of {name} names a sink of the class {kind[:80]!r}, which is no name of a "
            "class; this file was not written by nightbus"
        )
    if kind not in FILE_SINKS.values():
        tell(
            f"{name} is a sink of your own, {kind}; deliver the rest with "
            f"nightbus.replay({str(run.path)!r}, sinks=[{kind}()], resume=True)"
            f"{NETWORK_HINT if kind in NETWORK_SINKS else ''}"
        )
        return LOSSY
    folder = cursor.state.get("folder")
    if folder is not None:  # nor where to write
        tell(
            f"{name} wrote to {folder}, outside the run; deliver the rest with "
            f"nightbus.replay({str(run.path)!r}, sinks=[nightbus.{kind}({str(folder)!r})], "
            "resume=True)"
        )
        return LOSSY
    try:
        (sink,) = make_file_sinks({kind: None})
        sink.name = name
        replayed = replay(run, sinks=[sink], resume=True)
    except (NightbusError, OSError) as error:  # the other sinks get theirs all the same
        tell(f"{name} could not go on: {error}")
        return ERROR
    # Events that came after it had finished, other observers' faults say, may not concern it.
    if all(cursor.state.get(key) == value for key, value in sink.state().items()):
        tell(f"{name} had got everything already")
    else:
        number = how_many(replayed.events[name], "more event")
        tell(f"{name}: {number} read, their metrics are in {sink.path}")
    return OK


def _is_being_written(run: RunFolder) -> bool:
    attempts = run.attempts()
    return bool(attempts) and run.is_being_written(attempts[-1])
