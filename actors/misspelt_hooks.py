"""Recognises methods that were meant to be hooks: misspelt, or with a name like a hook's."""

import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, NamedTuple
from weakref import WeakSet

from ..bus.subscription import subscriptions_of

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
# Words close to one in a hook's name that are not misspellings of it.
_WORDS = frozenset(
    """and batches clone dates devices eval fix grid grade mod mode models modes module optimize
    optimized optimizes prepared product raining reward setups stat state stats star stem step
    stop text toward trail trailing transform transformed transforms vae var""".split()  # noqa: SIM905  readable so
)
# Stages and places under the names of other libraries or of plain English.
_SAME = {
    word: known
    for known, words in {
        "train": "training",
        "val": "valid validation validate validating evaluation eval",
        "test": "testing",
        "predict": "prediction predictions predicting",
        "start": "begin starts begins",
        "end": "ends finish finished",
        "dataloader": "loader dataloaders",
        "optimizer": "optim",
    }.items()
    for word in words.split()
}
# Names of helpers too. If the hook was meant, an error about the missing hook names them.
_ALSO_HELPERS = ("_step", "dataloader", "_loader")
_checked: WeakSet[type] = WeakSet()


class Named(NamedTuple):
    """The names that are called on an actor.

    Attributes:
        hooks: names of its hooks.
        of_others: hooks that only actors of other kinds have.
        kind: the kind of actor, for people.
        by_decorator: methods are called only if they subscribe to the hook with ``@on``.
        methods: names of other methods that are called.
    """

    hooks: Collection[str]
    of_others: Collection[str]
    kind: str
    by_decorator: bool = False
    methods: Collection[str] = ()


class _Method(NamedTuple):
    owner: type
    function: FunctionType


def was_checked(kind: type) -> bool:
    """Return whether ``warn_of_misspelt_hooks`` looked at a class; once is enough."""
    return kind in _checked


def warn_of_misspelt_hooks(owner: object, named: Named, bases: tuple[type, ...]) -> None:
    """Warn of methods that will not be called though their names look like hooks.

    Args:
        owner: the object with the methods.
        named: the names that are called on it.
        bases: the classes that users derive it from, whose methods are not checked.
    """
    _checked.add(type(owner))
    methods = _own_methods(type(owner), bases)
    used = _names_used(methods)
    used |= {entry.method for entry in subscriptions_of(type(owner))}
    for name, method in methods.items():
        if name in used or any(hasattr(base, name) for base in bases):
            continue
        if problem := _what_is_wrong(name, named, methods):
            code = method.function.__code__
            # Located at the method, which is the line to be changed.
            warnings.warn_explicit(
                f"{type(owner).__name__}.{name} {problem}",
                UserWarning,
                code.co_filename,
                code.co_firstlineno,
            )


def _what_is_wrong(name: str, named: Named, methods: Collection[str]) -> str:
    """Return a warning about a method; empty if its name is not like a hook's."""
    if near := [method for method in _meant(name, named.methods) if not name.startswith(method)]:
        return f"will not be called; did you mean {' or '.join(near)}?"
    if named.by_decorator and not name.startswith("on_"):
        return ""
    if name in named.hooks:
        return f'will not be called: subscribe it with @nb.on("{name}")' * named.by_decorator
    if name in named.of_others:
        known = f"is a hook, but not of a {named.kind}, and will not be called"
        return known if name.startswith("on_") else ""
    near = [
        hook
        for hook in _meant(name, named.hooks)
        if _is_typo(name, hook) or hook not in methods or name.startswith("on_")
    ]
    if not near:
        return ""
    found = " or ".join(f'@nb.on("{hook}")' if named.by_decorator else hook for hook in near)
    return f"is not a hook and will not be called; did you mean {found}?"


def is_of_package(kind: type) -> bool:
    """Return whether a class belongs to the package."""
    return kind.__module__.partition(".")[0] == __name__.partition(".")[0]


def overridable(kind: type) -> list[str]:
    """Return the public methods of one of the package's classes that are not common words."""
    return sorted(
        {
            name
            for base in kind.__mro__
            if is_of_package(base)
            for name, value in vars(base).items()
            if isinstance(value, FunctionType) and len(name) > 4 and not name.startswith("_")
        }
    )


def similar_name(owner: object, hook: str, bases: tuple[type, ...]) -> str:
    """Return a hint for a missing hook: the method that may be meant; empty if there is none.

    Args:
        owner: the object without the hook.
        hook: the hook's name.
        bases: the classes that users derive it from, whose methods are not meant.
    """
    words = _canonical(hook)
    for name in _own_methods(type(owner), bases):
        if name != hook and (_is_typo(name, hook) or _canonical(name) == words):
            return f"; did you mean {hook} by {type(owner).__name__}.{name}?"
    return ""


def _own_methods(kind: type, bases: tuple[type, ...]) -> dict[str, _Method]:
    """Return the public methods of a class that are neither of the bases nor of this package."""
    foreign = {entry for base in bases for entry in base.__mro__}
    found: dict[str, _Method] = {}
    for entry in kind.__mro__:
        if entry in foreign or is_of_package(entry):
            continue
        for name, value in vars(entry).items():
            function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            if isinstance(function, FunctionType) and not name.startswith("_"):
                found.setdefault(name, _Method(entry, function))
    return found


def _names_used(methods: Mapping[str, _Method]) -> set[str]:
    """Return the names that the methods' code calls or has in a text, which are helpers."""
    used: set[str] = set()
    kinds = {method.owner for method in methods.values()}
    for kind in kinds:
        for name, value in vars(kind).items():
            for function in _functions_in(value):
                used |= {found for found in _names_in(function.__code__) if found != name}
    return used


def _functions_in(value: Any) -> Iterator[FunctionType]:
    for found in (value, *(getattr(value, part, None) for part in ("__func__", "fget", "fset"))):
        if isinstance(found, FunctionType):
            yield found


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for value in code.co_consts:
        if isinstance(value, str):
            yield value
        elif isinstance(value, CodeType):
            yield from _names_in(value)


def _meant(name: str, hooks: Collection[str]) -> list[str]:
    """Return the hooks that a name may mean, only the nearest ones."""
    typos = {hook: distance for hook in hooks if (distance := _typos(name, hook)) is not None}
    if typos:
        least = min(typos.values())
        return sorted(hook for hook, distance in typos.items() if distance == least)
    return sorted(hook for hook in hooks if _is_variant(name, hook))


@lru_cache(maxsize=1000)
def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _is_typo(name: str, hook: str) -> bool:
    return _typos(name, hook) is not None


def _typos(name: str, hook: str) -> int | None:
    """Return how many typos turn a hook's name into this one; None if it is another name."""
    words, known = _words(name), hook.split("_")
    if words == known or any(word.isdigit() for word in words):
        return 0 if words == known else None  # trainingStep
    if "".join(words) == "".join(known):
        return 1  # train_data_loader
    if len(words) < len(known):  # an underscore is missing
        joined, right = "".join(words), "".join(known)
        if len(hook) < 10 or abs(len(joined) - len(right)) > 1:
            return None
        distance = _distance(joined, right)
        return distance + 1 if distance <= 1 else None
    if len(words) != len(known):
        return None
    total = 0
    shortens = known[0] in ("on", "configure")  # configure_optim
    for word, right in zip(words, known, strict=True):
        found = _word_distance(word, right)
        if found is None:
            if not (shortens and len(word) > 3 and right.startswith(word)):
                return None
            found = 1
        total += found
    return total if total <= 3 else None


def _word_distance(word: str, right: str) -> int | None:
    """Return how many typos turn a word into this one; None if it is another word."""
    if word == right:
        return 0
    if word in _WORDS or word in _SAME:
        return None
    is_short = len(right) <= 5
    most = 1 if is_short else 2
    if len(word) < 2 or abs(len(word) - len(right)) > most:
        return None
    distance = _distance(word, right)
    if distance > most:
        return None
    swapped = word[:2] == right[1::-1]
    if is_short and word[0] != right[0] and not swapped:
        return None  # best and test, brain and train
    return distance


@lru_cache(maxsize=1000)
def _distance(one: str, other: str) -> int:
    """Return the number of letters to add, remove, change or swap between two words."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, mine in enumerate(one, 1):
        earlier, before, row = before, row, [i]
        for j, theirs in enumerate(other, 1):
            steps = [before[j] + 1, row[j - 1] + 1, before[j - 1] + (mine != theirs)]
            if i > 1 and j > 1 and mine == other[j - 2] and one[i - 2] == theirs:
                steps.append(earlier[j - 2] + 1)
            row.append(min(steps))
    return row[-1]


@lru_cache(maxsize=1000)
def _canonical(name: str) -> list[str]:
    """Return a name's words, replaced by those of hooks."""
    joined = "_".join(_words(name)).replace("data_loader", "dataloader")
    return [_SAME.get(word, word) for word in joined.split("_")]


def _is_variant(name: str, hook: str) -> bool:
    """Return whether a name says the same as a hook's in other words or another order."""
    words, known = _canonical(name), _canonical(hook)
    if words[0] == "on":
        if len(words) != len(known):
            return False
        return words == known or sorted(map(_corrected, words)) == sorted(known)
    if len(words) == 2 and name.endswith(_ALSO_HELPERS):
        return False
    is_place = hook.endswith(("_start", "_end")) or known[1:2] in (["before"], ["after"])
    return words == known or (is_place and ["on", *words] == known)


def _corrected(word: str) -> str:
    """Return a word in those of hooks, without typos: traning is train."""
    for right, known in _SAME.items():
        if len(right) > 6 and _word_distance(word, right):
            return known
    return word
