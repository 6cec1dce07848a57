"""Checks the parameters of the module's steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..bus.errors import UsageError
from .hook_arguments import parameters_of
from .module import LightningModule
from .overrides import is_overridden, takes_argument

ANY_STEP_ARGUMENTS = ("batch", "batch_idx", "optimizer_idx", "hiddens")
"""Arguments that a training step may have, before the optimizers are known."""


class _Parameters(NamedTuple):
    names: list[str]
    takes_any: bool  # it has *args or **kwargs

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "_Parameters":
        parameters = parameters_of(function)
        takes_any = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
        return cls([p.name for p in parameters], takes_any)

    def lack(self, name: str) -> bool:
        return not self.takes_any and name not in self.names


def check_training_step(module: LightningModule, num_turns: int, truncated_bptt_steps: int) -> None:
    """Refuse a training_step without parameters for the optimizer's number or the hidden states.

    Args:
        module: the module.
        num_turns: number of optimizers for which the step is called on a batch.
        truncated_bptt_steps: time steps of the splits of a batch; 0 for whole batches.

    Raises:
        UsageError: a parameter is missing.
    """
    if not is_overridden(module, "training_step"):
        return
    parameters = _Parameters.of(module.training_step)
    where = f"{type(module).__name__}.training_step({', '.join(parameters.names)})"
    if num_turns > 1 and parameters.lack("optimizer_idx"):
        raise UsageError(
            f"configure_optimizers returned {num_turns} optimizers, so "
            f"training_step is called for each, but {where} has no argument optimizer_idx; "
            "add it, or set self.automatic_optimization = False and step them yourself"
        )
    if truncated_bptt_steps and parameters.lack("hiddens"):
        raise UsageError(
            f"truncated_bptt_steps={truncated_bptt_steps}, but {where} has no argument "
            "hiddens, the hidden states of the split before"
        )


def takes_hiddens(module: LightningModule) -> bool:
    """Return whether training_step takes the hidden states of the split before.

    Args:
        module: the module.
    """
    return not _Parameters.of(module.training_step).lack("hiddens")


def fetches(module: LightningModule, step: str) -> bool:
    """Return whether a step has a parameter ``dataloader_iter``, and so fetches its batches.

    Args:
        module: the module.
        step: the name of the step.
    """
    return takes_argument(module, step, "dataloader_iter")


def check_dataloader_idx(module: LightningModule, step: str, num_dataloaders: int) -> None:
    """Refuse a step without a parameter for the dataloader's number.

    Args:
        module: the module.
        step: the name of the step.
        num_dataloaders: the number of dataloaders.

    Raises:
        UsageError: it has no parameter ``dataloader_idx``.
    """
    if num_dataloaders < 2 or not is_overridden(module, step) or fetches(module, step):
        return
    parameters = _Parameters.of(getattr(module, step))
    if len(parameters.names) < 3 and parameters.lack("dataloader_idx"):
        raise UsageError(
            f"there are {num_dataloaders} dataloaders, but {type(module).__name__}.{step}"
            f"({', '.join(parameters.names)}) has no argument dataloader_idx; add "
            "dataloader_idx=0 as its last one"
        )
