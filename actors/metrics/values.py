"""Checks names and values of metrics, and waits for values from a GPU."""

from typing import Any

import torch
from torch import Tensor

from ...bus.errors import MetricError
from ...bus.events import Scalar
from ...bus.log.codec import as_float
from .pending_scalar import PendingScalar

MAX_NAME_CHARS = 1000


Value = Scalar | PendingScalar


def to_scalar(name: str, value: Any) -> Value:
    """Return a metric's value as a number, or as a number being copied from a GPU.

    Args:
        name: the metric, for errors.
        value: a float, int or bool, a NumPy scalar, or a tensor of one element.

    Raises:
        MetricError: it is none of these.
    """
    kind = type(value)
    if kind is float or kind is bool or (kind is int and -(1 << 63) <= value < 1 << 64):
        return value  # type: ignore[no-any-return]
    if kind is Tensor or isinstance(value, Tensor):
        if value.is_cuda and value.numel() == 1 and not value.is_complex():
            return PendingScalar(value)
        try:
            number = value.item()
        except RuntimeError:
            raise MetricError(
                f"metric {name!r} is a tensor of shape {tuple(value.shape)}; one number is "
                "expected: reduce it first, for example with .mean()"
            ) from None
    elif isinstance(value, int | float):
        number = value
    elif hasattr(value, "item") and getattr(value, "size", 1) == 1:
        number = value.item()
    else:
        number = value
    if type(number) is float:
        return number
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
    """Return whether something can be a metric's name."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= MAX_NAME_CHARS
        and (name.isascii() or _is_unicode(name))
    )


def _is_unicode(text: str) -> bool:
    """Return whether a text has no lone surrogates, as in a file name that is not UTF-8.

    Neither a checkpoint nor a sink's file can hold them.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def resolved(value: Value) -> Scalar:
    """Return a number, after waiting for it if it is pending."""
    return value.result() if isinstance(value, PendingScalar) else value


def as_tensors(values: dict[str, Value]) -> dict[str, Tensor]:
    """Return numbers as float64 tensors of shape ()."""
    return {
        name: torch.tensor(resolved(value), dtype=torch.float64)
        for name, value in values.copy().items()  # a signal handler may put another one meanwhile
    }
