"""Calls of an experiment's methods in a run: recorded, so that the log and all sinks have them."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from .logger import RecordedLogger

Counterpart = Callable[..., None]


def record_calls(
    logger: RecordedLogger, experiment: Any, counterparts: Mapping[str, Counterpart]
) -> None:
    """Have methods of an experiment record what they are called with, while a run is open.

    The logger writes it when it comes back on the bus thread. Methods without a counterpart write
    at once.

    Args:
        logger: owner of the experiment.
        experiment: its methods are replaced.
        counterparts: name of a method -> what records its arguments, after the logger.
    """
    for name, counterpart in counterparts.items():
        setattr(experiment, name, _recorded(logger, getattr(experiment, name), counterpart))


def _recorded(
    logger: RecordedLogger, method: Callable[..., Any], counterpart: Counterpart
) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if logger.is_recorded:
            return counterpart(logger, *args, **kwargs)
        return method(*args, **kwargs)

    return call
