"""Finds how many samples a batch has."""

from collections.abc import Iterable, Mapping, Sized
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

_TEXT = (str, bytes, bytearray)


def sizes_of(batch: Any) -> list[int]:
    """Return the sizes of a batch's parts, in order; empty if there are none.

    They are the first dimension of its tensors and arrays, and the sizes of batches of graphs and
    of packed sequences; without any of those, the length of its lists and of other objects with a
    length.
    """
    if type(batch) in (tuple, list) and all(type(part) is Tensor for part in batch):
        return [part.size(0) for part in batch if part.dim()]  # the same, for most batches
    found = _Sizes()
    found.look_at(batch)
    return found.of_arrays or found.of_lists


class _Sizes:
    def __init__(self) -> None:
        self.of_arrays: list[int] = []
        self.of_lists: list[int] = []
        self._seen: set[int] = set()

    def look_at(self, part: Any) -> bool:
        """Collect the sizes of a part of the batch; return whether it has any."""
        if isinstance(part, Tensor):
            if part.dim():
                self.of_arrays.append(part.size(0))
            return True
        if isinstance(part, PackedSequence):
            self.of_arrays.append(int(part.batch_sizes[0]))
            return True
        if part is None or isinstance(part, (*_TEXT, int, float)) or id(part) in self._seen:
            return False
        self._seen.add(id(part))
        return self._look_at_object(part)

    def _look_at_object(self, part: Any) -> bool:
        said = _said_by(part)
        if said is not None:
            self.of_arrays.append(said)
            return True
        if getattr(part, "shape", None) == ():  # a scalar array
            return True
        if isinstance(part, Mapping):
            return self._look_at_all(part.values())
        if isinstance(part, list | tuple):
            found = self._look_at_all(part)
            texts = all(isinstance(entry, _TEXT) for entry in part)
            if not found and part and (isinstance(part, list) or texts):
                self.of_lists.append(len(part))
                found = True
            return found
        if is_dataclass(part):
            found = self._look_at_all(getattr(part, field.name) for field in fields(part))
        else:
            found = False
        if not found and isinstance(part, Sized):
            self.of_lists.append(len(part))
            found = True
        return found or self._look_at_all(vars(part).values() if hasattr(part, "__dict__") else ())

    def _look_at_all(self, parts: Iterable[Any]) -> bool:
        found = [self.look_at(entry) for entry in parts]
        return any(found)


def _said_by(part: Any) -> int | None:
    """Return the size that an array or a batch of graphs reports."""
    for name in ("num_graphs", "batch_size", "shape"):
        said = getattr(part, name, None)
        if isinstance(said, tuple) and said:
            said = said[0]
        if isinstance(said, int) and not isinstance(said, bool):
            return said
    return None
