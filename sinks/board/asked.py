"""What stands in a question of the page, or what is wrong with it."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...bus.errors import UsageError

if TYPE_CHECKING:  # an export needs no server
    from starlette.requests import Request

MAX_RUNS = 100  # of one question


def keys_of(request: "Request") -> list[str]:
    """Return the keys of the runs that are asked about.

    Args:
        request: the question.

    Raises:
        UsageError: there are too many.
    """
    keys = list(dict.fromkeys(request.query_params.getlist("run")))
    if len(keys) > MAX_RUNS:
        raise UsageError(f"{len(keys)} runs were asked for; at most {MAX_RUNS} can be at once")
    return keys


def number_of(request: "Request", name: str, otherwise: float) -> float:
    """Return a number of a question.

    Args:
        request: the question.
        name: of the number.
        otherwise: if it is not given.

    Raises:
        UsageError: it is not a number.
    """
    given = request.query_params.get(name, "")
    with suppress(ValueError):
        value = float(given) if given else otherwise
        if value == value:
            return value
    raise UsageError(f"{name}={given[:80]!r}: expected a number")


def whole_of(request: "Request", name: str, otherwise: int, most: int) -> int:
    """Return a number of a question that says how many.

    Args:
        request: the question.
        name: of the number.
        otherwise: if it is not given.
        most: the largest; more is taken as this.

    Raises:
        UsageError: it is not a number, or negative.
    """
    value = number_of(request, name, otherwise)
    if not value >= 0:
        raise UsageError(f"{name}={value:g}: expected 0 or more")
    return int(min(value, most))


def one_of(request: "Request", name: str, names: Sequence[str]) -> Any:
    """Return a word of a question.

    Args:
        request: the question.
        name: of the word.
        names: what it may be; the first if it is not given.

    Raises:
        UsageError: it is another.
    """
    given = request.query_params.get(name, names[0])
    if given not in names:
        raise UsageError(f"{name}={given[:80]!r}: expected {', '.join(names)}")
    return given
