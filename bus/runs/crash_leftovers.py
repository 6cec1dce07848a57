"""What processes that were killed left behind in a run's folder: files that were to be renamed."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

# Two kinds of names tell who began the file; compressing is up to whoever writes the run.
_OF_A_PROCESS = re.compile(r".*\.(\d+)(-\d+)?\.tmp")
_COMPRESSED = re.compile(r"\d{6,}\.nlog\.zst\.tmp")


def remove_leftovers(run: Path) -> None:
    """Remove them. To be called by the process that writes the run, before it does.

    Args:
        run: the run's folder.
    """
    for path in _temporary_files(run):
        process = _OF_A_PROCESS.fullmatch(path.name)
        if _COMPRESSED.fullmatch(path.name) or (process and is_gone(int(process[1]))):
            with contextlib.suppress(OSError):  # no harm done by it, then
                path.unlink()


def _temporary_files(run: Path) -> Iterator[Path]:
    """In the run's own folders: links in it may lead out of it."""
    attempts = list(run.glob("attempt-*"))
    ranks = [rank for attempt in attempts for rank in attempt.glob("rank-*")]
    folders = [run, run / "cursors", *attempts, *ranks]
    for folder in folders:
        if not (folder.is_symlink() or folder.parent.is_symlink()) or folder == run:
            yield from (p for p in folder.glob("*.tmp") if p.is_symlink() or not p.is_dir())


def is_gone(pid: int) -> bool:
    """Whether the process that had a number has ended. Where processes are numbered anew, as in a
    container, it may have been ours, which has nothing unfinished when it asks.
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
