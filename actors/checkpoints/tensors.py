"""Decides which tensors a checkpoint can hold, and encodes types that its file does not have."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

_WRITTEN_AS_THEY_ARE = frozenset(
    {
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.complex64,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint64,
        torch.uint32,
        torch.uint16,
        torch.uint8,
        torch.bool,
    }
)


def why_not(tensor: Tensor) -> str:
    """Return why a checkpoint cannot hold a tensor; empty if it can."""
    if is_lazy(tensor):
        return "has no shape yet, because its module was never called"
    if tensor.is_nested:
        return "is nested"
    if tensor.layout is not torch.strided:
        return f"is sparse ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.is_quantized:
        return "is quantized"
    if tensor.is_meta:
        return "is without data (on the device meta)"
    return ""


def is_written_as_it_is(tensor: Tensor) -> bool:
    """Return whether the file has the tensor's type."""
    return tensor.dtype in _WRITTEN_AS_THEY_ARE


def as_written(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU; if the file lacks the type, its bytes, of shape (N,)."""
    tensor = tensor.detach()
    if is_written_as_it_is(tensor):
        # A copy, so that it does not change while being written, and so that views of one storage
        # are independent in the file.
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").copy_(tensor)
    plain = tensor.resolve_conj().resolve_neg().cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8).clone()


def dtype_called(name: str) -> torch.dtype:
    """Return a dtype by its name in torch.

    Raises:
        ValueError: there is no such dtype.
    """
    found = vars(torch).get(name)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"no dtype {name[:50]!r}")
    return found


def of_bytes(data: Tensor, dtype: str, shape: Sequence[int]) -> Tensor:
    """Return the tensor that ``as_written`` turned into bytes.

    Args:
        data: of shape (N,) and type uint8.
        dtype: name of the dtype.
        shape: shape of the tensor.

    Raises:
        ValueError: they do not fit together.
    """
    kind = dtype_called(dtype)
    if not isinstance(data, Tensor) or data.dtype is not torch.uint8 or data.dim() != 1:
        raise ValueError(f"the bytes of a tensor of {dtype[:50]} are none")
    try:
        return data.view(kind).reshape(tuple(shape))
    except RuntimeError as error:
        raise ValueError(f"{data.numel()} bytes are no {dtype} of shape {shape}: {error}") from None
