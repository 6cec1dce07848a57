"""The library's own messages: structlog, with a level set by NIGHTBUS_LOG.

structlog is imported with the first message that is shown: it takes 80 ms, and most processes show
none.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Protocol

from ..errors import UsageError
from .import_rng_guard import random_numbers_elsewhere
from .streams import is_terminal, notify_user

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


class Where(Protocol):
    """The place in training, as messages name it."""

    rank: int
    epoch: int
    step: int


class _Context:
    """The run and place that every message names."""

    run: str = ""
    place: Where | None = None
    rank: int = 0
    warn: Callable[[str], None] | None = None


def level() -> int:
    """Return the level from which messages are shown.

    Raises:
        UsageError: NIGHTBUS_LOG is not a level.
    """
    name = os.environ.get("NIGHTBUS_LOG", "warning").lower()
    if name not in LEVELS:
        raise UsageError(f"NIGHTBUS_LOG={name!r}: expected one of {', '.join(LEVELS)}")
    return LEVELS[name]


def bind_run(run: str, place: Where | None) -> None:
    """Have messages name a run, and the rank, epoch and step it is at.

    Args:
        run: the run's id; empty to end this.
        place: the place in training; None to end this.
    """
    _Context.run, _Context.place = run, place


def bind_rank(rank: int) -> None:
    """Have only rank 0 log what all ranks find.

    Args:
        rank: this process.
    """
    _Context.rank = rank


def warn_with(warn: Callable[[str], None]) -> None:
    """Hand warnings to a function, which shows them in a way of its own, from now on.

    Args:
        warn: given the text; may raise.
    """
    _Context.warn = warn


def hands_warnings_on() -> bool:
    """Return whether warnings go to a function of ``warn_with``, which may filter them."""
    return _Context.warn is not None


@contextmanager
def bound_run() -> Iterator[None]:
    """Restore, at its end, what messages named before."""
    run, place = _Context.run, _Context.place
    try:
        yield
    finally:
        bind_run(run, place)


class Logger:
    """A module's logger; get it with ``get_logger``.

    Args:
        name: as there.
        of_all_ranks: as there.
    """

    def __init__(self, name: str, of_all_ranks: bool) -> None:
        self._name = name
        self._of_all_ranks = of_all_ranks
        self._logger: Any = None

    def debug(self, event: str, **values: Any) -> None:
        """Log details for developers of nightbus.

        Args:
            event: the message.
            **values: named values that belong to it.
        """
        self._log(logging.DEBUG, "debug", event, values)

    def info(self, event: str, **values: Any) -> None:
        """Log what may be interesting.

        Args:
            event: the message.
            **values: named values that belong to it.
        """
        self._log(logging.INFO, "info", event, values)

    def warning(self, event: str, **values: Any) -> None:
        """Log what the user should know.

        Args:
            event: the message.
            **values: named values that belong to it.
        """
        self._log(logging.WARNING, "warning", event, values)

    def error(self, event: str, **values: Any) -> None:
        """Log a failure of nightbus itself.

        Args:
            event: the message.
            **values: named values that belong to it.
        """
        self._log(logging.ERROR, "error", event, values)

    def _log(self, severity: int, method: str, event: str, values: dict[str, Any]) -> None:
        if severity < level() or (self._of_all_ranks and _Context.rank):
            return
        if severity == logging.WARNING and _Context.warn is not None:
            _Context.warn("".join([event, *(f" {name}={value}" for name, value in values.items())]))
            return
        try:
            if self._logger is None:
                self._logger = _structlog_logger(self._name)
            getattr(self._logger, method)(event, **values)
        except Exception as error:
            # structlog cannot be imported without a file descriptor, or its configuration by the
            # program fails. A message must not end a run.
            _print_plainly(method, event, values, error)


def get_logger(name: str, of_all_ranks: bool = False) -> Logger:
    """Return a module's logger.

    Args:
        name: of the logger.
        of_all_ranks: what it logs is found by all ranks alike, so that rank 0 alone says it.
    """
    return Logger(name, of_all_ranks)


def _structlog_logger(name: str) -> Any:
    """Return structlog's logger as the program configured it, otherwise one on stderr."""
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


def _print_plainly(method: str, event: str, values: dict[str, Any], error: Exception) -> None:
    """Print a message without structlog."""
    failure = values.get("exc_info")
    if isinstance(failure, BaseException):
        values = {**values, "exc_info": f"{type(failure).__name__}: {failure}"}
    known = _add_context(None, method, dict(values))
    values_text = "".join(f" {name}={value!r}" for name, value in known.items())
    why = f"{type(error).__name__}: {error}"
    notify_user(f"nightbus: {method}: {event}{values_text} (without structlog: {why})")


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
    """Looks up sys.stderr at each message, because the progress bar replaces it while it runs."""

    def _print(self, message: str) -> None:
        notify_user(message)

    debug = info = warning = error = _print
