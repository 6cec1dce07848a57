"""Checks and converts arguments of the Trainer and of callbacks that have several forms."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeVar

import torch

from ..bus.errors import ArgumentTypeError, UsageError
from ..bus.secrets.redaction import redact_setting, without_secrets

T = TypeVar("T")

# Whose text says what they are; other objects are known by their class.
_TELLING = (
    *(bool, int, float, str, PurePath, date, timedelta, Enum, Mapping),
    *(torch.dtype, torch.device),
)

_TAKEN_BY = {"Callback": "callbacks", "Sink": "sinks", "Actor": "actors"}  # by class
_LIGHTNING = ("lightning", "pytorch_lightning")


_LOADERS_ELSEWHERE = {
    "train_dataloader": "train_dataloaders",
    "train_loader": "train_dataloaders",
    "train_loaders": "train_dataloaders",
    "val_dataloader": "val_dataloaders",
    "val_loader": "val_dataloaders",
    "val_loaders": "val_dataloaders",
    "module": "model",
    "dm": "datamodule",
    "data_module": "datamodule",
    "data": "datamodule",
    "resume_from_checkpoint": "ckpt_path",
    "checkpoint": "ckpt_path",
    "checkpoint_path": "ckpt_path",
    "test_loader": "dataloaders",
    "loader": "dataloaders",
}


def refuse_unknown_of(
    function: str, unknown: Mapping[str, Any], method: Callable[..., Any]
) -> None:
    """Refuse arguments that ``fit`` or a similar function does not take.

    Args:
        function: its name.
        unknown: the arguments that it does not take.
        method: the function.

    Raises:
        ArgumentTypeError: there is such an argument.
    """
    if not unknown:
        return
    import difflib
    import inspect

    known = [name for name in inspect.signature(method).parameters if name != "unknown"]
    for name in unknown:
        former = _LOADERS_ELSEWHERE.get(name)
        near = difflib.get_close_matches(name, known)
        if former in known:
            hint = f"use {former}="
        elif "dataloaders" in known and "load" in name:
            hint = "use dataloaders="
        elif near:
            hint = f"did you mean {' or '.join(near)}?"
        else:
            hint = (
                f"it takes {', '.join(known)}; settings for all runs are arguments of the Trainer"
            )
        raise ArgumentTypeError(f"{function}() has no argument {name!r}; {hint}")


def listed(argument: str, given: Any, kind: type[T], what: str) -> list[T]:
    """Return what was given as a list; a single object becomes a list of one.

    Args:
        argument: name of the argument.
        given: an object, several, or None.
        kind: the class that each has to be of.
        what: the class for people.

    Raises:
        UsageError: an object is of another class.
    """
    is_several = isinstance(given, Iterable) and not isinstance(given, str | kind)
    entries = list(given) if is_several else [] if given is None else [given]
    for entry in entries:
        if isinstance(entry, type):
            raise UsageError(
                f"{argument} has the class {entry.__name__}; pass an instance: {entry.__name__}()"
            )
        if not isinstance(entry, kind):
            raise UsageError(
                f"{argument}: expected {what}, not {described(entry)}{_elsewhere(entry)}"
            )
    return entries


def _elsewhere(given: object) -> str:
    """Return which argument of the Trainer takes an object; empty if none does."""
    package = __name__.partition(".")[0]
    for base in type(given).__mro__:
        if base.__module__.partition(".")[0] == package and base.__name__ in _TAKEN_BY:
            return f"; pass it to {_TAKEN_BY[base.__name__]}="
    return ""


def described(given: object) -> str:
    """Return what an object is, for an error; for a class of Lightning, what to use instead."""
    if isinstance(given, type):
        return f"the class {given.__name__}; pass an instance of it: {given.__name__}(...)"
    name = type(given).__name__
    for base in type(given).__mro__:
        package = base.__module__.partition(".")[0]
        if package not in _LIGHTNING:
            continue
        if base is type(given):
            return f"{name}, which is that of {package}; import nightbus's own"
        return f"{name}, whose {base.__name__} is that of {package}; derive it from nightbus's own"
    return name


def parse_max_time(max_time: Any) -> float | None:
    """Return a time limit in seconds, see ``parse_time``; None for no limit."""
    return None if max_time is None else parse_time("max_time", max_time)


def parse_time(name: str, time: Any) -> float:
    """Return a duration in seconds.

    Args:
        name: the argument's name, for errors.
        time: ``"DD:HH:MM:SS"``, a timedelta, or a dict of its arguments.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(time, timedelta):
        return time.total_seconds()
    if isinstance(time, Mapping):
        try:
            return timedelta(**time).total_seconds()
        except TypeError:
            raise UsageError(
                f"{name}={dict(time)!r}: expected keys of timedelta, such as hours"
            ) from None
    parts = str(time).split(":")
    if len(parts) == 4 and all(part.isdigit() for part in parts):
        days, hours, minutes, seconds = map(int, parts)
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    raise UsageError(
        f"{name}={time!r}: expected 'DD:HH:MM:SS', a timedelta, or a dict such as {{'hours': 8}}"
    )


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """Return a value if it is one of the choices.

    Args:
        name: the argument's name, for errors.
        value: the value.
        choices: the allowed values.

    Raises:
        UsageError: it is not one of them.
    """
    if value not in choices:
        shown = ", ".join(repr(choice) for choice in choices)
        raise UsageError(f"{name}={value!r}: expected one of {shown}")
    return value


def check_at_least(name: str, value: int | None, least: int) -> int | None:
    """Return a number if it is None or an int of at least ``least``.

    Args:
        name: the argument's name, for errors.
        value: the number.
        least: the smallest allowed number.

    Raises:
        UsageError: it is not.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name}={value!r}: expected an int of at least {least}")
    return value


def check_not_negative(name: str, value: float | None) -> float | None:
    """Return a number if it is None or at least 0.

    Args:
        name: the argument's name, for errors.
        value: the number.

    Raises:
        ArgumentTypeError: it is no number.
        UsageError: it is less.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentTypeError(f"{name}={value!r}: expected a number of at least 0, or None")
    if not value >= 0:
        raise UsageError(f"{name}={value!r}: expected a number of at least 0, or None")
    return value


def check_seconds(name: str, value: float | None) -> float | None:
    """Return a time if it is None or a positive number of seconds.

    Args:
        name: the argument's name, for errors.
        value: the time, in s.

    Raises:
        UsageError: it is not.
    """
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < float("inf"):
        raise UsageError(f"{name}={value!r}: expected a positive number of seconds, or None")
    return value


def as_plain(arguments: Mapping[str, Any]) -> dict[str, bool | int | float | str | None]:
    """Return arguments as plain values for the log, without secrets.

    Paths, dates, enums and the like are texts; other objects are known by their class. Secrets are
    recognised by the argument's name, and in texts by their form.
    """
    plain: dict[str, bool | int | float | str | None] = {}
    for name, value in redact_setting("", arguments).items():
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:  # more than a log holds
            plain[name] = _shown(value)
        elif value is None or isinstance(value, bool | int | float | str):
            plain[name] = value
        elif isinstance(value, list | tuple):
            plain[name] = ", ".join(_shown(entry) for entry in value)
        else:
            plain[name] = _shown(value)
    return plain


def _shown(value: Any) -> str:
    if isinstance(value, _TELLING):
        return without_secrets(str(value))  # texts of objects may have secrets
    return type(value).__name__
