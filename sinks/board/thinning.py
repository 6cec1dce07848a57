"""The points of a series that a picture of it needs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def thinned(x: Numbers, y: Numbers, stretches: int) -> NDArray[np.int64]:
    """Return the numbers of the points to draw, ascending; all of them if they are few.

    The axis is divided into stretches of one length. Of each, the first and the last point are
    kept, the lowest and the highest, and the first and the last that are not finite: at most 6.

    Args:
        x: where the points are; where it goes back, what was reached before counts.
        y: their values, NaN and infinities among them.
        stretches: number of stretches.
    """
    if len(x) <= 4 * stretches:
        return np.arange(len(x))
    along = np.maximum.accumulate(x)
    with np.errstate(all="ignore"):
        width = (along[-1] - along[0]) / stretches
    if not np.isfinite(width) or width <= 0:  # all at one place, or none that can be drawn
        along, width = np.arange(len(x), dtype=np.float64), len(x) / stretches
    stretch = np.minimum((along - along[0]) / width, stretches - 1).astype(np.int64)
    return kept_of_stretches(stretch, y)


def kept_of_stretches(stretch: NDArray[Any], y: Numbers) -> NDArray[np.int64]:
    """Return the numbers of the points to keep of each stretch, ascending.

    Kept are the first and the last point, the lowest and the highest, and the first and the last
    that are not finite, so that thinning what was thinned loses none of the extremes.

    Args:
        stretch: of which stretch each point is, ascending.
        y: their values, NaN and infinities among them.
    """
    is_first = np.concatenate(([True], stretch[1:] != stretch[:-1]))
    begins = np.flatnonzero(is_first)
    number = np.cumsum(is_first) - 1  # of the stretch, without empty ones
    is_finite = np.isfinite(y)
    low = np.minimum.reduceat(np.where(is_finite, y, np.inf), begins)[number]
    high = np.maximum.reduceat(np.where(is_finite, y, -np.inf), begins)[number]
    parts = [
        begins,
        np.append(begins[1:] - 1, len(y) - 1),
        _firsts(is_finite & (y == low), number),
        _firsts(is_finite & (y == high), number),
        _firsts(~is_finite, number),
        _lasts(~is_finite, number),
    ]
    return np.unique(np.concatenate(parts))


def between(x: Numbers, low: float, high: float) -> slice:
    """Return which points lie in a range, and one more on either side, to which lines go.

    Args:
        x: where the points are.
        low: where the range begins.
        high: where it ends.
    """
    along = np.maximum.accumulate(x)
    first, last = np.searchsorted(along, low, "left"), np.searchsorted(along, high, "right")
    return slice(max(int(first) - 1, 0), int(last) + 1)


def _firsts(is_chosen: NDArray[Any], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first chosen point of each stretch that has one."""
    chosen = np.flatnonzero(is_chosen)
    of = number[chosen]
    return chosen[np.concatenate(([True], of[1:] != of[:-1]))] if len(chosen) else chosen


def _lasts(is_chosen: NDArray[Any], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the last chosen point of each stretch that has one."""
    chosen = np.flatnonzero(is_chosen)
    of = number[chosen]
    return chosen[np.concatenate((of[1:] != of[:-1], [True]))] if len(chosen) else chosen
