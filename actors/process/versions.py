"""Versions of the packages that affect a run."""

import functools
import platform
from importlib import metadata

_PACKAGES = ("nightbus", "torch", "torchmetrics", "numpy")


def package_versions() -> dict[str, str]:
    """Return versions by package name, including Python's."""
    return dict(_versions())


@functools.cache  # versions do not change in a process, and looking them up takes 10 ms
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
