"""Versions of the packages that shape a run."""

import functools
import platform
from importlib import metadata

_PACKAGES = ("nightbus", "torch", "torchmetrics", "numpy")


@functools.cache  # a process keeps what it has loaded, and looking takes 10 ms
def package_versions() -> dict[str, str]:
    """Versions by package name; Python's too."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
