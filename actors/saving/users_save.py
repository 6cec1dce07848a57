"""What ``trainer.save_checkpoint`` does, whichever ranks call it."""

import sys
import threading
from pathlib import Path

from ...bus.system.logging_setup import get_logger
from ...bus.system.streams import notify_user
from ..ranks.group import Group
from .checkpointer import Checkpointer

_log = get_logger("nightbus.checkpoint")

MEET_WITHIN_S = 10.0
"""How long a rank waits for the others to save at the same path."""
SAYS_SO_AFTER_S = 1.0


def save_for_user(
    checkpointer: Checkpointer, group: Group, path: Path, weights_only: bool, line: str
) -> None:
    """Save a checkpoint with the state of all ranks that call this.

    If a rank does not come, as under ``if trainer.is_global_zero``, nobody waits for it for ever:
    rank 0 saves its own state, and a warning says what is missing.

    Args:
        checkpointer: saves the run.
        group: the ranks.
        path: the checkpoint.
        weights_only: leave out what is needed to resume.
        line: of the user's code, for the warning.

    Raises:
        CheckpointError: a value in the state cannot be saved, or the disk failed.
    """
    call = f"save_checkpoint({str(path)!r})"
    told = f"nightbus: {call} at {line} waits up to {MEET_WITHIN_S:g} s for other ranks to call it"
    telling = threading.Timer(SAYS_SO_AFTER_S, notify_user, (told,))
    telling.daemon = True
    if not group.world.is_alone:
        telling.start()
    try:
        by_all = group.meets(call, MEET_WITHIN_S)
    finally:
        telling.cancel()
    if not by_all:
        world = group.world
        found = (
            "the checkpoint holds the state of rank 0 only, so that a resumed run differs from "
            "this one"
            if world.is_global_zero
            else "this rank saves nothing, because rank 0 writes"
        )
        _log.warning(
            f"not all {world.size} ranks called save_checkpoint within {MEET_WITHIN_S:g} s: "
            f"{found}; move the call out of the `if` that only some ranks run",
            line=line,
            path=str(path),
        )
    checkpointer.save_now(path, weights_only, by_all=by_all)


def line_of_caller(depth: int) -> str:
    """Return the file and line of a function's caller.

    Args:
        depth: how many callers to leave out.
    """
    frame = sys._getframe(depth + 1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
