"""Arguments of ``load_from_checkpoint``: a file of hyperparameters, and where tensors go."""

import ast
import csv
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..bus.errors import MissingPackageError, UsageError
from ..bus.system.logging_setup import get_logger
from ..bus.system.paths import as_path

_log = get_logger("nightbus.checkpoint")


def with_hyperparameters_of(
    hparams_file: str | os.PathLike[str] | None,
    state: dict[str, Any],
    prefix: str = "",
    strict: bool | None = None,
) -> dict[str, Any]:
    """Return the state of a checkpoint with the hyperparameters of a file instead of its own.

    Args:
        hparams_file: the file; None leaves the state as it is.
        state: state of the checkpoint.
        prefix: prefix of the keys in the state: ``datamodule_`` for a datamodule.
        strict: False leaves the state as it is if there is no such file, and a warning says so.

    Raises:
        UsageError: the file cannot be read.
    """
    if hparams_file is None:
        return state
    if strict is False and not as_path(hparams_file).exists():
        _log.warning(
            "there is no such file of hyperparameters; those of the checkpoint are used",
            hparams_file=str(hparams_file),
        )
        return state
    found = read_hyperparameters(hparams_file)
    form = {k: v for k, v in state.get(f"{prefix}hparams_form", {}).items() if k != "items"}
    return {**state, f"{prefix}hyper_parameters": found, f"{prefix}hparams_form": form}


def read_hyperparameters(
    path: str | os.PathLike[str], use_omegaconf: bool = True
) -> dict[str, Any]:
    """Return the hyperparameters in a file.

    Args:
        path: a YAML file with a mapping; or a CSV file with the columns ``key`` and ``value``,
            whose values are Python literals or texts.
        use_omegaconf: accepted for code written for Lightning, without effect: what is returned is
            a dict.

    Raises:
        UsageError: there is no such file, or it has something else.
        MissingPackageError: it is YAML, and PyYAML is missing.
    """
    path = as_path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"hparams_file={str(path)!r} cannot be read: {error}") from error
    if path.suffix == ".csv":
        return _of_csv(text, path)
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"hparams_file={str(path)!r}: expected a .yaml, .yml or .csv file")
    return _of_yaml(text, path)


def _of_csv(text: str, path: Path) -> dict[str, Any]:
    rows = list(csv.DictReader(text.splitlines()))
    if not all(row.get("key") and row.get("value") is not None for row in rows):
        raise UsageError(
            f"hparams_file={str(path)!r}: expected a first line 'key,value', and then a line for "
            "each hyperparameter"
        )
    return {row["key"]: _literal(row["value"]) for row in rows}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _of_yaml(text: str, path: Path) -> dict[str, Any]:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise MissingPackageError(f"hparams_file={str(path)!r}", "pyyaml", "yaml") from None
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"hparams_file={str(path)!r} is not YAML: {error}") from error
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise UsageError(
            f"hparams_file={str(path)!r}: expected a mapping of names to values; it has "
            f"{type(found).__name__}"
        )
    return dict(found)


def device_of_map(map_location: Any) -> torch.device | str | int | None:
    """Return the device that ``map_location`` means for what is read on the CPU.

    Args:
        map_location: a device; a dict of devices, or a function of a storage and its device, as
            for ``torch.load``; or None.

    Returns:
        The device; None to leave tensors on the CPU.

    Raises:
        UsageError: it is nothing of the kind.
    """
    if isinstance(map_location, Mapping):
        named = {str(device): target for device, target in map_location.items()}
        map_location = named.get("cpu")
    elif callable(map_location):
        storage = map_location(torch.UntypedStorage(0), "cpu")
        map_location = None if storage is None else storage.device
    if isinstance(map_location, torch.device | str | int | None):
        return map_location
    raise UsageError(
        f"load_from_checkpoint(map_location={type(map_location).__name__}): expected the device of "
        "the module, for example 'cpu', or a dict or function as for torch.load"
    )
