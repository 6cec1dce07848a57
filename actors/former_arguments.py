"""Arguments of Lightning's Trainer and callbacks.

The tables say what to use instead, and which values are accepted as the default.
"""

import ast
import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from inspect import Parameter, signature
from typing import Any, NamedTuple, ParamSpec

from ..bus.errors import ArgumentTypeError, UnsupportedArgumentError, UsageError
from ..bus.system.streams import notify_once, notify_user
from .arguments import as_plain, check_choice
from .barebones import barebones_arguments

P = ParamSpec("P")
_VARIABLE = "PL_TRAINER_"
_ANY: Any = object()  # as a value: any given value is accepted


class _Unsupported(NamedTuple):
    """An argument of Lightning that the Trainer does not have.

    Attributes:
        instead: what to use instead.
        same: values that mean the default here.
        means: value -> the same in the Trainer's own arguments.
        turns: returns what any other value is in those; None if such values are refused, unless
            the argument is only called otherwise now.
    """

    instead: str
    same: tuple[Any, ...] = (None,)
    means: Sequence[tuple[Any, Mapping[str, Any]]] = ()
    turns: Callable[[Any], Mapping[str, Any]] | None = None

    @property
    def renamed(self) -> str:
        """The argument that takes the same values under another name; empty if there is none."""
        return self.instead[:-1] if self.instead.removesuffix("=").isidentifier() else ""


# Strategies that ``accelerator`` took in Lightning 1.x.
_FORMER_ACCELERATORS = {
    **{name: {"strategy": name} for name in ("ddp", "ddp2", "ddp_spawn", "dp", "ddp_sharded")},
    "ddp_cpu": {"accelerator": "cpu", "strategy": "ddp"},
}


def strategy_among(plugins: Any) -> Mapping[str, Any]:
    """Return the strategy among plugins as the Trainer's argument; empty if there is another.

    Args:
        plugins: a plugin, a list of them, or the name of a strategy.
    """
    listed = plugins if isinstance(plugins, list | tuple) else [plugins]
    is_one = len(listed) == 1 and _is_strategy(listed[0])
    return {"strategy": listed[0]} if is_one else {}


def _is_strategy(plugin: Any) -> bool:
    if isinstance(plugin, str):
        return plugin.startswith(("ddp", "dp"))
    return _is_of(plugin, "DDPStrategy")


def _is_of(value: Any, name: str) -> bool:
    # By its name: the class is in a room above this one.
    return any(kind.__name__ == name for kind in type(value).__mro__)


_NO_TPU = "accelerator='cpu', 'gpu' or 'mps': {} are not supported"
_CPU = {"accelerator": "cpu"}
_MIXED = "precision='16-mixed' or 'bf16-mixed'"

_UNSUPPORTED: dict[str, _Unsupported] = {
    # Devices and processes.
    "gpus": _Unsupported(
        "accelerator='gpu', devices=",
        (None,),
        [(0, _CPU), ("0", _CPU), ([], _CPU)],
        turns=lambda gpus: {"accelerator": "gpu", "devices": gpus},
    ),
    "auto_select_gpus": _Unsupported(
        "devices= with the indices of GPUs, or CUDA_VISIBLE_DEVICES", (None, False)
    ),
    "tpu_cores": _Unsupported(_NO_TPU.format("TPUs"), (None, 0, [])),
    "num_tpu_cores": _Unsupported(_NO_TPU.format("TPUs"), (None, 0, [])),
    "ipus": _Unsupported(_NO_TPU.format("IPUs"), (None, 0)),
    "hpus": _Unsupported(_NO_TPU.format("HPUs"), (None, 0)),
    "num_processes": _Unsupported(
        "devices=", (None, 1, "1"), turns=lambda number: {**_CPU, "devices": number}
    ),
    "distributed_backend": _Unsupported("strategy=", turns=lambda strategy: {"strategy": strategy}),
    # Settings without effect for one process.
    "replace_sampler_ddp": _Unsupported(
        "use_distributed_sampler=",
        (None, True),
        turns=lambda replaces: {"use_distributed_sampler": replaces},
    ),
    "plugins": _Unsupported(
        "strategy=, precision= and accelerator=", (None, [], ()), turns=strategy_among
    ),
    "amp_backend": _Unsupported(_MIXED, (None, "native")),
    "amp_level": _Unsupported(_MIXED),
    "use_amp": _Unsupported(_MIXED, (None, False)),
    # Output.
    "weights_summary": _Unsupported(
        "enable_model_summary=, and ModelSummary(max_depth=-1) among callbacks",
        ("top",),
        [(None, {"enable_model_summary": False})],
    ),
    "progress_bar_refresh_rate": _Unsupported(
        "enable_progress_bar=; the bar paces itself",
        (None, _ANY),
        [(0, {"enable_progress_bar": False})],
    ),
    "show_progress_bar": _Unsupported(
        "enable_progress_bar=", (None, True), [(False, {"enable_progress_bar": False})]
    ),
    "process_position": _Unsupported("nothing: the bar has the last line", (0, _ANY)),
    "checkpoint_callback": _Unsupported(
        "enable_checkpointing=, and ModelCheckpoint among callbacks",
        (None, True),
        [(False, {"enable_checkpointing": False})],
    ),
    "early_stop_callback": _Unsupported("EarlyStopping among callbacks", (None, False)),
    "flush_logs_every_n_steps": _Unsupported(
        "nothing: sinks write in the background, without delay", (None, _ANY)
    ),
    "row_log_interval": _Unsupported(
        "log_every_n_steps=", turns=lambda steps: {"log_every_n_steps": steps}
    ),
    "log_save_interval": _Unsupported(
        "nothing: sinks write in the background, without delay", (None, _ANY)
    ),
    "weights_save_path": _Unsupported("ModelCheckpoint(dirpath=...) among callbacks"),
    "default_save_path": _Unsupported(
        "default_root_dir=", turns=lambda path: {"default_root_dir": path}
    ),
    "move_metrics_to_cpu": _Unsupported(
        "nothing: recorded values are numbers", (None, False, True)
    ),
    "model_registry": _Unsupported("a callback that copies checkpoints where you want them"),
    # Training.
    "reload_dataloaders_every_epoch": _Unsupported(
        "reload_dataloaders_every_n_epochs=1",
        (None, False),
        [(True, {"reload_dataloaders_every_n_epochs": 1})],
    ),
    "truncated_bptt_steps": _Unsupported("truncated_bptt_steps on the LightningModule", (None, 0)),
    "automatic_optimization": _Unsupported(
        "self.automatic_optimization in the LightningModule", (None, True)
    ),
    "max_nb_epochs": _Unsupported("max_epochs="),
    "min_nb_epochs": _Unsupported("min_epochs="),
    "train_percent_check": _Unsupported("limit_train_batches="),
    "val_percent_check": _Unsupported("limit_val_batches="),
    "test_percent_check": _Unsupported("limit_test_batches="),
    "overfit_pct": _Unsupported("overfit_batches="),
    "nb_sanity_val_steps": _Unsupported("num_sanity_val_steps="),
}

# Arguments of 1.x that the trainer itself reads, with what does the same now.
_READ = {
    "resume_from_checkpoint": "trainer.fit(..., ckpt_path=...)",
    "auto_lr_find": "Tuner(trainer).lr_find(module)",
    "auto_scale_batch_size": "Tuner(trainer).scale_batch_size(module)",
    "track_grad_norm": "log_dict in on_before_optimizer_step",
    "terminate_on_nan": "detect_anomaly=True, or EarlyStopping(check_finite=True)",
    "log_gpu_memory": "DeviceStatsMonitor among callbacks",
    "stochastic_weight_avg": "StochasticWeightAveraging(swa_lrs=...) among callbacks",
}
FORMER_NAMES = (*_UNSUPPORTED, *_READ)

# The loaders of a function: their names until Lightning 1.5, and since.
_LOADERS = {
    "fit": ("train_dataloader", "train_dataloaders"),
    "validate": ("val_dataloaders", "dataloaders"),
    "test": ("test_dataloaders", "dataloaders"),
}


def loaders_given(function: str, loaders: Any, others: dict[str, Any]) -> Any:
    """Return the loaders of a call, which may have the name that they had in Lightning 1.x.

    Args:
        function: the function that is called.
        loaders: those of the name that they have now; None if there are none.
        others: arguments that it does not have otherwise; the loaders are taken out of them.
    """
    former, name = _LOADERS[function]
    if loaders is not None or former not in others:
        return loaders
    notify_user(f"nightbus: {function}({former}=...) means {name}=...; write that instead")
    return others.pop(former)


"""Arguments of Lightning's Trainer that this one does not have."""


def _folder_and_name(filepath: Any) -> dict[str, str]:
    """Return what the ``filepath`` of a ModelCheckpoint means: a folder that exists, or a name.

    Nothing if it is no path.
    """
    if not isinstance(filepath, str | os.PathLike):
        return {}
    path = os.fspath(filepath)
    if os.path.isdir(path):
        return {"dirpath": path}
    dirpath, filename = os.path.split(os.path.realpath(path))
    return {"dirpath": dirpath, "filename": filename}


_OF_CALLBACKS: dict[str, dict[str, _Unsupported]] = {
    "ModelCheckpoint": {
        "filepath": _Unsupported("dirpath= and filename=", (None, ""), turns=_folder_and_name),
        "prefix": _Unsupported("filename=, with the prefix in it", (None, "")),
        "period": _Unsupported("every_n_epochs="),
    },
}

# Arguments of callbacks -> those that have taken their place.
_NOW = {"filepath": ("dirpath", "filename"), "period": ("every_n_epochs",)}

# Arguments that take a number of batches or a share of them -> what 1 does, what 1.0 does.
_ONE_OR_ALL = {
    **dict.fromkeys(
        (
            "limit_train_batches",
            "limit_val_batches",
            "limit_test_batches",
            "limit_predict_batches",
            "overfit_batches",
        ),
        ("reads one batch", "reads all batches"),
    ),
    "val_check_interval": ("validates after each batch", "validates at the end of an epoch"),
}
# Arguments for which None is a value.
_NONE_IS_A_VALUE = ("check_val_every_n_epoch",)


def takes_former_arguments(init: Callable[P, None]) -> Callable[P, None]:
    """Have a Trainer's ``__init__`` accept arguments that mean the default, and None for it.

    The attribute ``_arguments`` of the object has what it was called with, defaults included,
    ``_defaults`` the defaults as the log has them, ``_given_formerly`` the arguments of Lightning
    1.x, and ``_former`` those of them that have a counterpart elsewhere. The annotations allow None
    from then on, for command lines that are made of them.
    """
    defaults = {
        name: parameter.default
        for name, parameter in signature(init).parameters.items()
        if parameter.kind is Parameter.KEYWORD_ONLY
    }

    plain_defaults = as_plain(defaults)
    init.__annotations__ = {
        name: hint | None if name in defaults else hint
        for name, hint in init.__annotations__.items()
    }

    @wraps(init)
    def __init__(self: Any, *args: Any, **given: Any) -> None:
        if args:
            kind = type(args[0]).__name__
            raise UsageError(
                f"Trainer takes its arguments by name, and got {kind} without one; the module "
                "and the data go to trainer.fit(module, ...)"
            )
        given = {**_from_environment(defaults), **given}
        self._given_formerly = {name: given[name] for name in FORMER_NAMES if name in given}
        self._former = {name: given.pop(name) for name in _READ if name in given}
        if given.get("weights_summary") == "full":  # a callback shows it
            self._former["weights_summary"] = given.pop("weights_summary")
        _separate_strategy(given)
        _collect_callbacks(given)
        _leave_out_checkpoint_io(given)
        settled = settle(given, defaults)
        self._arguments = {**defaults, **settled}
        _say_one_or_all(given)
        self._defaults = plain_defaults
        init(self, *args, **settled)

    return __init__  # type: ignore[return-value]


def _from_environment(names: Iterable[str]) -> dict[str, Any]:
    """Return the arguments that variables such as PL_TRAINER_MAX_EPOCHS give, as Lightning does.

    Args:
        names: of the Trainer's arguments.
    """
    found = {}
    for name in names:
        text = os.environ.get(f"{_VARIABLE}{name.upper()}")
        if text is not None:
            try:
                found[name] = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                found[name] = text
    return found


def settle(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given in terms of the Trainer's own arguments.

    Args:
        given: arguments of the user.
        defaults: of the Trainer's arguments.

    Raises:
        UnsupportedArgumentError: an argument of Lightning has a value that is not supported.
        UsageError: an argument is unknown.
    """
    settled: dict[str, Any] = {}
    implied: dict[str, Any] = barebones_arguments(given) if given.get("barebones") else {}
    for name, value in given.items():
        if name in defaults:
            is_default = value is None and name not in _NONE_IS_A_VALUE
            if not (is_default and name in implied):
                settled[name] = defaults[name] if is_default else value
        elif name in _UNSUPPORTED:
            implied |= meaning("Trainer", name, value, _UNSUPPORTED[name])
        else:
            raise _unknown("Trainer", name, list(defaults))
    return {**implied, **settled}


def check_former(callback: str, given: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Return what arguments of one of Lightning's callbacks mean in those that it has here.

    Args:
        callback: its name.
        given: the arguments that the class here does not have.
        known: the arguments that it has.

    Raises:
        UnsupportedArgumentError: a value is not supported.
        UsageError: there is no such argument.
    """
    own: dict[str, Any] = {}
    for name, value in given.items():
        argument = _OF_CALLBACKS.get(callback, {}).get(name)
        if argument is None:
            raise _unknown(callback, name, known)
        own |= meaning(callback, name, value, argument)
    return own


def check_not_both(
    callback: str, former: Mapping[str, Any], own: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    """Check that no argument under its former name contradicts one under the name it has now.

    Args:
        callback: the callback's name.
        former: the arguments that the class here does not have.
        own: what they mean in those that it has.
        given: those that it has; None for one that was not given.

    Raises:
        UsageError: one does.
    """
    for name, value in former.items():
        for other in _NOW.get(name, ()):
            if value not in (None, "") and given[other] not in (None, own.get(other)):
                raise UsageError(
                    f"{callback}({name}={value!r}, {other}={given[other]!r}): the two contradict "
                    f"each other; leave {name}= out"
                )


def mode_of(callback: str, mode: str, monitor: str | None) -> str:
    """Return which values are better: those of accuracies in the mode ``auto`` of Lightning 1.2.

    Args:
        callback: the callback's name.
        mode: its argument.
        monitor: the metric.

    Raises:
        UsageError: there is no such mode.
    """
    if mode == "auto":
        is_accuracy = monitor is not None and ("acc" in monitor or monitor.startswith("fmeasure"))
        meant = "max" if is_accuracy else "min"
        _say_what_is_meant(callback, "mode", mode, {"mode": meant})
        return meant
    check_choice("mode", mode, ("min", "max"))
    return mode


def former_argument(owner: str, name: str) -> _Unsupported | None:
    """Return what is known of an argument that nightbus does not have.

    Args:
        owner: ``Trainer``, or a callback's class.
        name: the argument.
    """
    return (_UNSUPPORTED if owner == "Trainer" else _OF_CALLBACKS.get(owner, {})).get(name)


def default_of_former(name: str) -> Any:
    """Return the value that one of FORMER_NAMES has if it is not given.

    Args:
        name: the argument.
    """
    return _UNSUPPORTED[name].same[0] if name in _UNSUPPORTED else None


def _unknown(owner: str, name: str, known: Sequence[str]) -> UsageError:
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return ArgumentTypeError(
        f"{owner}.__init__() got an unexpected keyword argument {name!r}{hint}"
    )


def meaning(owner: str, name: str, value: Any, argument: _Unsupported) -> Mapping[str, Any]:
    """Return the arguments that mean the same as a value of a former one.

    Args:
        owner: ``Trainer``, or a callback's class.
        name: the former argument.
        value: its value.
        argument: what is known of it.

    Raises:
        UnsupportedArgumentError: nothing means the same.
    """
    for meant, own in argument.means:
        if _is_same(value, meant):
            return own
    if any(same is _ANY or _is_same(value, same) for same in argument.same):
        return {}
    renamed = {argument.renamed: value} if argument.renamed else {}
    if own := argument.turns(value) if argument.turns else renamed:
        _say_what_is_meant(owner, name, value, own)
        return own
    shown = repr(value) if isinstance(value, bool | int | float | str | list | tuple) else "..."
    raise UnsupportedArgumentError(
        f"{owner}({name}={shown}) is not supported; use instead: {argument.instead}"
    )


def _say_one_or_all(given: Mapping[str, Any]) -> None:
    """Say what 1 and 1.0 mean in arguments that take a number of batches or a share of them.

    Args:
        given: arguments of the user.
    """
    for name, (one, whole) in _ONE_OR_ALL.items():
        value = given.get(name)
        if type(value) is int and value == 1:
            notify_once(f"nightbus: Trainer({name}=1) {one}; 1.0 {whole}")
        elif type(value) is float and value == 1.0:
            notify_once(f"nightbus: Trainer({name}=1.0) {whole}; 1 {one}")


def _separate_strategy(given: dict[str, Any]) -> None:
    """Give the strategy that is named as ``accelerator`` to its own argument."""
    named: Any = given.get("accelerator")
    if hasattr(named, "argument"):  # one of Lightning's accelerators, see compat
        if not named.argument:
            raise UnsupportedArgumentError(
                f"accelerator={type(named).__name__}(): an Accelerator of your own is not "
                "supported; use 'auto', 'cpu', 'gpu' or 'mps'"
            )
        named = given["accelerator"] = named.argument
    own = _FORMER_ACCELERATORS.get(named) if isinstance(named, str) else None
    if own is not None:
        _say_what_is_meant("Trainer", "accelerator", given.pop("accelerator"), own)
        given |= own


def _collect_callbacks(given: dict[str, Any]) -> None:
    """Put callbacks among the others that Lightning 1.0 had arguments of their own for."""
    for name in ("early_stop_callback", "checkpoint_callback"):
        if _is_of(given.get(name), "Callback"):
            callback = given.pop(name)
            others = given.get("callbacks") or []
            listed = [others] if _is_of(others, "Callback") else [*others]
            given["callbacks"] = [*listed, callback]
            kind = type(callback).__name__
            notify_user(
                f"nightbus: Trainer({name}={kind}(...)) means callbacks=[{kind}(...)]; write that "
                "instead"
            )


def _leave_out_checkpoint_io(given: dict[str, Any]) -> None:
    """Take no notice of a plugin that writes checkpoints as Lightning does without one, and say so.

    One that writes them in a way of its own stays, and is refused.
    """
    plugins = given.get("plugins")
    listed = plugins if isinstance(plugins, list | tuple) else [plugins]
    others = [plugin for plugin in listed if not _writes_as_usual(plugin)]
    if len(others) < len(listed):
        given["plugins"] = others
        notify_once(
            "nightbus: plugins=[TorchCheckpointIO()] is not called: checkpoints are written and "
            "read in one format; leave it out"
        )


def _writes_as_usual(plugin: Any) -> bool:
    # By its name: the class is in a room above this one.
    usual = [kind for kind in type(plugin).__mro__ if kind.__name__ == "TorchCheckpointIO"]
    return bool(usual) and type(plugin).save_checkpoint is usual[0].save_checkpoint  # type: ignore[attr-defined]


def _say_what_is_meant(owner: str, name: str, value: Any, own: Mapping[str, Any]) -> None:
    shown = ", ".join(f"{known}={meant!r}" for known, meant in own.items())
    notify_user(f"nightbus: {owner}({name}={value!r}) means {shown}; write that instead")


def _is_same(value: Any, other: Any) -> bool:
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    return type(value) is type(other) and bool(value == other)
