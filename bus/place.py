"""Where training is, for whatever is recorded now."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .events import Stage

PlaceMark = tuple[int, int, int, int, Stage]  # epoch, step, batch_idx, dataloader_idx, stage


class Place:
    """Where training is; loops move it, every event carries it.

    Attributes:
        rank: the process.
        stage, epoch, step, batch_idx, dataloader_idx: as in an event; changed by moving.
        hook: the hook that is running; empty between hooks.
    """

    __slots__ = (
        "_on_move",
        "batch_idx",
        "dataloader_idx",
        "epoch",
        "hook",
        "rank",
        "stage",
        "step",
    )

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank
        self.stage: Stage = ""
        self.epoch = 0
        self.step = 0
        self.batch_idx = -1
        self.dataloader_idx = 0
        self.hook = ""
        self._on_move: Callable[[PlaceMark], None] | None = None

    def tell_moves(self, on_move: Callable[[PlaceMark], None] | None) -> None:
        """Have someone told of each move from now on."""
        self._on_move = on_move

    @property
    def on_move(self) -> Callable[[PlaceMark], None] | None:
        """Who is told of each move."""
        return self._on_move

    def mark(self) -> PlaceMark:
        """Where training is, as a tuple."""
        return self.epoch, self.step, self.batch_idx, self.dataloader_idx, self.stage

    def begin_batch(self, batch_idx: int) -> None:
        """Move to a batch."""
        self.batch_idx = batch_idx
        if self._on_move is not None:
            self._on_move((self.epoch, self.step, batch_idx, self.dataloader_idx, self.stage))

    def complete_step(self, step: int) -> None:
        """Count an optimizer step."""
        self.step = step
        if self._on_move is not None:
            self._on_move((self.epoch, step, self.batch_idx, self.dataloader_idx, self.stage))

    def move(
        self,
        *,
        stage: Stage | None = None,
        epoch: int | None = None,
        step: int | None = None,
        batch_idx: int | None = None,
        dataloader_idx: int | None = None,
    ) -> None:
        """Move in any way, outside the hot path."""
        self.stage = self.stage if stage is None else stage
        self.epoch = self.epoch if epoch is None else epoch
        self.step = self.step if step is None else step
        self.batch_idx = self.batch_idx if batch_idx is None else batch_idx
        self.dataloader_idx = self.dataloader_idx if dataloader_idx is None else dataloader_idx
        if self._on_move is not None:
            self._on_move(self.mark())

    @contextmanager
    def in_stage(self, stage: Stage) -> Iterator[None]:
        """Be in another stage for a while, and then back where we were."""
        before = self.stage, self.batch_idx, self.dataloader_idx
        self.move(stage=stage, batch_idx=-1)
        try:
            yield
        finally:
            self.move(stage=before[0], batch_idx=before[1], dataloader_idx=before[2])
