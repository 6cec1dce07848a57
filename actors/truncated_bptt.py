"""Splits batches along time, for truncated back-propagation through time."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..bus.errors import UsageError


def split_along_time(batch: Any, split_size: int) -> list[Any]:
    """Return the splits of a batch; see ``LightningModule.tbptt_split_batch``.

    Args:
        batch: a list or tuple of tensors of shape (batch, time, ...), lists of sequences, and
            others.
        split_size: time steps of a split.

    Raises:
        UsageError: its parts differ in length, or none has a time dimension.
    """
    if isinstance(batch, Tensor):
        return [part[0] for part in split_along_time([batch], split_size)]
    if not isinstance(batch, list | tuple):
        raise UsageError(
            f"truncated_bptt_steps cannot split a batch that is {type(batch).__name__}; expected a "
            "tensor, or a list or tuple of parts: override tbptt_split_batch(batch, split_size)"
        )
    lengths = {number: _length(part) for number, part in enumerate(batch)}
    timed = {number: length for number, length in lengths.items() if length is not None}
    if len(set(timed.values())) != 1:
        found = ", ".join(f"part {n}: {length}" for n, length in timed.items())
        raise UsageError(
            "truncated_bptt_steps splits a batch along dimension 1 of its tensors and lists, which "
            f"must be equally long; here {found or 'no part has one'}; override "
            "tbptt_split_batch(batch, split_size) to split it your way"
        )
    total = next(iter(timed.values()))
    return [
        [
            _slice(part, start, start + split_size) if number in timed else part
            for number, part in enumerate(batch)
        ]
        for start in range(0, total, split_size)
    ]


def _length(part: Any) -> int | None:
    """Return the time steps of one part; None if it has no time dimension."""
    if isinstance(part, Tensor):
        return part.shape[1] if part.dim() > 1 else None
    if _is_list(part) and part and (_is_list(part[0]) or isinstance(part[0], Tensor)):
        lengths = {len(sequence) for sequence in part}
        if len(lengths) > 1:
            raise UsageError(
                "truncated_bptt_steps splits the sequences of a list, which must be equally long; "
                f"here {', '.join(map(str, sorted(lengths)))} time steps; pad them, or override "
                "tbptt_split_batch(batch, split_size) to split them your way"
            )
        return lengths.pop()
    return None


def _slice(part: Any, start: int, stop: int) -> Any:
    if isinstance(part, Tensor):
        return part[:, start:stop]
    return [sequence[start:stop] for sequence in part]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
