"""DataloaderLoop: the batches of one dataloader, without training."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from ..actors.data.position import end_pass
from ..actors.optimization.progress import Progress
from .fast.evaluation import FastEvaluation
from .hook_names import HOOK_NAMES
from .loop import Loop
from .step_errors import exhausted


class DataloaderLoop(Loop):
    """Runs the batches of one dataloader, with the hooks of a stage.

    An iteration, here of validation, is::

        batch = trainer.move_batch(next(iterator), dataloader_idx)
        on_validation_batch_start(batch, batch_idx, dataloader_idx)
        output = validation_step(batch, batch_idx, dataloader_idx)
        on_validation_batch_end(output, batch, batch_idx, dataloader_idx)
        self.take(output)
        trainer.between_batches()

    If the loop is not overridden, ``fast/`` does the same with fewer calls and readings of the
    clock.
    """

    safe_points = False  # commands wait until training continues or the run ends
    passes_over_none: ClassVar[bool] = True
    """Whether a batch that is None is no batch."""
    _of_run: ClassVar[tuple[str, ...]] = ("iterator", "_fast")
    iterator: Iterator[Any] = iter(())
    _fast: FastEvaluation | None = None

    def __init__(self) -> None:
        self.batch_progress = Progress()
        self.batch_idx = -1
        self.dataloader_idx = 0
        self.kind = "validation"
        self.names = HOOK_NAMES[self.kind]
        self.limit: int | None = None

    @property
    def done(self) -> bool:
        return self.limit is not None and self.batch_idx + 1 >= self.limit

    def reset(self) -> None:
        self.batch_progress.begin_interrupted()
        self.batch_progress.begin()
        self.batch_idx = -1

    def begin(
        self, iterator: Iterator[Any], limit: int | None, dataloader_idx: int, kind: str
    ) -> None:
        """Prepare for the batches of a dataloader.

        Args:
            iterator: yields them.
            limit: maximum number of batches; None for all.
            dataloader_idx: the dataloader's number.
            kind: of the hooks: ``validation``, ``test`` or ``predict``.
        """
        self.iterator, self.limit = iterator, limit
        self.dataloader_idx = dataloader_idx
        self.kind, self.names = kind, HOOK_NAMES[kind]
        self._loop_context.wiring.sources.set(self.names.step, self.fetch, self._end_with_step)
        self._fast = FastEvaluation(self, self._loop_context)

    def _go_fast(self) -> bool:
        return self._fast is not None and self._fast.run()

    def advance(self, *_: Any) -> None:
        self.work_on(self.next_batch())

    def next_batch(self) -> Any:
        """Return the dataloader's next batch.

        Raises:
            StopIteration: there is none.
        """
        return next(self.iterator)

    def fetch(self) -> tuple[Any, int, int]:
        """Return a further batch and its numbers for a step that fetches them itself.

        Raises:
            StopIteration: there is none.
        """
        if self.done:
            raise StopIteration
        batch = self.next_batch()
        context, counts = self._loop_context, self.batch_progress.total
        self.batch_idx += 1
        counts.ready += 1
        context.place.begin_batch(self.batch_idx)
        batch = context.metrics.batch = context.move_batch(batch, self.dataloader_idx)
        counts.started = counts.processed = counts.completed = counts.ready
        return batch, self.batch_idx, self.dataloader_idx

    def _end_with_step(self) -> None:
        """End with the present step, as one that fetches its batches has asked for."""
        self.limit = self.batch_idx + 1

    def work_on(self, batch: Any) -> None:
        """Process what ``next_batch`` returned."""
        context = self._loop_context
        routes, names, counts = context.routes, self.names, self.batch_progress.total
        self.batch_idx = batch_idx = self.batch_idx + 1
        counts.ready += 1
        context.place.begin_batch(batch_idx)
        if batch is None and self.passes_over_none:
            context.loaders.report_none(self.kind)
            counts.started = counts.processed = counts.completed = counts.ready
            context.between_batches()
            return
        batch = self.start_batch(batch)
        counts.started += 1
        output = self._step(batch)
        counts.processed += 1
        if (hook := getattr(routes, names.batch_end)) is not None:
            hook(output, batch, batch_idx, self.dataloader_idx)
        self.take(output)
        counts.completed += 1
        context.between_batches()

    def start_batch(self, batch: Any) -> Any:
        """Move the batch to the device, and announce it.

        Args:
            batch: the batch of the dataloader.

        Returns:
            The batch for the step.
        """
        context = self._loop_context
        batch = context.move_batch(batch, self.dataloader_idx)
        context.metrics.batch = batch
        if (hook := getattr(context.routes, self.names.batch_start)) is not None:
            hook(batch, self.batch_idx, self.dataloader_idx)
        return batch

    def _step(self, batch: Any) -> Any:
        context, names = self._loop_context, self.names
        output = None
        if (step := getattr(context.routes, names.step)) is not None:
            with context.device.forward_context():
                try:
                    output = step(batch, self.batch_idx, self.dataloader_idx)
                except StopIteration as error:
                    raise exhausted(names.step) from error
        if context.wiring.has_step_end.get(self.kind, False):
            output = context.routes.call(names.step_end, output)
        return output

    @abstractmethod
    def take(self, output: Any) -> None:
        """Keep the output of the step, if it is needed later."""

    def _close(self) -> None:
        end_pass(self.iterator)
        self.iterator = iter(())
