"""Packages that the board needs."""

from importlib.util import find_spec

from ...bus.errors import MissingPackageError


def refuse_missing_packages(what: str = "nightbus board") -> None:
    """Refuse to serve where a package of the extra ``board`` is missing; none is loaded.

    Args:
        what: what needs them.

    Raises:
        MissingPackageError: one is missing.
    """
    for package in ("starlette", "hypercorn"):
        if find_spec(package) is None:
            raise MissingPackageError(what, package, "board")
