"""FastTraining: training batches without handlers for what is only announced within them."""

from collections.abc import Sequence
from typing import Any

import torch

from ...bus.log.codes import BATCH_IDX
from ...bus.log.event_buffer import MAX_BUFFERED_EVENTS
from ...bus.routes import SKIP, HookHandler
from ..context import LoopContext
from ..outputs import for_batch_end
from .codes import (
    BATCH_BEGINS,
    BATCH_ENDS,
    BATCH_IS_OVER,
    BATCH_STARTS,
    STEP_AND_BATCH_END,
    TRANSFERRED,
)
from .loops import TrainingBatches
from .turns import FastTurns

# Hooks that the loops run one after the other, and that this only records.
_TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_MIDDLE = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "optimizer_step",
)
_BATCH_START = ("on_batch_start", "on_train_batch_start")
_BATCH_END = ("on_train_batch_end", "on_batch_end")


class FastTraining(FastTurns):
    """The fast path of TrainingEpochLoop, TrainingBatchLoop and OptimizerLoop, with safe points.

    For automatic optimization with torch's own optimizers. Hooks at the start and end of batches
    may have handlers, those in between not.

    Args:
        loop: a TrainingEpochLoop.
        context: the run.
    """

    def __init__(self, loop: TrainingBatches, context: LoopContext) -> None:
        super().__init__(context)
        self._loop = loop
        self._batches = loop.batch_progress.total
        self._stops = self._context.stops
        self._start_hook: HookHandler | None = None
        self._end_hook: HookHandler | None = None

    def _loops(self) -> Sequence[object]:
        self._batch_loop = self._loop.batch_loop
        own: Any = getattr(self._batch_loop, "optimizer_loop", None)  # a user's may have none
        self._optimizer_loop = own
        return [self._loop, self._batch_loop, own or self._batch_loop]

    def is_current(self) -> bool:
        # Like the base's, written out because it is called after each batch.
        if self._routes.version != self._version:
            return False
        epoch, batch, turn = self._states
        of_epoch, of_batch, of_turn = self._sizes
        return (
            len(epoch) == of_epoch
            and len(batch) == of_batch
            and len(turn) == of_turn
            and epoch["batch_loop"] is self._batch_loop
            and batch.get("optimizer_loop") is self._optimizer_loop
        )

    def _prepare(self) -> bool:
        context, routes, optimization = self._context, self._routes, self._optimization
        wiring, device = context.wiring, context.device
        self._prepare_ends()
        self._prepare_turns()
        return (
            bool(optimization.optimizers)
            and wiring.evaluates_first
            and not optimization.is_manual
            and not optimization.truncated_bptt_steps
            and not wiring.has_training_step_end
            and "training_step" not in wiring.fetching
            and device.scaler is None
            and optimization.toggling_module is None
            and not routes.are_handled(*_MIDDLE)
            and torch.is_grad_enabled()
        )

    def _prepare_ends(self) -> None:
        """What is announced at a batch's begin and end; mostly, if anything, one hook each."""
        routes = self._routes
        self._start_hook = self._end_hook = None
        moves = routes.do_something(*_TRANSFER) or self._context.device.dtype is not None
        self._announces_start = moves or routes.are_handled(*_BATCH_START)
        if self._announces_start and not (moves or routes.are_handled("on_batch_start")):
            self._start_hook = routes.on_train_batch_start
        self._announces_end = routes.are_handled(*_BATCH_END)
        if self._announces_end and not routes.are_handled("on_batch_end"):
            self._end_hook = routes.on_train_batch_end

    def run(self) -> bool:
        loop, place, steps = self._loop, self._place, self._steps
        if not self.may_go() or place.batch_idx != loop.batch_idx or place.step != steps.completed:
            return False
        with self._roots_taken():
            return self._run()

    def _run(self) -> bool:
        loop = self._loop
        context, bus, stops, recorder = self._context, self._bus, self._stops, self._recorder
        words, count_point = recorder.trace.words, context.count_point
        while True:
            batch = loop.next_batch()
            if batch is None or batch is loop.END:
                loop.work_on(batch)
                now_ns = self._clock_ns()
            else:
                now_ns = self._train_on(batch)
            if loop.validates or loop.waits_for_validation:
                loop.on_advance_end()
            if bus.attention or now_ns > recorder.flush_due_ns or len(words) > MAX_BUFFERED_EVENTS:
                context.safe_point()
            elif count_point is not None and count_point(len(words)):
                context.attend()
            if loop.is_last_batch or stops.any or self._may_be_done() or not self.is_current():
                return True

    def _may_be_done(self) -> bool:
        """Return whether the loop's ``done`` has to be asked."""
        return 0 <= self._loop.max_steps <= self._steps.completed

    def _train_on(self, batch: Any) -> int:
        """Train on a batch; return when it ended, in ns."""
        loop, batches, place, steps = self._loop, self._batches, self._place, self._steps
        batch_idx = loop.batch_idx = loop.batch_idx + 1
        if self._metrics.step != place.step:
            self._metrics.begin_step(place.step)
        batches.ready += 1
        if self._announces_start:
            batch = self._announce_start(batch, batch_idx)
            if not self.is_current():  # a hook has set something
                return self._train_plainly(batch, batch_idx)
        else:
            self._metrics.batch = batch
        batches.started += 1
        if not self._is_alone:
            outputs: Any = self._turns(batch, batch_idx)
        elif self._context.accumulate_grad_batches > 1 or not self._optimizer_loop.will_step:
            outputs = self._turn(0, batch, batch_idx)
        else:
            outputs = self._short_turn(batch, batch_idx)
        if (end := loop.common_end) is not None and end.rides:
            loop.learn_of_last()
        batches.processed += 1
        if loop.kept_outputs is not None:
            loop.kept_outputs.append(outputs)
        if self._optimization.has_step_schedulers:
            loop.step_schedulers()
        if self._announces_end:
            now_ns = self._announce_end(outputs, batch, batch_idx)
        else:
            now_ns, ends = self._clock_ns(), BATCH_ENDS
            if self._has_stepped:
                ends, place.step, self._has_stepped = STEP_AND_BATCH_END, steps.completed, False
            self._note(now_ns + ends)
        batches.completed += 1
        return now_ns

    def _train_plainly(self, batch: Any, batch_idx: int) -> int:
        self._batches.started += 1
        if self._replicas is not None:
            self._replicas.join_roots()
        self._loop.train_on(batch, batch_idx)
        return self._clock_ns()

    def _turns(self, batch: Any, batch_idx: int) -> dict[int, Any]:
        """Take the turns of several optimizers; return the output of each one's training_step."""
        optimization, outputs = self._optimization, dict[int, Any]()
        if not self._announces_start:
            now_ns, self._place.batch_idx = self._clock_ns(), batch_idx
            self._note(now_ns + BATCH_BEGINS)
        for idx in optimization.turns():
            optimization.toggle.begin(idx)
            try:
                output = self._turn(idx, batch, batch_idx, idx)
            finally:
                optimization.toggle.end()
            if output is not None:
                outputs[idx] = output
        return outputs

    def _announce_start(self, batch: Any, batch_idx: int) -> Any:
        loop, note = self._loop, self._note
        if self._start_hook is None:
            return loop.start_batch(batch, batch_idx)
        self._place.batch_idx = batch_idx
        note(batch_idx | BATCH_IDX)
        self._metrics.batch = batch
        now_ns = self._clock_ns()
        note(now_ns + TRANSFERRED)
        note(now_ns + BATCH_STARTS)
        if self._start_hook(batch, batch_idx) == SKIP:
            loop.end_early()
        return batch

    def _announce_end(self, outputs: Any, batch: Any, batch_idx: int) -> int:
        routes = self._routes
        if self._end_hook is not None:
            self._end_hook(outputs if self._is_alone else for_batch_end(outputs), batch, batch_idx)
            now_ns = self._clock_ns()
            self._note(now_ns + BATCH_IS_OVER)
            return now_ns
        if (hook := routes.on_train_batch_end) is not None:
            hook(outputs if self._is_alone else for_batch_end(outputs), batch, batch_idx)
        if (hook := routes.on_batch_end) is not None:
            hook()
        return self._clock_ns()
