"""File systems and types of paths, under the names that code for Lightning imports."""

import argparse
import csv
import io
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import torch

from ..actors.checkpoints.format import is_checkpoint
from ..actors.hyperparameter_file import read_hyperparameters
from ..bus.secrets.redaction import redact_setting
from ..bus.system.paths import as_path

_PATH: TypeAlias = str | os.PathLike[str]
_MAP_LOCATION_TYPE: TypeAlias = (
    torch.device | str | Callable[[Any, str], Any] | dict[Any, Any] | None
)


class OpenedCheckpoint(io.BytesIO):
    """A checkpoint that was opened as if it were a file, for ``torch.load``.

    Args:
        path: the checkpoint's folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def get_filesystem(path: str | os.PathLike[str], **kwargs: Any) -> Any:
    """Return fsspec's file system for a path or an address; nightbus itself uses local files.

    Its ``open`` of a checkpoint, which is a folder, returns what ``torch.load`` reads after
    ``nightbus.compat.install()``.

    Args:
        path: the path or address.
        **kwargs: options of the file system.
    """
    core: Any = import_module("fsspec.core")  # torch brings it
    files = core.url_to_fs(os.fspath(path), skip_instance_cache=True, **kwargs)[0]
    opens = files.open

    def open_file_or_folder(path: Any, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        if "r" in mode and "://" not in str(path) and is_checkpoint(as_path(path)):
            return OpenedCheckpoint(as_path(path))
        return opens(path, mode, *args, **kwargs)

    files.open = open_file_or_folder
    return files


def load_hparams_from_yaml(config_yaml: str | os.PathLike[str], use_omegaconf: bool = True) -> Any:
    """Read hyperparameters from a YAML file.

    Args:
        config_yaml: the file.
        use_omegaconf: return a DictConfig of OmegaConf, if it is installed.

    Returns:
        A dict, or a DictConfig.

    Raises:
        UsageError: there is no such file, or it has something else.
    """
    found = read_hyperparameters(config_yaml)
    if use_omegaconf and find_spec("omegaconf") is not None:
        return import_module("omegaconf").OmegaConf.create(found)
    return found


def save_hparams_to_tags_csv(
    tags_csv: str | os.PathLike[str], hparams: Mapping[str, Any] | argparse.Namespace
) -> None:
    """Write hyperparameters as CSV, for ``load_from_checkpoint(hparams_file=...)``.

    Secrets, recognised by name and form, are struck out.

    Args:
        tags_csv: the file.
        hparams: the hyperparameters.
    """
    items = vars(hparams) if isinstance(hparams, argparse.Namespace) else dict(hparams)
    with open(tags_csv, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("key", "value"), *redact_setting("", items).items()])
