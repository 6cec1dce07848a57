"""Calls on files that code for Lightning makes on checkpoints, which are folders here."""

import functools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch

from ..actors.checkpoints.format import (
    check_carried,
    is_checkpoint,
    load_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from ..actors.checkpoints.lightning_format import OURS_ALONE, Converted, from_lightning
from ..bus.errors import CheckpointError
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
_NOT_COPIED = ("callbacks.ModelCheckpoint{", "loops: ")
"""What a copy of a checkpoint is without: other checkpoints' paths, and the place in the data."""
_OF_ANOTHER_FORM = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Errors of converting a dict that is not quite of Lightning's form."""
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
        elif _VERSION not in obj or not _write_anew(as_path(f), obj):
            save(obj, f, *args, **kwargs)

    return save_or_change


def _holds_weights(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and isinstance(value.get("state_dict"), Mapping)


def _write_anew(path: Path, content: Mapping[str, Any]) -> bool:
    """Write what ``torch.load`` returned of one checkpoint, perhaps changed, as another one.

    Args:
        path: where nothing is, or a file, which is replaced once the checkpoint is complete.
        content: in the form of Lightning.

    Returns:
        Whether it was written; not if a checkpoint cannot hold all of it.

    Raises:
        CheckpointError: the disk failed.
    """
    path = path.resolve()  # a link leads to what is replaced
    if path.exists() and not path.is_file():
        return False
    converted, lost = _converted(content)
    if lost:
        _log.warning(
            f"{path} was saved as a file of torch, because a checkpoint would not hold all of it: "
            f"{'; '.join(lost)}; to resume from the file, convert it: nightbus import-ckpt"
        )
        return False
    write_checkpoint(path, converted.content, replaces=True)
    if converted.left_out:
        _log.warning(f"the checkpoint {path} was saved without: {'; '.join(converted.left_out)}")
    return True


def _converted(content: Mapping[str, Any]) -> tuple[Converted, list[str]]:
    """Return the content of a checkpoint, and what of the user's would not be in it."""
    ours = OURS_ALONE - _OF_LIGHTNING
    given = {name: value for name, value in content.items() if name not in ours}
    try:
        converted = from_lightning(given)
        check_carried(converted.content)
    except (CheckpointError, *_OF_ANOTHER_FORM) as error:
        return Converted({}, []), [str(error)]
    imported = content.get("imported")
    if isinstance(imported, Mapping) and content.get("epoch") == content.get("saved_in_epoch"):
        # A copy has no counters of loops, which would say how many epochs are complete.
        converted.content["epoch"] = epochs = int(imported.get("epochs", 0))
        if "imported" in converted.content:
            converted.content["imported"]["epochs"] = epochs
    known = _NOT_COPIED if ours & content.keys() else ()
    return converted, [line for line in converted.left_out if not line.startswith(known)]


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
