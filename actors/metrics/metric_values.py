"""A metric's name and value: what they may be, and numbers that are on their way from a GPU."""

from typing import Any

import torch
from torch import Tensor

from ...bus.errors import MetricError
from ...bus.events import Scalar
from ...bus.log.codec import as_float

MAX_NAME_CHARS = 1000


class PendingScalar:
    """A one-element tensor on a GPU whose copy to the host is on its way."""

    def __init__(self, value: Tensor) -> None:
        self._host = torch.empty((), dtype=value.dtype, pin_memory=True)
        self._host.copy_(value.detach().reshape(()), non_blocking=True)
        self._arrived = torch.cuda.Event()
        self._arrived.record(torch.cuda.current_stream(value.device))

    def ready(self) -> bool:
        """Whether ``result`` would return without waiting."""
        return bool(self._arrived.query())

    def result(self) -> Scalar:
        """The number; waits for it."""
        self._arrived.synchronize()
        return self._host.item()


Value = Scalar | PendingScalar


def to_scalar(name: str, value: Any) -> Value:
    """A metric's value as a number, or as a number on its way from a GPU.

    Args:
        name: the metric, for the error.
        value: a float, int or bool, a NumPy scalar, or a tensor of one element.

    Raises:
        MetricError: it is none of these.
    """
    kind = type(value)
    if kind is float or kind is bool or (kind is int and -(1 << 63) <= value < 1 << 64):
        return value  # type: ignore[no-any-return]
    if isinstance(value, Tensor):
        if value.is_cuda and value.numel() == 1:
            return PendingScalar(value)
        try:
            number = value.item()
        except RuntimeError:
            raise MetricError(
                f"metric {name!r} is a tensor of shape {tuple(value.shape)}; one number is "
                "expected: reduce it first, with .mean() say"
            ) from None
    elif isinstance(value, int | float):
        number = value
    elif hasattr(value, "item") and getattr(value, "size", 1) == 1:
        number = value.item()
    else:
        number = value
    if isinstance(number, float):
        return float(number)
    if isinstance(number, bool):
        return number
    if isinstance(number, int):
        return int(number) if -(1 << 63) <= number < 1 << 64 else as_float(number)
    raise MetricError(
        f"metric {name!r} is {kind.__name__}; a number or a one-element tensor is expected"
    )


def is_name(name: object) -> bool:
    """Whether it can be a metric's name."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= MAX_NAME_CHARS
        and (name.isascii() or _is_unicode(name))
    )


def _is_unicode(text: str) -> bool:
    """Not with half a surrogate pair in it, as in a file name that is not UTF-8: a checkpoint
    and a sink's file cannot hold that.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def resolved(value: Value) -> Scalar:
    """A number, waited for if it is on its way."""
    return value.result() if isinstance(value, PendingScalar) else value


def as_tensors(values: dict[str, Value]) -> dict[str, Tensor]:
    """Numbers as float64 tensors of shape ()."""
    return {
        name: torch.tensor(resolved(value), dtype=torch.float64)
        for name, value in values.copy().items()  # whoever strikes here may put another one
    }
