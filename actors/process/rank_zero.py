"""The rank of this process before there is a Trainer, and functions that rank 0 alone runs."""

from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

from ...bus.errors import UsageError
from ..ranks.joining import joined_group
from ..ranks.world import ALONE, world_of_environment

P = ParamSpec("P")
T = TypeVar("T")


def is_main() -> bool:
    """Return whether this is the process of rank 0, or trains alone; also without a Trainer.

    Before the first run it is known from the variables of the launcher.

    Raises:
        UsageError: the variables are incomplete or contradict each other.
    """
    group = joined_group()
    world = world_of_environment() if group is None else group.world
    return world is None or world.is_global_zero


def rank_zero_only(function: Callable[P, T], default: T | None = None) -> Callable[P, T | None]:
    """Make a function do nothing but on rank 0; a decorator.

    Args:
        function: called on rank 0 only.
        default: what other ranks return.

    Returns:
        The decorated function.
    """

    @wraps(function)
    def on_rank_zero(*args: P.args, **kwargs: P.kwargs) -> T | None:
        return function(*args, **kwargs) if is_main() else default

    return on_rank_zero


def announce_rank() -> None:
    """Set the rank for ``rank_zero_only`` of lightning_utilities, unless it is set.

    Many projects decorate with it. Importing Lightning sets the rank, without which it raises.
    """
    if find_spec("lightning_utilities") is None:
        return
    from lightning_utilities.core import rank_zero

    if getattr(rank_zero.rank_zero_only, "rank", None) is None:
        try:
            world = world_of_environment() or ALONE
        except UsageError:  # which the Trainer raises, if there is one
            world = ALONE
        rank_zero.rank_zero_only.rank = world.rank  # type: ignore[attr-defined]
