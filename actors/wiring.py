"""Wiring: assigns handlers to hooks, and finds what loops may leave out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..bus.errors import UsageError
from ..bus.routes import HookHandler, chained
from .hook_table import HOOKS
from .hooks import HookOwners, base_method, hook_handlers
from .module import LightningModule
from .optimization.backward import run_backward
from .optimization.lightning_optimizer import default_step, evaluates_first
from .overrides import is_overridden, takes_argument
from .run_context import RunContext
from .run_optimization import RunOptimization
from .step_arguments import fetches
from .step_batches import BatchSources

_STEPS = ("training_step", "validation_step", "test_step", "predict_step")


class Wiring:
    """Determines the handlers of each hook, and passes them to the routes.

    Args:
        context: the run.
        optimization: its optimizers, on which the form of a step depends.

    Attributes:
        has_training_step_end: the module has that hook.
        has_plain_training_step: a training step only calls the module's.
        evaluates_first: an optimizer's step begins with the training step, by default.
        has_step_end: stage -> the module has ``validation_step_end`` or ``test_step_end``.
        logs_collected_training: ``training_epoch_end`` sees the epoch's results before they are
            logged.
        keeps_training_outputs: a handler needs the outputs of all steps at the epoch's end.
        wants_training_outputs: a handler needs a step's output at all.
        sources: where steps with an argument ``dataloader_iter`` fetch their batches.
        fetching: the names of these steps.
    """

    def __init__(self, context: RunContext, optimization: RunOptimization) -> None:
        self._context, self._optimization = context, optimization
        self._hooks_of_loops: set[str] = set()  # announced by loops of the user's own
        # Whether ranks reduce what they log in steps; while none does, a step ends without that.
        self._syncs_steps, self._begins_epochs = True, False
        self.has_training_step_end = False
        self.has_plain_training_step = True
        self.evaluates_first = False
        self.has_step_end = {"validation": False, "test": False}
        self.logs_collected_training = False
        self.keeps_training_outputs = False
        self.wants_training_outputs = False
        self.sources = BatchSources()
        self.fetching: frozenset[str] = frozenset()

    def forget_hooks_of_loops(self) -> None:
        """Prepare for another run, perhaps of other loops."""
        self._hooks_of_loops = set()
        self._syncs_steps, self._begins_epochs = True, False

    def begin_epoch_of_ranks(self) -> None:
        """Have the ranks find out in the epoch's first step what they log in steps."""
        self._begins_epochs = True
        if not self._syncs_steps:
            self._syncs_steps = True
            self.connect()

    def connect(self) -> None:
        """Determine the handlers of each hook."""
        context, module = self._context, self._context.lightning_module
        callbacks = context.callbacks_in_order
        owners = HookOwners(context, module, context.datamodule, callbacks, context.actors)
        defaults = self._default_hooks(module)
        optimization = self._optimization
        arguments = optimization.step_arguments
        former = {
            "using_native_amp": context.device.autocasts,
            "using_lbfgs": any(isinstance(o, torch.optim.LBFGS) for o in optimization.optimizers),
        }
        handlers = hook_handlers(
            owners, defaults, arguments, self._hooks_of_loops, self._has_several, former
        )
        self._have_steps_fetch(handlers, arguments)
        wants_outputs = "on_train_batch_end" in handlers
        if optimization.replicas is not None:
            steps = handlers.get("training_step") or [defaults["training_step"]]
            step = chained("training_step", steps)
            handlers["training_step"] = [optimization.replicas.routed(step)]
            if self._syncs_steps:  # first, because callbacks read the values of all ranks
                ends = handlers.get("on_train_batch_end", ())
                handlers["on_train_batch_end"] = [self._sync_step, *ends]
        if context.profiler.profiles_hooks:
            handlers = self._profiled(handlers, defaults)
        context.routes.set_handlers(handlers, defaults)
        self.evaluates_first = evaluates_first(optimization.optimizers)
        self.has_training_step_end = is_overridden(module, "training_step_end")
        self.has_plain_training_step = not (
            context.device.wraps_steps
            or self.has_training_step_end
            or optimization.truncated_bptt_steps
        )
        self.logs_collected_training = is_overridden(module, "training_epoch_end")
        self.keeps_training_outputs = self.logs_collected_training or any(
            takes_argument(owner, "on_train_epoch_end", "outputs") for owner in (module, *callbacks)
        )
        self.wants_training_outputs = self.keeps_training_outputs or wants_outputs
        self.has_step_end = {
            kind: is_overridden(module, f"{kind}_step_end") for kind in ("validation", "test")
        }

    def _have_steps_fetch(
        self, handlers: dict[str, list[HookHandler]], step_arguments: Sequence[str]
    ) -> None:
        """Give steps with an argument ``dataloader_iter`` an iterator instead of a batch."""
        module = self._context.lightning_module
        self.fetching = frozenset(step for step in _STEPS if fetches(module, step))
        for name in self.fetching:
            arguments = step_arguments if name == "training_step" else HOOKS[name].arguments
            *others, step = handlers[name]  # the module's is the last
            handlers[name] = [*others, self.sources.iterated(name, step, arguments)]

    def _profiled(
        self, handlers: Mapping[str, Sequence[HookHandler]], defaults: Mapping[str, HookHandler]
    ) -> dict[str, list[HookHandler]]:
        """Return handlers that are profiled, one for each hook that does something."""
        all_handlers = {**{name: [default] for name, default in defaults.items()}, **handlers}
        wrapped = self._context.profiler.wrapped
        return {name: [wrapped(name, chained(name, each))] for name, each in all_handlers.items()}

    def _sync_step(self, *_: Any) -> None:
        self._context.metrics.sync_step()
        if self._begins_epochs:
            self._begins_epochs = False
            if not self._context.metrics.has_steps_of_ranks:
                self._syncs_steps = False
                self.connect()

    def _has_several(self, numbered: str) -> bool:
        """Return whether there are several of what an argument numbers.

        That is: optimizers, or dataloaders of the current stage.
        """
        if numbered == "optimizer_idx":
            return len(self._optimization.optimizers) > 1
        context = self._context
        stage = context.place.stage
        found = context.loaders.evaluation("validate" if stage == "sanity_check" else stage)
        return len(found) > 1

    def _default_hooks(self, module: LightningModule) -> dict[str, HookHandler]:
        """Return what is done for hooks that the module does not override."""
        context, optimizers = self._context, self._optimization.optimizers
        defaults: dict[str, HookHandler] = {
            "backward": _backward,
            "optimizer_step": default_step(optimizers),
            "optimizer_zero_grad": _zero_grad,
            "lr_scheduler_step": base_method(module, "lr_scheduler_step"),
            "training_step": base_method(module, "training_step"),
            "predict_step": base_method(module, "predict_step"),
            "configure_optimizers": base_method(module, "configure_optimizers"),
        }
        if context.gradient_clip_val:
            defaults["configure_gradient_clipping"] = base_method(
                module, "configure_gradient_clipping"
            )
        if context.device.moves_batches:
            defaults["transfer_batch_to_device"] = base_method(module, "transfer_batch_to_device")
        return defaults

    def call_hook_of_loop(self, name: str, *values: Any) -> Any:
        """Run a hook for a loop; see ``Loop.hook``.

        Args:
            name: the hook.
            values: its arguments.

        Returns:
            The hook's result.

        Raises:
            UsageError: the name is neither a hook nor a name for a hook of a loop's own.
        """
        if name not in HOOKS and name not in self._hooks_of_loops:
            if not name.startswith("on_"):
                raise UsageError(
                    f"a loop announces the hook {name!r}; name hooks of its own on_..., "
                    "or use those in nightbus.HOOKS"
                )
            self._hooks_of_loops.add(name)
            self.connect()
        return self._context.routes.call(name, *values)

    def keeps_evaluation_outputs(self, kind: str) -> bool:
        """Return whether a handler needs the outputs of all evaluation steps."""
        return is_overridden(self._context.lightning_module, f"{kind}_epoch_end")


def _backward(loss: torch.Tensor, optimizer: Any, optimizer_idx: int) -> None:
    run_backward(loss)


def _zero_grad(epoch: int, batch_idx: int, optimizer: Any, optimizer_idx: int) -> None:
    optimizer.zero_grad()
