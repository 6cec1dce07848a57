"""Paths as users give them."""

import os
from pathlib import Path

from ..errors import UsageError


class FolderText(str):
    """A folder as text, which ``/`` joins as it does a Path's."""

    __slots__ = ()

    def __truediv__(self, other: str | os.PathLike[str]) -> Path:
        return Path(self) / other


def as_path(given: str | os.PathLike[str]) -> Path:
    """Return a path, with ``~`` as a home folder, as in shells.

    Raises:
        UsageError: there is no such user, or it is the address of something elsewhere.
    """
    refuse_address(given)
    path = Path(given)
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: {error}; give the whole path") from None


def refuse_address(given: str | os.PathLike[str]) -> None:
    """Refuse an address such as ``s3://...``, which would become a folder of this name.

    Args:
        given: a path.

    Raises:
        UsageError: it is such an address.
    """
    scheme, separator, _ = os.fspath(given).partition("://")
    if separator and scheme.isidentifier():
        raise UsageError(
            f"{scheme}://...: files are local; give a folder, which may be one where that is "
            "mounted, or copy what is in it afterwards"
        )


def from_here(path: Path) -> Path:
    """Return a path as it is shown to users: from the working folder, if it lies within."""
    resolved, here = path.resolve(), Path.cwd()
    return resolved.relative_to(here) if resolved.is_relative_to(here) else path
