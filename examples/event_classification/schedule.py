"""Which sequence each slot of a batch reads, so that slots go on where they ended."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

import torch
from torch.utils.data import Sampler


class Item(NamedTuple):
    """A sequence that a slot reads.

    Attributes:
        recording: its index; -1 for a slot that is empty.
        start: begin of the sequence, in us.
        seed: of the augmentation, one for a whole recording; 0 for none.
        is_first: whether it is the first of its recording.
    """

    recording: int
    start: int
    seed: int
    is_first: bool


EMPTY = Item(-1, 0, 0, True)


class Schedule(Sampler[list[Item]]):
    """Plans batches: slot n of a batch reads on where slot n of the last batch ended.

    A slot takes the next recording when its own has ended. When there is none, it stays empty in
    evaluation. In training it reads recordings once more until all slots are done, because zeros
    would spoil the statistics of batch norm.

    It is a batch sampler, so a DataLoader's position and workers are what they always are: a run
    is resumed from here without reading anything again. ``generator`` is in checkpoints.

    Args:
        durations: of the recordings, in us.
        length: of a sequence, in us.
        batch_size: number of slots.
        shuffle: training: a new order each time, and seeds of the augmentation.
        seed: of the order.
    """

    def __init__(
        self, durations: Sequence[int], length: int, batch_size: int, shuffle: bool, seed: int = 0
    ) -> None:
        self.durations = list(durations)
        self.length = length
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[list[Item]]:
        order, seeds = self._order()
        coming = cycle(order) if self.shuffle else iter(order)
        slots: list[tuple[int, int] | None] = [None] * self.batch_size  # recording, start
        for _ in range(len(self)):
            batch = []
            for number, slot in enumerate(slots):
                if slot is None:
                    recording = next(coming, None)
                    slot = None if recording is None else (recording, 0)
                if slot is None:
                    batch.append(EMPTY)
                    continue
                recording, start = slot
                batch.append(Item(recording, start, seeds[recording], start == 0))
                is_over = start + self.length >= self.durations[recording]
                slots[number] = None if is_over else (recording, start + self.length)
            yield batch

    def _order(self) -> tuple[list[int], list[int]]:
        count = len(self.durations)
        if not self.shuffle:
            return list(range(count)), [0] * count
        order = torch.randperm(count, generator=self.generator)
        seeds = torch.randint(1, 2**31, (count,), generator=self.generator)
        return order.tolist(), seeds.tolist()

    def __len__(self) -> int:
        """Return the number of batches: exact, and in training the same for every order.

        However S sequences of recordings of at most C are dealt to N slots, the last slot is done
        after ceil(S / N) + C - 1 batches.
        """
        sequences = [-(-duration // self.length) for duration in self.durations]
        if self.shuffle:
            return -(-sum(sequences) // self.batch_size) + max(sequences) - 1
        ends = [0] * self.batch_size
        for count in sequences:
            ends[ends.index(min(ends))] += count
        return max(ends)
