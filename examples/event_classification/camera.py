"""What a simulated camera sees: a strip of scanned digits, and how it pans along them."""

from typing import NamedTuple

import numpy as np

from examples.event_classification.event_types import Array

SIZE = 32  # pixels of the sensor, in each direction
SCALE = 3  # sensor pixels for a pixel of a scan
PITCH = 34  # pixels from digit to digit
MARGIN = 20  # blank pixels around the strip
DIGITS = 5  # on a strip
STEP_US = 1000
DWELL_MS = 300
IN_VIEW = 12  # pixels from the middle of the view within which a digit is labelled


class Pan(NamedTuple):
    """A camera's way along a strip, ``STEP_US`` from one position to the next.

    Attributes:
        positions: float64 [steps, 2], the view's offset (x, y) in pixels.
        digit_in_view: int64 [steps], from 0; -1 between two digits.
    """

    positions: Array
    digit_in_view: Array


def pan_along(rng: np.random.Generator) -> Pan:
    """Move over a strip: three saccades around a triangle at each digit, then on to the next.

    Args:
        rng: draws the triangles, the speeds and the tremor.
    """
    triangles = [_triangle(rng) + np.array([digit * PITCH, 0.0]) for digit in range(DIGITS)]
    parts: list[Array] = []
    digits: list[Array] = []
    for digit, corners in enumerate(triangles):
        if digit > 0:
            parts.append(_way(triangles[digit - 1][0], corners[0], int(rng.integers(60, 121))))
            digits.append(_nearest(parts[-1][:, 0]))
        for begin, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            parts.append(_way(begin, end, DWELL_MS // len(corners)))
            digits.append(np.full(len(parts[-1]), digit))
    positions = np.concatenate(parts)
    return Pan(positions + _tremor(len(positions), rng), np.concatenate(digits))


def _triangle(rng: np.random.Generator) -> Array:
    """Return a triangle of 3 to 5 pixels around the origin, turned a little: corners [3, 2]."""
    size, angle = rng.uniform(3.0, 5.0), rng.uniform(-0.4, 0.4)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners: Array = (np.array([[0.0, 0.0], [0.5, 1.0], [1.0, 0.0]]) - 0.5) * size @ turn
    return corners


def _way(begin: Array, end: Array, ms: int) -> Array:
    """Return the positions after each ms of a movement, slow at both ends: [ms, 2]."""
    share = np.arange(1, ms + 1)[:, None] / ms
    positions: Array = begin + (end - begin) * share**2 * (3 - 2 * share)
    return positions


def _nearest(x: Array) -> Array:
    near = np.rint(x / PITCH).astype(int)
    return np.where(np.abs(x - near * PITCH) < IN_VIEW, near, -1)


def _tremor(steps: int, rng: np.random.Generator) -> Array:
    """Return a hand's random walk that ends where it began: [steps, 2] pixels."""
    walk = np.cumsum(rng.normal(0, 0.03, (steps, 2)), axis=0)
    bridged: Array = walk - np.linspace(0, 1, steps)[:, None] * walk[-1]
    return bridged


def strip_of(scans: Array) -> Array:
    """Lay scans side by side, enlarged bilinearly, with blank paper around them.

    Args:
        scans: [digits, 8, 8], ink from 0 to 16.

    Returns:
        float32 [height, width], ink from 0 to 1.
    """
    side = 10 * SCALE  # a scan and the blank pixel around it, without which its cut edge shows
    strip = np.zeros((SIZE + 2 * MARGIN, PITCH * (len(scans) - 1) + SIZE + 2 * MARGIN), np.float32)
    places = np.clip((np.arange(side) + 0.5) / SCALE - 0.5, 0, 9)
    low = np.minimum(np.floor(places).astype(int), 8)
    part = places - low
    corner = MARGIN + (SIZE - side) // 2
    for digit, scan in enumerate(np.pad(scans, ((0, 0), (1, 1), (1, 1)))):
        rows = scan[low] * (1 - part)[:, None] + scan[low + 1] * part[:, None]
        x = corner + digit * PITCH
        enlarged = rows[:, low] * (1 - part) + rows[:, low + 1] * part
        strip[corner : corner + side, x : x + side] = enlarged / 16
    return strip
