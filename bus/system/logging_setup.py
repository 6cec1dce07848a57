"""The library's own messages: structlog, quiet unless NIGHTBUS_LOG asks for more.

structlog is loaded with the first message that is shown: it takes 80 ms, and most processes have
nothing to say.
"""

import logging
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Protocol

from ..errors import UsageError
from .import_rng_guard import random_numbers_elsewhere
from .streams import is_terminal, notify_user

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


class Where(Protocol):
    """Where training is, as messages name it."""

    rank: int
    epoch: int
    step: int


class _Context:
    """What every message says besides its own words."""

    run: str = ""
    place: Where | None = None


def level() -> int:
    """From which level on messages are shown.

    Raises:
        UsageError: NIGHTBUS_LOG is not a level.
    """
    name = os.environ.get("NIGHTBUS_LOG", "warning").lower()
    if name not in LEVELS:
        raise UsageError(f"NIGHTBUS_LOG={name!r}: expected one of {', '.join(LEVELS)}")
    return LEVELS[name]


def bind_run(run: str, place: Where | None) -> None:
    """Have messages name a run and the rank, epoch and step it is at; ``("", None)`` ends that."""
    _Context.run, _Context.place = run, place


@contextmanager
def bound_run() -> Iterator[None]:
    """Messages name within it what ``bind_run`` says, and behind it what they named before."""
    run, place = _Context.run, _Context.place
    try:
        yield
    finally:
        bind_run(run, place)


class Logger:
    """A module's logger; get it with ``get_logger``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logger: Any = None

    def debug(self, event: str, **values: Any) -> None:
        """For people who look into nightbus itself."""
        self._say(logging.DEBUG, "debug", event, values)

    def info(self, event: str, **values: Any) -> None:
        """What may be interesting now and then."""
        self._say(logging.INFO, "info", event, values)

    def warning(self, event: str, **values: Any) -> None:
        """What the user should know."""
        self._say(logging.WARNING, "warning", event, values)

    def error(self, event: str, **values: Any) -> None:
        """What went wrong in nightbus itself."""
        self._say(logging.ERROR, "error", event, values)

    def _say(self, severity: int, method: str, event: str, values: dict[str, Any]) -> None:
        if severity < level():
            return
        try:
            if self._logger is None:
                self._logger = _structlog_logger(self._name)
            getattr(self._logger, method)(event, **values)
        except Exception as error:
            # structlog cannot be loaded while there is no file descriptor, or what the program
            # has it do fails. A message is no reason for a run to end.
            _say_plainly(method, event, values, error)


def get_logger(name: str) -> Logger:
    """A module's logger."""
    return Logger(name)


def _structlog_logger(name: str) -> Any:
    """structlog as the program configured it, or else as nightbus likes it: on stderr."""
    with random_numbers_elsewhere():
        import structlog

    if structlog.is_configured():
        return structlog.get_logger(name)
    processors: list[Any] = [
        _add_context,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(
            colors=is_terminal(sys.stderr), exception_formatter=structlog.dev.plain_traceback
        ),
    ]
    return structlog.wrap_logger(_Stderr(), processors=processors)


def _say_plainly(method: str, event: str, values: dict[str, Any], error: Exception) -> None:
    """Say without structlog what it would have said."""
    failure = values.get("exc_info")
    if isinstance(failure, BaseException):
        values = {**values, "exc_info": f"{type(failure).__name__}: {failure}"}
    known = _add_context(None, method, dict(values))
    said = "".join(f" {name}={value!r}" for name, value in known.items())
    why = f"{type(error).__name__}: {error}"
    notify_user(f"nightbus: {method}: {event}{said} (without structlog: {why})")


def _add_context(
    logger: Any, method: str, values: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if _Context.run:
        values["run"] = _Context.run
    place = _Context.place
    if place is not None:
        values.update(rank=place.rank, epoch=place.epoch, step=place.step)
    return values


class _Stderr:
    """Looks up sys.stderr at each message: the progress bar stands in for it while it runs."""

    def _print(self, message: str) -> None:
        notify_user(message)

    debug = info = warning = error = _print
