"""A checkpoint takes the place of another one, so that a kill at any moment leaves one of the two.

Where the system can exchange two names, the name always leads to a whole checkpoint. Elsewhere the
former one is moved aside first; if the process is killed before the new one has the name, the
former one gets it back from whoever looks for it.
"""

import contextlib
import os
import re
from pathlib import Path

from ...bus.log.segments import sync_folder
from ...bus.runs.crash_leftovers import is_gone
from ...bus.system.exchange import exchange

_ASIDE = re.compile(r"\.(.+)\.(\d+)\.former")
_in_progress: set[Path] = set()  # what this process has moved aside for a moment


def put_in_place(temporary: Path, folder: Path) -> None:
    """Call a complete checkpoint what it is to be called, for good. What has the name until then
    is called ``temporary`` afterwards.

    Args:
        temporary: the checkpoint, beside ``folder``.
        folder: its name; may be a former checkpoint's.

    Raises:
        OSError: the disk failed; the former one, if there is one, is there as it was.
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
    """Give checkpoints their names back that processes moved aside which were killed before the new
    ones had taken their place.

    Args:
        folder: what they lie in.
    """
    with contextlib.suppress(OSError):  # no folder, or somebody else's: who looks says what is not
        for path in folder.glob(".*.former"):
            found = _ASIDE.fullmatch(path.name)
            if not found or path in _in_progress or not is_gone(int(found[2])):
                continue
            name = folder / found[1]
            # If the new one has the name, what is aside is a leftover like any other.
            leftover = folder / f".{found[1]}.former.{found[2]}.tmp"
            path.rename(leftover if os.path.lexists(name) else name)
