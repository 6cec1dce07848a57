"""PendingScalar: a number on a GPU that is being copied to the host, while training goes on."""

import contextlib
from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor

from ...bus.events import Scalar

_SLOTS = 512  # of memory that is pinned at once
_SLOT_BYTES = 8


class _Slot(NamedTuple):
    """Where a number is copied to, and what says that it is there.

    Attributes:
        host: of shape (), in pinned memory.
        arrived: recorded behind the copy.
        pinned: the memory.
    """

    host: Tensor
    arrived: torch.cuda.Event
    pinned: Tensor


# Slots that nobody uses, by type and device. They are used again and again, because pinning memory
# takes longer than a small step, and the memory is never unpinned: freeing what torch has pinned
# ends the process once the GPU has failed, before the run can say how.
_free: dict[tuple[torch.dtype, int], deque[_Slot]] = {}


def _pin_slots(dtype: torch.dtype) -> list[_Slot]:
    memory = torch.empty(_SLOTS * _SLOT_BYTES, dtype=torch.uint8)
    runtime = torch.cuda.cudart()
    torch.cuda.check_error(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0))
    each = [part[: dtype.itemsize].view(dtype)[0] for part in memory.split(_SLOT_BYTES)]
    return [_Slot(host, torch.cuda.Event(), memory) for host in each]


def _take(free: deque[_Slot], dtype: torch.dtype) -> _Slot:
    """Return a slot to which nothing is being copied."""
    with contextlib.suppress(IndexError):
        slot = free.popleft()
        if slot.arrived.query():
            return slot
        free.append(slot)  # its user has gone before its number came
    slot, *others = _pin_slots(dtype)
    free.extendleft(others)
    return slot


class PendingScalar:
    """A one-element tensor on a GPU that is being copied to the host.

    Args:
        value: the tensor, of at most 8 bytes.
    """

    def __init__(self, value: Tensor) -> None:
        device = value.device
        self._owners = free = _free.setdefault((value.dtype, device.index), deque())
        self._slot = slot = _take(free, value.dtype)
        slot.host.copy_(value.detach().reshape(()), non_blocking=True)
        slot.arrived.record(torch.cuda.current_stream(device))

    def __del__(self) -> None:
        slot = getattr(self, "_slot", None)
        if slot is not None:
            self._owners.append(slot)

    def ready(self) -> bool:
        """Return whether ``result`` would return without waiting."""
        return bool(self._slot.arrived.query())

    def result(self) -> Scalar:
        """Return the number, after waiting for it."""
        self._slot.arrived.synchronize()
        return self._slot.host.item()
