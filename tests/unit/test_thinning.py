"""Thinning keeps the points of a series that a picture of it needs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightbus.sinks.board.thinning import between, thinned

numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(st.lists(numbers, max_size=300), st.integers(1, 20))
def test_what_is_kept_has_the_ends_the_extremes_and_gaps(values: list[float], most: int) -> None:
    y = np.array(values, np.float64)
    x = np.arange(len(y), dtype=np.float64)

    kept = thinned(x, y, most)

    assert np.all(np.diff(kept) > 0)
    assert len(kept) <= max(6 * most, 4 * most)
    if len(y):
        assert {0, len(y) - 1} <= set(kept)
        assert np.isnan(y).any() <= (not np.isfinite(y[kept]).all())
    finite = y[np.isfinite(y)]
    if len(finite):
        shown = y[kept][np.isfinite(y[kept])]
        assert (shown.min(), shown.max()) == (finite.min(), finite.max())


@pytest.mark.parametrize(
    "x",
    [
        [0.0] * 40,
        [math.inf] * 40,
        [math.nan] * 40,
        [-1e308, *[1e308] * 39],
        [float(-n) for n in range(40)],
    ],
)
def test_an_axis_that_does_not_grow_loses_no_extremes(x: list[float]) -> None:
    y = np.arange(40.0)
    y[20] = 1e9

    kept = thinned(np.array(x), y, 3)

    assert 20 in kept
    assert len(kept) <= 18


def test_of_a_range_the_points_beside_it_are_kept_too() -> None:
    x = np.arange(10.0)

    assert x[between(x, 3.5, 5.0)].tolist() == [3, 4, 5, 6]
    assert x[between(x, -math.inf, math.inf)].tolist() == x.tolist()
    assert x[between(x, 20, 30)].tolist() == [9]
