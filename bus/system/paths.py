"""Paths as users give them."""

import os
from pathlib import Path

from ..errors import UsageError


def as_path(given: str | os.PathLike[str]) -> Path:
    """A path, with ``~`` for somebody's home as shells have it.

    Raises:
        UsageError: nobody has that home.
    """
    path = Path(given)
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: {error}; give the whole path") from None
