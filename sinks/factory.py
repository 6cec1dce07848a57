"""Make sinks of what the user passed to the Trainer."""

from collections.abc import Iterable
from typing import Any

from ..bus.errors import UsageError
from .csv import CSV
from .function_sink import FunctionSink
from .logger_sink import LoggerSink
from .sink import Sink


def make_sinks(given: Any, logger: Any) -> list[Sink]:
    """Return the sinks of a trainer.

    Args:
        given: a sink, a function that is called with each put, or several of these.
        logger: True adds a CSV sink, if there is none; False adds none. Or a logger of Lightning,
            a sink, or several of these, in any iterable.

    Raises:
        UsageError: something is none of these.
    """
    entries = given if isinstance(given, Iterable) else [given]
    sinks = [sink_of(entry, "sinks") for entry in entries]
    if logger is True:
        if not any(isinstance(sink, CSV) for sink in sinks):
            sinks.append(CSV())
    elif logger is not False and logger is not None:
        is_one = isinstance(logger, Sink) or callable(getattr(logger, "log_metrics", None))
        several = isinstance(logger, Iterable) and not isinstance(logger, str) and not is_one
        sinks += [sink_of(entry, "logger") for entry in (logger if several else [logger])]
    return sinks


def sink_of(entry: Any, where: str) -> Sink:
    """Return the sink that one entry means.

    Args:
        entry: what the user gave.
        where: the argument, ``sinks`` or ``logger``.

    Raises:
        UsageError: it means none.
    """
    if isinstance(entry, Sink):
        return entry
    if isinstance(entry, type):
        raise UsageError(
            f"{where} has the class {entry.__name__}; pass an instance: {entry.__name__}()"
        )
    if callable(getattr(entry, "log_metrics", None)):
        return LoggerSink(entry)
    if where == "sinks" and callable(entry):
        return FunctionSink(entry)
    expected = {
        "sinks": "a nightbus.Sink, or a function called with each put; actors go to actors=",
        "logger": "True, False, a logger with log_metrics(metrics, step), or a nightbus.Sink",
    }
    raise UsageError(f"{where} has {type(entry).__name__}; expected {expected[where]}")
