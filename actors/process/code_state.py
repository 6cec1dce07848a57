"""The state of the code that runs: the commit that git has of it, and whether it was changed."""

import functools
import subprocess
from pathlib import Path

from ...bus.events import Plain
from ...bus.secrets.redaction import without_secrets

_DIFF_TIMEOUT_S = 10.0
_TIMEOUT_S = 1.0  # a repository that takes longer is recorded without its state
MAX_DIFF_BYTES = 200_000
_GIT = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false")
_DIFF = (*_GIT, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv")
_STATUS = (
    *_GIT,
    *("status", "--porcelain=v2", "--branch", "--untracked-files=no"),
)


def code_state(folder: Path) -> dict[str, Plain]:
    """Return what git says of the code in a folder; nothing where there is no repository.

    git is asked once in a process: what was loaded since then does not change with the files.

    Args:
        folder: a folder of the code.

    Returns:
        ``git.commit``, ``git.branch`` and ``git.dirty``, as far as they are known.
    """
    is_of_git = any((parent / ".git").exists() for parent in (folder, *folder.parents))
    return dict(_asked(folder)) if is_of_git else {}


@functools.cache
def _asked(folder: Path) -> tuple[tuple[str, Plain], ...]:
    told = _told_by_git(folder, _STATUS, _TIMEOUT_S)
    return () if told is None else tuple(read_status(told.decode(errors="replace")).items())


def _told_by_git(folder: Path, command: tuple[str, ...], timeout_s: float) -> bytes | None:
    """Return the output of git; None without git or a repository, or where that takes too long."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout


def code_diff(folder: Path) -> str:
    """Return what is changed in the code of a folder since its commit, without secrets.

    Files that git does not know are left out, and so is what comes after MAX_DIFF_BYTES.

    Args:
        folder: a folder of the code.

    Returns:
        The output of ``git diff``; empty if nothing is changed, or no repository is there.
    """
    found = _told_by_git(folder, _DIFF, _DIFF_TIMEOUT_S) or b""
    text = found[:MAX_DIFF_BYTES].decode(errors="replace")
    if len(found) > MAX_DIFF_BYTES:
        text += f"\n(the other {len(found) - MAX_DIFF_BYTES:,} bytes are left out)\n"
    return without_secrets(text)


def read_status(text: str) -> dict[str, Plain]:
    """Return what ``git status`` says in its second machine-readable form.

    Args:
        text: its output.
    """
    lines = text.splitlines()
    said = dict(line.removeprefix("# ").split(" ", 1) for line in lines if line.startswith("# "))
    state: dict[str, Plain] = {}
    if (commit := said.get("branch.oid", "(initial)")) != "(initial)":
        state["git.commit"] = commit
    if (branch := said.get("branch.head", "(detached)")) != "(detached)":
        state["git.branch"] = branch
    state["git.dirty"] = any(not line.startswith("#") for line in lines)
    return state
