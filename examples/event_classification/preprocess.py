"""Event tensors: the events of each time bin as an image of a few channels.

Every function takes events sorted by time whose times count from the first bin's begin, and returns
float32 [bins, channels, height, width]. Where channels are by polarity, OFF comes before ON.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from examples.event_classification.errors import RecordingError, unknown_name
from examples.event_classification.event_types import Array

MICRO_BINS = 3


class Bins(NamedTuple):
    """The time bins and the pixels that events are sorted into.

    Attributes:
        tbins: how many bins.
        delta_t: duration of a bin, in us.
        height: in pixels.
        width: in pixels.
    """

    tbins: int
    delta_t: int
    height: int
    width: int


def histo(events: Array, bins: Bins, max_incr_per_pixel: float = 5.0) -> Array:
    """Count the events of each pixel by polarity.

    Args:
        events: of dtype EVENT_CD.
        bins: time bins and pixels.
        max_incr_per_pixel: the count that is 1; more is 1 too.

    Returns:
        2 channels, from 0 to 1.
    """
    flat = _places(events, bins, events["t"] // bins.delta_t * 2 + events["p"])
    counts = np.bincount(flat, minlength=_size(bins, 2))
    return _shaped(np.minimum(counts / max_incr_per_pixel, 1), bins)


def diff(events: Array, bins: Bins, max_incr_per_pixel: float = 5.0) -> Array:
    """Count the ON events of each pixel minus its OFF events.

    Args:
        events: of dtype EVENT_CD.
        bins: time bins and pixels.
        max_incr_per_pixel: the difference that is 1; more is 1 too.

    Returns:
        1 channel, from -1 to 1.
    """
    flat = _places(events, bins, events["t"] // bins.delta_t)
    counts = np.bincount(flat, weights=2.0 * events["p"] - 1, minlength=_size(bins, 1))
    return _shaped(np.clip(counts / max_incr_per_pixel, -1, 1), bins)


def timesurface(events: Array, bins: Bins) -> Array:
    """Say when in its bin each pixel had its last event, by polarity.

    Args:
        events: of dtype EVENT_CD.
        bins: time bins and pixels.

    Returns:
        2 channels, above 0 to 1, the bin's end; 0 without an event.
    """
    surface = np.zeros(_size(bins, 2), np.float32)
    flat = _places(events, bins, events["t"] // bins.delta_t * 2 + events["p"])
    surface[flat] = (events["t"] % bins.delta_t + 1) / bins.delta_t  # sorted: the last one stays
    return _shaped(surface, bins)


def event_cube(events: Array, bins: Bins, max_incr_per_pixel: float = 5.0) -> Array:
    """Split each event linearly over the two nearest of ``MICRO_BINS``, by polarity.

    At a bin's ends an event counts whole, so that the micro bins add up to ``histo``.

    Args:
        events: of dtype EVENT_CD.
        bins: time bins and pixels.
        max_incr_per_pixel: the count that is 1; more is 1 too.

    Returns:
        2 channels for each micro bin, from 0 to 1.
    """
    place = events["t"] % bins.delta_t * MICRO_BINS / bins.delta_t - 0.5
    low = np.floor(place).astype(int)
    counts = np.zeros(_size(bins, 2 * MICRO_BINS))
    for micro, weight in ((low, 1 - (place - low)), (low + 1, place - low)):
        at = events["t"] // bins.delta_t * MICRO_BINS + micro.clip(0, MICRO_BINS - 1)
        flat = _places(events, bins, at * 2 + events["p"])
        counts += np.bincount(flat, weights=weight, minlength=len(counts))
    return _shaped(np.minimum(counts / max_incr_per_pixel, 1), bins)


def multi_channel_timesurface(events: Array, bins: Bins) -> Array:
    """Make a time surface of each of ``MICRO_BINS`` parts of a bin, by polarity.

    Args:
        events: of dtype EVENT_CD.
        bins: time bins and pixels.

    Returns:
        2 channels for each micro bin, above 0 to 1, the micro bin's end; 0 without an event.
    """
    surface = np.zeros(_size(bins, 2 * MICRO_BINS), np.float32)
    share = (events["t"] % bins.delta_t + 1) * MICRO_BINS / bins.delta_t
    micro = np.minimum(np.ceil(share).astype(int) - 1, MICRO_BINS - 1)
    at = events["t"] // bins.delta_t * MICRO_BINS + micro
    surface[_places(events, bins, at * 2 + events["p"])] = share - micro
    return _shaped(surface, bins)


Preprocess = Callable[[Array, Bins], Array]
PREPROCESS: dict[str, tuple[Preprocess, int]] = {
    "histo": (histo, 2),
    "diff": (diff, 1),
    "timesurface": (timesurface, 2),
    "event_cube": (event_cube, 2 * MICRO_BINS),
    "multi_channel_timesurface": (multi_channel_timesurface, 2 * MICRO_BINS),
}
"""Name -> function and number of channels."""


def channels_of(name: str) -> int:
    """Return the number of channels that a preprocessing makes.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in PREPROCESS:
        raise unknown_name("preprocessing", name, PREPROCESS)
    return PREPROCESS[name][1]


def tensor_of(name: str, events: Array, bins: Bins) -> Array:
    """Return a recording's event tensor.

    Args:
        name: of the preprocessing.
        events: of dtype EVENT_CD, sorted by time, all within the bins.
        bins: time bins and pixels.

    Raises:
        UsageError: there is no preprocessing of that name.
        RecordingError: an event is outside the pixels or the bins, or its polarity is not 0 or 1.
    """
    channels_of(name)
    limits = (("x", bins.width), ("y", bins.height), ("p", 2), ("t", bins.tbins * bins.delta_t))
    for field, limit in limits:
        values = events[field]
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < limit:
            raise RecordingError(
                f"events have {field} from {values.min()} to {values.max()}; "
                f"expected 0 to {limit - 1}"
            )
    return PREPROCESS[name][0](events, bins)


def _size(bins: Bins, channels: int) -> int:
    return bins.tbins * channels * bins.height * bins.width


def _places(events: Array, bins: Bins, image: Array) -> Array:
    places: Array = (image * bins.height + events["y"]) * bins.width + events["x"]
    return places.astype(np.int64)


def _shaped(values: Array, bins: Bins) -> Array:
    shape = (bins.tbins, -1, bins.height, bins.width)
    return values.reshape(shape).astype(np.float32)
