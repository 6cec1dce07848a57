"""FastEvaluation: batches of validation, test and prediction, with or without handlers."""

from collections.abc import Sequence
from typing import Any

from ...bus.log.codes import BATCH_IDX, begin, end, ran
from ...bus.log.event_buffer import MAX_BUFFERED_EVENTS
from ..context import LoopContext
from ..step_errors import exhausted
from .codes import TRANSFERRED
from .loops import DataloaderBatches
from .path import FastPath

_TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class FastEvaluation(FastPath):
    """The fast path of a DataloaderLoop.

    Args:
        loop: a DataloaderLoop.
        context: the run.
    """

    def __init__(self, loop: DataloaderBatches, context: LoopContext) -> None:
        super().__init__(context)
        self._loop = loop
        self._counts = loop.batch_progress.total
        names = loop.names
        self._hook, self._dataloader_idx = names.step, loop.dataloader_idx
        self._begins = ran(names.batch_start), begin(names.step)
        self._ends = end(names.step), ran(names.batch_end)
        self._announces_start = False
        self._batch_end: Any = None
        self._keeps_none = not loop.passes_over_none
        self._last_idx = -1 if loop.limit is None else loop.limit - 1

    def _loops(self) -> Sequence[object]:
        return [self._loop]

    def is_current(self) -> bool:
        return self._routes.version == self._version and len(self._states[0]) == self._sizes[0]

    def _prepare(self) -> bool:
        routes, context, names = self._routes, self._context, self._loop.names
        self._announces_start = (
            routes.do_something(*_TRANSFER)
            or routes.are_handled(names.batch_start)
            or context.device.dtype is not None
        )
        self._batch_end = None
        if routes.are_handled(names.batch_end):
            self._batch_end = getattr(routes, names.batch_end)
        self._step: Any = routes.handler(self._hook)
        if context.device.wraps_steps:
            self._step = self._in_context
        wiring = context.wiring
        return (
            routes.do_something(self._hook)
            and self._hook not in wiring.fetching
            and not wiring.has_step_end.get(self._loop.kind, False)
        )

    def _in_context(self, *arguments: Any) -> Any:
        step: Any = self._routes.handler(self._hook)
        with self._context.device.forward_context():
            return step(*arguments)

    def run(self) -> bool:
        if not self.may_go():
            return False
        loop, bus, recorder, context = self._loop, self._bus, self._recorder, self._context
        words, count_point = recorder.trace.words, context.count_point
        read = loop.iterator.__next__
        while True:
            batch = read()
            if batch is None and loop.passes_over_none:
                loop.work_on(batch)
            else:
                now_ns = self._work_on(batch)
                if (
                    bus.attention
                    or now_ns > recorder.flush_due_ns
                    or len(words) > MAX_BUFFERED_EVENTS
                ):
                    context.between_batches()
                elif count_point is not None and count_point(len(words)):
                    context.attend_between_batches()
            if loop.batch_idx == self._last_idx or not self.is_current():
                return True

    def _work_on(self, batch: Any) -> int:
        """Process a batch; return when its step ended, in ns."""
        loop, place, counts, note = self._loop, self._place, self._counts, self._note
        batch_idx = loop.batch_idx = loop.batch_idx + 1
        counts.ready += 1
        place.batch_idx = batch_idx
        note(batch_idx | BATCH_IDX)
        if self._announces_start:
            batch = loop.start_batch(batch)
            now_ns = self._clock_ns()
        else:
            self._metrics.batch = batch
            now_ns = self._clock_ns()
            note(now_ns + TRANSFERRED)
            note(now_ns + self._begins[0])
        counts.started += 1
        outer, place.hook = place.hook, self._hook
        note(now_ns + self._begins[1])
        try:
            output = self._step(batch, batch_idx, self._dataloader_idx)
        except StopIteration as error:
            raise exhausted(self._hook) from error
        now_ns = self._clock_ns()
        note(now_ns + self._ends[0])
        place.hook = outer
        counts.processed += 1
        if now_ns > self._recorder.flush_latest_ns:
            self._recorder.flush_within_step()
        if self._batch_end is not None:
            self._batch_end(output, batch, batch_idx, self._dataloader_idx)
        else:
            note(now_ns + self._ends[1])
        if output is not None or self._keeps_none:
            loop.take(output)
        counts.completed += 1
        return now_ns
