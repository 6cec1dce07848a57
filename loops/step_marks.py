"""What the loops note of a training step.

Reading the clock and noting it costs about 1 us each time in a step, whose processor's caches are
full of other things. So what follows directly on something else shares its reading: until then it
is pending (Place.pending), or only in a variable where nobody else can note anything. Five readings
are left of a step in which nobody handles what is only announced. What is between two hooks that
share one, 1 to 3 us of the loops' own, counts for the one that ended. Nothing is pending over code
that is not the loops' own: neither a loop of the user's, nor an optimizer that does something
before it evaluates the training step.
"""

from ..bus.log.marks import BATCH_BEGINS as _BATCH_BEGINS
from ..bus.log.marks import BEGIN, END, NOTICE, begin, end, notice, together
from ..bus.log.marks import STEP_AND_NEXT as _STEP_AND_NEXT

# Pending, when a batch is there and when its optimizer begins to step:
BATCH_BEGINS = together(*_BATCH_BEGINS)
BATCH_AND_STEP_BEGIN = together(*_BATCH_BEGINS, (BEGIN, "optimizer_step"))
STEP_BEGINS = begin("optimizer_step")  # not pending

BATCH_STEP_AND_TRAINING_BEGIN = together(
    *_BATCH_BEGINS, (BEGIN, "optimizer_step"), (BEGIN, "training_step")
)
TRAINING_BEGINS = begin("training_step")
TRAINING_ENDS = end("training_step")

TRAINING_ENDS_CLEARING_BEGINS = together(
    (END, "training_step"), (NOTICE, "on_before_zero_grad"), (BEGIN, "optimizer_zero_grad")
)
CLEARING_BEGINS = begin("optimizer_zero_grad", "on_before_zero_grad")
CLEARING_ENDS = end("optimizer_zero_grad")

CLEARING_ENDS_BACKWARD_BEGINS = together(
    (END, "optimizer_zero_grad"), (NOTICE, "on_before_backward"), (BEGIN, "backward")
)
BACKWARD_BEGINS = begin("backward", "on_before_backward")

BACKWARD_ENDS = end("backward")
BACKWARD_ENDS_BEFORE_STEP = end("backward", "on_after_backward", "on_before_optimizer_step")
BEFORE_STEP = notice("on_after_backward", "on_before_optimizer_step")

STEP_ENDS = end("optimizer_step")
STEP_AND_NEXT = together(*_STEP_AND_NEXT)  # pending
STEP_AND_BATCH_END = together(
    *_STEP_AND_NEXT, (NOTICE, "on_train_batch_end"), (NOTICE, "on_batch_end")
)
BATCH_ENDS = notice("on_train_batch_end", "on_batch_end")
