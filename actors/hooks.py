"""The vocabulary of hooks, and who handles each in which order."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..bus.actor import Actor
from ..bus.errors import UnknownHookError, UsageError
from ..bus.events import Hook
from ..bus.routes import ANNOUNCES, SKIP, HookCall, HookHandler
from ..bus.subscription import Subscription, subscriptions_of
from .callback import Callback
from .datamodule import LightningDataModule
from .misspelt_hooks import Named, similar_name, warn_of_misspelt_hooks
from .module import LightningModule

if TYPE_CHECKING:
    from ..trainer import Trainer


class HookSpec(NamedTuple):
    """What a hook is called with.

    Attributes:
        arguments: names of its objects, in order; callbacks get trainer and module before them.
        callback: whether callbacks have it.
        module: whether the module has it.
        datamodule: whether the datamodule has it.
        instead: whether only one handler runs: the datamodule's if it has one, else the module's.
    """

    arguments: tuple[str, ...] = ()
    callback: bool = True
    module: bool = True
    datamodule: bool = False
    instead: bool = False


def _specs() -> dict[str, HookSpec]:
    batch = ("batch", "batch_idx", "dataloader_idx")
    both = HookSpec()
    callback_only = HookSpec(module=False)
    module_only = HookSpec(callback=False)
    specs = {
        "prepare_data": HookSpec(callback=False, datamodule=True),
        "setup": HookSpec(("stage",), datamodule=True),
        "teardown": HookSpec(("stage",), datamodule=True),
        "on_before_accelerator_backend_setup": callback_only,
        "on_configure_sharded_model": callback_only,
        "configure_sharded_model": module_only,
        "configure_model": module_only,
        "on_post_move_to_device": module_only,
        "configure_callbacks": module_only,
        "configure_optimizers": module_only,
        "on_sanity_check_start": callback_only,
        "on_sanity_check_end": callback_only,
        "on_batch_start": callback_only,
        "on_batch_end": callback_only,
        "on_exception": HookSpec(("exception",), module=False),
        "on_before_batch_transfer": _data("batch", "dataloader_idx"),
        "transfer_batch_to_device": _data("batch", "device", "dataloader_idx"),
        "on_after_batch_transfer": _data("batch", "dataloader_idx"),
        "on_before_zero_grad": HookSpec(("optimizer",)),
        "optimizer_zero_grad": HookSpec(
            ("epoch", "batch_idx", "optimizer", "optimizer_idx"), callback=False
        ),
        "on_before_backward": HookSpec(("loss",)),
        "backward": HookSpec(("loss", "optimizer", "optimizer_idx"), callback=False),
        "on_after_backward": both,
        "on_before_optimizer_step": HookSpec(("optimizer", "optimizer_idx")),
        "configure_gradient_clipping": HookSpec(
            ("optimizer", "optimizer_idx", "gradient_clip_val", "gradient_clip_algorithm"),
            callback=False,
        ),
        "optimizer_step": HookSpec(
            ("epoch", "batch_idx", "optimizer", "optimizer_idx", "optimizer_closure"),
            callback=False,
        ),
        "lr_scheduler_step": HookSpec(("scheduler", "optimizer_idx", "metric"), callback=False),
        "on_save_checkpoint": HookSpec(("checkpoint",), datamodule=True),
        "on_load_checkpoint": HookSpec(("checkpoint",), datamodule=True),
    }
    for name in ("fit", "pretrain_routine", "train", "validation", "test", "predict"):
        specs[f"on_{name}_start"] = specs[f"on_{name}_end"] = both
    for name in ("", "train_", "validation_", "test_", "predict_"):
        specs[f"on_{name}epoch_start"] = specs[f"on_{name}epoch_end"] = both
    specs["on_predict_epoch_end"] = specs["on_train_epoch_end"] = HookSpec(("outputs",))
    for name in ("train", "validation", "test", "predict"):
        arguments = batch[:2] if name == "train" else batch
        specs[f"on_{name}_batch_start"] = HookSpec(arguments)
        specs[f"on_{name}_batch_end"] = HookSpec(("outputs", *arguments))
        specs[f"{name}_dataloader" if name != "validation" else "val_dataloader"] = _data()
    for name in ("validation", "test", "predict"):
        specs[f"on_{name}_model_eval"] = specs[f"on_{name}_model_train"] = module_only
    for name in ("training", "validation", "test", "predict"):
        step = ("batch", "batch_idx") if name == "training" else batch
        specs[f"{name}_step"] = HookSpec(step, callback=False)
        specs[f"{name}_step_end"] = HookSpec(("step_output",), callback=False)
        specs[f"{name}_epoch_end"] = HookSpec(("outputs",), callback=False)
    return specs


def _data(*arguments: str) -> HookSpec:
    return HookSpec(arguments, callback=False, datamodule=True, instead=True)


HOOKS: Mapping[str, HookSpec] = _specs()
"""Every hook by name."""

# What overrides in the older style may still ask for, behind the arguments a hook has now.
_FORMER_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "on_train_batch_start": (0,),
    "on_train_batch_end": (0,),
}
# Arguments that newer overrides leave out, in front of others that they take.
_LEFT_OUT = "optimizer_idx"
_OF_TORCH = {"forward", "state_dict", "load_state_dict"}
_CLOSE = 0.85  # how similar a name must be to a hook's to be taken for a misspelling of it
_BASES = (Callback, LightningModule, LightningDataModule, Actor)


def takes_argument(owner: object, name: str, argument: str) -> bool:
    """Whether somebody's override of a hook has a parameter of this name."""
    if not is_overridden(owner, name):
        return False
    return argument in inspect.signature(getattr(owner, name)).parameters


def is_overridden(owner: object, name: str) -> bool:
    """Whether a module, datamodule or callback defines a hook itself."""
    method = getattr(type(owner), name, None)
    if method is None:
        return name in getattr(owner, "__dict__", {})
    return name in getattr(owner, "__dict__", {}) or not any(
        getattr(base, name, None) is method for base in _BASES
    )


def fitted(
    method: Callable[..., Any], name: str, arguments: Sequence[str], leading: int = 0
) -> Callable[..., Any]:
    """A hook method as a callable of the hook's arguments.

    Users' overrides come from several generations of the interface. Parameters are found by name,
    others by their place among what is left; an override may take fewer than there are.

    Args:
        method: the bound method.
        name: the hook.
        arguments: what the hook is called with, in order.
        leading: how many arguments, the trainer and the module, come before them.

    Raises:
        UsageError: the override asks for something that there is not.
    """
    parameters = list(inspect.signature(method).parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return method
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        raise UsageError(
            f"{getattr(method, '__qualname__', name)} has keyword-only arguments without defaults; "
            "hooks are called with positional ones"
        )
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    own = positional[leading:]
    free = [entry for entry in arguments if entry not in {p.name for p in own}]
    if _LEFT_OUT in free and len(own) < len(arguments):
        free.remove(_LEFT_OUT)
    given: list[str] = [*arguments]
    constants = list(_FORMER_ARGUMENTS.get(name, ()))
    sources: dict[str, int] = {}  # parameter -> place in what the hook is called with
    for parameter in own:
        has_default = parameter.default is not parameter.empty
        if parameter.name in arguments:
            sources[parameter.name] = arguments.index(parameter.name)
        elif free and not (has_default and name.endswith("_step")):
            sources[parameter.name] = arguments.index(free.pop(0))
        elif has_default:
            continue
        elif len(given) < len(arguments) + len(constants):
            sources[parameter.name] = len(given)
            given.append(parameter.name)
        else:
            raise UsageError(_asks_for_more(method, name, parameter.name, arguments))
    in_order = [p.name for p in own][: len(sources)] == list(sources)
    if in_order and list(sources.values()) == list(range(len(arguments))):
        return method
    former = tuple(constants[: len(given) - len(arguments)])
    places = [leading + source for source in sources.values()]
    if in_order:

        def call(*values: Any) -> Any:
            values += former
            return method(*values[:leading], *[values[place] for place in places])

        return call

    def call_by_name(*values: Any) -> Any:
        values += former
        by_name = dict(zip(sources, (values[place] for place in places), strict=True))
        return method(*values[:leading], **by_name)

    return call_by_name


def _asks_for_more(
    method: Callable[..., Any], name: str, parameter: str, arguments: Sequence[str]
) -> str:
    has = ", ".join(arguments) or "none"
    advice = ""
    if name == "training_step" and parameter == "optimizer_idx":
        advice = "; optimizer_idx is given when configure_optimizers returns several optimizers"
    if name == "training_step" and parameter == "hiddens":
        advice = "; hiddens is given when truncated_bptt_steps is set on the module"
    return (
        f"{getattr(method, '__qualname__', name)} asks for {parameter!r}, which the hook {name} "
        f"does not have; its arguments: {has}{advice}"
    )


def check_subscriptions(actor: Actor, loops_have_hooks: bool = False) -> None:
    """Refuse subscriptions to hooks that do not exist, warn of methods named almost like one.

    Args:
        actor: whose subscriptions.
        loops_have_hooks: whether a loop that a user wrote may announce hooks of its own: then only
            names that are close to a known hook are refused.

    Raises:
        UnknownHookError: ``@on`` names a hook that does not exist.
    """
    for entry in subscriptions_of(type(actor)):
        name = entry.name
        if entry.kind is not Hook or name is None or name in HOOKS:
            continue
        if not loops_have_hooks or get_close_matches(name, HOOKS, n=1, cutoff=_CLOSE):
            raise UnknownHookError(name, f"{type(actor).__name__}.{entry.method}", set(HOOKS))
    warn_of_misspelt_hooks(actor, *_hooks_and_bases(actor))


def similar_method(owner: Actor, hook: str) -> str:
    """A hint, for who misses a hook of a module or datamodule: the method that may have been meant
    to be it; nothing when there is none.
    """
    return similar_name(owner, hook, _hooks_and_bases(owner)[1])


def _hooks_and_bases(actor: Actor) -> tuple[Named, tuple[type, ...]]:
    """The names that are called on an actor, and the classes that users derive it from."""
    if isinstance(actor, LightningModule):
        hooks = {name for name, spec in HOOKS.items() if spec.module}
        return Named(hooks | _OF_TORCH, set(HOOKS) - hooks, "module"), (LightningModule,)
    if isinstance(actor, LightningDataModule):
        hooks = {name for name, spec in HOOKS.items() if spec.datamodule}
        return Named(hooks, set(HOOKS) - hooks, "datamodule"), (LightningDataModule,)
    hooks = {name for name, spec in HOOKS.items() if spec.callback}
    if isinstance(actor, Callback):
        return Named(hooks, set(HOOKS) - hooks, "callback"), (Callback,)
    return Named(hooks, (), "actor", by_decorator=True), (Actor,)


def destinations_of(actor: Actor) -> set[str]:
    """Labels of the destinations that an actor or sink takes values for."""
    labels = {entry.destination for entry in subscriptions_of(type(actor))}
    labels.add(getattr(actor, "destination", None))
    return {label for label in labels if label is not None}


class HookOwners(NamedTuple):
    """Whose methods are hooks in this run."""

    trainer: "Trainer"
    module: LightningModule
    datamodule: LightningDataModule | None
    callbacks: Sequence[Callback]
    actors: Sequence[Actor]


def hook_handlers(
    owners: HookOwners,
    defaults: Mapping[str, HookHandler],
    step_arguments: Sequence[str] = ("batch", "batch_idx"),
    loop_hooks: Iterable[str] = (),
) -> dict[str, list[HookHandler]]:
    """Handlers of every hook that has some, in order: datamodule, callbacks, actors, module.

    Args:
        owners: whose methods they are.
        defaults: what is done where the module could have done it; a hook that has nothing else
            is left out.
        step_arguments: what training_step is called with in this run.
        loop_hooks: names of hooks that loops announced which are their own.
    """
    table: dict[str, list[HookHandler]] = {}
    loop_hooks = tuple(loop_hooks)
    subscribed = _subscribed(owners, loop_hooks)
    for name, spec in HOOKS.items():
        if name == "training_step":
            spec = spec._replace(arguments=tuple(step_arguments))
        handlers: list[HookHandler] = []
        if spec.datamodule and owners.datamodule and is_overridden(owners.datamodule, name):
            handlers.append(fitted(getattr(owners.datamodule, name), name, spec.arguments))
        if spec.callback:
            handlers += _callback_handlers(owners, name, spec.arguments)
        replaced = spec.instead and bool(handlers)
        handlers += [
            _live_handler(owners, name, spec, *entry) for entry in subscribed.get(name, ())
        ]
        if spec.module and not replaced and is_overridden(owners.module, name):
            handlers.append(fitted(getattr(owners.module, name), name, spec.arguments))
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


def _callback_handlers(
    owners: HookOwners, name: str, arguments: Sequence[str]
) -> list[HookHandler]:
    """What callbacks do in a hook, the trainer and the module already given to them."""
    trainer, module = owners.trainer, owners.module
    methods = [
        fitted(getattr(callback, name), name, arguments, leading=2)
        for callback in owners.callbacks
        if is_overridden(callback, name)
    ]
    if len(methods) > 1 and name == "on_train_batch_start":
        return [_batch_start_of_all(methods, trainer, module)]
    if len(methods) > 1 and name == "on_train_batch_end":
        return [_batch_end_of_all(methods, trainer, module)]
    return [partial(method, trainer, module) for method in methods]


# The two hooks that callbacks use most, spelt out: called through partial and *objects, each
# would cost twice as much.
def _batch_start_of_all(
    methods: list[HookHandler], trainer: "Trainer", module: LightningModule
) -> HookHandler:
    place = trainer.place

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
    methods: list[HookHandler], trainer: "Trainer", module: LightningModule
) -> HookHandler:
    place = trainer.place

    def handle(outputs: Any, batch: Any, batch_idx: int) -> None:
        outer, place.hook = place.hook, "on_train_batch_end"
        for method in methods:
            method(trainer, module, outputs, batch, batch_idx)
        place.hook = outer

    setattr(handle, ANNOUNCES, True)
    return handle


def callback_hook_methods(
    callback: Callback,
) -> dict[str, tuple[Callable[..., Any], Sequence[str]]]:
    """A callback's hook methods by hook, and what they are called with after trainer and module."""
    return {
        name: (fitted(getattr(callback, name), name, spec.arguments, leading=2), spec.arguments)
        for name, spec in HOOKS.items()
        if spec.callback and is_overridden(callback, name)
    }


def _subscribed(
    owners: HookOwners, loop_hooks: Iterable[str]
) -> dict[str, list[tuple[Actor, Subscription]]]:
    """Actors' plain methods by the hook they subscribe to."""
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
