"""RunOptimization: the optimizers and schedulers of a run."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from ..bus.errors import UsageError
from ..bus.system.logging_setup import get_logger
from ..bus.system.streams import notify_user
from .arguments import check_at_least
from .module import LightningModule
from .optimization.lightning_optimizer import LightningOptimizer, OptimizerToggle
from .optimization.lr_schedulers import LRSchedulerConfig, LRSchedulers
from .optimization.optimizers import check_schedulers, parse_optimizers
from .overrides import is_overridden
from .ranks.gradients_ready import GradientsReady
from .ranks.replicas import Kind, Replicas
from .run_context import RunContext
from .step_arguments import ANY_STEP_ARGUMENTS, check_training_step, takes_hiddens

_log = get_logger("nightbus.optimizers")


class RunOptimization:
    """The optimizers and schedulers that ``configure_optimizers`` returned, ready to be stepped.

    Args:
        context: the run that steps them.

    Attributes:
        optimizers: torch's, in order.
        schedulers: with their configurations.
        lightning_optimizers: for ``self.optimizers()``: a step is announced and counted.
        stepping_optimizers: for ``optimizer_step``, whose steps the loop counts.
        toggle: makes only one optimizer's parameters require gradients.
        toggling_module: the module, if it overrides toggling.
        is_manual: optimization is manual.
        passes_optimizer_idx: ``training_step`` is called for each of several optimizers.
        truncated_bptt_steps: time steps of the splits of a batch; 0 for whole batches.
        has_step_schedulers: a scheduler advances with the steps.
        has_waiting_schedulers: one is due after the validation of the batch, if there is any.
        replicas: the copies of the module on several ranks; None for a process alone.
        step_arguments: names of the possible arguments of ``training_step``.
    """

    def __init__(self, context: RunContext) -> None:
        self._context, self._progress = context, context.optimization_progress
        self.optimizers: list[torch.optim.Optimizer] = []
        self.schedulers: list[LRSchedulerConfig] = []
        self.lightning_optimizers: list[LightningOptimizer] = []
        self.stepping_optimizers: list[Any] = []
        self.toggle = OptimizerToggle([])
        self.toggling_module: LightningModule | None = None
        self.is_manual = False
        self.passes_optimizer_idx = False
        self.truncated_bptt_steps = 0
        self.has_step_schedulers = self.has_waiting_schedulers = False
        self.replicas: Replicas | None = None
        self.step_arguments = list(ANY_STEP_ARGUMENTS)
        self._reported_untrained = False
        self._cycle: list[int] = []  # the optimizer of each batch of a cycle
        self._all_optimizers: Sequence[int] = (0,)
        self._lr_schedulers = LRSchedulers([], context.routes, dict, [])

    def begin(self, module: LightningModule) -> None:
        """Prepare for another run, whose optimizers are not known yet."""
        self.is_manual = not module.automatic_optimization
        self.replicas = None
        self._reported_untrained = False
        self.step_arguments = list(ANY_STEP_ARGUMENTS)

    def set_up(self, loops_call_training_step: bool) -> None:
        """Request the module's optimizers, and prepare to step them.

        ``begin_schedulers`` follows, once the handlers of hooks are known.

        Args:
            loops_call_training_step: all loops call ``training_step`` in the built-in way, so that
                its parameters can be checked.

        Raises:
            UsageError: ``configure_optimizers`` returned something wrong.
        """
        context, module = self._context, self._context.lightning_module
        self._check_manual()
        configured = parse_optimizers(context.routes.call("configure_optimizers"))
        optimizers = list(configured.optimizers)
        self.schedulers = configured.schedulers
        check_schedulers(self.schedulers, self.is_manual)
        if not self.is_manual:
            self._report_what_has_no_effect(optimizers)
        self._cycle = configured.cycle
        self._all_optimizers = range(len(optimizers))
        self.optimizers, self.toggle = optimizers, OptimizerToggle(optimizers)
        overrides = ("toggle_optimizer", "untoggle_optimizer")
        toggles = any(is_overridden(module, name) for name in overrides)
        self.toggling_module = module if toggles else None
        self.passes_optimizer_idx = len(optimizers) > 1 and not self.is_manual
        self._set_up_training_step(module, loops_call_training_step)
        self._progress.begin(len(optimizers))
        self.replicas = self._replicas(module)
        self._wrap_optimizers()

    def _wrap_optimizers(self) -> None:
        """Make the forms of the optimizers that modules and loops step."""
        context, optimizers = self._context, self.optimizers
        module = context.lightning_module
        plain = not is_overridden(module, "optimizer_step") and context.device.scaler is None
        self.stepping_optimizers = [
            optimizer
            if plain
            else LightningOptimizer(optimizer, idx, self._step_plainly, self.toggle)
            for idx, optimizer in enumerate(optimizers)
        ]
        syncing = None if self.replicas is None else self.replicas.syncing
        self.lightning_optimizers = [
            LightningOptimizer(optimizer, idx, self._step_by_hand, self.toggle, syncing)
            for idx, optimizer in enumerate(optimizers)
        ]

    def replace_optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Use other optimizers from now on, for example because other parameters are trained.

        Schedulers stay with the optimizers that they were made for.

        Args:
            optimizers: as many as before.

        Raises:
            UsageError: they are no optimizers of torch, or their number is another one.
        """
        given = _checked(optimizers)
        if len(given) != len(self.optimizers):
            raise UsageError(
                f"trainer.optimizers was set to {len(given)} optimizers, where there are "
                f"{len(self.optimizers)}; return as many from configure_optimizers"
            )
        self.optimizers[:] = given  # the list that copies of the module and toggling have, too
        self.toggle.forget_parameters()
        self._wrap_optimizers()

    def hold_optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Have other optimizers outside of ``fit``, which gets its own when it begins.

        Args:
            optimizers: any number of them.

        Raises:
            UsageError: they are no optimizers of torch.
        """
        self.optimizers = _checked(optimizers)
        self.toggle, self.stepping_optimizers = OptimizerToggle(self.optimizers), []
        self.lightning_optimizers = [
            LightningOptimizer(optimizer, idx, self._step_by_hand, self.toggle)
            for idx, optimizer in enumerate(self.optimizers)
        ]
        if self.optimizers:
            notify_user(
                "nightbus: trainer.optimizers was set outside of fit, which will train with those "
                "of configure_optimizers; to train with others, set them within fit, for example "
                "in on_train_start"
            )

    def _report_what_has_no_effect(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Warn of a run without optimizers, and of cycles of steps that would last epochs."""
        if not optimizers:
            _log.warning(
                "configure_optimizers returned no optimizer: nothing is trained in this run"
            )
        for config in self.schedulers:
            if config.interval == "epoch" and isinstance(config.scheduler, CyclicLR | OneCycleLR):
                kind = type(config.scheduler).__name__
                _log.warning(
                    f"{kind} counts steps, and is advanced once an epoch here; return "
                    "{'scheduler': ..., 'interval': 'step'} to advance it after each step"
                )

    def _replicas(self, module: LightningModule) -> Replicas | None:
        context = self._context
        if context.group.world.is_alone:
            return None
        if is_overridden(module, "training_step_end"):
            raise UsageError(
                "training_step_end has no effect on gradients of several ranks, which are averaged "
                "for the loss that training_step returns: return the loss from training_step"
            )
        kind: Kind = "turns" if self.passes_optimizer_idx else "one"
        kind = "manual" if self.is_manual else kind
        records_hooks = context.bus.flight is None  # otherwise, the last ones are kept in memory
        ready = GradientsReady(context.place) if records_hooks else None
        replicas = Replicas(context.group, context.ddp, module, self.optimizers, kind, ready)
        context.metrics.ride_with(replicas)
        return replicas

    def _check_manual(self) -> None:
        """Refuse arguments without effect for manual optimization."""
        context = self._context
        if self.is_manual and context.gradient_clip_val:
            raise UsageError(
                f"gradient_clip_val={context.gradient_clip_val} does nothing with manual "
                "optimization; call self.clip_gradients(optimizer, gradient_clip_val=...) in "
                "training_step instead"
            )
        if self.is_manual and context.accumulate_grad_batches > 1:
            raise UsageError(
                f"accumulate_grad_batches={context.accumulate_grad_batches} does nothing with "
                "manual optimization; step the optimizer after several batches in training_step "
                "instead"
            )

    def _set_up_training_step(self, module: LightningModule, is_checked: bool) -> None:
        """Determine the arguments of training_step, and check that it takes them."""
        check_at_least("truncated_bptt_steps", module.truncated_bptt_steps, 0)
        self.truncated_bptt_steps = module.truncated_bptt_steps or 0
        if self.is_manual and not takes_hiddens(module):  # a step that splits its batch itself
            self.truncated_bptt_steps = 0
        accumulate = self._context.accumulate_grad_batches
        if self.truncated_bptt_steps and accumulate > 1:
            raise UsageError(
                f"truncated_bptt_steps={self.truncated_bptt_steps} steps after each split of a "
                f"batch; accumulate_grad_batches={accumulate} cannot be combined with it"
            )
        self.step_arguments = ["batch", "batch_idx"]
        self.step_arguments += ["optimizer_idx"] if self.passes_optimizer_idx else []
        self.step_arguments += ["hiddens"] if self.truncated_bptt_steps else []
        if is_checked:
            num_turns = len(self.optimizers) if self.passes_optimizer_idx else 1
            check_training_step(module, num_turns, self.truncated_bptt_steps)

    @property
    def frequencies(self) -> list[int]:
        """Number of consecutive batches for each optimizer; empty if all are used on each."""
        return (
            [self._cycle.count(idx) for idx in range(len(self.optimizers))] if self._cycle else []
        )

    def turns(self) -> Sequence[int]:
        """Return the numbers of the optimizers for this batch."""
        if not self._cycle:
            return self._all_optimizers
        counted, place = self._context.batch_progress, self._context.place
        batch = counted.total.ready - 1 if counted is not None else place.batch_idx
        return (self._cycle[batch % len(self._cycle)],)

    def report_untrained(self, epoch: int, skipped: int) -> None:
        """Warn, once a run, that no training step of an epoch returned a loss.

        Args:
            epoch: the epoch, from 0.
            skipped: the number of steps.
        """
        if not self._reported_untrained:
            self._reported_untrained = True
            _log.warning(
                f"nothing was trained in epoch {epoch}: training_step returned None, which skips "
                f"the optimizer's step, {skipped} times out of {skipped}; return the loss"
            )

    def report_unstepped(self, batches: int) -> None:
        """Warn, once a run, that manual optimization made no step.

        Args:
            batches: the number of batches that it was called for.
        """
        if self.is_manual and self.optimizers and not self._reported_untrained:
            self._reported_untrained = True
            _log.warning(
                f"no step of an optimizer was counted in {batches} batches: with manual "
                "optimization, training_step calls self.manual_backward(loss), then step() and "
                "zero_grad() of what self.optimizers() returns, if not for each batch then for "
                "some; steps of torch's optimizer itself do not count"
            )

    # -- steps -------------------------------------------------------------------------------

    def _step_plainly(self, optimizer: Any, optimizer_idx: int, closure: Any, **kwargs: Any) -> Any:
        """Step an optimizer within ``optimizer_step``, which the loop counts."""
        return self._context.device.step(optimizer, closure, **kwargs)

    def _step_by_hand(self, optimizer: Any, optimizer_idx: int, closure: Any, **kwargs: Any) -> Any:
        """Step an optimizer for a module or a loop, and announce and count the step."""
        progress, routes, device = self._progress, self._context.routes, self._context.device

        def announced() -> Any:
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            if device.scaler is not None:
                device.scaler.unscale_(optimizer)
            routes.call("on_before_optimizer_step", optimizer, optimizer_idx)
            return loss

        counts = progress.step.total
        counts.ready += 1
        if closure is None:
            announced()
            result = device.step(optimizer, None, **kwargs)
        else:
            result = device.step(optimizer, announced, **kwargs)
        counts.completed += 1
        progress.steps_by_optimizer[optimizer_idx] += 1
        self._context.place.complete_step(counts.completed)
        return result

    def backward_by_hand(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Run ``manual_backward``.

        Args:
            loss: of shape ().
            args: of ``backward``.
            kwargs: of ``backward``.

        Raises:
            UsageError: the loss is not a tensor.
        """
        if not isinstance(loss, torch.Tensor):
            raise UsageError(
                f"manual_backward() got {type(loss).__name__}; expected the loss, a tensor of "
                "shape ()"
            )
        routes, scaler = self._context.routes, self._context.device.scaler
        if scaler is not None:
            loss = scaler.scale(loss)
        if self.replicas is not None:
            loss = self.replicas.prepared(loss)
        routes.call("on_before_backward", loss)
        module = self._context.lightning_module
        if (args or kwargs) and is_overridden(module, "backward"):
            module.backward(loss, *args, **kwargs)
        elif args or kwargs:
            loss.backward(*args, **kwargs)
        else:
            routes.call("backward", loss, None, None)
        routes.call("on_after_backward")

    # -- schedulers --------------------------------------------------------------------------

    def replace_schedulers(self, schedulers: Sequence[LRSchedulerConfig]) -> None:
        """Use other schedulers from now on."""
        self.schedulers = list(schedulers)
        self.begin_schedulers()

    def begin_schedulers(self) -> None:
        """Count steps for the schedulers from now on."""
        context = self._context
        self._lr_schedulers = LRSchedulers(
            [] if self.is_manual else self.schedulers,
            context.routes,
            lambda: context.metrics.callback_metrics,
            self._progress.steps_by_optimizer,
            self._is_new,
            context.group.broadcast,
        )
        self.has_waiting_schedulers = False
        self.has_step_schedulers = self._lr_schedulers.wants_steps

    def step_schedulers(self) -> None:
        """Advance, after a batch, the schedulers whose optimizer has stepped."""
        advanced = self._lr_schedulers.after_batch(self._progress.steps_by_optimizer)
        self._progress.scheduler_step.total.completed += advanced
        self.has_waiting_schedulers = bool(self._lr_schedulers.waiting)

    def step_waiting_schedulers(self) -> None:
        """Advance the schedulers that wait for the validation after a batch."""
        self.has_waiting_schedulers = False
        self._progress.scheduler_step.total.completed += self._lr_schedulers.after_validation()

    @property
    def waiting_schedulers(self) -> list[int]:
        """Numbers of the schedulers that are due after the batch's validation."""
        waiting = self._lr_schedulers.waiting
        return [idx for idx, config in enumerate(self.schedulers) if config in waiting]

    @waiting_schedulers.setter
    def waiting_schedulers(self, numbers: Sequence[int]) -> None:
        self._lr_schedulers.waiting = [self.schedulers[idx] for idx in numbers]
        self.has_waiting_schedulers = bool(numbers)

    def _is_new(self, monitor: str, epochs: int) -> bool:
        """Return whether a metric may have another value than ``epochs`` epochs ago.

        A metric of validation does not if there was no validation.
        """
        context = self._context
        if not context.metrics.is_of_validation(monitor):
            return True
        counted = context.batch_progress
        if counted is None:
            return True
        ended, batches = context.place.epoch + 1, counted.total.ready
        return context.loaders.schedule.validated_within(
            epochs, ended, batches, counted.current.ready
        )

    def step_epoch_schedulers(self, epochs: int, is_whole: bool) -> None:
        """Advance, after an epoch, the schedulers that are due.

        Args:
            epochs: epochs completed.
            is_whole: the epoch had all its batches; one that ended early may have no metric for
                them.
        """
        advanced = self._lr_schedulers.after_epoch(epochs, is_whole)
        self._progress.scheduler_step.total.completed += advanced


def _checked(optimizers: Sequence[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    """Return torch's optimizers of those that were assigned."""
    given = [getattr(each, "optimizer", each) for each in optimizers]
    for each in given:
        if not isinstance(each, torch.optim.Optimizer):
            raise UsageError(
                f"trainer.optimizers was set to a list with a {type(each).__name__}; expected "
                "optimizers of torch"
            )
    return given
