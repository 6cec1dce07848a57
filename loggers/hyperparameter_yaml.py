"""Writes ``hparams.yaml``, without a library."""

import enum
import json
import math
import os
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..bus.secrets.redaction import redact_setting
from ..bus.system.atomic_file import atomic_file


def write_hyperparameters(
    path: str | os.PathLike[str], hparams: Mapping[Any, Any] | Namespace
) -> None:
    """Write hyperparameters as YAML; objects that YAML does not have as their texts.

    Secrets, recognised by name and form, are struck out.

    Args:
        path: the file.
        hparams: the hyperparameters.
    """
    path = Path(path)
    known = redact_setting("", as_plain_data(hparams))
    lines = [f"{_flow(name)}: {_flow(value)}\n" for name, value in known.items()]
    text = ("".join(lines) or "{}\n").encode()
    if path.is_file() and path.read_bytes() == text:
        return
    with atomic_file(path, path.with_name(f".{path.name}.tmp"), 0o666) as file:
        file.write(text)


def save_hparams_to_yaml(
    config_yaml: str | os.PathLike[str],
    hparams: Mapping[str, Any] | Namespace,
    use_omegaconf: bool = True,
) -> None:
    """Write hyperparameters as YAML; secrets, recognised by name and form, are struck out.

    Values that YAML does not have are written as their texts, which a warning says.

    Args:
        config_yaml: the file.
        hparams: the hyperparameters.
        use_omegaconf: accepted for code written for Lightning: a DictConfig is written as a dict.

    Raises:
        OSError: the file cannot be written.
    """
    items = vars(hparams) if isinstance(hparams, Namespace) else dict(hparams)
    for name, value in items.items():
        if not _is_plain(value):
            warnings.warn(
                f"the hyperparameter {name!r} is written as text, which is what reading it gives: "
                f"YAML has no {type(value).__name__}",
                UserWarning,
                stacklevel=2,
            )
    write_hyperparameters(config_yaml, items)


def as_plain_data(value: Any) -> Any:
    """Return a value as what YAML has: numbers, texts, lists and mappings; others as text.

    Args:
        value: a hyperparameter.
    """
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(name): as_plain_data(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain_data(entry) for entry in value]
    if hasattr(value, "item") and getattr(value, "size", 0) == 1:  # a number of numpy
        number = value.item()
        return number if isinstance(number, bool | int | float | str) else str(number)
    return getattr(value, "__qualname__", None) or str(value)


def _is_plain(value: Any) -> bool:
    """Return whether reading YAML gives a value back, numbers of numpy and enums aside."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if value is None or isinstance(value, bool | int | float | str | enum.Enum | os.PathLike):
        return True
    return isinstance(value, Namespace) or getattr(value, "size", None) == 1


def _flow(value: Any) -> str:
    """Return plain data on one line of YAML, which is JSON but for its numbers."""
    if isinstance(value, dict):
        entries = [f"{_flow(name)}: {_flow(entry)}" for name, entry in value.items()]
        return f"{{{', '.join(entries)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, float):
        if not math.isfinite(value):
            return ".nan" if value != value else ".inf" if value > 0 else "-.inf"
        text = repr(float(value))  # YAML takes 1e-05 for a text
        return text if "." in text else text.replace("e", ".0e")
    if isinstance(value, str) and value.isidentifier() and value.lower() not in _OTHER_MEANING:
        return value
    return json.dumps(value, ensure_ascii=False)


_OTHER_MEANING = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))
