"""How long a rank's training steps took, phase by phase, read from the hooks in its log."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from ..errors import LogFormatError, NewerFormatError
from ..log.codec import FrameParts
from ..log.codes import GRADIENTS_READY, PlaceTuple
from ..log.reader import LogReader
from ..log.segments import FolderStore

# A batch has come when the first of these ran.
_BEGIN_OF_BATCH = frozenset(
    {
        "on_before_batch_transfer",
        "transfer_batch_to_device",
        "on_after_batch_transfer",
        "on_batch_start",
    }
)


class StepTimes(NamedTuple):
    """One optimizer step, from the end of one ``backward`` to that of the next, in ns.

    Ranks meet in ``backward``, so what a rank does after one delays all in the next.

    Attributes:
        step: optimizer steps completed before it.
        optimizer: from the end of the ``backward`` before to the end of its batch.
        data: from what was done before to the batch's begin.
        forward: in ``training_step``.
        backward: in ``backward``, until the rank's own gradients were there if that is known.
        waits: the rest of ``backward``, and of a ``training_step`` without a loss; None if it is
            not known.
    """

    step: int
    optimizer: int
    data: int
    forward: int
    backward: int
    waits: int | None

    @property
    def total(self) -> int:
        """Return how long it took altogether."""
        return self.optimizer + self.data + self.forward + self.backward + (self.waits or 0)


class RankSteps:
    """Reads the training steps of one rank, one after the other.

    Args:
        store: the rank's segments.
        lets_go: whether the file is closed between two reads.

    Attributes:
        problem: why the log cannot be read further; empty if it can.
    """

    def __init__(self, store: FolderStore, lets_go: bool = False) -> None:
        self.problem = ""
        self._reader = LogReader(store)
        self._lets_go = lets_go
        self._step = _Step()
        self._steps = self._read()
        self._next: StepTimes | None = None

    def before(self, step: int) -> Iterator[StepTimes]:
        """Yield the steps before a step, from where the last call ended.

        Raises:
            NewerFormatError: the log was written by a newer major version.
        """
        while self.next_step is not None and self.next_step < step:
            assert self._next is not None
            yield self._next
            self._next = None

    @property
    def next_step(self) -> int | None:
        """Return the step that comes next; None at the end."""
        if self._next is None:
            self._next = next(self._steps, None)
        return None if self._next is None else self._next.step

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _read(self) -> Iterator[StepTimes]:
        try:
            for _, parts in self._reader.parts():
                if self._lets_go:
                    self._reader.let_go()
                yield from self._steps_in(parts)
            end = self._reader.end()
            self.problem = f"segment {end.segment}: {end.reason}" if end.is_damage else ""
        except NewerFormatError:
            raise
        except LogFormatError as error:
            self.problem = str(error)

    def _steps_in(self, parts: FrameParts) -> Iterator[StepTimes]:
        places = [*parts.places, (len(parts.names), (0, 0, 0, 0, ""))]
        hooks = list(zip(parts.names, parts.begun_ns, parts.times_ns, strict=True))
        for (first, place), (end, _) in pairwise(places):
            for name, begun_ns, done_ns in hooks[first:end]:
                found = self._step.take(name, begun_ns, done_ns, place)
                if found is not None:
                    yield found


class _Step:
    """The training step that is being read."""

    def __init__(self) -> None:
        self._step = 0  # completed
        self._idle_ns = 0  # since when the rank waits for a batch; 0 for not yet
        self._ready_ns = 0  # when its gradients were there; 0 for not known
        self._backward_end_ns = 0
        self._optimizer = self._next_optimizer = 0
        self._begin()

    def _begin(self) -> None:
        self._data = self._forward = self._backward = self._waits = 0
        self._is_marked = False

    def take(self, name: str, begun_ns: int, done_ns: int, place: PlaceTuple) -> StepTimes | None:
        """Take a hook; return the step that it completed, if any."""
        if name in _BEGIN_OF_BATCH:
            return None
        _, step, _, _, stage = place
        found = self._take_of_training(name, begun_ns, done_ns, step) if stage == "train" else None
        self._idle_ns = done_ns
        return found

    def _take_of_training(
        self, name: str, begun_ns: int, done_ns: int, step: int
    ) -> StepTimes | None:
        if name == "on_train_batch_start":
            self._data += begun_ns - self._idle_ns if self._idle_ns else 0
        elif name == "training_step":  # without a loss, it is here that the rank meets the others
            self._forward += self._own_part(begun_ns, done_ns)
        elif name == GRADIENTS_READY:
            self._ready_ns = done_ns
        elif name == "on_before_optimizer_step":
            self._ready_ns = 0  # of a backward by hand: what comes after it is no wait
        elif name == "backward":
            self._backward += self._own_part(begun_ns, done_ns)
            self._backward_end_ns = done_ns
        elif name == "on_train_batch_end":
            return self._end_batch(done_ns, step)
        return None

    def _own_part(self, begun_ns: int, done_ns: int) -> int:
        """Return how long the rank computed in a hook; the rest it waited for others."""
        own_end_ns = max(begun_ns, self._ready_ns) if self._ready_ns else done_ns
        self._waits += done_ns - own_end_ns
        self._is_marked |= self._ready_ns != 0
        self._ready_ns = 0
        return own_end_ns - begun_ns

    def _end_batch(self, done_ns: int, step: int) -> StepTimes | None:
        if self._backward_end_ns:
            self._next_optimizer += done_ns - self._backward_end_ns
            self._backward_end_ns = 0
        if step <= self._step:
            self._step = min(self._step, step)
            return None  # gradients are accumulated
        waits = self._waits if self._is_marked else None
        times = self._optimizer, self._data, self._forward, self._backward, waits
        self._step = step
        self._optimizer, self._next_optimizer = self._next_optimizer, 0
        self._begin()
        return StepTimes(step - 1, *times)
