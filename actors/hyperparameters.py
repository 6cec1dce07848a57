"""Hyperparameters: what a module or datamodule was made with, kept for the log and checkpoints."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from types import FrameType
from typing import Any, NamedTuple

from ..bus.errors import UsageError
from ..bus.secrets.names import is_secret_name
from ..bus.secrets.redaction import redact_setting
from .hyperparameter_values import (
    Hyperparameters,
    dataclass_in,
    hints_of,
    items_of,
    made_again,
    shape_of,
)

__all__ = [
    "Hyperparameters",
    "HyperparametersMixin",
    "become_mappings",
    "restored_arguments",
    "unknown_arguments",
]


class _Kept(NamedTuple):
    """What is known of how hyperparameters were given, besides their values.

    Attributes:
        argument: the argument of ``__init__`` that had several of them as its items; empty if none.
        items: their names.
        shape: how that argument looked.
        star: what ``*args`` of ``__init__`` got.
        left_out: arguments that were left out on purpose.
    """

    argument: str = ""
    items: tuple[str, ...] = ()
    shape: str = ""
    star: tuple[Any, ...] = ()
    left_out: frozenset[str] = frozenset()


class HyperparametersMixin:
    """``save_hyperparameters`` and ``hparams``."""

    @property
    def hparams(self) -> Hyperparameters:
        """The hyperparameters that were saved."""
        found = self.__dict__.get("_hparams")
        if found is None:
            found = Hyperparameters()
            object.__setattr__(self, "_hparams", found)
        return found

    @property
    def _kept_hparams(self) -> _Kept:
        found: _Kept = self.__dict__.get("_hparams_kept", _Kept())
        return found

    def save_hyperparameters(
        self,
        *args: Any,
        ignore: str | Iterable[str] | None = None,
        frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:
        """Keep what ``__init__`` was called with in ``self.hparams``; call it in ``__init__``.

        The log's first event has them, checkpoints keep them, and sinks that show
        hyperparameters get them.

        Args:
            args: names of arguments, to keep only these; or one mapping, Namespace or dataclass, to
                keep its items instead, and names of arguments to keep beside them.
            ignore: names of arguments not to keep, also if they were kept before, in the
                ``__init__`` of a base say.
            frame: where the arguments are; the caller's by default.
            logger: whether the log and sinks get them.

        Raises:
            UsageError: an argument of that name does not exist, or no ``__init__`` runs.
        """
        ignored = {ignore} if isinstance(ignore, str) else set(ignore or ())
        if frame is None:
            current = inspect.currentframe()
            frame = current.f_back if current else None
        calls = _calls_of_init(self, frame)
        given = self._arguments(calls)
        names = [entry for entry in args if isinstance(entry, str)]
        others = [entry for entry in args if not isinstance(entry, str)]
        kept = self._kept_hparams
        found: dict[str, Any] = {}
        for config in others:
            if config is None:
                continue
            items = items_of(config)
            if items is None or len(others) > 1:
                raise UsageError(
                    "save_hyperparameters takes names of arguments, or one mapping, Namespace or "
                    f"dataclass whose items are kept; not {type(config).__name__}"
                )
            found |= items
            argument = _argument_of(config, calls, type(self))
            kept = kept._replace(
                argument=argument or kept.argument,
                items=(*kept.items, *items),
                shape=shape_of(config),
            )
        unknown = [name for name in names if name not in given]
        if unknown:
            raise UsageError(
                f"save_hyperparameters({', '.join(map(repr, unknown))}): "
                f"{type(self).__name__}.__init__ has no such argument; it has "
                f"{', '.join(given) or 'none'}"
            )
        if not calls and not others and not dataclasses.is_dataclass(self):
            raise UsageError(
                f"save_hyperparameters() was called where {type(self).__name__}.__init__ does not "
                "run, so there are no arguments to keep; call it in __init__, or give it a mapping"
            )
        if args:
            found |= {name: given[name] for name in names}
            if not others:
                kept = kept._replace(left_out=kept.left_out | (set(given) - set(names)))
        else:
            found |= given
            kept = kept._replace(star=calls[-1].star if calls else ())
        for name in ignored:
            self.hparams.pop(name, None)
            if name in given and is_secret_name(name):
                redact_setting(name, given[name])  # so that an error's text is recorded without it
        self.hparams.update({name: value for name, value in found.items() if name not in ignored})
        kept = kept._replace(
            items=tuple(name for name in kept.items if name in self.hparams),
            left_out=(kept.left_out | ignored) - (set(found) - ignored),
        )
        object.__setattr__(self, "_hparams_kept", kept)
        object.__setattr__(self, "_logs_hparams", logger)

    def _arguments(self, calls: list["_Call"]) -> dict[str, Any]:
        """Arguments of all ``__init__`` that run; those of the subclasses, the outer ones, win."""
        if dataclasses.is_dataclass(self):
            return items_of(self) or {}
        found: dict[str, Any] = {}
        for call in calls:
            found |= call.arguments
        return found


class _Call(NamedTuple):
    """An ``__init__`` that runs.

    Attributes:
        arguments: by name, those of ``**kwargs`` among them.
        star: what ``*args`` got.
    """

    arguments: dict[str, Any]
    star: tuple[Any, ...]


def _calls_of_init(owner: object, frame: FrameType | None) -> list[_Call]:
    """The ``__init__`` of an object that run, from that of its base outwards; between them may be
    helpers and wrappers.
    """
    calls = []
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__init__" and code.co_argcount:
            names = inspect.getargvalues(frame)
            if names.locals.get(names.args[0]) is owner:
                only_by_name = code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]
                found = {name: names.locals[name] for name in (*names.args[1:], *only_by_name)}
                if names.keywords:
                    found |= names.locals[names.keywords]
                star = names.locals[names.varargs] if names.varargs else ()
                calls.append(_Call(found, tuple(star)))
        frame = frame.f_back
    return calls


def _argument_of(config: Any, calls: list[_Call], kind: type) -> str:
    """Which argument of a class's ``__init__`` a configuration is; empty if none. A base may have
    it under another name, or may have merged others into it.
    """
    own: set[str] = set(inspect.signature(kind.__init__).parameters)  # type: ignore[misc]
    offered = [item for call in reversed(calls) for item in call.arguments.items()]
    same = (name for name, value in offered if value is config and name in own)
    alike = (
        name
        for name, value in offered
        if name in own and type(value) is type(config) and items_of(value) == items_of(config)
    )
    return next(same, None) or next(alike, "")


def unknown_arguments(owner: HyperparametersMixin) -> list[str]:
    """Arguments that ``load_from_checkpoint`` will have to be given, though nobody left them out:
    those of a subclass, whose base kept a configuration alone.
    """
    kept = owner._kept_hparams
    if not owner.hparams:
        return []
    return [
        name
        for name in _needed(type(owner))
        if name not in owner.hparams and name != kept.argument and name not in kept.left_out
    ]


def become_mappings(
    owner: HyperparametersMixin, is_registered: Callable[[type], bool]
) -> list[str]:
    """Hyperparameters that are dataclasses, and whose class nothing says when they are loaded."""
    hints = hints_of(type(owner))
    return [
        name
        for name, value in owner.hparams.items()
        if dataclasses.is_dataclass(value)
        and not is_registered(type(value))
        and dataclass_in(hints.get(name)) is None
    ]


def _needed(kind: type) -> list[str]:
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]  # type: ignore[misc]
    named = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.default is p.empty and p.kind in named]


def restored_arguments(
    kind: type, state: Mapping[str, Any], given: Mapping[str, Any], prefix: str = ""
) -> tuple[list[Any], dict[str, Any]]:
    """What to call a class with, to make again what hyperparameters were saved of.

    Args:
        kind: the class.
        state: the checkpoint's.
        given: by the user, which wins.
        prefix: of the names in the state: ``datamodule_`` for a datamodule.

    Returns:
        The arguments by place, and those by name.

    Raises:
        UsageError: an argument is missing.
    """
    saved = state.get(f"{prefix}hyper_parameters", {})
    argument = state.get(f"{prefix}hparams_argument", "")
    form = state.get(f"{prefix}hparams_form", {})
    parameters = dict(list(inspect.signature(kind.__init__).parameters.items())[1:])  # type: ignore[misc]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    hints, shapes = hints_of(kind), form.get("shapes", {})
    values = {
        name: made_again(value, shapes.get(name), hints.get(name)) for name, value in saved.items()
    }
    arguments = {k: v for k, v in values.items() if takes_any or k in parameters}
    if argument in parameters:
        items = form.get("items", list(saved))
        config = {name: values[name] for name in items if name in values}
        config |= {k: v for k, v in given.items() if k != argument and k not in parameters}
        given = {k: v for k, v in given.items() if k in parameters}
        shape = {"is": form.get("shape") or "attributes"}
        arguments = {k: v for k, v in arguments.items() if k not in items}
        arguments[argument] = made_again(config, shape, hints.get(argument))
    arguments = {**arguments, **given}
    missing = [name for name in _needed(kind) if name not in arguments]
    if missing:
        raise UsageError(
            f"the checkpoint does not say what {kind.__name__} was made with: "
            f"{', '.join(missing)}; give it to load_from_checkpoint, and call "
            "self.save_hyperparameters() in __init__ to have checkpoints keep it"
        )
    by_place = []
    star = form.get("star", ())
    for name, parameter in parameters.items():
        if parameter.kind is parameter.POSITIONAL_ONLY or (
            star and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ):
            by_place.append(arguments.pop(name, parameter.default))
    has_star = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    return [*by_place, *(star if has_star else ())], arguments
