"""StepBatches: the iterator of a step that fetches its batches itself."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..bus.system.logging_setup import get_logger
from ..bus.system.streams import notify_once

_log = get_logger("nightbus.steps")

Fetched = tuple[Any, int, int]
"""A batch on the device, its number in the epoch, and the number of its dataloader."""


class StepBatches(Iterator[Fetched]):
    """The argument ``dataloader_iter`` of a step: yields as many batches as the step takes.

    The loop has read the first already, and announced it.

    Args:
        first: that batch with its numbers.
        fetch: returns a further one, and raises StopIteration if there is none.

    Attributes:
        ended: the step asked for a batch when there was none.
    """

    def __init__(self, first: Fetched, fetch: Callable[[], Fetched]) -> None:
        self._first: Fetched | None = first
        self._fetch = fetch
        self.ended = False

    def __next__(self) -> Fetched:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            return self._fetch()
        except StopIteration:
            self.ended = True
            raise


class _Source(NamedTuple):
    fetch: Callable[[], Fetched]
    end: Callable[[], None]


class BatchSources:
    """The loops that steps fetch from."""

    def __init__(self) -> None:
        self._of_step: dict[str, _Source] = {}
        self._warned: set[str] = set()

    def set(self, step: str, fetch: Callable[[], Fetched], end: Callable[[], None]) -> None:
        """Have a step fetch its batches from a loop.

        Args:
            step: the step, such as ``training_step``.
            fetch: returns the loop's next batch, and raises StopIteration if there is none.
            end: ends the loop after the present step, though there are more batches.
        """
        self._of_step[step] = _Source(fetch, end)

    def iterated(
        self, name: str, step: Callable[..., Any], arguments: Sequence[str]
    ) -> Callable[..., Any]:
        """Return a step that takes an iterator as a callable of a batch and its numbers.

        If the data ends within the step, it has no output. A StopIteration that the step raises
        before that ends the loop; a warning says so once, because it may be that of another
        iterator.

        Args:
            name: the step, such as ``training_step``.
            step: the module's.
            arguments: names of its arguments, the batch and its number first.
        """
        notify_once(
            f"nightbus: {name} fetches its batches from dataloader_iter; the hooks around it get "
            "the batch that it begins with"
        )
        loader = arguments.index("dataloader_idx") if "dataloader_idx" in arguments else None

        def call(batch: Any, batch_idx: int, *rest: Any) -> Any:
            dataloader_idx = 0 if loader is None else rest[loader - 2]
            source = self._of_step[name]
            batches = StepBatches((batch, batch_idx, dataloader_idx), source.fetch)
            try:
                return step(batches, batch_idx, *rest)
            except StopIteration:
                if batches.ended:
                    return None
                self._warn_of_end(name, batch_idx)
                source.end()
                return None

        return call

    def _warn_of_end(self, step: str, batch_idx: int) -> None:
        if step not in self._warned:
            self._warned.add(step)
            _log.warning(
                "a step raised StopIteration, which ends its loop before the data does; if that was"
                " an iterator of your own, give next() a default",
                step=step,
                batch_idx=batch_idx,
            )
