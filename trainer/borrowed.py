"""Participants that a run borrows from another open run, one of whose hooks started it."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..actors.metrics.states import load_torchmetrics_state, torchmetrics_state
from ..actors.module import LightningModule
from ..actors.run_context import RunContext
from ..actors.trees import detached
from ..bus.actor import Actor
from ..bus.bus import Bus
from ..bus.system.logging_setup import bound_run
from ..loops.modes import kept_modes

_TIES = (
    "_trainer",
    "_nightbus_context",
    "_nightbus_address",
    "_nightbus_handler_table",
    "_nightbus_for_loggers",
)


class BorrowedActors:
    """Remembers actors that belong to another open run, and gives them back to it.

    Args:
        context: the inner run.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._former: list[tuple[Actor, dict[str, Any]]] = []

    def remember(self, actor: Actor) -> None:
        """Remember the run to which an actor belongs, before it gets an address in this one."""
        context = actor._nightbus_context
        if not isinstance(context, Bus) or context is self._context.bus or not context.is_open:
            return
        if actor not in [known for known, _ in self._former]:
            ties = {name: vars(actor)[name] for name in _TIES if name in vars(actor)}
            self._former.append((actor, ties))

    def give_back(self) -> None:
        """Give all actors back to the runs to which they belonged, when this run is over."""
        former, self._former = self._former, []
        for actor, ties in former:
            for name, value in ties.items():
                object.__setattr__(actor, name, value)
            if isinstance(actor, LightningModule):
                actor._attach(actor._trainer)  # with the modules within it


@contextmanager
def borrowed_module(module: LightningModule) -> Iterator[None]:
    """Borrow a module for a run, and restore what another open run needs of it afterwards.

    That is all but its weights: its training modes, its gradients, the states of its metrics, and
    the run that the program's log names.
    """
    with bound_run():
        if not (isinstance(module._nightbus_context, Bus) and module._nightbus_context.is_open):
            yield
            return
        is_grad_enabled = torch.is_grad_enabled()
        gradients = [(parameter, parameter.grad) for parameter in module.parameters()]
        metrics = copy.deepcopy(detached(torchmetrics_state(module)))
        for parameter, _ in gradients:
            parameter.grad = None
        try:
            with kept_modes(module):
                yield
        finally:
            torch.set_grad_enabled(is_grad_enabled)
            for parameter, gradient in gradients:
                parameter.grad = gradient
            _reset_metrics(module)
            load_torchmetrics_state(module, metrics)


def _reset_metrics(module: nn.Module) -> None:
    for name in torchmetrics_state(module):
        metric: Any = module.get_submodule(name)
        metric.reset()
