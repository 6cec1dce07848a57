"""Converts a checkpoint file of PyTorch or Lightning; runs as a process of its own.

Such a file is a pickle. ``torch.load(weights_only=True)`` restricts what it may do, which has been
circumvented twice, so this runs only on a user's request, and nothing else in nightbus calls it.
"""

import collections
import datetime
import pathlib
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from ...bus.errors import CheckpointError
from .format import write_checkpoint
from .lightning_format import Converted, from_lightning
from .weight_names import plain_names

OLDEST_TORCH = (2, 10)
_REFUSAL = "WeightsUnpickler error:"  # torch's text before the reason of a refusal
_SIGNS_OF_CODE = ("Unsupported", "Trying to")  # a truncated file has none of these
# Data that Lightning's users keep among hyperparameters and states; none of them runs code.
_PLAIN: list[Any] = [
    Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    datetime.timedelta,
    collections.Counter,
    numpy.dtype,
    *sorted({type(numpy.dtype(code)) for code in "?bhilqBHILQefd"}, key=repr),
    (getattr(numpy, "_core", numpy).multiarray.scalar, "numpy.core.multiarray.scalar"),
    (getattr(numpy, "_core", numpy).multiarray.scalar, "numpy._core.multiarray.scalar"),
]


def convert(source: Path, folder: Path, runs_code: bool = False) -> list[str]:
    """Write the content of a file of PyTorch or Lightning as a checkpoint.

    Args:
        source: the file: a state dict, or a checkpoint of Lightning.
        folder: the new checkpoint; must not exist.
        runs_code: run the code that the file names, as the classes of its hyperparameters.

    Returns:
        What was left out, one line each.

    Raises:
        CheckpointError: it cannot be read, or holds no weights.
    """
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH and not runs_code:
        raise CheckpointError(
            f"torch {torch.__version__} is installed; to read other checkpoints, use 2.10 or "
            "newer, which has no known way around weights_only"
        )
    try:
        if runs_code:
            content = torch.load(source, map_location="cpu", weights_only=False)
        else:
            with torch.serialization.safe_globals(_PLAIN):
                content = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {source}") from None
    except Exception as error:  # of many types, because it parses untrusted data
        raise CheckpointError(f"{source} {_why_not_read(error)}") from error
    converted = _state_of(content, source)
    write_checkpoint(folder, converted.content)
    return converted.left_out


def _why_not_read(error: Exception) -> str:
    """Return what is wrong with a file that torch does not read, and what to do."""
    text = str(error).strip()
    refused = text.partition(_REFUSAL)[2].strip() or text
    what = f"{type(error).__name__}: {refused.splitlines()[0].split('. ')[0]}" if refused else ""
    if _REFUSAL in text and any(sign in refused for sign in _SIGNS_OF_CODE):
        return (
            f"cannot be read without running code that it names: {what}; save it again where it "
            "was made, with weights and plain data only, or add --run-code if you trust whoever "
            "wrote it as you trust a program"
        )
    why = f" ({what})" if what else ""
    return (
        f"is damaged or cut short, or not a checkpoint of PyTorch{why}; compare its size with the "
        "original's, and copy it again"
    )


def _state_of(content: Any, source: Path) -> Converted:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source} holds a {type(content).__name__}, not a state dict")
    if isinstance(content.get("state_dict"), Mapping):
        return from_lightning(content)
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(
            f"{source} is neither a state dict nor a checkpoint of Lightning: it has "
            f"{', '.join(map(str, list(content)[:10])) or 'nothing'}"
        )
    return Converted({"state_dict": plain_names(content), "hyper_parameters": {}}, [])


def _main(source: str, out: str, *options: str) -> int:
    try:
        for line in convert(Path(source), Path(out), runs_code="--run-code" in options):
            print(line)
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
