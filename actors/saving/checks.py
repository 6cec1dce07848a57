"""What is checked before training begins: a checkpoint will fit, and can hold the state."""

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from ...bus.errors import CheckpointError
from ...bus.system.logging_setup import get_logger
from ..checkpoints.format import check_carried
from ..checkpoints.weight_names import plain_names
from ..module import LightningModule
from ..run_optimization import RunOptimization

_log = get_logger("nightbus.checkpoint")

CHECKPOINTS_AT_ONCE = 3
"""Checkpoints on disk at once: the newest two, and the one being written."""


def check_space(module: LightningModule, optimization: RunOptimization, folder: Path) -> None:
    """Check that checkpoints will fit on the disk.

    Args:
        module: the module to save.
        optimization: its optimizers.
        folder: where the checkpoints will be; its parent exists.

    Raises:
        CheckpointError: not even the weights do.
    """
    weights = sum(_size_of(t) for t in module.state_dict().values())
    trained = sum(_size_of(p) for g in optimization.optimizers for p in _parameters_of(g))
    whole = weights + 2 * trained  # as for Adam; others need less
    free = shutil.disk_usage(folder.parent).free
    advice = "make room, choose another default_root_dir, or train with enable_checkpointing=False"
    if free < weights:
        raise CheckpointError(
            f"there is no room for a checkpoint: the weights take {weights:,} bytes, and the "
            f"disk of {folder.parent} has {free:,}; {advice}"
        )
    if free < CHECKPOINTS_AT_ONCE * whole:
        _log.warning(
            "checkpoints may find no room on the disk; " + advice,
            free_bytes=free,
            a_checkpoint_takes_about=whole,
            checkpoints_at_once=CHECKPOINTS_AT_ONCE,
        )


def known_weights(module: LightningModule) -> dict[str, Any]:
    """Return the weights by plain names, without those of lazy parts, which have no shape yet.

    Args:
        module: the module to save.
    """
    return {
        name: value
        for name, value in plain_names(module.state_dict()).items()
        if not (isinstance(value, Tensor) and is_lazy(value))
    }


def check_optimizers(optimization: RunOptimization) -> None:
    """Check that a checkpoint can hold the states of optimizers and schedulers.

    Args:
        optimization: the optimizers and schedulers of the run.

    Raises:
        CheckpointError: it cannot; the message says which.
    """
    schedulers = [config.scheduler for config in optimization.schedulers]
    for what, entries in (("optimizer", optimization.optimizers), ("lr_scheduler", schedulers)):
        for number, entry in enumerate(entries):
            check_carried(entry.state_dict(), f"{what} {number} ({type(entry).__name__})")


def _parameters_of(optimizer: Any) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _size_of(tensor: Any) -> int:
    if not isinstance(tensor, Tensor) or is_lazy(tensor):
        return 0
    return tensor.numel() * tensor.element_size()
