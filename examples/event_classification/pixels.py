"""The pixels of a simulated event camera, after the model of v2e and ESIM.

A pixel's log intensity passes a low pass. When it has moved by the pixel's threshold since the last
event, there is a new one, ON for brighter and OFF for darker, unless the last was within the
refractory period. Thresholds differ from pixel to pixel, the reference leaks, and noise is added.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from examples.event_classification.camera import MARGIN, SIZE, STEP_US, Pan
from examples.event_classification.errors import RecordingError
from examples.event_classification.event_types import EVENT_CD, Array

LONGEST_US = 2**24  # float32 is exact up to here


@dataclass(frozen=True)
class Sensor:
    """Properties of the pixels.

    Attributes:
        threshold: change of log intensity for an event.
        mismatch: standard deviation of the thresholds from pixel to pixel.
        refractory_us: time after an event within which a pixel has no other.
        noise_hz: random events of a pixel in a second.
        leak_hz: ON events of a still pixel in a second, from its leaking reference.
        cutoff_hz: of the photoreceptor's low pass.
        dark: intensity of blank paper; ink has 1.
    """

    threshold: float = 0.4
    mismatch: float = 0.04
    refractory_us: int = 500
    noise_hz: float = 1.0
    leak_hz: float = 0.1
    cutoff_hz: float = 200.0
    dark: float = 0.2


class _Found(NamedTuple):
    """Events in the order in which they were found: pixel of all recordings, ON or OFF, us."""

    pixel: Array
    is_on: Array
    t: Array


def record(
    strips: list[Array], pans: list[Pan], rngs: list[np.random.Generator], sensor: Sensor
) -> list[Array]:
    """Let the camera record; recordings are computed side by side.

    The result of one does not depend on which others are made with it.

    Args:
        strips: for each recording, what the camera sees: float32 [height, width], from 0 to 1.
        pans: for each, the camera's way.
        rngs: for each, what draws its thresholds and noise.
        sensor: properties of the pixels.

    Returns:
        For each recording its events, of dtype EVENT_CD, sorted by time.

    Raises:
        RecordingError: a recording is longer than 16.7 s, where float32 is no longer exact.
    """
    longest_us = max(len(pan.positions) for pan in pans) * STEP_US
    if longest_us > LONGEST_US:
        raise RecordingError(
            f"a recording of {longest_us / 1e6:.1f} s is longer than the {LONGEST_US / 1e6:.1f} s "
            "for which float32 times are exact to the us; put fewer digits on a strip"
        )
    drawn = [rng.normal(sensor.threshold, sensor.mismatch, (2, SIZE, SIZE)) for rng in rngs]
    thresholds = np.stack(drawn, axis=1).clip(0.05).astype(np.float32)  # [ON or OFF, recording]
    found = _changes(_LogViews(strips, pans, sensor.dark), thresholds, sensor)
    whose = found.pixel // (SIZE * SIZE)
    by_recording = np.argsort(whose, kind="stable")
    bounds = np.searchsorted(whose[by_recording], np.arange(len(strips) + 1))
    recordings = []
    for i, (pan, rng) in enumerate(zip(pans, rngs, strict=True)):
        mine = by_recording[bounds[i] : bounds[i + 1]]
        own = _Found(found.pixel[mine] % (SIZE * SIZE), found.is_on[mine], found.t[mine])
        end_us = len(pan.positions) * STEP_US
        recordings.append(_with_noise(own, thresholds[0, i], end_us, sensor, rng))
    return recordings


class _LogViews:
    """What the pixels of all recordings see at a step, as log intensity."""

    def __init__(self, strips: list[Array], pans: list[Pan], dark: float) -> None:
        self.steps = max(len(pan.positions) for pan in pans)
        ways = [
            np.pad(pan.positions, ((0, self.steps - len(pan.positions)), (0, 0)), mode="edge")
            for pan in pans
        ]
        places = np.stack(ways, axis=1) + MARGIN  # [steps, recordings, (x, y)]
        self._whole = np.floor(places).astype(np.int64)
        self._part = (places - self._whole).astype(np.float32)
        self._row = strips[0].shape[1]
        self._window = np.arange(SIZE + 1)[:, None] * self._row + np.arange(SIZE + 1)
        self._flat = np.stack(strips).ravel()
        self._origin = np.arange(len(strips)) * strips[0].size
        self._dark = dark

    def at(self, step: int) -> Array:
        """Return float32 [recordings, SIZE, SIZE]."""
        corner = self._origin + self._whole[step, :, 1] * self._row + self._whole[step, :, 0]
        seen = self._flat[corner[:, None, None] + self._window]
        x, y = (self._part[step, :, axis, None, None] for axis in (0, 1))
        seen = seen[:, :-1] * (1 - y) + seen[:, 1:] * y
        seen = seen[:, :, :-1] * (1 - x) + seen[:, :, 1:] * x
        levels: Array = np.log(self._dark + (1 - self._dark) * seen)
        return levels


def _changes(views: _LogViews, thresholds: Array, sensor: Sensor) -> _Found:
    """Return the events of all pixels of all recordings, but for noise."""
    pass_share = np.float32(1 - np.exp(-2 * np.pi * sensor.cutoff_hz * STEP_US * 1e-6))
    leak = np.float32(sensor.leak_hz * STEP_US * 1e-6) * thresholds[0]
    level = views.at(0)
    reference = level.copy()
    last_us = np.full(level.size, -1e9, np.float32)
    found: list[_Found] = [_Found(np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0, "f4"))]
    for step in range(1, views.steps):
        before, level = level, level + pass_share * (views.at(step) - level)
        reference -= leak  # so ON events follow
        for sign, limit in ((np.float32(1), thresholds[0]), (np.float32(-1), thresholds[1])):
            pixels = np.flatnonzero(sign * (level - reference) >= limit)
            moved = (level.ravel()[pixels], before.ravel()[pixels], limit.ravel()[pixels])
            for at, t in _crossings(pixels, moved, reference.ravel(), sign, step):
                is_kept = t - last_us[at] >= sensor.refractory_us  # others move the reference too
                at, t = at[is_kept], t[is_kept]
                last_us[at] = t
                found.append(_Found(at, np.full(len(at), sign > 0), t))
    return _Found(*(np.concatenate(each) for each in zip(*found, strict=True)))


def _crossings(
    pixels: Array,
    moved: tuple[Array, Array, Array],
    reference: Array,
    sign: np.float32,
    step: int,
) -> list[tuple[Array, Array]]:
    """Return the pixels that cross their threshold in a step and when, for each time they do.

    Args:
        pixels: int64 [n], those that do.
        moved: their level, their level before and their threshold, each [n].
        reference: of all pixels; moved on to the last crossing.
        sign: 1 for ON, -1 for OFF.
        step: number of the step.
    """
    level, before, limit = moved
    base = reference[pixels]
    found = []
    while len(pixels):
        base = base + sign * limit
        reference[pixels] = base
        way = level - before
        share = np.divide(base - before, way, out=np.ones_like(way), where=np.abs(way) > 1e-6)
        t = (step * STEP_US + share.clip(0, 1) * STEP_US).astype(np.float32)
        found.append((pixels, t))
        more = sign * (level - base) >= limit
        pixels, level, before = pixels[more], level[more], before[more]
        limit, base = limit[more], base[more]
    return found


def _with_noise(
    own: _Found, on_thresholds: Array, end_us: int, sensor: Sensor, rng: np.random.Generator
) -> Array:
    """Return a recording's events up to ``end_us`` with noise among them, sorted by time."""
    in_time = own.t.astype(np.int64) < end_us
    count = rng.poisson(sensor.noise_hz * SIZE * SIZE * end_us * 1e-6)
    weights = (1 / on_thresholds).ravel()  # a low threshold lets more noise through
    noisy = rng.choice(SIZE * SIZE, count, p=weights / weights.sum())
    pixel = np.concatenate([own.pixel[in_time], noisy])
    t = np.concatenate([own.t[in_time].astype(np.int64), rng.integers(0, end_us, count)])
    is_on = np.concatenate([own.is_on[in_time], rng.integers(0, 2, count) > 0])
    order = np.argsort(t, kind="stable")
    events = np.zeros(len(t), EVENT_CD)
    events["y"], events["x"] = np.divmod(pixel[order], SIZE)
    events["t"], events["p"] = t[order], is_on[order]
    return events
