"""The library's own messages: structlog, quiet unless NIGHTBUS_LOG asks for more."""

import logging
import os
import sys
from typing import Any

import structlog

from .errors import UsageError

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


def set_up_logging() -> None:
    """Send nightbus' messages to stderr, from the level in NIGHTBUS_LOG on (default: warning).

    Does nothing when the program has configured structlog itself.

    Raises:
        UsageError: NIGHTBUS_LOG is not a level.
    """
    if structlog.is_configured():
        return
    name = os.environ.get("NIGHTBUS_LOG", "warning").lower()
    if name not in LEVELS:
        raise UsageError(f"NIGHTBUS_LOG={name!r}: expected one of {', '.join(LEVELS)}")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[name]),
        logger_factory=_StderrLoggerFactory(),
    )


class _StderrLoggerFactory:
    """Looks up sys.stderr at each message: the progress bar stands in for it while it runs."""

    def __call__(self, *_: Any) -> structlog.PrintLogger:
        return structlog.PrintLogger(sys.stderr)
