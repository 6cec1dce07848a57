"""Collects the handlers of each hook, in order, and warns of methods that are not hooks."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from ..bus.actor import Actor
from ..bus.errors import UnknownHookError
from ..bus.events import Hook
from ..bus.log.place import Place
from ..bus.routes import ANNOUNCES, SKIP, HookCall, HookHandler
from ..bus.subscription import Subscription, subscriptions_of
from .callback import Callback
from .datamodule import LightningDataModule
from .former_states import handler_of
from .hook_arguments import fitted, there_are_several
from .hook_table import HOOKS, OLDER_HOOKS, HookSpec
from .misspelt_hooks import (
    Named,
    is_of_package,
    overridable,
    similar_name,
    warn_of_misspelt_hooks,
    was_checked,
)
from .module import LightningModule
from .overrides import is_overridden, is_own, misfit

# Methods of the older interface that are no longer called -> what to do instead.
_GONE = {
    "get_progress_bar_dict": "log what the bar is to show with prog_bar=True",
    "on_keyboard_interrupt": "use on_exception",
    **dict.fromkeys(
        ("on_train_dataloader", "on_val_dataloader", "on_test_dataloader", "on_predict_dataloader"),
        "do it in the method that makes the dataloader",
    ),
    "on_hpc_save": "use on_save_checkpoint",
    "on_hpc_load": "use on_load_checkpoint",
}
_OF_TORCH = {"forward", "state_dict", "load_state_dict"}
_CLOSE = 0.85  # similarity from which a name counts as a misspelt hook


def base_method(owner: object, name: str) -> Callable[..., Any]:
    """Return a module's method, or that of its base if it is set to None.

    Args:
        owner: the module.
        name: the method's name.
    """
    method: Callable[..., Any] | None = getattr(owner, name)
    return getattr(LightningModule, name).__get__(owner) if method is None else method


def check_subscriptions(actor: Actor, loops_have_hooks: bool = False) -> None:
    """Refuse subscriptions to hooks that do not exist, warn of methods named almost like one.

    Args:
        actor: the actor.
        loops_have_hooks: a user's loop may announce hooks of its own, so only names close to a
            known hook are refused.

    Raises:
        UnknownHookError: ``@on`` names a hook that does not exist.
    """
    for entry in subscriptions_of(type(actor)):
        name = entry.name
        if entry.kind is not Hook or name is None or name in HOOKS:
            continue
        if not loops_have_hooks or get_close_matches(name, HOOKS, n=1, cutoff=_CLOSE):
            raise UnknownHookError(name, f"{type(actor).__name__}.{entry.method}", set(HOOKS))
    warn_of_misspelt_methods(actor)
    if isinstance(actor, Callback | LightningModule | LightningDataModule):
        _warn_of_older_names(actor)


def warn_of_misspelt_methods(actor: Actor) -> None:
    """Warn of methods that will not be called though their names are like those of hooks."""
    if not was_checked(type(actor)):
        warn_of_misspelt_hooks(actor, *_hooks_and_bases(actor))


def similar_method(owner: Actor, hook: str) -> str:
    """Return a hint for a missing hook: the method that may be meant; empty if there is none.

    Args:
        owner: the module or datamodule.
        hook: the missing hook.
    """
    return similar_name(owner, hook, _hooks_and_bases(owner)[1])


def _hooks_and_bases(actor: Actor) -> tuple[Named, tuple[type, ...]]:
    """Return the names that are called on an actor, and the classes that users derive it from."""
    if isinstance(actor, LightningModule):
        hooks = {name for name, spec in HOOKS.items() if spec.module}
        return Named(hooks | _OF_TORCH, set(HOOKS) - hooks, "module"), (LightningModule,)
    if isinstance(actor, LightningDataModule):
        hooks = {name for name, spec in HOOKS.items() if spec.datamodule}
        return Named(hooks, set(HOOKS) - hooks, "datamodule"), (LightningDataModule,)
    hooks = {name for name, spec in HOOKS.items() if spec.callback}
    if isinstance(actor, Callback):
        return Named(hooks, set(HOOKS) - hooks, "callback"), (Callback,)
    base = next(kind for kind in type(actor).__mro__ if is_of_package(kind))  # Sink, Loop, Actor
    return Named(hooks, (), "actor", by_decorator=True, methods=overridable(base)), (base,)


def destinations_of(actor: Actor) -> set[str]:
    """Return labels of the destinations that an actor or sink takes values for."""
    labels = {entry.destination for entry in subscriptions_of(type(actor))}
    labels.add(getattr(actor, "destination", None))
    return {label for label in labels if label is not None}


def _warn_of_older_names(owner: object) -> None:
    """Warn of methods with names of the older interface that are not called."""
    kind = type(owner).__name__
    for name, advice in _GONE.items():
        if callable(getattr(owner, name, None)):
            warnings.warn(f"{kind}.{name} is not called; {advice}", stacklevel=2)
    for name in OLDER_HOOKS:
        if is_own(owner, name) and (why := misfit(owner, name)):
            warnings.warn(
                f"{kind}.{name} is not taken for the hook of that name, and not called: {why}",
                stacklevel=2,
            )


class HookOwners(NamedTuple):
    """The objects whose methods are hooks in this run; callbacks get the trainer."""

    trainer: Any
    module: LightningModule
    datamodule: LightningDataModule | None
    callbacks: Sequence[Callback]
    actors: Sequence[Actor]


def hook_handlers(
    owners: HookOwners,
    defaults: Mapping[str, HookHandler],
    step_arguments: Sequence[str] = ("batch", "batch_idx"),
    loop_hooks: Iterable[str] = (),
    several: Callable[[str], bool] = there_are_several,
    former: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, list[HookHandler]]:
    """Return the handlers of every hook that has some: of datamodule, callbacks, actors, module.

    Args:
        owners: the objects with the methods.
        defaults: hook -> what is done if the module does not override it; a hook that has nothing
            else is left out.
        step_arguments: names of the arguments of training_step in this run.
        loop_hooks: names of hooks that loops announced as their own.
        several: tells whether there are several of what ``optimizer_idx``, ``dataloader_idx``
            number.
        former: values of arguments that only older overrides have.
    """
    known = _Known(several, former)
    table: dict[str, list[HookHandler]] = {}
    loop_hooks = tuple(loop_hooks)
    subscribed = _subscribed(owners, loop_hooks)
    for name, spec in HOOKS.items():
        if name == "training_step":
            spec = spec._replace(arguments=tuple(step_arguments))
        handlers: list[HookHandler] = []
        if spec.datamodule and owners.datamodule and is_overridden(owners.datamodule, name):
            handlers.append(
                fitted(getattr(owners.datamodule, name), name, spec.arguments, 0, *known)
            )
        if spec.callback:
            handlers += _callback_handlers(owners, name, spec.arguments, known)
        replaced = spec.instead and bool(handlers)
        handlers += [
            _live_handler(owners, name, spec, *entry) for entry in subscribed.get(name, ())
        ]
        if spec.module and not replaced and is_overridden(owners.module, name):
            handlers.append(fitted(getattr(owners.module, name), name, spec.arguments, 0, *known))
        elif handlers and name in defaults and not replaced:
            handlers.append(defaults[name])
        if handlers:
            table[name] = handlers
    for name in loop_hooks:
        handlers = [
            partial(method, owners.trainer, owners.module)
            for callback in owners.callbacks
            if (method := getattr(callback, name, None)) is not None
        ]
        handlers += [
            _live_handler(owners, name, None, *entry) for entry in subscribed.get(name, ())
        ]
        if (method := getattr(owners.module, name, None)) is not None:
            handlers.append(method)
        if handlers:
            table[name] = handlers
    return table


class _Known(NamedTuple):
    """Facts about a run that are not arguments of its hooks; see ``fitted``."""

    several: Callable[[str], bool]
    former: Mapping[str, Any]


def _callback_handlers(
    owners: HookOwners, name: str, arguments: Sequence[str], known: _Known
) -> list[HookHandler]:
    """Return the handlers of callbacks for a hook, bound to trainer and module."""
    trainer, module = owners.trainer, owners.module
    methods = [
        fitted(getattr(callback, name), name, arguments, 2, *known)
        for callback in owners.callbacks
        if is_overridden(callback, name)
    ]
    if name in ("on_save_checkpoint", "on_load_checkpoint"):
        owning = (entry for entry in owners.callbacks if is_overridden(entry, name))
        return [
            handler_of(callback, name, method, trainer, module)
            for callback, method in zip(owning, methods, strict=True)
        ]
    if len(methods) > 1 and name == "on_train_batch_start":
        return [_batch_start_of_all(methods, trainer, module)]
    if len(methods) > 1 and name == "on_train_batch_end":
        return [_batch_end_of_all(methods, trainer, module)]
    return [partial(method, trainer, module) for method in methods]


# The two hooks that callbacks use most have code of their own, because through partial and *objects
# each would cost twice as much.
def _batch_start_of_all(
    methods: list[HookHandler], trainer: Any, module: LightningModule
) -> HookHandler:
    place: Place = trainer.place

    def handle(batch: Any, batch_idx: int) -> Any:
        outer, place.hook = place.hook, "on_train_batch_start"
        result = None
        for method in methods:
            value = method(trainer, module, batch, batch_idx)
            if value is not None and result is not SKIP:
                result = SKIP if type(value) is int and value == SKIP else value
        place.hook = outer
        return result

    setattr(handle, ANNOUNCES, True)
    return handle


def _batch_end_of_all(
    methods: list[HookHandler], trainer: Any, module: LightningModule
) -> HookHandler:
    place: Place = trainer.place

    def handle(outputs: Any, batch: Any, batch_idx: int) -> None:
        outer, place.hook = place.hook, "on_train_batch_end"
        for method in methods:
            method(trainer, module, outputs, batch, batch_idx)
        place.hook = outer

    setattr(handle, ANNOUNCES, True)
    return handle


def _subscribed(
    owners: HookOwners, loop_hooks: Iterable[str]
) -> dict[str, list[tuple[Actor, Subscription]]]:
    """Return actors' plain methods by the hook they subscribe to."""
    known = (*HOOKS, *loop_hooks)
    found: dict[str, list[tuple[Actor, Subscription]]] = {}
    everyone: list[Actor] = [*owners.callbacks, *owners.actors, owners.module]
    for actor in everyone:
        for entry in subscriptions_of(type(actor)):
            if entry.kind is Hook and not entry.is_async:
                for name in [entry.name] if entry.name is not None else known:
                    found.setdefault(name, []).append((actor, entry))
    return found


def _live_handler(
    owners: HookOwners, name: str, spec: HookSpec | None, actor: Actor, entry: Subscription
) -> HookHandler:
    method = getattr(actor, entry.method)
    always = {"trainer": owners.trainer, "module": owners.module}

    def handle(*objects: Any) -> Any:
        if spec is None:  # a loop's own hook
            call = HookCall(name, {**always, "values": objects})
        else:
            call = HookCall(name, {**always, **dict(zip(spec.arguments, objects, strict=False))})
        if entry.where is not None and not entry.where(call):
            return None
        return method(call)

    return handle
