"""The states of optimizers and schedulers in a checkpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...bus.errors import CheckpointError
from ..run_optimization import RunOptimization


def optimizer_states(optimization: RunOptimization) -> dict[str, Any]:
    """Return the states of optimizers and schedulers, as entries of a checkpoint.

    Args:
        optimization: the optimizers and schedulers of the run.
    """
    return {
        "optimizer_states": [optimizer.state_dict() for optimizer in optimization.optimizers],
        "lr_schedulers": [config.scheduler.state_dict() for config in optimization.schedulers],
        "optimizer_classes": [type(optimizer).__name__ for optimizer in optimization.optimizers],
    }


def restore_optimizers(optimization: RunOptimization, state: Mapping[str, Any]) -> None:
    """Load the states of optimizers and schedulers.

    Args:
        optimization: the optimizers and schedulers of the run.
        state: the checkpoint.

    Raises:
        CheckpointError: the checkpoint has others.
    """
    optimizers = optimization.optimizers
    schedulers = [config.scheduler for config in optimization.schedulers]
    for what, mine, saved in (
        ("optimizers", optimizers, state["optimizer_states"]),
        ("schedulers", schedulers, state["lr_schedulers"]),
    ):
        if len(mine) != len(saved):
            raise CheckpointError(
                f"the checkpoint has {len(saved)} {what}, configure_optimizers gave {len(mine)}"
            )
    _check_classes(optimizers, state.get("optimizer_classes"))
    for optimizer, saved in zip(optimizers, state["optimizer_states"], strict=True):
        try:
            optimizer.load_state_dict(saved)
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f"the checkpoint's {type(optimizer).__name__} does not fit the one that "
                f"configure_optimizers gave: {error}"
            ) from error
        if saved["state"]:
            optimizer._opt_called = True  # type: ignore[attr-defined]  # schedulers ask for it
    for scheduler, saved in zip(schedulers, state["lr_schedulers"], strict=True):
        scheduler.load_state_dict(saved)


def _check_classes(mine: Sequence[Any], saved: Sequence[str] | None) -> None:
    """Refuse states of other classes; torch would accept many, and fail in the first step."""
    names = [type(each).__name__ for each in mine]
    if saved is not None and names != list(saved):
        raise CheckpointError(
            f"the checkpoint has the optimizers {', '.join(saved)}, configure_optimizers gave "
            f"{', '.join(names)}; resume with the same, or take only the weights with "
            "load_from_checkpoint"
        )
