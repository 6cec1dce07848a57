"""The learning rate finder: trains with rising learning rates, and looks where the loss falls."""

import math
from typing import TYPE_CHECKING, Any, Literal

import torch

from ...actors.arguments import check_choice
from ...actors.callback import Callback
from ...bus.errors import MissingPackageError, UsageError
from ...bus.system.logging_setup import get_logger

if TYPE_CHECKING:
    from ...actors.module import LightningModule
    from ...actors.trainer_type import Trainer

Mode = Literal["exponential", "linear"]
_SMOOTHING = 0.98

_log = get_logger("nightbus.tuner")


class LRFinder:
    """What trying learning rates found.

    Args:
        mode: how the rates rose, ``exponential`` or ``linear``.
        lr_min: the first rate.
        lr_max: the last rate.
        num_training: number of steps.

    Attributes:
        results: ``lr`` and ``loss``: the rate of each step, and the smoothed loss after it.

    Raises:
        UsageError: the mode or the rates are wrong.
    """

    def __init__(self, mode: Mode, lr_min: float, lr_max: float, num_training: int) -> None:
        self.mode: Mode = check_choice("mode", mode, ("exponential", "linear"))
        if not 0 < lr_min < lr_max:
            raise UsageError(f"min_lr={lr_min!r}, max_lr={lr_max!r}: expected 0 < min_lr < max_lr")
        self.lr_min, self.lr_max, self.num_training = lr_min, lr_max, num_training
        self.results: dict[str, list[float]] = {"lr": [], "loss": []}
        self._best_idx: int | None = None

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, from 0."""
        share = (step + 1) / self.num_training if step else 0.0
        if self.mode == "linear":
            return self.lr_min + share * (self.lr_max - self.lr_min)
        return float(self.lr_min * (self.lr_max / self.lr_min) ** share)

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1) -> float | None:
        """Return the learning rate at which the loss falls most for a change of it.

        Args:
            skip_begin: number of the first steps to leave out.
            skip_end: number of the last steps to leave out.

        Returns:
            The rate; None if there are not enough steps with a finite loss.
        """
        losses = self.results["loss"][skip_begin : len(self.results["loss"]) - skip_end]
        finite = [(i, loss) for i, loss in enumerate(losses, skip_begin) if math.isfinite(loss)]
        if len(finite) < 2:
            self._best_idx = None
            _log.warning(
                "there are too few steps with a finite loss to suggest a learning rate; raise "
                "num_training, or lower skip_begin",
                steps=len(self.results["loss"]),
            )
            return None
        rates = torch.tensor([self.results["lr"][i] for i, _ in finite])
        slopes = torch.gradient(torch.tensor([loss for _, loss in finite]), spacing=[rates])[0]
        self._best_idx = finite[int(slopes.argmin())][0]
        return self.results["lr"][self._best_idx]

    def plot(self, suggest: bool = False, show: bool = False, ax: Any = None) -> Any:
        """Plot the loss over the learning rate.

        Args:
            suggest: mark the suggested rate.
            show: show the figure in a window.
            ax: matplotlib's axes to plot into; by default, those of a new figure.

        Returns:
            The figure.

        Raises:
            MissingPackageError: matplotlib is not installed.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            raise MissingPackageError("LRFinder.plot", "matplotlib", "plot") from None
        figure = plt.figure() if ax is None else ax.figure
        axes = figure.add_subplot() if ax is None else ax
        axes.plot(self.results["lr"], self.results["loss"])
        if self.mode == "exponential":
            axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        if suggest and (rate := self.suggestion()) is not None:
            assert self._best_idx is not None
            axes.plot(rate, self.results["loss"][self._best_idx], "o", color="red")
        if show:
            plt.show()
        return figure


class RisingRate(Callback):
    """Raises the learning rate in each step, and notes the loss.

    Args:
        found: gets the rates and losses.
        early_stop_threshold: ends the trial once the loss is so many times its best; None for
            never.
    """

    def __init__(self, found: LRFinder, early_stop_threshold: float | None) -> None:
        self._found, self._threshold = found, early_stop_threshold
        self._mean, self._best = 0.0, math.inf

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Leave the learning rate to this callback.

        Raises:
            UsageError: there are several optimizers.
        """
        if len(trainer.optimizers) != 1:
            raise UsageError(
                f"lr_find works with one optimizer; configure_optimizers of "
                f"{type(pl_module).__name__} returned {len(trainer.optimizers)}"
            )
        trainer.lr_scheduler_configs = []
        self._raise_rate(trainer)

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note the loss of a step, and raise the learning rate for the next.

        Raises:
            UsageError: the step returned no loss.
        """
        rates, losses = self._found.results["lr"], self._found.results["loss"]
        if trainer.global_step == len(rates):  # gradients are accumulated
            return
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is None:
            raise UsageError(
                f"lr_find needs the loss: {type(pl_module).__name__}.training_step returned none"
            )
        self._mean = _SMOOTHING * self._mean + (1 - _SMOOTHING) * float(loss)
        # One more than there are: so Lightning counts, and suggestions are to be the same.
        smooth = self._mean / (1 - _SMOOTHING ** (len(rates) + 2))
        self._best = min(self._best, smooth)
        rates.append(self._found.rate(len(rates)))
        losses.append(smooth)
        if self._threshold is not None and len(rates) > 1 and smooth > self._threshold * self._best:
            trainer.should_stop = True
            return
        self._raise_rate(trainer)

    def _raise_rate(self, trainer: "Trainer") -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self._found.rate(len(self._found.results["lr"]))
