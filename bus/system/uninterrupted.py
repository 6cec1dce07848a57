"""Functions that signals and other threads cannot interrupt halfway."""

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def uninterrupted(function: F) -> F:
    """Declare that a function's body cannot be interrupted: it has no call and no loop.

    CPython runs signal handlers, which may raise KeyboardInterrupt, and lets other threads run only
    where its evaluation loop looks for such requests: when a function begins, when a call has
    returned, and when a loop jumps back. A body that only assigns, indexes, slices and compares has
    none of these places. So a signal finds all of it done or nothing, and so does another thread.

    A test looks at the bytecode of every function that is declared so.

    Args:
        function: the function; instead of methods and built-in functions it uses operators and
            slices: ``list += other``, ``del list[:]``.

    Returns:
        The function as it is.
    """
    function.is_uninterrupted = True  # type: ignore[attr-defined]
    return function
