"""HookTrace of steps, made by hypothesis: moves, and hooks with and without codes of their own."""

from hypothesis import strategies as st

from nightbus.bus.log.codes import (
    ACTIONS,
    BATCH_IDX,
    BEGIN,
    DATALOADER_IDX,
    END,
    EPOCH,
    NUMBER,
    RAN,
    SHIFT,
    STAGE,
    STEP,
)
from nightbus.bus.log.trace import HookTrace

CODED = ("training_step", "backward", "on_train_batch_end")
NAMED = ("on_mine", "größe", "")
TOGETHER = [code << SHIFT for code, actions in ACTIONS.items() if len(actions) > 1]
HIGH_BYTES = (0, 1, 255)


@st.composite
def noted_steps(draw: st.DrawFn, named: tuple[str, ...] = NAMED, high: int = 0) -> HookTrace:
    """HookTrace with anything in them; hooks end that never began, and begin anew.

    Args:
        draw: hypothesis's.
        named: hooks without codes that may be in them.
        high: what the time in ns begins with, beyond its lower 56 bits.
    """
    notes = HookTrace((draw(st.integers(0, 5)), 1, 2, NUMBER, 0), base_ns=high << SHIFT)
    time_ns = draw(st.sampled_from((1, NUMBER - 1000)))
    numbers = st.integers(0, NUMBER)
    for kind in draw(st.lists(st.sampled_from(["move", "hook", "together"]), max_size=25)):
        time_ns += draw(st.integers(0, 9))
        if kind == "hook":
            action = draw(st.sampled_from((RAN, BEGIN, END)))
            notes.appender(action, draw(st.sampled_from(CODED + named)))(time_ns)
        elif kind == "together":
            notes.words.append(draw(st.sampled_from(TOGETHER)) | time_ns)
        elif draw(st.booleans()):
            notes.words.append(STAGE | draw(st.integers(0, 5)))
        else:
            part = draw(st.sampled_from((EPOCH, STEP, BATCH_IDX, DATALOADER_IDX)))
            notes.words.append(part | draw(numbers))
    return notes
