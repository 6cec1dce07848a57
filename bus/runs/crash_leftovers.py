"""Temporary files that killed processes left in a run's folder."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

# Two kinds of names tell which process began the file; only a rank's writer compresses.
_OF_A_PROCESS = re.compile(r".*\.(\d+)(-\d+)?\.tmp")
_COMPRESSED = re.compile(r"\d{6,}\.nlog\.zst\.tmp")


def remove_leftovers(run: Path, is_held: Callable[[Path], bool]) -> None:
    """Remove temporary files; to be called by the process that writes the run, before it writes.

    Another rank may still be closing its part of the attempt before.

    Args:
        run: the run's folder.
        is_held: whether a process holds a lock.
    """
    for path in _temporary_files(run):
        process = _OF_A_PROCESS.fullmatch(path.name)
        is_half = _COMPRESSED.fullmatch(path.name) and not is_held(path.parent / "lock")
        if is_half or (process and is_gone(int(process[1]))):
            with contextlib.suppress(OSError):  # it does no harm if it stays
                path.unlink()


def _temporary_files(run: Path) -> Iterator[Path]:
    """Yield temporary files in the run's own folders, since links may lead out of the run."""
    attempts = list(run.glob("attempt-*"))
    ranks = [rank for attempt in attempts for rank in attempt.glob("rank-*")]
    folders = [run, run / "cursors", *attempts, *ranks]
    for folder in folders:
        if not (folder.is_symlink() or folder.parent.is_symlink()) or folder == run:
            yield from (p for p in folder.glob("*.tmp") if p.is_symlink() or not p.is_dir())


def is_gone(pid: int) -> bool:
    """Return whether the process with an id has ended.

    Where process ids start anew, as in a container, the id may be our own; we have nothing
    unfinished when this is called.
    """
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False
