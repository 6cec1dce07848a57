"""WeightAveraging and EMA: keep a running average of the weights, which is validated and saved."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from ...bus.errors import CheckpointError, UsageError
from ..arguments import check_at_least
from ..callback import Callback
from ..checkpoints.weight_names import plain_name

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

MultiAverage = Callable[[Any, Any, Any], None]
Average = Callable[[Tensor, Tensor, Any], Tensor]


class Weights(nn.Module):
    """A copy of a module's parameters and buffers, without the module.

    Args:
        module: the module.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.copies = nn.ParameterList(
            [nn.Parameter(p.detach().clone(), requires_grad=False) for p in module.parameters()]
        )
        for idx, buffer in enumerate(module.buffers()):
            self.register_buffer(f"buffer_{idx}", buffer.detach().clone())


class _Averaging:
    """torch's averaging function, mean or exponential, in a form that can be pickled."""

    def __init__(self, decay: float | None = None) -> None:
        self._decay = decay

    def __call__(self, averages: Any, weights: Any, n_averaged: Any) -> None:
        decay = self._decay
        average = get_swa_multi_avg_fn() if decay is None else get_ema_multi_avg_fn(decay)
        average(averages, weights, n_averaged)


class _EachTensor:
    """An averaging function of single tensors, for lists of them."""

    def __init__(self, average: Average) -> None:
        self._average = average

    def __call__(self, averages: Any, weights: Any, n_averaged: Any) -> None:
        for average, weight in zip(averages, weights, strict=True):
            average.copy_(self._average(average, weight, n_averaged))


class WeightAveraging(Callback):
    """Keeps an average of the weights while the weights themselves are trained.

    Validation within fit uses the average. A checkpoint has it as the module's weights, so that
    testing and predicting from the checkpoint use it; it has the weights themselves too, so that a
    resumed run continues with both. When fit ends, the module gets the average.

    Override ``should_update`` to choose when the average is updated with the weights. The first
    update copies them.

    Args:
        device: device of the average; the module's by default.
        use_buffers: average buffers too; otherwise they are copied.
        multi_avg_fn: changes the averages in place: ``f(averages, weights, n_averaged)`` with two
            lists of tensors; by default all updates count the same. See
            ``torch.optim.swa_utils``.
        avg_fn: the same for one tensor, whose new average it returns:
            ``f(average, weight, n_averaged)``.

    Attributes:
        n_averaged: number of updates.

    Raises:
        UsageError: both functions were given.
    """

    why_not_replayed = "it averages the model's weights, which a log does not hold"

    def __init__(
        self,
        device: torch.device | str | int | None = None,
        use_buffers: bool = True,
        multi_avg_fn: MultiAverage | None = None,
        avg_fn: Average | None = None,
    ) -> None:
        if multi_avg_fn is not None and avg_fn is not None:
            raise UsageError("multi_avg_fn and avg_fn were given; give one of them")
        by_tensor = None if avg_fn is None else _EachTensor(avg_fn)
        self._multi_avg_fn: MultiAverage = multi_avg_fn or by_tensor or _Averaging()
        self._device = device if device is None else torch.device(device)
        self._use_buffers = use_buffers
        self._average: Weights | None = None
        self._updates = 0
        self._module_has_average = False
        self._updated_at = 0  # global_step of the last update
        self._stage = ""
        self._loaded: dict[str, Any] | None = None

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return whether to update the average now; after each optimizer step by default.

        Args:
            step_idx: number of the optimizer step just made, from 0; None at the end of an epoch.
            epoch_idx: number of the epoch just ended, from 0; None after a step.
        """
        return step_idx is not None

    @property
    def n_averaged(self) -> int:
        """Number of updates of the average."""
        return 0 if self._average is None else self._updates

    @property
    def averaged_weights(self) -> list[Tensor]:
        """Return the average of each parameter, in the order of ``module.parameters()``.

        Raises:
            UsageError: fit was not called.
        """
        if self._average is None:
            raise UsageError(f"{type(self).__name__} has no average: fit was not called")
        if self._module_has_average:
            return [parameter.detach() for parameter in self._of.parameters()]
        return [parameter.detach() for parameter in self._average.parameters()]

    # -- hooks -------------------------------------------------------------------------------

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        self._stage = stage
        if stage == "fit":
            self._average, self._updates, self._module_has_average = None, 0, False
            self._loaded, self._updated_at = None, 0

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Begin with the module's weights, or with what a checkpoint had."""
        self._of = pl_module
        self._average, self._updates = Weights(pl_module).to(self._device), 0
        self._updated_at = trainer.global_step
        if self._loaded is not None:
            loaded, self._loaded = self._loaded, None
            self._updates = loaded["n_averaged"]
            for name, _, average in self._named(pl_module):
                if name not in loaded["averages"]:
                    raise CheckpointError(f"the checkpoint's average lacks {name}")
                average.copy_(loaded["averages"][name])

    def on_batch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if trainer.global_step > self._updated_at and self.should_update(
            step_idx=trainer.global_step - 1
        ):
            self._updated_at = trainer.global_step
            self._update(pl_module)

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if self.should_update(epoch_idx=trainer.current_epoch):
            self._update(pl_module)

    def on_validation_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if self._stage == "fit" and self.n_averaged > 0:
            self._share_buffers(trainer)
            self._swap(pl_module)

    def on_validation_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._swap_back(pl_module)

    def on_exception(
        self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException
    ) -> None:
        if self._stage == "fit":
            self._swap_back(pl_module)

    def on_fit_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Give the module the average."""
        if self.n_averaged > 0:
            self._share_buffers(trainer)
            self._swap(pl_module)

    def on_save_checkpoint(
        self, trainer: "Trainer", pl_module: "LightningModule", checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the module's weights, and the weights beside it."""
        if self._average is None or self.n_averaged == 0:
            return
        weights, averages = {}, {}
        for name, current, other in self._named(pl_module):
            weights[name] = other if self._module_has_average else current.detach()
            averages[name] = current.detach() if self._module_has_average else other
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **averages}
        checkpoint["actors"][self.saved_as] = {
            "n_averaged": self.n_averaged,
            "updated_at": self._updated_at,
            "weights": weights,
        }

    def on_load_checkpoint(
        self, trainer: "Trainer", pl_module: "LightningModule", checkpoint: dict[str, Any]
    ) -> None:
        """Put the weights back in their place, to resume from them."""
        saved = checkpoint.get("actors", {}).get(self.saved_as)
        if self._stage != "fit" or not saved:
            return
        averages = {plain_name(name): checkpoint["state_dict"][name] for name in saved["weights"]}
        self._loaded = {**saved, "averages": averages}
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **saved["weights"]}

    # -- averages ----------------------------------------------------------------------------

    def _update(self, module: nn.Module) -> None:
        """Update the average; unlike torch's AveragedModel without a wait for a GPU."""
        assert self._average is not None
        mine, others = _tensors(self._average), _tensors(module)
        averaged = len(mine) if self._use_buffers else len(list(module.parameters()))
        averaged = averaged if self._updates else 0
        groups: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
        for idx, (average, other) in enumerate(zip(mine, others, strict=True)):
            if idx < averaged:
                averages, weights = groups.setdefault((average.device, average.dtype), ([], []))
                averages.append(average.detach())
                weights.append(other.detach().to(average.device))
            else:
                average.detach().copy_(other.detach())
        for (device, dtype), (averages, weights) in groups.items():
            number: Any = self._updates  # our own functions would wait for a tensor of a GPU
            if not isinstance(self._multi_avg_fn, _Averaging) or not dtype.is_floating_point:
                number = torch.full((), self._updates, device=device)
            self._multi_avg_fn(averages, weights, number)
        self._updates += 1

    def _share_buffers(self, trainer: "Trainer") -> None:
        """Give all ranks rank 0's averages of buffers, as they get its buffers themselves."""
        assert self._average is not None
        trainer.group.share(self._average.buffers())

    def _named(self, module: nn.Module) -> list[tuple[str, Tensor, Tensor]]:
        """Return name in a checkpoint, tensor of the module, and its counterpart."""
        assert self._average is not None
        pairs = zip(_tensors(module), _tensors(self._average), strict=True)
        counterparts = {id(mine): other.detach() for mine, other in pairs}
        return [
            (plain_name(name), tensor, counterparts[id(tensor)])
            for name, tensor in module.state_dict(keep_vars=True).items()
            if id(tensor) in counterparts
        ]

    def _swap(self, module: nn.Module) -> None:
        """Swap the module's weights with their counterparts."""
        assert self._average is not None
        with torch.no_grad():
            for mine, other in zip(_tensors(module), _tensors(self._average), strict=True):
                kept = mine.detach().clone()
                mine.copy_(other)
                other.copy_(kept)
        self._module_has_average = not self._module_has_average

    def _swap_back(self, module: nn.Module) -> None:
        if self._module_has_average and self._stage == "fit":
            self._swap(module)


class EMA(WeightAveraging):
    """Keeps an exponential moving average of the weights.

    Each update gives ``decay * average + (1 - decay) * weights``.

    Args:
        decay: weight of the average so far, from 0 to 1.
        update_every_n_steps: optimizer steps between two updates.
        update_starting_at_step: number of optimizer steps before the first update.
        update_starting_at_epoch: number of epochs before the first update.
        device: device of the average; the module's by default.
        use_buffers: average buffers too; otherwise they are copied.

    Raises:
        UsageError: an argument is wrong.
    """

    def __init__(
        self,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
        update_starting_at_epoch: int | None = None,
        device: torch.device | str | int | None = None,
        use_buffers: bool = True,
    ) -> None:
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay <= 1:
            raise UsageError(f"decay={decay!r}: expected a number from 0 to 1")
        if update_every_n_steps is None:
            raise UsageError("update_every_n_steps=None: expected an int of at least 1")
        check_at_least("update_every_n_steps", update_every_n_steps, 1)
        check_at_least("update_starting_at_step", update_starting_at_step, 0)
        check_at_least("update_starting_at_epoch", update_starting_at_epoch, 0)
        super().__init__(device, use_buffers, _Averaging(decay))
        self.decay = decay
        self.update_every_n_steps = update_every_n_steps
        self.update_starting_at_step = update_starting_at_step or 0
        self.update_starting_at_epoch = update_starting_at_epoch or 0
        self._epoch = 0

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        super().on_fit_start(trainer, pl_module)
        self._epoch = trainer.current_epoch  # a run may be resumed in the middle of an epoch

    def on_train_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._epoch = trainer.current_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return whether the step just made is due for an update."""
        return (
            step_idx is not None
            and self._epoch >= self.update_starting_at_epoch
            and step_idx >= self.update_starting_at_step
            and (step_idx + 1) % self.update_every_n_steps == 0
        )


class EMAWeightAveraging(EMA):
    """EMA as Lightning's callback of this name schedules it.

    The average is updated after the steps whose number, from 0, is divisible by
    ``update_every_n_steps``; and with ``update_starting_at_epoch`` also at the end of each epoch
    from that one on.

    Args:
        device: device of the average; the module's by default.
        use_buffers: average buffers too; otherwise they are copied.
        decay: weight of the average so far, from 0 to 1.
        update_every_n_steps: optimizer steps between two updates.
        update_starting_at_step: number of optimizer steps before the first update after a step.
        update_starting_at_epoch: number of epochs before the first update at an epoch's end; None
            for none.
    """

    def __init__(
        self,
        device: torch.device | str | int | None = None,
        use_buffers: bool = True,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
        update_starting_at_epoch: int | None = None,
    ) -> None:
        super().__init__(
            decay,
            update_every_n_steps,
            update_starting_at_step,
            device=device,
            use_buffers=use_buffers,
        )
        check_at_least("update_starting_at_epoch", update_starting_at_epoch, 0)
        self._first_epoch = update_starting_at_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return whether the step just made, or the epoch just ended, is due for an update."""
        if step_idx is not None:
            is_due = step_idx % self.update_every_n_steps == 0
            return is_due and step_idx >= self.update_starting_at_step
        first = self._first_epoch
        return first is not None and epoch_idx is not None and epoch_idx >= first


def _tensors(module: Any) -> Sequence[Tensor]:
    return [*chain(module.parameters(), module.buffers())]
