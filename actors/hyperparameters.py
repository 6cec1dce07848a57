"""Hyperparameters: arguments of a module or datamodule, kept for the log and checkpoints."""

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import Parameter
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch.nn import Module

from ..bus.errors import UsageError
from ..bus.secrets.names import is_secret_name
from ..bus.secrets.redaction import redact_setting
from ..bus.system.logging_setup import get_logger
from .checkpoints.torch_objects import is_module_of_torch
from .hyperparameter_values import (
    Hyperparameters,
    dataclass_in,
    hints_of,
    is_omegaconf,
    items_of,
    made_again,
    shape_of,
)

__all__ = [
    "Hyperparameters",
    "HyperparametersMixin",
    "become_mappings",
    "configured_by",
    "hyperparameters_of",
    "restored_arguments",
    "unknown_arguments",
]

_log = get_logger("nightbus.checkpoint")


_log = get_logger("nightbus.hyperparameters", of_all_ranks=True)


class _Kept(NamedTuple):
    """Describes how hyperparameters were passed.

    Attributes:
        argument: name of the argument of ``__init__`` that had several of them as its items; empty
            if there was none.
        items: names of these items.
        shape: kind of that argument; see ``shape_of``.
        star: values of ``*args`` of ``__init__``.
        left_out: names of arguments that were left out on purpose.
        configured: names of those that are objects, and are kept as a configuration describes them.
    """

    argument: str = ""
    items: tuple[str, ...] = ()
    shape: str = ""
    star: tuple[Any, ...] = ()
    left_out: frozenset[str] = frozenset()
    configured: frozenset[str] = frozenset()


_CONFIGURED: ContextVar[tuple[object, Mapping[str, Any]] | None] = ContextVar(
    "configured", default=None
)


@contextmanager
def configured_by(kind: object, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Return a context in which a class keeps arguments that are objects as they are described.

    Args:
        kind: the class, whose ``__init__`` runs within.
        arguments: its arguments in the configuration.

    Returns:
        The context.
    """
    token = _CONFIGURED.set((kind, arguments))
    try:
        yield
    finally:
        _CONFIGURED.reset(token)


def _described(owner: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of an object's arguments for which a configuration has a description."""
    kind, arguments = _CONFIGURED.get() or (None, {})
    if kind is not type(owner):
        return {}
    return {
        name: arguments[name]
        for name, value in given.items()
        if name in arguments and _names_a_class(arguments[name], value)
    }


def _names_a_class(described: Any, value: Any) -> bool:
    if isinstance(described, Mapping):
        return "class_path" in described or any(
            _names_a_class(entry, None) for entry in described.values()
        )
    if isinstance(described, list):
        return any(_names_a_class(entry, None) for entry in described)
    return isinstance(described, str) and callable(value)


class HyperparametersMixin:
    """Defines ``save_hyperparameters`` and ``hparams``, for modules, datamodules and any class.

    Attributes:
        CHECKPOINT_HYPER_PARAMS_KEY: where a checkpoint has the hyperparameters.
        CHECKPOINT_HYPER_PARAMS_NAME: where one of Lightning has the name of the argument that
            they came in.
        CHECKPOINT_HYPER_PARAMS_TYPE: where one of Lightning has the type of that argument.
    """

    CHECKPOINT_HYPER_PARAMS_KEY: ClassVar = "hyper_parameters"
    CHECKPOINT_HYPER_PARAMS_NAME: ClassVar = "hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE: ClassVar = "hparams_type"

    @property
    def hparams(self) -> Hyperparameters:
        """The hyperparameters that were saved; those of one DictConfig of OmegaConf are that."""
        found = self.__dict__.get("_hparams")
        if found is None:
            found = Hyperparameters()
            object.__setattr__(self, "_hparams", found)
        return found

    if not TYPE_CHECKING:  # to be overridden by a property that is only read

        @hparams.setter
        def hparams(self, values: Any) -> None:
            """Keep the items of a mapping, Namespace or dataclass, as in Lightning before 1.3."""
            frame = inspect.currentframe()
            self.save_hyperparameters(values, frame=frame.f_back if frame else None)

    @property
    def hparams_initial(self) -> Hyperparameters:
        """The hyperparameters as they were when they were saved, whatever ``hparams`` is now."""
        found = _copied(self.__dict__.get("_hparams_initial", {}))
        return Hyperparameters(found) if type(found) is dict else found

    def remove_ignored_hparams(self, ignore_list: Iterable[str]) -> None:
        """Drop hyperparameters that were kept, for example in the ``__init__`` of a base class.

        Args:
            ignore_list: their names.
        """
        initial, ignored = self.hparams_initial, list(ignore_list)
        self._nightbus_hold({k: v for k, v in hyperparameters_of(self).items() if k not in ignored})
        kept = {name: value for name, value in initial.items() if name not in ignored}
        object.__setattr__(self, "_hparams_initial", Hyperparameters(kept))

    @property
    def _nightbus_kept_hparams(self) -> _Kept:
        found: _Kept = self.__dict__.get("_hparams_kept", _Kept())
        return found

    def save_hyperparameters(
        self,
        *args: Any,
        ignore: str | Iterable[str] | None = None,
        frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:
        """Keep the arguments of ``__init__`` in ``self.hparams``; call it in ``__init__``.

        They are recorded in the log's first event, saved in checkpoints, and sent to sinks that
        show hyperparameters.

        Args:
            *args: names of the arguments to keep; by default all are kept. Or one mapping,
                Namespace or dataclass, whose items are kept, and names of further arguments.
            ignore: names of arguments not to keep, even if they were kept before, for example in
                the ``__init__`` of a base class.
            frame: frame of the ``__init__``; the caller's by default.
            logger: record them in the log and send them to sinks.

        Raises:
            UsageError: there is no argument of that name, or no ``__init__`` is running.
        """
        ignored = {ignore} if isinstance(ignore, str) else set(ignore or ())
        if frame is None:
            current = inspect.currentframe()
            frame = current.f_back if current else None
        calls = _calls_of_init(self, frame)
        given = self._nightbus_arguments(calls)
        names = [entry for entry in args if isinstance(entry, str)]
        others = [entry for entry in args if not isinstance(entry, str)]
        found, kept = self._nightbus_items_of_config(others, calls)
        self._nightbus_check_names(names, given)
        described = _described(self, given)
        given |= described
        if not calls and not others and not dataclasses.is_dataclass(self):
            raise UsageError(
                f"save_hyperparameters() was called while {type(self).__name__}.__init__ does not "
                "run, so there are no arguments to keep; call it in __init__, or pass it a mapping"
            )
        if args:
            found |= {name: given[name] for name in names}
            if not others:
                kept = kept._replace(left_out=kept.left_out | (set(given) - set(names)))
        else:
            found |= given
            kept = kept._replace(star=calls[-1].star if calls else ())
        self._nightbus_conceal(ignored, given)
        held = {k: v for k, v in (hyperparameters_of(self) | found).items() if k not in ignored}
        self._nightbus_hold(held, others[0] if others else None)
        _report_modules({name: value for name, value in found.items() if name not in ignored})
        kept = kept._replace(
            items=tuple(name for name in kept.items if name in held),
            left_out=(kept.left_out | ignored) - (set(found) - ignored),
            configured=kept.configured | (set(described) & set(found)) - ignored,
        )
        object.__setattr__(self, "_hparams_kept", kept)
        object.__setattr__(self, "_hparams_initial", _copied(self.hparams))
        object.__setattr__(self, "_logs_hparams", logger)

    def _nightbus_hold(self, values: Mapping[str, Any], config: Any = None) -> None:
        """Make these the hyperparameters, or a configuration of OmegaConf that has just these."""
        current = self.hparams
        if is_omegaconf(config) and values.keys() == config.keys():
            object.__setattr__(self, "_hparams", config)
        elif type(current) is Hyperparameters:
            current.clear()
            current.update(values)
        else:
            object.__setattr__(self, "_hparams", Hyperparameters(values))

    def _nightbus_items_of_config(
        self, configs: Sequence[Any], calls: list["_Call"]
    ) -> tuple[dict[str, Any], _Kept]:
        """Return the items of a mapping, Namespace or dataclass, and how they are to be kept."""
        kept = self._nightbus_kept_hparams
        for config in configs:
            if config is None:
                continue
            items = items_of(config)
            if items is None or len(configs) > 1:
                raise UsageError(
                    f"save_hyperparameters got {type(config).__name__}; expected names of "
                    "arguments, or one mapping, Namespace or dataclass whose items are kept"
                )
            kept = kept._replace(
                argument=_argument_of(config, calls, type(self)) or kept.argument,
                items=(*kept.items, *items),
                shape=shape_of(config),
            )
            return dict(items), kept
        return {}, kept

    def _nightbus_check_names(self, names: Sequence[str], given: Mapping[str, Any]) -> None:
        unknown = [name for name in names if name not in given]
        if unknown:
            raise UsageError(
                f"save_hyperparameters({', '.join(map(repr, unknown))}): "
                f"{type(self).__name__}.__init__ has no such argument; it has "
                f"{', '.join(map(str, given)) or 'none'}"
            )

    def _nightbus_conceal(self, ignored: Iterable[str], given: Mapping[str, Any]) -> None:
        """Keep secrets among ignored arguments from being shown."""
        for name in ignored:
            if name in given and is_secret_name(name):
                redact_setting(name, given[name])  # so that it is removed from texts of errors

    def _nightbus_arguments(self, calls: list["_Call"]) -> dict[str, Any]:
        """Return the arguments of all running ``__init__``; those of subclasses take precedence."""
        if dataclasses.is_dataclass(self):
            return items_of(self) or {}
        found: dict[str, Any] = {}
        for call in calls:
            found |= call.arguments
        return found


def hyperparameters_of(owner: HyperparametersMixin) -> dict[str, Any]:
    """Return the hyperparameters by name, in whatever form they were given.

    Args:
        owner: module or datamodule.
    """
    return items_of(owner.hparams) or {}


def _report_modules(hparams: Mapping[str, Any]) -> None:
    """Warn of modules among hyperparameters, of which checkpoints have the weights already."""
    modules = {str(name): value for name, value in hparams.items() if isinstance(value, Module)}
    refused = [name for name, module in modules.items() if not is_module_of_torch(module)]
    twice = [
        name
        for name, module in modules.items()
        if name not in refused and next(module.parameters(), None) is not None
    ]
    if refused:
        _log.warning(
            f"save_hyperparameters() got modules: {', '.join(refused)}. Their weights are in "
            "checkpoints anyway, and checkpoints hold no objects of other classes than torch.nn's; "
            f"leave them out with save_hyperparameters(ignore={refused!r}), and pass them to "
            "load_from_checkpoint"
        )
    if twice:
        _log.warning(
            f"save_hyperparameters() got modules: {', '.join(twice)}. Checkpoints hold their "
            f"weights twice; leave them out with save_hyperparameters(ignore={twice!r}), and pass "
            "them to load_from_checkpoint"
        )


def _copied(value: Any) -> Any:
    """Return a copy of dicts, lists and configurations, at any depth; other values are the same."""
    if is_omegaconf(value):
        return copy.deepcopy(value)
    if type(value) in (dict, Hyperparameters):
        return type(value)({name: _copied(item) for name, item in value.items()})
    return [_copied(item) for item in value] if type(value) is list else value


class _Call(NamedTuple):
    """A running ``__init__``.

    Attributes:
        arguments: values by name, including those of ``**kwargs``.
        star: values of ``*args``.
    """

    arguments: dict[str, Any]
    star: tuple[Any, ...]


def _calls_of_init(owner: object, frame: FrameType | None) -> list[_Call]:
    """Return the running ``__init__`` of an object, from that of its base class outwards.

    Between them may be helpers and wrappers.
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
    """Return which argument of a class's ``__init__`` a configuration is; empty if none.

    A base class may have it under another name, or may have merged others into it.
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
    """Return the arguments that ``load_from_checkpoint`` will lack though none was left out.

    These are arguments of a subclass whose base class has kept a configuration only.
    """
    kept, known = owner._nightbus_kept_hparams, hyperparameters_of(owner)
    if not known:
        return []
    return [
        name
        for name in _needed(type(owner))
        if name not in known and name != kept.argument and name not in kept.left_out
    ]


def become_mappings(
    owner: HyperparametersMixin, is_registered: Callable[[type], bool]
) -> list[str]:
    """Return the hyperparameters that are dataclasses and will be loaded as mappings.

    Args:
        owner: module or datamodule.
        is_registered: returns whether checkpoints can store a type.

    Returns:
        Names of those whose class neither an annotation of ``__init__`` nor a registered type
        gives when they are loaded.
    """
    hints = hints_of(type(owner))
    return [
        name
        for name, value in hyperparameters_of(owner).items()
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
    """Return the arguments with which to construct an object from its saved hyperparameters.

    Args:
        kind: class of the object.
        state: state of the checkpoint.
        given: arguments of the user, which take precedence.
        prefix: prefix of the keys in the state: ``datamodule_`` for a datamodule.

    Returns:
        The positional arguments, and the keyword arguments.

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
    _check_configured(kind, [n for n in form.get("configured", ()) if n not in given], arguments)
    if argument in parameters:
        items = form.get("items", list(saved))
        config = {name: values[name] for name in items if name in values}
        config |= {k: v for k, v in given.items() if k != argument and k not in parameters}
        given = {k: v for k, v in given.items() if takes_any or k in parameters}
        shape = {"is": form.get("shape") or "attributes"}
        arguments = {k: v for k, v in arguments.items() if k not in items}
        arguments[argument] = made_again(config, shape, hints.get(argument))
    elif not takes_any:
        given = _known(kind, given, parameters)
    arguments = {**arguments, **given}
    missing = [name for name in _needed(kind) if name not in arguments]
    if missing:
        raise UsageError(
            f"the checkpoint does not contain these arguments of {kind.__name__}: "
            f"{', '.join(missing)}; pass them to load_from_checkpoint, and call "
            "self.save_hyperparameters() in __init__ so that checkpoints contain them"
        )
    _report_defaults(kind, [n for n in form.get("left_out", ()) if n in parameters], arguments)
    by_place = []
    star = form.get("star", ())
    for name, parameter in parameters.items():
        if parameter.kind is parameter.POSITIONAL_ONLY or (
            star and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ):
            by_place.append(arguments.pop(name, parameter.default))
    has_star = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    return [*by_place, *(star if has_star else ())], arguments


def _report_defaults(kind: type, left_out: Sequence[str], arguments: Mapping[str, Any]) -> None:
    """Warn of arguments that have their defaults because the checkpoint could not hold them."""
    if names := [name for name in left_out if name not in arguments]:
        _log.warning(
            f"{kind.__name__} is made with the defaults of arguments that the checkpoint could not "
            "hold; pass them to load_from_checkpoint",
            names=", ".join(names),
        )


def _known(
    kind: type, given: Mapping[str, Any], parameters: Mapping[str, Parameter]
) -> dict[str, Any]:
    """Return the given arguments that a class takes; the others are left out with a warning."""
    if unknown := [name for name in given if name not in parameters]:
        _log.warning(
            f"load_from_checkpoint got arguments that {kind.__name__}.__init__ does not have; they "
            "are left out",
            names=", ".join(unknown),
        )
    return {name: value for name, value in given.items() if name in parameters}


def _check_configured(kind: type, names: Sequence[str], arguments: Mapping[str, Any]) -> None:
    """Refuse to construct objects that a checkpoint only describes, which would run its code.

    Raises:
        UsageError: there are such arguments.
    """
    if names:
        shown = ", ".join(f"{name} ({arguments.get(name)})" for name in names)
        raise UsageError(
            f"these arguments of {kind.__name__} are objects, which the checkpoint describes and "
            f"does not contain: {shown}; construct them and pass them to load_from_checkpoint, or "
            "construct the module with LightningCLI(..., run=False) and the config.yaml of the "
            "run's folder"
        )
