"""GradientAccumulationScheduler: sets the number of batches for a step, by epoch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger
from ..callback import Callback
from ..overrides import is_own

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer


_log = get_logger("nightbus.gradient_accumulation_scheduler")
_OF_STEPS = ("optimizer_step", "optimizer_zero_grad")


class GradientAccumulationScheduler(Callback):
    """Sets ``trainer.accumulate_grad_batches`` when an epoch begins.

    Args:
        scheduling: epoch -> batches for each optimizer step, from that epoch on; the first epoch
            is 0. Before the first given epoch, each batch is a step.

    Raises:
        UsageError: an epoch or a number of batches is wrong.
    """

    why_not_replayed = "it changes how training steps, and a replay does not train"

    def __init__(self, scheduling: Mapping[int, int]) -> None:
        if not isinstance(scheduling, Mapping) or not scheduling:
            raise UsageError(
                f"scheduling={scheduling!r}: expected a dict of epoch -> batches for each step, "
                "such as {4: 2, 8: 4}"
            )
        for epoch, factor in scheduling.items():
            if not _is_int(epoch) or epoch < 0:
                raise UsageError(f"scheduling has the epoch {epoch!r}; expected an int from 0 on")
            if not _is_int(factor) or factor < 1:
                raise UsageError(
                    f"scheduling[{epoch}]={factor!r}: expected a number of batches, at least 1"
                )
        self.scheduling = {0: 1} | dict(scheduling)
        self._before: int | None = None  # the trainer's own number, to be restored

    def get_accumulate_grad_batches(self, epoch: int) -> int:
        """Return the number of batches for each step in an epoch."""
        return self.scheduling[max(start for start in self.scheduling if start <= epoch)]

    def going_to_accumulate_grad_batches(self) -> bool:
        """Return whether any epoch takes more than one batch for a step."""
        return any(factor > 1 for factor in self.scheduling.values())

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Check that the set-up allows accumulation.

        Raises:
            UsageError: the trainer accumulates by itself, or optimization is manual.
        """
        is_ours = isinstance(trainer.arguments["accumulate_grad_batches"], Mapping)
        if trainer.accumulate_grad_batches != 1 and not is_ours:
            raise UsageError(
                f"accumulate_grad_batches={trainer.accumulate_grad_batches} and a "
                "GradientAccumulationScheduler were given; leave the Trainer's argument out"
            )
        if self.going_to_accumulate_grad_batches():
            if trainer.optimization.is_manual:
                raise UsageError(
                    "a GradientAccumulationScheduler does nothing with manual optimization; step "
                    "the optimizer after several batches in training_step instead"
                )
            if split_size := trainer.optimization.truncated_bptt_steps:
                raise UsageError(
                    f"truncated_bptt_steps={split_size} steps after each split of a batch; a "
                    "GradientAccumulationScheduler cannot be combined with it"
                )
            if own := [hook for hook in _OF_STEPS if is_own(pl_module, hook)]:
                _log.warning(
                    "hooks of the module are called for steps, not for each batch, while gradients "
                    "are accumulated",
                    hooks=", ".join(own),
                )
        self._before = trainer.accumulate_grad_batches
        trainer.accumulate_grad_batches = self.get_accumulate_grad_batches(trainer.current_epoch)

    def on_train_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        trainer.accumulate_grad_batches = self.get_accumulate_grad_batches(trainer.current_epoch)

    def teardown(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        if self._before is not None:
            trainer.accumulate_grad_batches, self._before = self._before, None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
