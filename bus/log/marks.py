"""The record of a step: a 64-bit word for each thing that happens.

A word's high byte is its mark, which says what the number in its other 56 bits is: a part of where
training is, or the time in ns at which hooks ran, began or were done. To note something is
``note(clock_ns() + mark)``, one append to an array of words, which happens whole or not at all,
whatever interrupts it. A step's words are written to the log as they are.

The marks are a part of the log's format: one that is there keeps its meaning.
"""

import sys
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from ..events import Stage

SHIFT = 56
NUMBER = (1 << SHIFT) - 1
_FAR_FROM_FULL = 3 << SHIFT - 2  # reached 208 days before it is full

NOTICE, BEGIN, END = 0, 1, 2
"""What a hook did: it ran, without handlers; its handlers began; they were done."""
NEXT = 3
"""The ``step`` or ``batch_idx`` of the place increased by one."""

Action = tuple[int, str]
"""NOTICE, BEGIN or END, and the hook; NEXT, and the part of where training is."""
PlaceMark = tuple[int, int, int, int, Stage]
"""Epoch, step, batch_idx, dataloader_idx and stage."""
Origin = tuple[int, int, int, int, int]
"""The same as a log has it: number of the stage, epoch, step, batch_idx, dataloader_idx; of the
batch_idx -1, NUMBER."""

_STAGE_NAMES: tuple[Stage, ...] = ("", "train", "validate", "test", "predict", "sanity_check")
STAGE_NUMBERS: dict[Stage, int] = {stage: number for number, stage in enumerate(_STAGE_NAMES)}

# The number is the epoch, the step and so on. A batch_idx of -1 is NUMBER.
STAGE, EPOCH, STEP, BATCH_IDX, DATALOADER_IDX = (mark << SHIFT for mark in range(5))
# The number selects the name of the hook of the next word.
NAME = 5 << SHIFT
NAMED = 6  # and the next two: what the hook of that name did
# The number selects an event kept apart from the words. Not in a log.
EVENT = 9 << SHIFT
_FIRST_HOOK = 10
NEXT_PARTS = {"step": STEP, "batch_idx": BATCH_IDX}
"""What goes on by one, and the mark of a word that says how far it is."""
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
    (NOTICE, "on_before_batch_transfer"),
    (NOTICE, "on_after_batch_transfer"),
    (NOTICE, "on_batch_start"),
    (NOTICE, "on_train_batch_start"),
)
STEP_AND_NEXT: tuple[Action, ...] = ((END, "optimizer_step"), (NEXT, "step"))
# What loops note at one reading of the clock. What is new, alone or together, goes behind its last,
# so that the marks before it stay what they are.
_TOGETHER: tuple[tuple[Action, ...], ...] = (
    ((NOTICE, "on_before_batch_transfer"), (NOTICE, "on_after_batch_transfer")),
    (
        (NOTICE, "on_before_batch_transfer"),
        (NOTICE, "on_after_batch_transfer"),
        (NOTICE, "on_batch_start"),
        (NOTICE, "on_train_batch_start"),
    ),
    ((NOTICE, "on_before_zero_grad"), (BEGIN, "optimizer_zero_grad")),
    ((NOTICE, "on_before_backward"), (BEGIN, "backward")),
    ((NOTICE, "on_after_backward"), (NOTICE, "on_before_optimizer_step")),
    ((NOTICE, "on_train_batch_end"), (NOTICE, "on_batch_end")),
    BATCH_BEGINS,
    (*BATCH_BEGINS, (BEGIN, "optimizer_step")),
    (*BATCH_BEGINS, (BEGIN, "optimizer_step"), (BEGIN, "training_step")),
    ((END, "training_step"), (NOTICE, "on_before_zero_grad"), (BEGIN, "optimizer_zero_grad")),
    ((END, "optimizer_zero_grad"), (NOTICE, "on_before_backward"), (BEGIN, "backward")),
    ((END, "backward"), (NOTICE, "on_after_backward"), (NOTICE, "on_before_optimizer_step")),
    STEP_AND_NEXT,
    (*STEP_AND_NEXT, (NOTICE, "on_train_batch_end"), (NOTICE, "on_batch_end")),
)

_ALONE = (((action, hook),) for hook in _HOOKS for action in (NOTICE, BEGIN, END))
ACTIONS: dict[int, tuple[Action, ...]] = dict(enumerate((*_ALONE, *_TOGETHER), _FIRST_HOOK))
"""What happens at the time in a word, by the word's mark as it stands in the high byte."""
_marks = {actions: number << SHIFT for number, actions in ACTIONS.items()}


def mark_of(action: int, hook: str) -> int | None:
    """Return the mark of a hook's action, shifted to its position; None if there is none.

    Args:
        action: NOTICE, BEGIN or END.
        hook: the hook.
    """
    return _marks.get(((action, hook),))


def notice(*hooks: str) -> int:
    """Return the mark of hooks without handlers that run one directly after the other.

    Raises:
        KeyError: there is none.
    """
    return together(*((NOTICE, hook) for hook in hooks))


def begin(hook: str, *before: str) -> int:
    """Return the mark of a hook whose handlers begin, directly after hooks without handlers.

    Args:
        hook: the hook.
        before: the hooks before it.

    Raises:
        KeyError: there is none.
    """
    return together(*((NOTICE, other) for other in before), (BEGIN, hook))


def end(hook: str, *after: str) -> int:
    """Return the mark of a hook whose handlers are done, directly before hooks without handlers.

    Args:
        hook: the hook.
        after: the hooks after it.

    Raises:
        KeyError: there is none.
    """
    return together((END, hook), *((NOTICE, other) for other in after))


def together(*actions: Action) -> int:
    """Return the mark of actions that happen directly one after the other.

    Raises:
        KeyError: there is none.
    """
    return _marks[actions]


class HookAt(NamedTuple):
    """A recorded hook.

    Attributes:
        name: the hook.
        time_ns: when it was done.
        duration_ns: how long its handlers took.
        mark: the place in training.
    """

    name: str
    time_ns: int
    duration_ns: int
    mark: PlaceMark


def place_of(origin: Origin, steps: int = 0, batches: int = 0) -> PlaceMark:
    """Return the place that is some steps and batches after an origin.

    Args:
        origin: the origin.
        steps: number of optimizer steps since.
        batches: number of batches since.

    Raises:
        ValueError: there is no stage of that number.
    """
    stage, epoch, step, batch_idx, dataloader_idx = origin
    if steps:
        step = step + steps & NUMBER
    if batches:
        batch_idx = batch_idx + batches & NUMBER
    if batch_idx == NUMBER:
        batch_idx = -1
    if not 0 <= stage < len(_STAGE_NAMES):
        raise ValueError(f"there is no stage of the number {stage}")
    return epoch, step, batch_idx, dataloader_idx, _STAGE_NAMES[stage]


def word_of_next(part: str, origin: Origin) -> int:
    """Return the word that records that a part of the place increased by one.

    Args:
        part: ``step`` or ``batch_idx``.
        origin: the place before.
    """
    mark = NEXT_PARTS[part]
    return mark | origin[mark >> SHIFT] + 1 & NUMBER


class Walk:
    """Interprets words in order.

    Args:
        origin: the place before them.
        names: of hooks without marks of their own.
        base_ns: the time from which times in them are counted.

    Attributes:
        origin: the present place.
        open: hooks that have begun and not ended, with their time. If one begins again, an
            exception left it before.
    """

    def __init__(self, origin: Origin, names: Sequence[str], base_ns: int = 0) -> None:
        self.origin = origin
        self._base_ns = base_ns
        self.open: dict[str, int] = {}
        self._names = names
        self._name: str | None = None  # of the hook that the next word is about

    def hooks(self, words: Sequence[int]) -> Iterator[HookAt]:
        """Yield the hooks that ran or ended.

        Raises:
            ValueError: a word is malformed.
        """
        for word in words:
            number = word & NUMBER
            for action, name in self.actions(word):
                if action == BEGIN:
                    self.open[name] = number
                elif action == NEXT:
                    self._move_to(word_of_next(name, self.origin))
                else:
                    begun = self.open.pop(name, number) if action == END else number
                    time_ns = self._base_ns + number
                    yield HookAt(name, time_ns, number - begun, place_of(self.origin))

    def actions(self, word: int) -> tuple[Action, ...]:
        """Return what happens at a word's time, if it has one.

        Raises:
            ValueError: the word is malformed.
        """
        mark, number = word >> SHIFT, word & NUMBER
        if (actions := ACTIONS.get(mark)) is not None:
            return actions
        if mark <= DATALOADER_IDX >> SHIFT:
            self._move_to(word)
        elif mark == NAME >> SHIFT:
            if number >= len(self._names):
                raise ValueError(f"there is no name of the number {number}")
            self._name = self._names[number]
        elif NAMED <= mark <= NAMED + END:
            if self._name is None:
                raise ValueError("there is a hook without a name")
            return ((mark - NAMED, self._name),)
        elif word & ~NUMBER != EVENT:
            raise ValueError(f"there is no mark of the number {mark}")
        return ()

    def _move_to(self, word: int) -> None:
        parts = list(self.origin)
        parts[word >> SHIFT] = word & NUMBER
        self.origin = tuple(parts)  # type: ignore[assignment]


class HookTrace:
    """Words, and what is needed to read them.

    Args:
        origin: the place before the first word.
        names: hooks without marks of their own.
        base_ns: the time from which times in the words are counted.

    Attributes:
        words: what happened since they were last taken.
        origin: the place before the first word.
        names: hooks without marks of their own, by number.
        base_ns: the time from which times in the words are counted: 0 in the first 833 days after
            the
            machine's start, then 2 ** 56 and so on.
    """

    __slots__ = ("base_ns", "names", "origin", "words")

    def __init__(
        self,
        origin: Origin = (0, 0, 0, NUMBER, 0),
        names: list[str] | None = None,
        base_ns: int = 0,
    ) -> None:
        self.words: array[int] = array("Q")
        self.origin = origin
        self.names: list[str] = [] if names is None else names
        self.base_ns = base_ns

    def clock(self, clock_ns: Callable[[], int]) -> Callable[[], int]:
        """Return the clock for the words, and set ``base_ns``.

        If a run continues past a change of ``base_ns``, its times jump back, but marks stay valid.
        """
        now_ns = clock_ns()
        self.base_ns = now_ns & ~NUMBER
        return clock_ns if now_ns < _FAR_FROM_FULL else lambda: clock_ns() & NUMBER

    def rest(self, origin: Origin) -> "HookTrace":
        """Return an empty trace that continues this one."""
        return HookTrace(origin, self.names, self.base_ns)

    def appender(self, action: int, hook: str) -> Callable[[int], object]:
        """Return a function that records, at a time in ns, a hook's action.

        Args:
            action: NOTICE, BEGIN or END.
            hook: the hook.
        """
        mark = mark_of(action, hook)
        if mark is not None:
            append = self.words.append
            return lambda time_ns: append(time_ns | mark)
        if hook not in self.names:
            self.names.append(hook)
        name, what = NAME | self.names.index(hook), (NAMED + action) << SHIFT
        extend = self.words.extend
        return lambda time_ns: extend((name, time_ns | what))

    def hooks(self) -> Iterator[HookAt]:
        """Yield the hooks that ran or ended; any thread may call this."""
        origin, words = self.origin, self.words[:]
        return Walk(origin, self.names, self.base_ns).hooks(words)

    def cut(self, number: int) -> "Cut":
        """Divide the words after some number of hooks."""
        walk, words = Walk(self.origin, self.names, self.base_ns), self.words
        first, hooks = self.rest(self.origin), list[HookAt]()
        if number < count_hooks(shape_of(words)):
            words = self._one_by_one()
            at = 0
            while len(hooks) < number:
                hooks += walk.hooks(words[at : at + 1])
                at += 1
        else:
            hooks += walk.hooks(words)
            at = len(words)
        first.words += words[:at]
        rest = self.rest(walk.origin)
        for hook, begin_ns in walk.open.items():
            rest.appender(BEGIN, hook)(begin_ns)
        rest.words += words[at:]
        return Cut(first, hooks, rest)

    def _one_by_one(self) -> "array[int]":
        """Return the words, with one for each thing that was recorded together with others."""
        singly: array[int] = array("Q")
        walk = Walk(self.origin, self.names, self.base_ns)
        for word in self.words:
            actions = walk.actions(word)
            if len(actions) < 2:
                singly.append(word)
                continue
            for action, name in actions:
                if action == NEXT:
                    moved = word_of_next(name, walk.origin)
                    walk.actions(moved)
                    singly.append(moved)
                else:
                    singly.append(_marks[((action, name),)] | word & NUMBER)
        return singly

    def selected(self, hooks: Collection[str] | None) -> "HookTrace":
        """Return the trace of some hooks only, without events.

        Args:
            hooks: names; None for all.
        """
        some = self.rest(self.origin)
        name = 0
        for word in self._one_by_one():
            mark = word >> SHIFT
            hook = None
            if mark == NAME >> SHIFT:
                name = word
            elif NAMED <= mark <= NAMED + END:
                hook = self.names[name & NUMBER]
            elif mark in ACTIONS:
                hook = ACTIONS[mark][0][1]
            elif word & ~NUMBER != EVENT:
                some.words.append(word)
            if hook is not None and (hooks is None or hook in hooks):
                some.words.extend((word,) if mark in ACTIONS else (name, word))
        return some


class Cut(NamedTuple):
    """A HookTrace in two parts.

    Attributes:
        first: the part up to a hook.
        hooks: number of hooks in it.
        rest: the other part; it begins with the hooks that have not ended.
    """

    first: HookTrace
    hooks: list[HookAt]
    rest: HookTrace


def shape_of(words: "array[int]") -> bytes:
    """Return the marks of words, a byte each: equal for steps in which the same happens."""
    return words.tobytes()[_MARK_AT::8]


_MARK_AT = 7 if sys.byteorder == "little" else 0
_HOOKS_IN_MARK = bytearray(256)
for _mark, _actions in ACTIONS.items():
    _HOOKS_IN_MARK[_mark] = sum(action in (NOTICE, END) for action, _ in _actions)
_HOOKS_IN_MARK[NAMED + NOTICE] = _HOOKS_IN_MARK[NAMED + END] = 1


def count_hooks(shape: bytes) -> int:
    """Return how many hooks ran or ended."""
    return sum(shape.translate(_HOOKS_IN_MARK))
