"""Paths as users give them."""

import os
from pathlib import Path

from ..errors import UsageError


def as_path(given: str | os.PathLike[str]) -> Path:
    """Return a path, with ``~`` as a home folder, as in shells.

    Raises:
        UsageError: there is no such user.
    """
    path = Path(given)
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: {error}; give the whole path") from None


def from_here(path: Path) -> Path:
    """Return a path as it is shown to users: from the working folder, if it lies within."""
    resolved, here = path.resolve(), Path.cwd()
    return resolved.relative_to(here) if resolved.is_relative_to(here) else path
