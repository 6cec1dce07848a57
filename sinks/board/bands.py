"""The mean of a metric over several runs, with the range in which they lie."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .thinning import Numbers

Points = tuple[Numbers, Numbers]  # x and y of one run


class Band(NamedTuple):
    """What several runs have in common.

    Attributes:
        x: the places.
        mean: of the runs that have values around a place.
        low: the lowest of them.
        high: the highest.
    """

    x: Numbers
    mean: Numbers
    low: Numbers
    high: Numbers


def band(curves: Sequence[Points], low: float, high: float, stretches: int) -> Band:
    """Return mean and range of several curves.

    A curve with many values has in each stretch the mean of its values there. Where it has none,
    it goes straight from one to the next. Before its first and behind its last value it does not
    count, and neither does what is not finite.

    Args:
        curves: x and y of each; where x goes back, what was reached before counts.
        low: where the range begins.
        high: where it ends.
        stretches: number of stretches of one length, at most; of few places, each is one.
    """
    clean = [_between(x, y, low, high) for x, y in curves]
    clean = [(x, y) for x, y in clean if len(x)]
    if not clean:
        return Band(*(np.empty(0),) * 4)
    places = np.unique(np.concatenate([x for x, _ in clean]))
    if len(places) > stretches:
        edges = np.linspace(places[0], places[-1], stretches + 1)
        places = (edges[1:] + edges[:-1]) / 2
        clean = [_means(x, y, edges) for x, y in clean]
    table = np.array([np.interp(places, x, y, np.nan, np.nan) for x, y in clean])
    has_some = ~np.isnan(table).all(axis=0)
    places, table = places[has_some], table[:, has_some]
    with np.errstate(all="ignore"):
        return Band(places, *(of(table, axis=0) for of in (np.nanmean, np.nanmin, np.nanmax)))


def _between(x: Numbers, y: Numbers, low: float, high: float) -> Points:
    """Return the finite points of a range, and one on either side, each place once."""
    along = np.maximum.accumulate(x) if len(x) else x
    is_kept = np.isfinite(y) & np.isfinite(along)
    along, y = along[is_kept], y[is_kept]
    first, last = np.searchsorted(along, low, "left"), np.searchsorted(along, high, "right")
    part = slice(max(int(first) - 1, 0), int(last) + 1)
    along, y = along[part], y[part]
    places, place, count = np.unique(along, return_inverse=True, return_counts=True)
    return places, np.bincount(place, weights=y, minlength=len(places)) / count


def _means(x: Numbers, y: Numbers, edges: Numbers) -> Points:
    """Return the means of the values in each stretch that has some, at the middle of it."""
    stretch = np.clip(np.searchsorted(edges, x, "right") - 1, 0, len(edges) - 2)
    count = np.bincount(stretch, minlength=len(edges) - 1)
    total = np.bincount(stretch, weights=y, minlength=len(edges) - 1)
    there = count > 0
    return ((edges[1:] + edges[:-1]) / 2)[there], total[there] / count[there]
