"""Device: the device of training, and its precision: autocast and loss scaling."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from ..bus.errors import UsageError
from ..bus.system.streams import notify_once, notify_user
from .process.rank_zero import is_main
from .trees import map_tensors

Precision = Literal["64-true", "32-true", "bf16-true", "16-true", "bf16-mixed", "16-mixed"]
_PRECISIONS: dict[object, Precision] = {
    "64-true": "64-true",
    "64": "64-true",
    64: "64-true",
    "32-true": "32-true",
    "32": "32-true",
    32: "32-true",
    "bf16-true": "bf16-true",
    "16-true": "16-true",
    "bf16-mixed": "bf16-mixed",
    "bf16": "bf16-mixed",
    "16-mixed": "16-mixed",
    "16": "16-mixed",
    16: "16-mixed",
}
# The dtype of weights and batches.
_WHOLE = {"64-true": torch.float64, "bf16-true": torch.bfloat16, "16-true": torch.float16}
_MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def parse_precision(precision: object) -> Precision:
    """Return the precision that an argument means.

    Raises:
        UsageError: it is not a precision.
    """
    found = _PRECISIONS.get(precision) if isinstance(precision, str | int) else None
    if str(precision).startswith("transformer-engine"):
        raise UsageError(
            f"precision={precision!r} is not supported: build the module of Transformer Engine's "
            "layers, call them within its autocast, and give precision='bf16-mixed'"
        )
    if found is None:
        expected = ", ".join(repr(known) for known in dict.fromkeys(_PRECISIONS.values()))
        raise UsageError(f"precision={precision!r}: expected one of {expected}")
    return found


def choose_device(accelerator: str, index: int | None = None) -> torch.device:
    """Return the device that an accelerator's name means on this machine.

    Args:
        accelerator: auto, cpu, gpu or mps.
        index: number of the device of its kind, from 0; None for any.

    Raises:
        UsageError: the name is unknown, or there is no such device.
    """
    has_mps = torch.backends.mps.is_available()
    available = {"cpu": True, "gpu": torch.cuda.is_available(), "mps": has_mps}
    if accelerator == "auto":
        accelerator = next((name for name in ("gpu", "mps") if available[name]), "cpu")
    if accelerator == "gpu" and has_mps and not available["gpu"]:  # that of a Mac
        accelerator = "mps"
    accelerator = {"cuda": "gpu"}.get(accelerator, accelerator)
    if accelerator not in available:
        raise UsageError(
            f"accelerator={accelerator!r}: expected 'auto', 'cpu', 'gpu' or 'mps'; for several "
            "processes give devices="
        )
    if not available[accelerator]:
        here = [name for name, is_there in available.items() if is_there]
        raise UsageError(
            f"accelerator={accelerator!r}: this machine has none; available: {', '.join(here)}"
        )
    count = torch.cuda.device_count() if accelerator == "gpu" else 1
    if index is not None and index >= count:
        raise UsageError(
            f"devices=[{index}]: this machine has {count} for {accelerator!r}, from 0"
            + "; give a number, such as devices=2, for several processes" * (accelerator == "cpu")
        )
    if accelerator == "gpu" and index is not None:
        return torch.device("cuda", index)
    return torch.device({"cpu": "cpu", "gpu": "cuda", "mps": "mps"}[accelerator])


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors with this dtype within."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class _LeavesWeights(TorchFunctionMode):
    """Has functions of torch.nn.init return their tensors as they are."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


class Device:
    """The device of this process, and its precision.

    Args:
        accelerator: auto, cpu, gpu or mps.
        precision: see ``parse_precision``.
        index: number of the device of its kind, from 0; None for any.

    Attributes:
        device: the torch device.
        dtype: dtype that floating-point weights and batches are converted to; None for no
            conversion.
        scaler: scales losses for 16-mixed; None otherwise.
    """

    def __init__(self, accelerator: str, precision: object, index: int | None = None) -> None:
        self.device = choose_device(accelerator, index)
        has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
        if self.device.type == "cpu" and has_gpu and is_main():
            notify_once(
                f"nightbus: accelerator={accelerator!r} leaves the GPU of this machine unused; "
                "accelerator='auto' trains on it"
            )
        self.precision = parse_precision(precision)
        self.dtype = _WHOLE.get(self.precision)
        self.scaler: torch.amp.GradScaler | None = None
        if self.precision == "16-mixed":
            self.scaler = torch.amp.GradScaler(self.device.type)
        is_slow = self.device.type == "cpu" and self.precision in ("16-mixed", "16-true")
        if is_slow and is_main():
            better = self.precision.replace("16", "bf16")
            notify_user(
                f"nightbus: precision={precision!r} on a CPU: float16 is slow there, and some "
                f"operations lack it; use {better!r} instead"
            )

    def make_current(self) -> None:
        """Make the device that which ``"cuda"`` means in this process, if its number was given.

        What code of users or torch makes there without a number would else be on device 0, where
        each rank would also keep memory for that.
        """
        if self.device.type == "cuda" and self.device.index is not None:
            torch.cuda.set_device(self.device)

    @property
    def gpu(self) -> tuple[str, int] | None:
        """The GPU of this process: its UUID as NVIDIA's driver has it, and its index; else None."""
        if self.device.type != "cuda":
            return None
        index = torch.cuda.current_device() if self.device.index is None else self.device.index
        return f"GPU-{torch.cuda.get_device_properties(index).uuid}", index

    @property
    def moves_batches(self) -> bool:
        """True if batches have to be moved from the CPU, or converted."""
        return self.device.type != "cpu" or self.dtype is not None

    @property
    def autocasts(self) -> bool:
        """True if forward runs in a lower precision than that of the weights."""
        return self.precision in _MIXED

    @property
    def wraps_steps(self) -> bool:
        """True if a step runs in a context."""
        return self.precision != "32-true"

    def forward_context(self) -> AbstractContextManager[Any]:
        """Return the context for the forward of a step."""
        if self.dtype is not None:
            return default_dtype(self.dtype)
        if self.precision in _MIXED:
            return torch.autocast(self.device.type, dtype=_MIXED[self.precision])
        return nullcontext()

    def making_context(self) -> AbstractContextManager[Any]:
        """Return the context in which a module makes its submodules."""
        return nullcontext() if self.dtype is None else default_dtype(self.dtype)

    @contextmanager
    def new_module(self, empty_init: bool) -> Iterator[None]:
        """Make modules on the device, in the precision of its weights.

        Args:
            empty_init: leave weights as they are in memory, because a checkpoint will replace them.
        """
        drawing = _LeavesWeights() if empty_init else nullcontext()
        with self.device, self.making_context(), drawing:
            yield

    def place_module(self, module: nn.Module) -> None:
        """Move a module to the device, and its weights to the precision."""
        if self.dtype is torch.float64:
            module.double()
        elif self.dtype is not None:
            module.bfloat16() if self.dtype is torch.bfloat16 else module.half()
        module.to(self.device)

    def converted(self, batch: Any) -> Any:
        """Return a batch with its floating-point tensors in the precision of the weights."""
        dtype = self.dtype
        if dtype is None:
            return batch
        return map_tensors(batch, lambda t: t.to(dtype) if t.is_floating_point() else t)

    def step(self, optimizer: Optimizer, closure: Any, **kwargs: Any) -> Any:
        """Step an optimizer, and run its closure.

        A scaled step cannot take a closure, and has to check the gradients first, so that it can
        skip itself when they overflowed.

        Args:
            optimizer: the torch optimizer.
            closure: computes loss and gradients.
            kwargs: further arguments of the optimizer's step.

        Returns:
            What the optimizer's step returns.

        Raises:
            UsageError: the optimizer calls its closure several times, which loss scaling does not
                allow.
        """
        if self.scaler is None:
            return optimizer.step(closure=closure, **kwargs)
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
        """Return the scaler's state."""
        return {} if self.scaler is None else dict(self.scaler.state_dict())

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the scaler."""
        if self.scaler is not None and state_dict:
            self.scaler.load_state_dict(dict(state_dict))
