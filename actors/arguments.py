"""Arguments of the Trainer and of callbacks that come in several forms."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from ..bus.errors import UnsupportedArgumentError, UsageError
from ..bus.secrets.redaction import redact_setting, without_secrets

T = TypeVar("T")

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
    """Refuse arguments that ``fit`` or one of the others does not take.

    Args:
        function: which.
        unknown: what it was given beside what it takes.
        method: the same, as it is called.

    Raises:
        UsageError: there is one.
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
            hint = f"it takes {', '.join(known)}; what concerns all runs goes to the Trainer"
        raise UsageError(f"{function}() has no argument {name!r}; {hint}")


def listed(argument: str, given: Any, kind: type[T], what: str) -> list[T]:
    """What was given as a list; one object is a list of one.

    Args:
        argument: whose value it is.
        given: an object, several, or None.
        kind: what each has to be.
        what: the same for people.

    Raises:
        UsageError: something is not.
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
    """Which argument of the Trainer takes what was given to another; empty when none does."""
    package = __name__.partition(".")[0]
    for base in type(given).__mro__:
        if base.__module__.partition(".")[0] == package and base.__name__ in _TAKEN_BY:
            return f"; give it to {_TAKEN_BY[base.__name__]}="
    return ""


def described(given: object) -> str:
    """What something is, for an error; of what is Lightning's, what to take in its place."""
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


def parse_devices(devices: Any) -> int | None:
    """Which of several devices of a kind is meant, from 0; None where any is.

    Args:
        devices: ``"auto"``, 1, -1 for all there are, or a list or text with the number of one.

    Raises:
        UnsupportedArgumentError: several are meant.
        UsageError: none is.
    """
    given = devices
    if isinstance(devices, str) and devices.strip() not in ("auto", ""):
        numbers = devices.strip().rstrip(",").split(",")
        if all(number.strip().lstrip("-").isdigit() for number in numbers):
            several = "," in devices
            devices = [int(number) for number in numbers] if several else int(numbers[0])
    if devices in ("auto", None) or (type(devices) is int and devices in (1, -1)):
        return None
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        if len(devices) == 1 and type(devices[0]) is int and devices[0] >= 0:
            return int(devices[0])
        if len(devices) > 1 or list(devices) == [-1]:
            devices = 2
    if type(devices) is int and devices > 1:
        raise UnsupportedArgumentError(
            f"devices={given!r}: one process with one device is supported so far; use devices=1"
        )
    raise UsageError(
        f"devices={given!r}: expected 1, 'auto', or a list with the number of one device, [0] say"
    )


def parse_max_time(max_time: Any) -> float | None:
    """A time limit in seconds; see ``parse_time``. None for no limit."""
    return None if max_time is None else parse_time("max_time", max_time)


def parse_time(name: str, time: Any) -> float:
    """A length of time in seconds.

    Args:
        name: the argument, for the error.
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
    """A value as given, if it is one of the choices.

    Raises:
        UsageError: it is not.
    """
    if value not in choices:
        shown = ", ".join(repr(choice) for choice in choices)
        raise UsageError(f"{name}={value!r}: expected one of {shown}")
    return value


def check_at_least(name: str, value: int | None, least: int) -> int | None:
    """A number as given, if it is an int of at least ``least``, or None.

    Raises:
        UsageError: it is not.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name}={value!r}: expected an int of at least {least}")
    return value


def check_not_negative(name: str, value: float | None) -> float | None:
    """A number as given, if it is one of at least 0, or None.

    Raises:
        UsageError: it is not.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise UsageError(f"{name}={value!r}: expected a number of at least 0, or None")
    return value


def check_seconds(name: str, value: float | None) -> float | None:
    """A time as given, if it is a positive number of seconds, or None.

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
    """Arguments as the log keeps them: plain values as they are, others by their class, and texts
    whose name says that they are secret struck out.
    """
    plain: dict[str, bool | int | float | str | None] = {}
    for name, value in redact_setting("", arguments).items():
        if value is None or isinstance(value, bool | int | float | str):
            plain[name] = value
        elif isinstance(value, list | tuple):
            plain[name] = ", ".join(_shown(entry) for entry in value)
        else:
            plain[name] = _shown(value)
    return plain


def _shown(value: Any) -> str:
    if isinstance(value, bool | int | float | str | timedelta | Mapping):
        return without_secrets(str(value))  # what objects in it say of themselves
    return type(value).__name__
