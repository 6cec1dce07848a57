"""Converts a checkpoint file of PyTorch or Lightning; runs as a process of its own.

Such a file is a pickle. ``torch.load(weights_only=True)`` restricts what it may do, which has been
circumvented twice, so this runs only on a user's request, and nothing else in nightbus calls it.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...bus.errors import CheckpointError
from ...bus.secrets.redaction import redact_setting
from ...bus.secrets.texts import STRUCK_OUT
from .format import take_snapshot, write_checkpoint
from .weight_names import plain_names

OLDEST_TORCH = (2, 10)
_REFUSAL = "WeightsUnpickler error:"  # torch's text before the reason of a refusal
_SIGNS_OF_CODE = ("Unsupported", "Trying to")  # a truncated file has none of these
_TAKEN = (
    "state_dict",
    "optimizer_states",
    "lr_schedulers",
    "epoch",
    "global_step",
    "hyper_parameters",
)


def convert(source: Path, folder: Path) -> list[str]:
    """Write the content of a file of PyTorch or Lightning as a checkpoint.

    Args:
        source: the file: a state dict, or a checkpoint of Lightning.
        folder: the new checkpoint; must not exist.

    Returns:
        What was left out, one line each.

    Raises:
        CheckpointError: it cannot be read, or holds no weights.
    """
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        raise CheckpointError(
            f"torch {torch.__version__} is installed; to read other checkpoints, use 2.10 or "
            "newer, which has no known way around weights_only"
        )
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {source}") from None
    except Exception as error:  # of many types, because it parses untrusted data
        raise CheckpointError(f"{source} {_why_not_read(error)}") from error
    state, left_out = _state_of(content, source)
    write_checkpoint(folder, state)
    return left_out


def _why_not_read(error: Exception) -> str:
    """Return what is wrong with a file that torch does not read, and what to do."""
    text = str(error).strip()
    refused = text.partition(_REFUSAL)[2].strip() or text
    what = f"{type(error).__name__}: {refused.splitlines()[0].split('. ')[0]}" if refused else ""
    if _REFUSAL in text and any(sign in refused for sign in _SIGNS_OF_CODE):
        return (
            f"cannot be read without running code that it names: {what}; save it again where it "
            "was made, with weights and plain data only"
        )
    why = f" ({what})" if what else ""
    return (
        f"is damaged or cut short, or not a checkpoint of PyTorch{why}; compare its size with the "
        "original's, and copy it again"
    )


def _state_of(content: Any, source: Path) -> tuple[dict[str, Any], list[str]]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source} holds a {type(content).__name__}, not a state dict")
    if not isinstance(content.get("state_dict"), Mapping):
        if not content or not all(isinstance(value, Tensor) for value in content.values()):
            raise CheckpointError(
                f"{source} is neither a state dict nor a checkpoint of Lightning: it has "
                f"{', '.join(map(str, list(content)[:10])) or 'nothing'}"
            )
        return {"state_dict": plain_names(content), "hyper_parameters": {}}, []
    left_out = [f"{name}: of no use here" for name in content if name not in _TAKEN]
    left_out = [line for line in left_out if not line.startswith("pytorch-lightning_version")]
    state: dict[str, Any] = {
        "state_dict": plain_names(content["state_dict"]),
        "hyper_parameters": {},
        "global_step": int(content.get("global_step", 0)),
    }
    for name, value in dict(content.get("hyper_parameters", {})).items():
        try:
            take_snapshot({name: value})
        except CheckpointError as error:
            left_out.append(f"hyper_parameters.{name}: {error}")
        else:
            kept = redact_setting(name, value)
            if kept is value:
                state["hyper_parameters"][name] = value
            elif kept == STRUCK_OUT:
                left_out.append(f"hyper_parameters.{name}: it is a secret")
            else:
                left_out.append(f"hyper_parameters.{name}: secrets in it")
                state["hyper_parameters"][name] = kept
    if content.get("optimizer_states"):
        state["optimizer_states"] = list(content["optimizer_states"])
        state["lr_schedulers"] = list(content.get("lr_schedulers", ()))
        state["imported"] = {"epochs": _epochs(content), "steps": state["global_step"]}
    state["epoch"] = _epochs(content)
    return state, left_out


def _epochs(content: Mapping[str, Any]) -> int:
    """Return how many epochs it has completed; Lightning does not count the one it was saved in."""
    progress: Any = content
    for name in ("loops", "fit_loop", "epoch_progress", "total", "processed"):
        progress = progress.get(name) if isinstance(progress, Mapping) else None
    return int(content.get("epoch", -1)) + 1 if progress is None else int(progress)


if __name__ == "__main__":
    try:
        for line in convert(Path(sys.argv[1]), Path(sys.argv[2])):
            print(line)
    except CheckpointError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
