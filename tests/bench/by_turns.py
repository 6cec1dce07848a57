"""Turns: blocks of steps of the raw loop and of a contender alternate, within one training."""

import time
from collections.abc import Iterator

BLOCK = 20  # steps
SKIPPED = 2  # blocks, in which DistributedDataParallel arranges its buckets


class Turns:
    """Has blocks of the raw loop and of a contender alternate, and times them.

    Args:
        raw: makes a step of the raw loop each time that it is asked for the next.

    Attributes:
        raw_us: processor time of a step, in each block of the raw loop.
        own_us: the same of the contender's block that follows.
        calls: of collective operations.
    """

    def __init__(self, raw: Iterator[None]) -> None:
        self._raw, self._batches = raw, 0
        self._begin_s = 0.0
        self.raw_us: list[float] = []
        self.own_us: list[float] = []
        self.calls = 0

    def on_batch(self) -> None:
        """Be told that the contender reads a batch."""
        if self._batches % BLOCK == 0:
            self._change()
        self._batches += 1

    def _change(self) -> None:
        begin_s = time.thread_time()
        if self._batches:
            self.own_us.append((begin_s - self._begin_s) / BLOCK * 1e6)
        for _ in range(BLOCK):
            next(self._raw)
        self._begin_s = time.thread_time()
        self.raw_us.append((self._begin_s - begin_s) / BLOCK * 1e6)

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """Times of neighbouring blocks: of the raw loop, and of the contender."""
        return list(zip(self.raw_us, self.own_us, strict=False))[SKIPPED:]

    @property
    def collectives(self) -> float:
        return self.calls / self._batches
