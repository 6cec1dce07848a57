"""What hooks did in a stretch of training, as words (codes.py), and how to read and divide them."""

import sys
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from .codes import (
    ACTIONS,
    BEGIN,
    DATALOADER_IDX,
    END,
    NAME,
    NAMED,
    NEXT,
    NEXT_PARTS,
    NUMBER,
    RAN,
    SHIFT,
    STAGES,
    Action,
    Origin,
    PlaceTuple,
    code_of,
    together,
)

_FAR_FROM_FULL = 3 << SHIFT - 2  # 208 days before


class HookAt(NamedTuple):
    """A recorded hook.

    Attributes:
        name: the hook.
        time_ns: when it was done.
        duration_ns: how long its handlers took.
        place: the place in training.
    """

    name: str
    time_ns: int
    duration_ns: int
    place: PlaceTuple


def place_of(origin: Origin, steps: int = 0, batches: int = 0) -> PlaceTuple:
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
    if not 0 <= stage < len(STAGES):
        raise ValueError(f"there is no stage of the number {stage}")
    return epoch, step, batch_idx, dataloader_idx, STAGES[stage]


def word_of_next(part: str, origin: Origin) -> int:
    """Return the word that records that a part of the place increased by one.

    Args:
        part: ``step`` or ``batch_idx``.
        origin: the place before.
    """
    code = NEXT_PARTS[part]
    return code | origin[code >> SHIFT] + 1 & NUMBER


class Walk:
    """Interprets words in order.

    Args:
        origin: the place before them.
        names: of hooks without codes of their own.
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
        code, number = word >> SHIFT, word & NUMBER
        if (actions := ACTIONS.get(code)) is not None:
            return actions
        if code <= DATALOADER_IDX >> SHIFT:
            self._move_to(word)
        elif code == NAME >> SHIFT:
            if number >= len(self._names):
                raise ValueError(f"there is no name of the number {number}")
            self._name = self._names[number]
        elif NAMED <= code <= NAMED + END:
            if self._name is None:
                raise ValueError("there is a hook without a name")
            return ((code - NAMED, self._name),)
        else:
            raise ValueError(f"there is no code of the number {code}")
        return ()

    def _move_to(self, word: int) -> None:
        parts = list(self.origin)
        parts[word >> SHIFT] = word & NUMBER
        self.origin = tuple(parts)  # type: ignore[assignment]


class HookTrace:
    """Words, and what is needed to read them.

    Args:
        origin: the place before the first word.
        names: hooks without codes of their own.
        base_ns: the time from which times in the words are counted.

    Attributes:
        words: what happened since they were last taken.
        origin: the place before the first word.
        names: hooks without codes of their own, by number.
        base_ns: the time from which times in the words are counted: 0 in the first 833 days after
            the machine's start, then 2 ** 56 and so on.
        removed: number of words that were written or moved away, which is the position of the
            first that is left.
    """

    __slots__ = ("base_ns", "names", "origin", "removed", "words")

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
        self.removed = 0

    @property
    def recorded(self) -> int:
        """Number of words recorded so far, which are comparable from rank to rank."""
        return self.removed + len(self.words)

    def clock(self, clock_ns: Callable[[], int]) -> Callable[[], int]:
        """Return the clock for the words, and set ``base_ns``.

        If a run continues past a change of ``base_ns``, its times jump back, but codes stay valid.
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
            action: RAN, BEGIN or END.
            hook: the hook.
        """
        code = code_of(action, hook)
        if code is not None:
            append = self.words.append
            return lambda time_ns: append(time_ns | code)
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
        rest.removed = self.recorded - len(rest.words)
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
                    singly.append(together((action, name)) | word & NUMBER)
        return singly

    def selected(self, hooks: Collection[str] | None) -> "HookTrace":
        """Return the trace of some hooks only.

        Args:
            hooks: names; None for all.
        """
        if hooks is None:
            return self
        some = self.rest(self.origin)
        name = 0
        for word in self._one_by_one():
            code = word >> SHIFT
            if code == NAME >> SHIFT:
                name = word
            elif NAMED <= code <= NAMED + END:
                if self.names[name & NUMBER] in hooks:
                    some.words.extend((name, word))
            elif code not in ACTIONS or ACTIONS[code][0][1] in hooks:
                some.words.append(word)
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
    """Return the codes of words, a byte each: equal for steps in which the same happens."""
    return words.tobytes()[_CODE_AT::8]


_CODE_AT = 7 if sys.byteorder == "little" else 0
_HOOKS_IN_CODE = bytearray(256)
_CODES_BY_SURPLUS: dict[int, bytes] = {}  # codes, by how many more hooks begin than end
for _code, _actions in ACTIONS.items():
    _HOOKS_IN_CODE[_code] = sum(action in (RAN, END) for action, _ in _actions)
    _surplus = sum((action == BEGIN) - (action == END) for action, _ in _actions)
    _CODES_BY_SURPLUS[_surplus] = _CODES_BY_SURPLUS.get(_surplus, b"") + bytes([_code])
_HOOKS_IN_CODE[NAMED + RAN] = _HOOKS_IN_CODE[NAMED + END] = 1
_CODES_BY_SURPLUS[1] += bytes([NAMED + BEGIN])
_CODES_BY_SURPLUS[-1] += bytes([NAMED + END])
del _CODES_BY_SURPLUS[0]
_CODES_WITH_HOOKS = bytes(code for code, hooks in enumerate(_HOOKS_IN_CODE) if hooks)


def count_hooks(shape: bytes) -> int:
    """Return how many hooks ran or ended."""
    return sum(shape.translate(_HOOKS_IN_CODE))


def may_be_open(shape: bytes) -> bool:
    """Return whether hooks may be open at the end: more began than ended."""
    surplus = sum(more * _count(shape, codes) for more, codes in _CODES_BY_SURPLUS.items())
    return surplus != 0


def words_of_hooks(shape: bytes) -> int:
    """Return how many words hold hooks that ran or ended, a fast lower bound of these."""
    return _count(shape, _CODES_WITH_HOOKS)


def _count(shape: bytes, codes: bytes) -> int:
    return len(shape) - len(shape.translate(None, codes))
