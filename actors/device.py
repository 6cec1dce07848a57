"""Where training runs and how precisely: device, autocast, loss scaling."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bus.errors import UsageError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_PRECISIONS: dict[object, Precision] = {
    "32-true": "32-true",
    "32": "32-true",
    32: "32-true",
    "bf16-mixed": "bf16-mixed",
    "bf16": "bf16-mixed",
    "16-mixed": "16-mixed",
    "16": "16-mixed",
    16: "16-mixed",
}


def parse_precision(precision: object) -> Precision:
    """The precision that an argument means.

    Raises:
        UsageError: it means none.
    """
    found = _PRECISIONS.get(precision)
    if found is None:
        raise UsageError(f"precision={precision!r}: expected '32-true', 'bf16-mixed' or '16-mixed'")
    return found


def choose_device(accelerator: str) -> torch.device:
    """The device that an accelerator's name means here.

    Raises:
        UsageError: the name is unknown, or there is no such device.
    """
    has_mps = torch.backends.mps.is_available()
    available = {"cpu": True, "gpu": torch.cuda.is_available(), "mps": has_mps}
    if accelerator == "auto":
        accelerator = next((name for name in ("gpu", "mps") if available[name]), "cpu")
    accelerator = {"cuda": "gpu"}.get(accelerator, accelerator)
    if accelerator not in available:
        raise UsageError(f"accelerator={accelerator!r}: expected 'auto', 'cpu', 'gpu' or 'mps'")
    if not available[accelerator]:
        here = [name for name, is_there in available.items() if is_there]
        raise UsageError(
            f"accelerator={accelerator!r}: this machine has none; available: {', '.join(here)}"
        )
    return torch.device({"cpu": "cpu", "gpu": "cuda", "mps": "mps"}[accelerator])


class Device:
    """The device of this process and the precision on it.

    Args:
        accelerator: auto, cpu, gpu or mps.
        precision: see ``parse_precision``.

    Attributes:
        device: the torch device.
        scaler: scales losses for 16-mixed; None otherwise.
    """

    def __init__(self, accelerator: str, precision: object) -> None:
        self.device = choose_device(accelerator)
        self.precision = parse_precision(precision)
        self.scaler: torch.amp.GradScaler | None = None
        if self.precision == "16-mixed":
            self.scaler = torch.amp.GradScaler(self.device.type)

    @property
    def moves_batches(self) -> bool:
        """Whether batches have to be moved; they come from loaders on the CPU."""
        return self.device.type != "cpu"

    @property
    def autocasts(self) -> bool:
        """Whether forward runs in a lower precision."""
        return self.precision != "32-true"

    def forward_context(self) -> AbstractContextManager[Any]:
        """What a step's forward runs in."""
        if not self.autocasts:
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16-mixed" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def step(self, optimizer: Optimizer, closure: Any, **kwargs: Any) -> Any:
        """Step an optimizer, its closure included.

        A scaled step cannot take a closure, and must see the gradients first, so that it can skip
        itself when they overflowed.
        """
        if self.scaler is None:
            return optimizer.step(closure, **kwargs)
        if isinstance(optimizer, torch.optim.LBFGS):
            raise UsageError(
                "LBFGS evaluates its closure several times a step, which loss scaling does not "
                "allow; use precision='bf16-mixed' or '32-true'"
            )
        loss = None if closure is None else closure()
        self.scaler.step(optimizer, **kwargs)
        self.scaler.update()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The scaler's state."""
        return {} if self.scaler is None else dict(self.scaler.state_dict())

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the scaler."""
        if self.scaler is not None and state_dict:
            self.scaler.load_state_dict(dict(state_dict))


def move_data_to_device(batch: Any, device: torch.device) -> Any:
    """A batch with every tensor in it on a device.

    Args:
        batch: tensors, or anything with ``to(device)``, in any nesting of dicts, lists, tuples.
        device: where to.
    """
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        moved = {key: move_data_to_device(value, device) for key, value in batch.items()}
        return moved if type(batch) is dict else type(batch)(moved)  # type: ignore[call-arg]
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(move_data_to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(move_data_to_device(value, device) for value in batch)
    if hasattr(batch, "to"):
        return batch.to(device)
    return batch
