"""Calls on files that code for Lightning makes on checkpoints, which are folders here."""

import functools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch

from ..actors.checkpoints.format import (
    is_checkpoint,
    load_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from ..actors.checkpoints.lightning_format import OURS_ALONE, from_lightning
from ..bus.system.logging_setup import get_logger
from ..bus.system.paths import as_path

_COUNTED = frozenset({"epoch", "global_step"})
"""Of a checkpoint as ``torch.load`` returns it: how often it counts; that stays as it was."""
_VERSION = "pytorch-lightning_version"
_OF_LIGHTNING = frozenset(
    {
        "callbacks", "loops", _VERSION, "MixedPrecision",
        "hparams_name", "datamodule_hparams_name",
    }
)  # fmt: skip
_log = get_logger("nightbus.compat")


def take_checkpoints_for_files() -> None:
    """Let some calls on files take a checkpoint's folder for a file.

    ``os.path.isfile`` is true of it, ``os.remove``, ``os.unlink`` and ``Path.unlink`` remove it,
    ``shutil.copy``, ``copy2`` and ``copyfile`` copy it, and ``torch.save`` to its path changes it.
    ``torch.save`` of the content of a checkpoint to another path makes another checkpoint.
    """
    os.path.isfile = _true_of_checkpoints(os.path.isfile)
    os.remove = os.unlink = _removing_checkpoints(os.remove)
    shutil.copyfile = _copying_checkpoints(shutil.copyfile)
    torch.save = _changing_checkpoints(torch.save)


def _is_checkpoint(path: Any) -> bool:
    return isinstance(path, str | os.PathLike) and is_checkpoint(Path(os.fspath(path)))


def _true_of_checkpoints(isfile: Any) -> Any:
    @functools.wraps(isfile)
    def is_file_or_checkpoint(path: Any) -> bool:
        return bool(isfile(path)) or _is_checkpoint(path)

    return is_file_or_checkpoint


def _removing_checkpoints(remove: Any) -> Any:
    @functools.wraps(remove)
    def remove_file_or_checkpoint(path: Any, *, dir_fd: int | None = None) -> None:
        try:
            remove(path, dir_fd=dir_fd)
        except (IsADirectoryError, PermissionError):
            if dir_fd is not None or not _is_checkpoint(path) or os.path.islink(path):
                raise
            remove_checkpoint(as_path(path))

    return remove_file_or_checkpoint


def _copying_checkpoints(copyfile: Any) -> Any:
    @functools.wraps(copyfile)
    def copy_file_or_checkpoint(src: Any, dst: Any, *, follow_symlinks: bool = True) -> Any:
        if not _is_checkpoint(src):
            return copyfile(src, dst, follow_symlinks=follow_symlinks)
        if _is_checkpoint(dst) and not os.path.samefile(src, dst):
            remove_checkpoint(as_path(dst))
        return shutil.copytree(src, dst)

    return copy_file_or_checkpoint


def _changing_checkpoints(save: Any) -> Any:
    @functools.wraps(save)
    def save_or_change(obj: object, f: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(f, str | os.PathLike) or not _holds_weights(obj):
            save(obj, f, *args, **kwargs)
        elif _is_checkpoint(f):
            path = as_path(f).resolve()  # ``last`` is a link
            write_checkpoint(path, changed(load_checkpoint(path), obj), replaces=True)
        elif _VERSION in obj:
            _write_anew(as_path(f), obj)
        else:
            save(obj, f, *args, **kwargs)

    return save_or_change


def _holds_weights(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and isinstance(value.get("state_dict"), Mapping)


def _write_anew(path: Path, content: Mapping[str, Any]) -> None:
    """Write what ``torch.load`` returned of one checkpoint, perhaps changed, as another one.

    Args:
        path: where nothing is, or a file.
        content: in the form of Lightning.
    """
    given = {name: content[name] for name in content if name not in OURS_ALONE - _OF_LIGHTNING}
    converted = from_lightning(given)
    if path.is_file():
        path.unlink()
    write_checkpoint(path, converted.content)
    if converted.left_out:
        _log.warning(f"the checkpoint {path} was saved without: {'; '.join(converted.left_out)}")


def changed(state: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint with what was changed in the form that ``torch.load`` returns.

    Weights, hyperparameters, the states of optimizers and schedulers and the user's own entries
    are those of the changed form; where the run is, and what only nightbus keeps, stay.

    Args:
        state: content of the checkpoint.
        content: the changed form.
    """
    stays = OURS_ALONE | _COUNTED
    others = _OF_LIGHTNING | {state.get("actor_classes", {}).get("datamodule")}
    changes = {name: value for name, value in content.items() if name not in stays | others}
    kept = {name: value for name, value in state.items() if name in stays}
    for prefix in ("", "datamodule_"):
        if f"{prefix}hyper_parameters" not in changes:
            kept.pop(f"{prefix}hparams_argument", None)
            kept.pop(f"{prefix}hparams_form", None)
    return kept | changes
