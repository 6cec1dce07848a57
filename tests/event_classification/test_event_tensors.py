"""Event tensors of seven events, worked out by hand."""

import numpy as np
import pytest
import torch

import nightbus as nb
from examples.event_classification.errors import RecordingError
from examples.event_classification.event_types import EVENT_CD, Array
from examples.event_classification.preprocess import (
    MICRO_BINS,
    PREPROCESS,
    Bins,
    channels_of,
    tensor_of,
)
from examples.event_classification.streams import image_of

BINS = Bins(tbins=2, delta_t=10_000, height=2, width=3)


def seven_events() -> Array:
    """Four in the first bin, three in the second: (x, y, p, t)."""
    rows = [
        (0, 0, 1, 0),
        (0, 0, 1, 2500),
        (0, 0, 0, 5000),
        (2, 1, 1, 9999),
        (2, 1, 0, 10000),
        (1, 0, 1, 12500),
        (2, 1, 0, 19999),
    ]
    return np.array(rows, EVENT_CD)


# [bin, channel, y, x] -> value; all others are 0
BY_HAND: dict[str, dict[tuple[int, int, int, int], float]] = {
    "histo": {
        (0, 1, 0, 0): 0.4,
        (0, 0, 0, 0): 0.2,
        (0, 1, 1, 2): 0.2,
        (1, 0, 1, 2): 0.4,
        (1, 1, 0, 1): 0.2,
    },
    "diff": {
        (0, 0, 0, 0): 0.2,
        (0, 0, 1, 2): 0.2,
        (1, 0, 1, 2): -0.4,
        (1, 0, 0, 1): 0.2,
    },
    "timesurface": {
        (0, 1, 0, 0): 0.2501,
        (0, 0, 0, 0): 0.5001,
        (0, 1, 1, 2): 1.0,
        (1, 0, 1, 2): 1.0,
        (1, 1, 0, 1): 0.2501,
    },
    # micro bins of 3333.3 us whose middles are at 1666.7, 5000 and 8333.3 us; channel 2 * micro + p
    "event_cube": {
        (0, 1, 0, 0): 0.35,  # the first whole, the second by 0.75
        (0, 3, 0, 0): 0.05,
        (0, 2, 0, 0): 0.2,
        (0, 5, 1, 2): 0.2,
        (1, 0, 1, 2): 0.2,
        (1, 4, 1, 2): 0.2,
        (1, 1, 0, 1): 0.15,
        (1, 3, 0, 1): 0.05,
    },
    "multi_channel_timesurface": {
        (0, 1, 0, 0): 0.7503,
        (0, 2, 0, 0): 0.5003,
        (0, 5, 1, 2): 1.0,
        (1, 0, 1, 2): 0.0003,
        (1, 4, 1, 2): 1.0,
        (1, 1, 0, 1): 0.7503,
    },
}


@pytest.mark.parametrize("name", list(PREPROCESS))
def test_a_tensor_is_as_worked_out_by_hand(name: str) -> None:
    tensor = tensor_of(name, seven_events(), BINS)

    expected = np.zeros((BINS.tbins, channels_of(name), BINS.height, BINS.width))
    for place, value in BY_HAND[name].items():
        expected[place] = value
    assert tensor.shape == expected.shape
    assert tensor.dtype == np.float32
    assert tensor == pytest.approx(expected, abs=1e-6)


def test_the_micro_bins_of_a_cube_add_up_to_the_histogram() -> None:
    generator = np.random.default_rng(0)
    events = np.zeros(50, EVENT_CD)
    events["x"], events["y"] = generator.integers(0, 3, 50), generator.integers(0, 2, 50)
    events["p"], events["t"] = (
        generator.integers(0, 2, 50),
        np.sort(generator.integers(0, 20_000, 50)),
    )

    cube, counts = (PREPROCESS[name][0](events, BINS) for name in ("event_cube", "histo"))
    few = counts < 1  # where nothing was capped
    summed = cube.reshape(2, MICRO_BINS, 2, 2, 3).sum(axis=1)
    assert summed[few] == pytest.approx(counts[few], abs=1e-6)


def test_counts_end_at_one() -> None:
    events = np.zeros(9, EVENT_CD)

    assert tensor_of("histo", events, BINS).max() == 1
    assert tensor_of("diff", events, BINS).min() == -1


@pytest.mark.parametrize("name", list(PREPROCESS))
def test_the_image_of_a_tensor_is_bright_for_on_and_dark_for_off(name: str) -> None:
    image = image_of(torch.from_numpy(tensor_of(name, seven_events(), BINS)))

    assert image.shape == (2, 2, 3)
    assert image[0, 1, 2] > 0
    assert image[1, 1, 2] < 0
    assert image[0, 1, 0] == 0


def test_an_unknown_preprocessing_is_told_what_there_is() -> None:
    with pytest.raises(nb.UsageError, match="no preprocessing 'hist'; did you mean histo"):
        tensor_of("hist", seven_events(), BINS)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("x", 3, "x from 0 to 3; expected 0 to 2"),
        ("y", 2, "y from 0 to 2; expected 0 to 1"),
        ("p", -1, "p from -1 to 1; expected 0 to 1"),
        ("t", 20_000, "t from 0 to 20000; expected 0 to 19999"),
    ],
)
def test_events_outside_pixels_and_bins_are_refused(field: str, value: int, said: str) -> None:
    events = seven_events()
    events[field][-1] = value

    with pytest.raises(RecordingError, match=said):
        tensor_of("histo", events, BINS)
