"""Replaces one checkpoint by another, so that a kill at any moment leaves one of the two.

If the system can exchange two names, the name always leads to a complete checkpoint. Otherwise the
former one is moved aside first; if the process is killed before the new one has the name, the next
process that looks for it restores the former one.
"""

import contextlib
import os
import re
from pathlib import Path

from ...bus.log.segments import sync_folder
from ...bus.runs.crash_leftovers import is_gone
from ...bus.system.exchange import exchange

_ASIDE = re.compile(r"\.(.+)\.(\d+)\.former")
_in_progress: set[Path] = set()  # folders that this process has moved aside for a moment


def put_in_place(temporary: Path, folder: Path) -> None:
    """Give a complete checkpoint its name durably; the former holder becomes ``temporary``.

    Args:
        temporary: the checkpoint, in the same folder as ``folder``.
        folder: its name; may be that of a former checkpoint.

    Raises:
        OSError: the disk failed; the former checkpoint, if any, is unchanged.
    """
    if not os.path.lexists(folder):
        temporary.rename(folder)
        sync_folder(folder.parent)
    elif exchange(temporary, folder):
        try:
            sync_folder(folder.parent)
        except OSError:
            exchange(temporary, folder)
            raise
    else:
        _move_aside(temporary, folder)


def _move_aside(temporary: Path, folder: Path) -> None:
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.former")
    _in_progress.add(aside)
    try:
        folder.rename(aside)
        try:
            temporary.rename(folder)
        except OSError:
            aside.rename(folder)
            raise
        try:
            sync_folder(folder.parent)
        except OSError:
            folder.rename(temporary)
            aside.rename(folder)
            raise
        aside.rename(temporary)
    finally:
        _in_progress.discard(aside)


def restore_replaced(folder: Path) -> None:
    """Rename checkpoints back that killed processes had moved aside without replacing them.

    Args:
        folder: the folder of the checkpoints.
    """
    with contextlib.suppress(OSError):  # no folder, or not ours: the reader reports it
        for path in folder.glob(".*.former"):
            found = _ASIDE.fullmatch(path.name)
            if not found or path in _in_progress or not is_gone(int(found[2])):
                continue
            name = folder / found[1]
            # If the new one has the name, the former one is an ordinary leftover.
            leftover = folder / f".{found[1]}.former.{found[2]}.tmp"
            path.rename(leftover if os.path.lexists(name) else name)
