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


# Of each sparse layout: the methods that return its parts, and their names.
_PARTS: dict[torch.layout, dict[str, str]] = {
    torch.sparse_coo: {"indices": "_indices", "values": "_values"},
    torch.sparse_csr: {"crow": "crow_indices", "col": "col_indices", "values": "values"},
    torch.sparse_csc: {"ccol": "ccol_indices", "row": "row_indices", "values": "values"},
    torch.sparse_bsr: {"crow": "crow_indices", "col": "col_indices", "values": "values"},
    torch.sparse_bsc: {"ccol": "ccol_indices", "row": "row_indices", "values": "values"},
}


def why_not(tensor: Tensor) -> str:
    """Return why a checkpoint cannot hold a tensor; empty if it can."""
    if is_lazy(tensor):
        return "has no shape yet, because its module was never called"
    if tensor.is_nested:
        return "is nested"
    if tensor.layout is not torch.strided and tensor.layout not in _PARTS:
        return f"is laid out as {str(tensor.layout).removeprefix('torch.')}"
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


def parts_of_sparse(tensor: Tensor) -> dict[str, Tensor]:
    """Return the dense tensors that a sparse one consists of, by name; none if it is dense."""
    tensor = tensor.detach()
    methods = _PARTS.get(tensor.layout, {})
    return {name: getattr(tensor, method)() for name, method in methods.items()}


def is_coalesced(tensor: Tensor) -> bool:
    """Return whether each place of a sparse tensor is known to have one value."""
    return tensor.layout is not torch.sparse_coo or tensor.is_coalesced()


def layout_text(tensor: Tensor) -> str:
    """Return the name of a tensor's layout in torch."""
    return str(tensor.layout).removeprefix("torch.")


def of_parts(
    layout: str, shape: Sequence[int], is_coalesced: bool, parts: Sequence[Tensor]
) -> Tensor:
    """Return the sparse tensor of which there are parts.

    Args:
        layout: name of its layout.
        shape: its shape.
        is_coalesced: each place has one value.
        parts: its indices and values, as ``parts_of_sparse`` returned them.

    Raises:
        ValueError: they are no such tensor.
    """
    kind = vars(torch).get(layout)
    if kind not in _PARTS or len(parts) != len(_PARTS[kind]):
        raise ValueError(f"no layout {layout[:50]!r} of {len(parts)} parts")
    size = tuple(shape)
    # A file may be a stranger's: indices that lead out of the tensor would read elsewhere.
    try:
        if kind is torch.sparse_coo:
            indices, values = parts
            return torch.sparse_coo_tensor(
                indices, values, size, is_coalesced=is_coalesced, check_invariants=True
            )
        compressed, plain, values = parts
        return torch.sparse_compressed_tensor(
            compressed, plain, values, size, layout=kind, check_invariants=True
        )
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"no {layout} of shape {size}: {error}") from None


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
