"""The record of a step: a 64-bit word for each thing that happens.

A word's high byte is its code, which says what the number in its other 56 bits is: a part of where
training is, or the time in ns at which hooks ran, began or were done. To record something is
``record(clock_ns() + code)``, one append to an array of words, which happens whole or not at all,
whatever interrupts it. A step's words are written to the log as they are.

The codes are a part of the log's format: one that is there keeps its meaning.
"""

from ..events import Stage

SHIFT = 56
NUMBER = (1 << SHIFT) - 1
_FAR_FROM_FULL = 3 << SHIFT - 2  # reached 208 days before it is full

RAN, BEGIN, END = 0, 1, 2
"""What a hook did: it ran, without handlers; its handlers began; they were done."""
NEXT = 3
"""The ``step`` or ``batch_idx`` of the place increased by one."""

Action = tuple[int, str]
"""RAN, BEGIN or END, and the hook; NEXT, and the part of where training is."""
PlaceTuple = tuple[int, int, int, int, Stage]
"""Epoch, step, batch_idx, dataloader_idx and stage."""
Origin = tuple[int, int, int, int, int]
"""The same as a log has it: number of the stage, epoch, step, batch_idx, dataloader_idx; of the
batch_idx -1, NUMBER."""

STAGES: tuple[Stage, ...] = ("", "train", "validate", "test", "predict", "sanity_check")
STAGE_NUMBERS: dict[Stage, int] = {stage: number for number, stage in enumerate(STAGES)}

# The number is the epoch, the step and so on. A batch_idx of -1 is NUMBER.
STAGE, EPOCH, STEP, BATCH_IDX, DATALOADER_IDX = (code << SHIFT for code in range(5))
# The number selects the name of the hook of the next word.
NAME = 5 << SHIFT
NAMED = 6  # and the next two: what the hook of that name did
_FIRST_HOOK = 10  # 9 is not used
NEXT_PARTS = {"step": STEP, "batch_idx": BATCH_IDX}
"""What goes on by one, and the code of a word that says how far it is."""
_HOOKS = (
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
    "on_batch_start",
    "on_train_batch_start",
    "training_step",
    "training_step_end",
    "on_before_zero_grad",
    "optimizer_zero_grad",
    "on_before_backward",
    "backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
    "optimizer_step",
    "lr_scheduler_step",
    "on_train_batch_end",
    "on_batch_end",
    "on_validation_batch_start",
    "validation_step",
    "validation_step_end",
    "on_validation_batch_end",
    "on_test_batch_start",
    "test_step",
    "test_step_end",
    "on_test_batch_end",
    "on_predict_batch_start",
    "predict_step",
    "on_predict_batch_end",
)
BATCH_BEGINS: tuple[Action, ...] = (
    (NEXT, "batch_idx"),
    (RAN, "on_before_batch_transfer"),
    (RAN, "on_after_batch_transfer"),
    (RAN, "on_batch_start"),
    (RAN, "on_train_batch_start"),
)
STEP_AND_NEXT: tuple[Action, ...] = ((END, "optimizer_step"), (NEXT, "step"))
# What loops record at one reading of the clock. What is new, alone or together, goes behind the
# last of all, so that the codes before it stay what they are.
_TOGETHER: tuple[tuple[Action, ...], ...] = (
    ((RAN, "on_before_batch_transfer"), (RAN, "on_after_batch_transfer")),
    (
        (RAN, "on_before_batch_transfer"),
        (RAN, "on_after_batch_transfer"),
        (RAN, "on_batch_start"),
        (RAN, "on_train_batch_start"),
    ),
    ((RAN, "on_before_zero_grad"), (BEGIN, "optimizer_zero_grad")),
    ((RAN, "on_before_backward"), (BEGIN, "backward")),
    ((RAN, "on_after_backward"), (RAN, "on_before_optimizer_step")),
    ((RAN, "on_train_batch_end"), (RAN, "on_batch_end")),
    BATCH_BEGINS,
    (*BATCH_BEGINS, (BEGIN, "optimizer_step")),
    (*BATCH_BEGINS, (BEGIN, "optimizer_step"), (BEGIN, "training_step")),
    ((END, "training_step"), (RAN, "on_before_zero_grad"), (BEGIN, "optimizer_zero_grad")),
    ((END, "optimizer_zero_grad"), (RAN, "on_before_backward"), (BEGIN, "backward")),
    ((END, "backward"), (RAN, "on_after_backward"), (RAN, "on_before_optimizer_step")),
    STEP_AND_NEXT,
    (*STEP_AND_NEXT, (RAN, "on_train_batch_end"), (RAN, "on_batch_end")),
)

GRADIENTS_READY = "on_gradients_ready"
"""Recorded within ``backward`` on each of several ranks: its own gradients are there, and what is
left of ``backward`` is to wait for those of other ranks."""

_ALONE = (((action, hook),) for hook in _HOOKS for action in (RAN, BEGIN, END))
_ALL = (*_ALONE, *_TOGETHER, ((RAN, GRADIENTS_READY),))
ACTIONS: dict[int, tuple[Action, ...]] = dict(enumerate(_ALL, _FIRST_HOOK))
"""What happens at the time in a word, by the word's code as it stands in the high byte."""
_codes = {actions: number << SHIFT for number, actions in ACTIONS.items()}


def code_of(action: int, hook: str) -> int | None:
    """Return the code of a hook's action, shifted to its position; None if there is none.

    Args:
        action: RAN, BEGIN or END.
        hook: the hook.
    """
    return _codes.get(((action, hook),))


def ran(*hooks: str) -> int:
    """Return the code of hooks without handlers that run one directly after the other.

    Raises:
        KeyError: there is none.
    """
    return together(*((RAN, hook) for hook in hooks))


def begin(hook: str, *before: str) -> int:
    """Return the code of a hook whose handlers begin, directly after hooks without handlers.

    Args:
        hook: the hook.
        before: the hooks before it.

    Raises:
        KeyError: there is none.
    """
    return together(*((RAN, other) for other in before), (BEGIN, hook))


def end(hook: str, *after: str) -> int:
    """Return the code of a hook whose handlers are done, directly before hooks without handlers.

    Args:
        hook: the hook.
        after: the hooks after it.

    Raises:
        KeyError: there is none.
    """
    return together((END, hook), *((RAN, other) for other in after))


def together(*actions: Action) -> int:
    """Return the code of actions that happen directly one after the other.

    Raises:
        KeyError: there is none.
    """
    return _codes[actions]
