"""The codes that the fast paths record for a batch.

Reading the clock and recording it costs about 1 us each time in a step, because the processor's
caches are full of other data. So what directly follows something else shares its reading: five are
left in a training step without handlers for what is only announced. The time between two hooks that
share one, 1 to 3 us of the loops' own, counts for the one that ended.
"""

from ...bus.log.codes import BATCH_BEGINS as _BATCH_BEGINS
from ...bus.log.codes import BEGIN, END, RAN, begin, end, ran, together
from ...bus.log.codes import STEP_AND_NEXT as _STEP_AND_NEXT

# -- training ---
BATCH_BEGINS = together(*_BATCH_BEGINS)
BATCH_STEP_AND_TRAINING_BEGIN = together(
    *_BATCH_BEGINS, (BEGIN, "optimizer_step"), (BEGIN, "training_step")
)
STEP_BEGINS = begin("optimizer_step")
TRAINING_BEGINS = begin("training_step")
TRAINING_ENDS = end("training_step")
TRAINING_ENDS_CLEARING_BEGINS = together(
    (END, "training_step"), (RAN, "on_before_zero_grad"), (BEGIN, "optimizer_zero_grad")
)
CLEARING_BEGINS = begin("optimizer_zero_grad", "on_before_zero_grad")
CLEARING_ENDS = end("optimizer_zero_grad")
CLEARING_ENDS_BACKWARD_BEGINS = together(
    (END, "optimizer_zero_grad"), (RAN, "on_before_backward"), (BEGIN, "backward")
)
BACKWARD_BEGINS = begin("backward", "on_before_backward")
BACKWARD_ENDS = end("backward")
AFTER_BACKWARD = ran("on_after_backward")
BACKWARD_ENDS_BEFORE_STEP = end("backward", "on_after_backward", "on_before_optimizer_step")
STEP_AND_NEXT = together(*_STEP_AND_NEXT)
STEP_AND_BATCH_END = together(*_STEP_AND_NEXT, (RAN, "on_train_batch_end"), (RAN, "on_batch_end"))
BATCH_ENDS = ran("on_train_batch_end", "on_batch_end")

BATCH_STARTS = ran("on_batch_start")  # where only on_train_batch_start is handled
BATCH_IS_OVER = ran("on_batch_end")  # where only on_train_batch_end is

# -- all ---
TRANSFERRED = ran("on_before_batch_transfer", "on_after_batch_transfer")
"""For a batch that no handler moves."""
