"""Writes a checkpoint as a file that Lightning 2 loads, and any program with PyTorch.

The command line runs it as a process of its own, because it loads torch.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch

from ...bus.errors import CheckpointError
from ...bus.log.segments import sync_folder
from .format import read_checkpoint, temporary_name
from .lightning_format import to_lightning
from .torch_objects import is_of_torch


def export(source: Path, file: Path) -> list[str]:
    """Write a checkpoint as a file of Lightning.

    Args:
        source: the checkpoint, a folder.
        file: the new file; must not exist.

    Returns:
        What was left out, one line each.

    Raises:
        CheckpointError: the checkpoint cannot be read, the file exists, or the disk failed.
    """
    content, left_out = to_lightning(read_checkpoint(source))
    left_out += _leave_out_objects(content)
    if os.path.lexists(file):
        raise CheckpointError(f"{file} exists already; name a new file")
    temporary = temporary_name(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
            torch.save(content, out)
            out.flush()
            os.fsync(out.fileno())
        temporary.rename(file)
        sync_folder(file.parent)
    except (OSError, RuntimeError) as error:  # torch's zip writer raises a RuntimeError
        raise CheckpointError(f"cannot write {file}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return left_out


def _leave_out_objects(content: dict[str, Any]) -> list[str]:
    """Remove modules, classes and functions, and return what was removed, one line each.

    Lightning, and torch, load a file with one only when they are told to trust it.
    """
    left_out = []
    for place in ("", "hyper_parameters", "datamodule_hyper_parameters"):
        entries = content.get(place, {}) if place else content
        for name in [name for name, value in entries.items() if is_of_torch(value)]:
            kind = type(entries.pop(name)).__name__
            where = f"{place}.{name}" if place else name
            left_out.append(f"{where}: a {kind}, which torch does not load with weights_only=True")
    return left_out


def _main(source: str, file: str) -> int:
    try:
        for line in export(Path(source), Path(file)):
            print(line)
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
