"""The state of the code that runs: the commit that git has of it, and whether it was changed."""

import functools
import subprocess
from pathlib import Path

from ...bus.events import Plain

_TIMEOUT_S = 1.0  # a repository that takes longer is recorded without its state
_STATUS = (
    *("git", "--no-optional-locks", "-c", "core.fsmonitor=false"),
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
    try:
        done = subprocess.run(
            _STATUS,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # no git here, or a repository that takes long
        return ()
    return () if done.returncode else tuple(read_status(done.stdout).items())


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
