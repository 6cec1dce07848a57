"""Converts outputs of training steps to the forms in which hooks get them.

With several optimizers, a batch's outputs are a dict by optimizer_idx; with truncated
back-propagation, they are a list of that over the batch's splits.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..actors.metrics.results import CollectedResult, Result
from ..actors.trees import detached
from ..bus.system.logging_setup import get_logger

_log = get_logger("nightbus.loops", of_all_ranks=True)


def kept_output(output: Any) -> Any:
    """Return a training step's output for hooks and epoch ends: without the graph."""
    if isinstance(output, Tensor):
        return {"loss": output.detach()}
    if isinstance(output, Mapping):
        return {key: detached(value) for key, value in output.items() if key != "hiddens"}
    return output.detach() if isinstance(output, Result) else output


def in_one(batches: Any) -> Any:
    """Return an epoch's outputs for ``*_epoch_end``: results become one result."""
    if isinstance(batches, list) and batches and isinstance(batches[0], Result):
        return CollectedResult(batches)
    if (
        isinstance(batches, list)
        and batches
        and all(isinstance(inner, list) for inner in batches)
        and all(isinstance(batch, Result) for inner in batches for batch in inner)
    ):
        return [in_one(inner) for inner in batches]
    return batches


def carried(outputs: list[Any]) -> list[Any]:
    """Return the part of an epoch's outputs for a checkpoint: all of them or none.

    None if they are more than tensors and plain data, which a warning reports.
    """
    if not outputs or is_plain(outputs):
        return outputs
    _log.warning(
        "outputs of training_step are not in the checkpoint; after a resume from it, the epoch's "
        "end gets only those since",
        outputs=len(outputs),
    )
    return []


def is_plain(value: Any) -> bool:
    """Return whether a value is only tensors and plain data."""
    if isinstance(value, Mapping):
        return all(isinstance(k, str | int) and is_plain(v) for k, v in value.items())
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    plain = bool | int | float | str | bytes | Tensor | np.ndarray | np.generic
    return value is None or isinstance(value, plain)


def for_batch_end(outputs: Any) -> Any:
    """Return outputs for ``on_train_batch_end`` with several optimizers: a list over optimizers."""
    if isinstance(outputs, list):
        return [for_batch_end(split) for split in outputs]
    return list(outputs.values())


def for_epoch_end(batches: Sequence[Any], num_optimizers: int) -> list[Any]:
    """Return outputs for ``training_epoch_end``: a list over batches, without skipped steps.

    With several optimizers, it is a list over optimizers of such lists.

    Args:
        batches: the output of each batch.
        num_optimizers: the number of optimizers.
    """
    if num_optimizers <= 1:
        kept = ([s for s in b if s is not None] if isinstance(b, list) else b for b in batches)
        return [batch for batch in kept if batch is not None and batch != []]
    by_optimizer: list[list[Any]] = [[] for _ in range(num_optimizers)]
    for batch in batches:
        for idx, own in enumerate(by_optimizer):
            if not isinstance(batch, list):
                own += [batch[idx]] if idx in batch else []
            elif found := [split[idx] for split in batch if idx in split]:
                own.append(found)
    return by_optimizer
