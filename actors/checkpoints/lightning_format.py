"""What in a checkpoint corresponds to what in one of Lightning 2, in both directions.

A checkpoint of Lightning is one dict. It names a callback by its class and, for some classes, the
arguments that tell two of them apart; what a callback or hook adds under a key of its own stays
there. Learned from the files that Lightning 2.6 writes and from its documentation,
https://lightning.ai/docs/pytorch/stable/common/checkpointing_basic.html.
"""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from ...bus.errors import CheckpointError
from ...bus.secrets.redaction import redact_setting
from ...bus.secrets.texts import STRUCK_OUT
from .format import check_carried
from .weight_names import plain_names

VERSION = "2.6.0"
"""The version of Lightning whose format is written; its files carry it."""

_SCALER = "MixedPrecision"
_FORMER_SCALER = "native_amp_scaling_state"  # before 2.0
_COUNTED = ("ready", "started", "processed", "completed")
# Of Lightning's files, without a counterpart or taken apart below.
_TAKEN_APART = frozenset(
    {
        "pytorch-lightning_version",
        "hparams_name",
        "hparams_type",
        "datamodule_hparams_name",
        "datamodule_hparams_type",
        "loops",
        "callbacks",
        _SCALER,
        _FORMER_SCALER,
    }
)
_SAME = frozenset(
    {
        "state_dict",
        "epoch",
        "global_step",
        "optimizer_states",
        "lr_schedulers",
        "hyper_parameters",
        "datamodule_hyper_parameters",
    }
)
# What only a checkpoint of nightbus has; a foreign file must not bring it.
OURS_ALONE = frozenset(
    {
        "run", "attempt", "seq", "saved_in_epoch", "kept", "imported", "left_out",
        "hparams_argument", "hparams_form", "datamodule_hparams_argument",
        "datamodule_hparams_form", "optimizer_classes", "scaler", "gradients",
        "loops", "optimization", "loaders", "metrics", "torchmetrics", "actors",
        "actor_classes", "datamodule", "rng", "modes", "batches",
        "world_size", "ranks",
    }
)  # fmt: skip
_NOT_EXPORTED = {
    "rng": "random numbers: Lightning draws others after resuming",
    "gradients": "gradients of an unfinished accumulation",
    "torchmetrics": "what torchmetrics have gathered in the epoch",
}


class Converted(NamedTuple):
    """A checkpoint in another format.

    Attributes:
        content: the checkpoint.
        left_out: what is not in it, and why, one line each.
    """

    content: dict[str, Any]
    left_out: list[str]


# -- to Lightning ----------------------------------------------------------------------------------


def to_lightning(state: Mapping[str, Any]) -> Converted:
    """Convert the content of a checkpoint to what Lightning 2 saves.

    Args:
        state: content of a checkpoint of nightbus.

    Returns:
        The content of a file of Lightning, to be written by ``torch.save``. Without the states of
        optimizers, if the checkpoint holds only weights.
    """
    left_out: list[str] = []
    content: dict[str, Any] = {
        "epoch": saved_in_epoch(state),
        "global_step": state.get("global_step", 0),
        "pytorch-lightning_version": VERSION,
        "state_dict": state["state_dict"],
    }
    for prefix in ("", "datamodule_"):
        values = state.get(f"{prefix}hyper_parameters")
        if values:
            content[f"{prefix}hyper_parameters"] = dict(values)
            content[f"{prefix}hparams_name"] = state.get(f"{prefix}hparams_argument") or "kwargs"
    content |= {name: value for name, value in state.items() if _is_users(name)}
    if "optimizer_states" not in state:
        return Converted(content, left_out)
    content["optimizer_states"] = list(state["optimizer_states"])
    content["lr_schedulers"] = list(state.get("lr_schedulers", ()))
    if "loops" not in state:  # it was imported, and never trained on
        return Converted(content, left_out)
    content["loops"] = {"fit_loop": _fit_loop_of(state)}
    content["global_step"] = state["optimization"]["step"]["total"]["completed"]
    content["callbacks"], left = _callbacks_of(state)
    left_out += left
    if state.get("scaler"):
        content[_SCALER] = state["scaler"]
    if state.get("datamodule"):
        name = state.get("actor_classes", {}).get("datamodule", "")
        if name:
            content[name] = state["datamodule"]
        else:
            left_out.append("datamodule: the checkpoint does not have its class's name")
    left_out += [f"{key}: {what}" for key, what in _NOT_EXPORTED.items() if state.get(key)]
    if _count(state, "batch_progress")["current"]["ready"] and not _is_between_epochs(state):
        left_out.append("loaders: the place in the data; Lightning begins to read it anew")
    if state.get("world_size", 1) > 1:
        left_out.append("ranks: what differs between ranks, such as random numbers")
    return Converted(content, left_out)


def saved_in_epoch(state: Mapping[str, Any]) -> int:
    """Return what Lightning counts as the epoch of a checkpoint.

    It is the epoch that ran, also if it has just ended; after training, it is the number of epochs.

    Args:
        state: content of a checkpoint of nightbus.
    """
    epochs = int(state.get("epoch", 0))
    if "saved_in_epoch" in state:
        return int(state["saved_in_epoch"])
    return epochs - 1 if epochs and "loops" in state and _is_between_epochs(state) else epochs


@contextmanager
def as_in_lightning(state: dict[str, Any]) -> Iterator[None]:
    """Have ``epoch`` mean what it means in Lightning, for the hooks that get a checkpoint.

    Args:
        state: content of a checkpoint of nightbus.
    """
    if "epoch" not in state:
        yield
        return
    epochs, shown = state["epoch"], saved_in_epoch(state)
    state["epoch"] = shown
    yield
    if state.get("epoch") == shown:  # unless the user's hook has replaced it
        state["epoch"] = epochs


def _is_users(name: str) -> bool:
    """Return whether an entry was added by the user's hooks."""
    return name not in OURS_ALONE and name not in _SAME and name not in _TAKEN_APART


def _fit_loop_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counters of the training loops under Lightning's names."""
    steps = state["optimization"]
    stepped = _of(steps.get("step"), ("ready", "completed"))
    scheduled = _of(steps.get("scheduler_step"), ("completed",))
    for part in scheduled.values():
        part["ready"] = part["completed"]
    zeroed = _of(steps.get("zero_grad"), ("completed",))
    for part in zeroed.values():
        part["ready"] = part["started"] = part["completed"]
    is_over = _is_between_epochs(state)
    by_optimizer = steps.get("steps_by_optimizer") or [stepped["total"]["completed"]]
    return {
        "state_dict": {},
        "epoch_progress": _count(state, "", of_epochs=True),
        "epoch_loop.state_dict": {"_batches_that_stepped": max(by_optimizer)},
        "epoch_loop.batch_progress": {
            **_count(state, "batch_progress"),
            "is_last_batch": is_over,
        },
        "epoch_loop.scheduler_progress": scheduled,
        "epoch_loop.automatic_optimization.state_dict": {},
        "epoch_loop.automatic_optimization.optim_progress": {
            "optimizer": {"step": stepped, "zero_grad": zeroed}
        },
        "epoch_loop.manual_optimization.state_dict": {},
        "epoch_loop.manual_optimization.optim_step_progress": stepped,
        "epoch_loop.val_loop.state_dict": {},
        "epoch_loop.val_loop.batch_progress": {
            **_of(_at(state, "fit_loop", "epoch_loop", "val_loop", "epoch_loop", "batch_progress")),
            "is_last_batch": True,
        },
    }


def _count(state: Mapping[str, Any], name: str, of_epochs: bool = False) -> dict[str, Any]:
    if of_epochs:
        return _of(_at(state, "fit_loop", "epoch_progress"))
    return _of(_at(state, "fit_loop", "epoch_loop", name))


def _at(state: Mapping[str, Any], *names: str) -> Any:
    """Return a part of the loops' states; None if a loop of the user's has another one."""
    found: Any = state["loops"]
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _of(progress: Any, counted: Sequence[str] = _COUNTED) -> dict[str, dict[str, int]]:
    """Return total and current counts of a loop, 0 where it has none."""
    known: Mapping[str, Any] = progress if isinstance(progress, Mapping) else {}
    return {
        which: {name: int(dict(known.get(which) or {}).get(name, 0)) for name in counted}
        for which in ("total", "current")
    }


def _is_between_epochs(state: Mapping[str, Any]) -> bool:
    epochs = _count(state, "", of_epochs=True)["total"]
    return bool(epochs["ready"] == epochs["completed"])


def _callbacks_of(state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the states of callbacks under Lightning's names, and what has none."""
    classes = state.get("actor_classes", {})
    callbacks: dict[str, Any] = {}
    left_out = []
    for name, saved in state.get("actors", {}).items():
        if not saved:
            continue
        known = classes.get(name, "")
        if known == "ModelCheckpoint" or (not known and name.startswith("modelcheckpoint")):
            left_out.append(f"actors.{name}: its checkpoints are folders, not files of Lightning")
        elif known == "EarlyStopping" or (not known and name.startswith("earlystopping")):
            callbacks[_key("EarlyStopping", saved)] = _early_stopping(saved)
        elif known:
            callbacks[known if _is_address(name, known) else name] = saved
        else:
            left_out.append(f"actors.{name}: the checkpoint does not have its class's name")
    return callbacks, left_out


def _is_address(name: str, kind: str) -> bool:
    """Return whether a state is under its callback's address, not under a key of its own.

    Args:
        name: what the checkpoint calls it.
        kind: the callback's class.
    """
    return name.partition("-")[0] == kind.rpartition(".")[2].lower()


def _key(name: str, saved: Mapping[str, Any]) -> str:
    return name + repr({"monitor": saved["monitor"], "mode": saved["mode"]})


def _early_stopping(saved: Mapping[str, Any]) -> dict[str, Any]:
    score = saved["best_score"]
    return {
        "wait_count": saved["wait_count"],
        "stopped_epoch": saved["stopped_epoch"],
        "best_score": score.float() if isinstance(score, torch.Tensor) else torch.tensor(score),
        "patience": saved["patience"],
    }


# -- from Lightning --------------------------------------------------------------------------------


def from_lightning(content: Mapping[str, Any]) -> Converted:
    """Convert the content of a file of Lightning to that of a checkpoint.

    Args:
        content: what the file holds; ``state_dict`` is a mapping.

    Returns:
        The content of a checkpoint; training is resumed between two epochs.
    """
    left_out: list[str] = []
    state: dict[str, Any] = {
        "state_dict": plain_names(content["state_dict"]),
        "hyper_parameters": {},
        "global_step": int(content.get("global_step", 0)),
        "epoch": _epochs(content),
    }
    if "epoch" in content:
        state["saved_in_epoch"] = int(content["epoch"])
    for prefix in ("", "datamodule_"):
        if f"{prefix}hyper_parameters" in content:
            _take_hyperparameters(content, prefix, state, left_out)
    for name, value in content.items():
        if name in OURS_ALONE - _TAKEN_APART:
            left_out.append(f"{name}: it would be taken for nightbus's own")
        elif _is_users(name):
            _take(name, name, value, state, left_out)
    if not content.get("optimizer_states"):
        return Converted(state, left_out)
    state["optimizer_states"] = list(content["optimizer_states"])
    state["lr_schedulers"] = list(content.get("lr_schedulers", ()))
    state["imported"] = {"epochs": state["epoch"], "steps": state["global_step"]}
    scaler = content.get(_SCALER) or content.get(_FORMER_SCALER)
    if scaler:
        state["scaler"] = scaler
    state["actors"] = _actors_of(content.get("callbacks") or {}, left_out)
    if batches := _batches_of_an_epoch(content):
        left_out.append(
            f"loops: it was saved after {batches} batches of an epoch, which begins anew"
        )
    return Converted(state, left_out)


def _take_hyperparameters(
    content: Mapping[str, Any], prefix: str, state: dict[str, Any], left_out: list[str]
) -> None:
    key = f"{prefix}hyper_parameters"
    state[key] = {}
    for name, value in dict(content[key]).items():
        _take(f"{key}.{name}", name, value, state[key], left_out)
    argument = content.get(f"{prefix}hparams_name")
    if isinstance(argument, str) and argument != "kwargs":
        state[f"{prefix}hparams_argument"] = argument


def _take(place: str, name: str, value: Any, into: dict[str, Any], left_out: list[str]) -> None:
    """Take a value over without secrets, or say why not."""
    try:
        check_carried({name: value})
    except CheckpointError as error:
        left_out.append(f"{place}: {error}")
        return
    kept = redact_setting(name, value)
    if isinstance(kept, str) and kept == STRUCK_OUT and kept is not value:
        left_out.append(f"{place}: it is a secret")
        return
    if kept is not value:
        left_out.append(f"{place}: secrets in it")
    into[name] = kept


def _actors_of(callbacks: Mapping[Any, Any], left_out: list[str]) -> dict[str, Any]:
    """Return the states of callbacks by the names that they have here."""
    actors: dict[str, Any] = {}
    for key, saved in callbacks.items():
        if not saved:
            continue
        place = f"callbacks.{key}"
        name, told, options = str(key).partition("{")
        if not isinstance(key, str) or not isinstance(saved, Mapping):
            left_out.append(f"{place}: of a version before 1.5")
        elif name == "ModelCheckpoint":
            left_out.append(f"{place}: its checkpoints are files of Lightning")
        else:
            value = _translated(name, saved, _options(told + options))
            _take(place, _free(name.rpartition(".")[2].lower(), actors), value, actors, left_out)
    return actors


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """Return the name that the next participant of a class has."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _options(text: str) -> Mapping[str, Any]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _translated(name: str, saved: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    translate = _TRANSLATED.get(name)
    return dict(saved) if translate is None else translate(saved, options)


def _our_early_stopping(saved: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "monitor": options.get("monitor", saved.get("monitor")),
        "mode": options.get("mode", "min"),
        "wait_count": int(saved["wait_count"]),
        "stopped_epoch": int(saved["stopped_epoch"]),
        "best_score": torch.as_tensor(saved["best_score"], dtype=torch.float64).cpu(),
        "patience": int(saved["patience"]),
    }


_TRANSLATED: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Any]] = {
    "EarlyStopping": _our_early_stopping,
}


def _epochs(content: Mapping[str, Any]) -> int:
    """Return how many epochs it has completed; Lightning does not count the one it was saved in."""
    progress = _progress(content, "epoch_progress", "total", "processed")
    return int(content.get("epoch", -1)) + 1 if progress is None else int(progress)


def _batches_of_an_epoch(content: Mapping[str, Any]) -> int:
    """Return how many batches an unfinished epoch has completed."""
    name = "epoch_loop.batch_progress"
    is_last = _progress(content, name, "is_last_batch")
    completed = _progress(content, name, "current", "completed")
    return 0 if is_last is not False or completed is None else int(completed)


def _progress(content: Mapping[str, Any], *names: str) -> Any:
    found: Any = content
    for name in ("loops", "fit_loop", *names):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
