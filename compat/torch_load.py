"""``torch.load`` of a checkpoint's folder, for code that reads the checkpoints of Lightning."""

import functools
import os
from collections.abc import Mapping
from typing import Any

import torch

from ..actors.callbacks.checkpoint import Checkpoint
from ..actors.checkpoints.format import is_checkpoint, load_checkpoint, meant_checkpoint
from ..actors.checkpoints.lightning_format import to_lightning
from ..actors.trees import move_data_to_device
from ..bus.system.paths import as_path

EXTENSION = ".ckpt"

# Options of a ModelCheckpoint by which Lightning tells two of them apart in a checkpoint.
_TOLD_APART_BY = (
    "monitor", "mode", "every_n_train_steps", "every_n_epochs", "train_time_interval",
)  # fmt: skip


def look_like_files() -> None:
    """Let checkpoints end in ``.ckpt``, and ``torch.load`` read them although they are folders.

    It returns what a file of Lightning would hold, beside what the folder does. What else
    ``torch.load`` is given, it reads as before.
    """
    Checkpoint.FILE_EXTENSION = EXTENSION
    torch.load = _reading_folders(torch.load)


def load_checkpoint_or_file(path_or_url: Any, map_location: Any = None, **options: Any) -> Any:
    """Return the content of a checkpoint, or of a file as ``torch.load`` does.

    Args:
        path_or_url: the checkpoint, a folder; or a file, or an open one.
        map_location: as for ``torch.load``.
        **options: other arguments of ``torch.load``, for a file.

    Raises:
        UsageError: it is an address.
    """
    if isinstance(path_or_url, str | os.PathLike):
        path = meant_checkpoint(as_path(path_or_url))
        if is_checkpoint(path):
            return _content(path, map_location)
    return torch.load(path_or_url, map_location, **options)


def _content(path: str | os.PathLike[str], map_location: Any) -> dict[str, Any]:
    """Return what a folder holds, and what a file of Lightning would hold beside it."""
    state = load_checkpoint(path)
    kept = {"hyper_parameters": state["hyper_parameters"]} if "hyper_parameters" in state else {}
    content = {**state, **to_lightning(state).content, **kept}
    if "callbacks" in content:
        content["callbacks"] |= model_checkpoints(state)
    if not isinstance(map_location, str | torch.device):
        return content
    return {**move_data_to_device(content, torch.device(map_location)), **kept}


def model_checkpoints(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the states of ModelCheckpoints as Lightning saves them: scripts look up paths there.

    Args:
        state: content of a checkpoint.
    """
    classes, found = state.get("actor_classes", {}), {}
    for name, saved in state.get("actors", {}).items():
        if saved and classes.get(name) == "ModelCheckpoint":
            of = {option: saved[option] for option in _TOLD_APART_BY if option in saved}
            found[f"ModelCheckpoint{of}"] = _with_paths(saved)
    return found


def _with_paths(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a ModelCheckpoint has saved, with whole paths."""
    folder = saved["dirpath"]

    def path(name: str) -> str:
        return os.path.join(folder, name) if name else ""

    best = {path(name): score for name, score in saved["best_k_models"].items()}
    worst_of = max if saved["mode"] == "min" else min
    worst = worst_of(best, key=lambda name: float(best[name])) if best else ""
    return {
        "monitor": saved["monitor"],
        "dirpath": folder,
        "best_model_score": saved["best_model_score"],
        "best_model_path": path(saved["best_model_path"]),
        "current_score": saved["current_score"],
        "best_k_models": best,
        "kth_best_model_path": worst,
        "kth_value": best.get(worst),
        "last_model_path": path(saved["last_model_path"]),
    }


def _reading_folders(load: Any) -> Any:
    @functools.wraps(load)
    def load_file_or_folder(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(f, str | os.PathLike) and is_checkpoint(meant_checkpoint(as_path(f))):
            return _content(f, map_location)
        return load(f, map_location, *args, **kwargs)

    return load_file_or_folder
