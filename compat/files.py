"""File systems and types of paths, under the names that code for Lightning imports."""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

import torch

_PATH: TypeAlias = str | os.PathLike[str]
_MAP_LOCATION_TYPE: TypeAlias = (
    torch.device | str | Callable[[Any, str], Any] | dict[Any, Any] | None
)


def get_filesystem(path: str | os.PathLike[str], **kwargs: Any) -> Any:
    """Return fsspec's file system for a path or an address; nightbus itself uses local files.

    Args:
        path: the path or address.
        **kwargs: options of the file system.
    """
    core: Any = import_module("fsspec.core")  # torch brings it
    return core.url_to_fs(os.fspath(path), **kwargs)[0]
