"""What the fast paths use of the loops whose iterations they run.

The loops themselves cannot be named here, because they create their fast paths.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

from ...actors.optimization.progress import Progress
from ...actors.ranks.common_end import CommonEnd
from ..hook_names import HookNames
from ..training_batch import TrainingBatchLoop


class TrainingBatches(Protocol):
    """A TrainingEpochLoop; its methods and attributes are described there."""

    END: ClassVar[object]
    max_steps: int
    batch_loop: TrainingBatchLoop
    batch_progress: Progress
    batch_idx: int
    is_last_batch: bool
    validates: bool
    waits_for_validation: bool
    kept_outputs: list[Any] | None
    common_end: CommonEnd | None

    def next_batch(self) -> Any:
        """Return the epoch's next batch, or ``END`` if the data ended early."""

    def work_on(self, batch: Any) -> None:
        """Process what ``next_batch`` returned."""

    def start_batch(self, batch: Any, batch_idx: int) -> Any:
        """Set the place, move the batch to the device, and announce it.

        Args:
            batch: the batch of the dataloader.
            batch_idx: its number in the epoch, from 0.

        Returns:
            The batch to train on.
        """

    def train_on(self, batch: Any, batch_idx: int) -> None:
        """Train on a batch that was announced.

        Args:
            batch: the batch, on the device.
            batch_idx: its number in the epoch, from 0.
        """

    def end_early(self) -> None:
        """End the epoch before this batch, or let all ranks end it soon."""

    def step_schedulers(self) -> None:
        """Advance the schedulers due after a step."""

    def learn_of_last(self) -> None:
        """Find out, after a step, whether the batch is the last of another rank."""

    def on_advance_end(self) -> None:
        """Run the validation that is due."""


class DataloaderBatches(Protocol):
    """A DataloaderLoop; its methods and attributes are described there."""

    passes_over_none: ClassVar[bool]
    batch_progress: Progress
    batch_idx: int
    dataloader_idx: int
    kind: str
    names: HookNames
    limit: int | None
    iterator: Iterator[Any]

    def work_on(self, batch: Any) -> None:
        """Process a batch of the dataloader."""

    def start_batch(self, batch: Any) -> Any:
        """Move the batch to the device, and announce it."""

    def take(self, output: Any) -> None:
        """Keep the output of the step, if it is needed later."""
