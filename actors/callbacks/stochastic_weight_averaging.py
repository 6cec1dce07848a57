"""StochasticWeightAveraging: averages the weights of the last epochs."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn

from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger
from ..arguments import check_at_least, check_choice
from ..callback import Callback
from ..data.rng import rng_state, set_rng_state
from ..hook_arguments import fitted
from ..hooks import base_method
from ..metrics.states import load_torchmetrics_state, torchmetrics_state
from ..optimization.lr_schedulers import LRSchedulerConfig
from .weight_averaging import Weights

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

_ARGUMENTS = ("batch", "batch_idx")
_log = get_logger("nightbus.stochastic_weight_averaging", of_all_ranks=True)


class StochasticWeightAveraging(Callback):
    """Averages the weights at the end of the last epochs, as in Izmailov et al., 2018.

    When the first of these epochs begins, the learning rate leaves its schedule and is annealed
    to ``swa_lrs``. When fit ends, the module gets the average, and the statistics of its batch
    normalisation are measured again on the training data, by running ``training_step`` once more
    without recording and without gradients; on several ranks, each measures its part of the data,
    and all get the mean. Checkpoints saved before hold the weights themselves,
    and the average as this callback's state; ``trainer.save_checkpoint`` after fit saves the module
    with the average.

    Args:
        swa_lrs: the learning rate to anneal to; one, or one for each parameter group. None keeps
            the rates that the optimizer has when the first of these epochs begins.
        swa_epoch_start: the first epoch whose weights are averaged: its number, from 1, or a share
            of ``max_epochs``.
        annealing_epochs: number of epochs of annealing; 0 changes the rate after the first.
        annealing_strategy: ``cos`` or ``linear``.
        avg_fn: ``f(average, weight, n_averaged)``, the new average of a tensor; by default all
            weights count the same.
        device: device of the average; the module's by default.

    Raises:
        UsageError: an argument is wrong.
    """

    why_not_replayed = "it averages the model's weights, which a log does not hold"

    def __init__(
        self,
        swa_lrs: float | Sequence[float] | None = None,
        swa_epoch_start: int | float = 0.8,
        annealing_epochs: int = 10,
        annealing_strategy: Literal["cos", "linear"] = "cos",
        avg_fn: Callable[[Tensor, Tensor, Tensor | int], Tensor] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        rates = [swa_lrs] if isinstance(swa_lrs, int | float) else swa_lrs
        if rates is not None and not _are_rates(rates):
            raise UsageError(
                f"swa_lrs={swa_lrs!r}: expected a learning rate above 0, a list with one for each "
                "parameter group, or None"
            )
        is_share = isinstance(swa_epoch_start, float) and 0 <= swa_epoch_start <= 1
        is_number = type(swa_epoch_start) is int and swa_epoch_start >= 1
        if not is_share and not is_number:
            raise UsageError(
                f"swa_epoch_start={swa_epoch_start!r}: expected an epoch's number from 1 on, or a "
                "float from 0 to 1"
            )
        if annealing_epochs is None:
            raise UsageError("annealing_epochs=None: expected an int of at least 0")
        check_at_least("annealing_epochs", annealing_epochs, 0)
        check_choice("annealing_strategy", annealing_strategy, ("cos", "linear"))
        self._swa_lrs = [*swa_lrs] if isinstance(swa_lrs, list | tuple) else swa_lrs
        self._swa_epoch_start = swa_epoch_start
        self._annealing_epochs = annealing_epochs
        self._annealing_strategy: Literal["cos", "linear"] = annealing_strategy
        self._avg_fn = avg_fn
        self._device = None if device is None else torch.device(device)
        self._reset()

    def _reset(self) -> None:
        self._start = 0  # the first averaged epoch, from 0
        self._average: AveragedModel | None = None
        self._scheduler: SWALR | None = None
        self._replaced: list[LRSchedulerConfig] = []
        self._loaded: Mapping[str, Any] | None = None

    @property
    def n_averaged(self) -> int:
        """Number of epochs whose weights are in the average."""
        return 0 if self._average is None else int(self._average.n_averaged)

    def batch_norm_input(self, batch: Any) -> Any:
        """Return the input of ``forward`` for measuring the statistics of batch normalisation.

        Override it to have ``forward`` called. Without that, ``training_step`` is run on each
        training batch instead, without backward, steps and records; this method is not called.

        Args:
            batch: a batch of the training loader, on the device.
        """
        return batch

    # -- hooks -------------------------------------------------------------------------------

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        if stage == "fit":
            self._reset()

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find the first epoch, and restore what a checkpoint had.

        Raises:
            UsageError: the set-up does not allow averaging.
        """
        if trainer.optimization.is_manual or len(trainer.optimizers) != 1:
            what = "manual optimization" if trainer.optimization.is_manual else "one optimizer"
            raise UsageError(
                f"StochasticWeightAveraging anneals the rate of one optimizer, stepped by the "
                f"trainer; there are {len(trainer.optimizers)}"
                + (f" with {what}" if trainer.optimization.is_manual else "")
            )
        has_batch_norm = any(isinstance(part, _BatchNorm) for part in pl_module.modules())
        if has_batch_norm and trainer.optimization.truncated_bptt_steps and not self._has_own_input:
            raise UsageError(
                "StochasticWeightAveraging measures batch_norm's statistics with training_step on "
                "whole batches, but truncated_bptt_steps splits them; override batch_norm_input to "
                "return the input of forward instead"
            )
        groups = len(trainer.optimizers[0].param_groups)
        if isinstance(self._swa_lrs, list) and len(self._swa_lrs) != groups:
            raise UsageError(
                f"swa_lrs has {len(self._swa_lrs)} rates; the optimizer has {groups} parameter "
                "groups"
            )
        start = self._swa_epoch_start
        if isinstance(start, float):
            if trainer.max_epochs < 0:
                raise UsageError(
                    f"swa_epoch_start={start} is a share of max_epochs, which is not limited; give "
                    "an epoch's number"
                )
            start = int(start * trainer.max_epochs)
        self._start = max(0, start - 1)
        if self._loaded is not None and self._loaded["scheduler"] is not None:
            self._begin(trainer, pl_module, self._loaded)
        self._loaded = None

    def on_train_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if self._average is None and trainer.current_epoch >= self._start:
            self._begin(trainer, pl_module, None)

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if self._average is not None:
            self._average.update_parameters(pl_module)

    def on_fit_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Give the module the average, and measure the statistics of batch normalisation."""
        if self._average is None or self.n_averaged == 0:
            return
        with torch.no_grad():
            averages = self._average.module.parameters()
            for mine, average in zip(pl_module.parameters(), averages, strict=True):
                mine.copy_(average)
        if any(isinstance(part, _BatchNorm) for part in pl_module.modules()):
            self._measure_batch_norm(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: "Trainer", pl_module: "LightningModule", checkpoint: dict[str, Any]
    ) -> None:
        """Save the schedulers that ``configure_optimizers`` made.

        The one that replaced them is in this callback's state.
        """
        if self._scheduler is not None:
            checkpoint["lr_schedulers"] = [c.scheduler.state_dict() for c in self._replaced]

    def _begin(
        self, trainer: "Trainer", pl_module: nn.Module, loaded: Mapping[str, Any] | None
    ) -> None:
        """Begin to average and to anneal, or continue from a checkpoint."""
        device = self._device or next((p.device for p in pl_module.parameters()), None)
        self._average = AveragedModel(Weights(pl_module), device, self._avg_fn)
        optimizer = trainer.optimizers[0]
        rates = [group["lr"] for group in optimizer.param_groups]
        self._scheduler = SWALR(
            optimizer,
            swa_lr=self._swa_lrs or [g.get("swa_lr", g["lr"]) for g in optimizer.param_groups],  # type: ignore[arg-type]
            anneal_epochs=self._annealing_epochs,
            anneal_strategy=self._annealing_strategy,
        )
        for group in optimizer.param_groups:
            group["initial_lr"] = group["swa_lr"]  # as a schedule that begins anew would find it
        if loaded is not None:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            self._scheduler.load_state_dict(loaded["scheduler"])
            self._average.n_averaged.fill_(loaded["n_averaged"])
            with torch.no_grad():
                averages = self._average.module.parameters()
                for average, saved in zip(averages, loaded["averages"], strict=True):
                    average.copy_(saved)
        self._replaced = list(trainer.lr_scheduler_configs)
        if self._replaced:
            kinds = ", ".join(type(config.scheduler).__name__ for config in self._replaced)
            _log.info("annealing to swa_lrs replaces the learning-rate schedule", schedulers=kinds)
            if any(config.interval == "step" for config in self._replaced):
                _log.warning(
                    "the learning rate was scheduled each step; with StochasticWeightAveraging it "
                    "is annealed to swa_lrs each epoch from now on"
                )
        trainer.optimization.replace_schedulers([LRSchedulerConfig(self._scheduler)])

    @property
    def _has_own_input(self) -> bool:
        method = type(self).batch_norm_input
        return method is not StochasticWeightAveraging.batch_norm_input

    def _measure_batch_norm(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Measure the statistics of batch normalisation again, over the training data.

        Random numbers, metrics and the modes of the module's parts are restored afterwards.
        """
        training = [(part, part.training) for part in pl_module.modules()]
        generators, metric_states = rng_state(), copy.deepcopy(torchmetrics_state(pl_module))
        place, outer = trainer.place, trainer.place.hook
        pl_module.train()
        try:
            with trainer.device.forward_context():
                if self._has_own_input:
                    update_bn(self._batch_norm_inputs(trainer), pl_module)
                else:
                    place.hook, trainer.metrics.muted = "training_step", True
                    self._run_training_steps(trainer, pl_module)
            _average_over_ranks(trainer, pl_module)
        finally:
            place.hook, trainer.metrics.muted = outer, False
            trainer.metrics.drop_stage()
            load_torchmetrics_state(pl_module, metric_states)
            set_rng_state(generators)
            for part, mode in training:
                part.training = mode

    def _run_training_steps(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Run ``training_step`` on the training data, with statistics that are means over it."""
        parts = [part for part in pl_module.modules() if isinstance(part, _BatchNorm)]
        momenta = [part.momentum for part in parts]
        step = fitted(base_method(pl_module, "training_step"), "training_step", _ARGUMENTS)
        try:
            for idx, batch in enumerate(self._batches(trainer)):
                if (
                    idx == 0
                ):  # not before: data that can be read only once leave the statistics as they are
                    for part in parts:
                        part.reset_running_stats()
                        part.momentum = None
                trainer.metrics.batch = batch
                step(batch, idx)
        finally:
            for part, momentum in zip(parts, momenta, strict=True):
                part.momentum = momentum

    def _batch_norm_inputs(self, trainer: "Trainer") -> Iterator[Any]:
        for batch in self._batches(trainer):
            yield self.batch_norm_input(batch)

    def _batches(self, trainer: "Trainer") -> Iterator[Any]:
        limit = trainer.loaders.num_training_batches
        number = -1
        for number, batch in enumerate(trainer.loaders.training):
            if limit is not None and number >= limit:
                return
            yield trainer.move_batch(batch, 0)
        if number < 0:
            _log.warning(
                "the training data cannot be read once more, so batch normalisation keeps the "
                "statistics of the weights before averaging"
            )

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return plain data and tensors for a checkpoint."""
        average, scheduler = self._average, self._scheduler
        return {
            "n_averaged": self.n_averaged,
            "averages": []
            if average is None
            else [p.detach() for p in average.module.parameters()],
            "scheduler": None if scheduler is None else scheduler.state_dict(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, when fit begins."""
        self._loaded = state_dict


def _average_over_ranks(trainer: "Trainer", module: nn.Module) -> None:
    """Give all ranks the means of what they have measured."""
    for part in module.modules():
        if isinstance(part, _BatchNorm) and not trainer.world.is_alone:
            for buffer in part.buffers():
                if buffer.is_floating_point():
                    trainer.group.sum(buffer).div_(trainer.world.size)


def _are_rates(values: object) -> bool:
    return isinstance(values, list | tuple) and bool(values) and all(map(_is_rate, values))


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
