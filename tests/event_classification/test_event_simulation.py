"""The simulated event camera: what its pixels do, and the recordings that are made with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nightbus as nb
from examples.event_classification import camera
from examples.event_classification.camera import (
    DIGITS,
    IN_VIEW,
    MARGIN,
    PITCH,
    SIZE,
    Pan,
    pan_along,
    strip_of,
)
from examples.event_classification.errors import RecordingError
from examples.event_classification.event_types import Array
from examples.event_classification.labels import read_labels
from examples.event_classification.pixels import Sensor, record
from examples.event_classification.simulate import labels_of, make_recordings

IDEAL = {"mismatch": 0.0, "noise_hz": 0.0, "leak_hz": 0.0, "cutoff_hz": 1e5}
STILL_S = 2


def seen(positions: Array, scene: Array | None = None, **properties: float) -> Array:
    """Events of a camera at these positions, a ms apart; by default before an edge."""
    if scene is None:
        scene = np.zeros((SIZE + 2 * MARGIN, 172))
        scene[:, MARGIN + SIZE // 2 :] = 1.0
    pan = Pan(positions.astype(float), np.zeros(len(positions), int))
    sensor = Sensor(**{**IDEAL, **properties})  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    (events,) = record([scene.astype(np.float32)], [pan], [rng], sensor)
    return events


def to_the_right() -> Array:
    """10 pixels in 200 ms."""
    return np.stack([np.arange(200) * 0.05, np.zeros(200)], axis=1)


def still() -> Array:
    return np.zeros((STILL_S * 1000, 2))


def test_an_edge_gives_as_many_events_as_thresholds_fit_into_its_contrast() -> None:
    events = seen(to_the_right())

    counts = np.zeros((SIZE, SIZE), int)
    np.add.at(counts, (events["y"], events["x"]), 1)
    columns = np.flatnonzero(counts.any(axis=0))
    assert len(columns) in (9, 10, 11)
    assert set(counts[:, columns[1:-1]].ravel()) == {int(np.log(1 / 0.2) / 0.4)}
    assert set(events["p"]) == {1}


def test_the_edge_backwards_gives_off_events() -> None:
    assert set(seen(to_the_right()[::-1])["p"]) == {0}


def test_a_pixel_rests_after_an_event() -> None:
    events = seen(to_the_right(), refractory_us=3000)

    pixels = events["x"] + SIZE * events["y"].astype(int)
    order = np.lexsort((events["t"], pixels))
    same = np.diff(pixels[order]) == 0
    assert same.any()
    assert np.diff(events["t"][order])[same].min() >= 3000 - 1  # times are cut to whole us


@pytest.mark.parametrize(
    ("properties", "rate_hz", "tolerance"),
    [
        ({}, 0.0, 0.0),
        ({"noise_hz": 1.0}, 1.0, 0.07),
        ({"leak_hz": 2.0}, 2.0, 1 / STILL_S),  # a whole number of events in the time
    ],
    ids=["silence", "noise", "leak"],
)
def test_a_still_scene_gives_noise_and_leak_at_their_rates(
    properties: dict[str, Any], rate_hz: float, tolerance: float
) -> None:
    events = seen(still(), **properties)

    assert len(events) / SIZE**2 / STILL_S == pytest.approx(rate_hz, abs=tolerance)
    if "leak_hz" in properties:
        assert set(events["p"]) == {1}


def test_a_recording_longer_than_float32_carries_is_refused() -> None:
    with pytest.raises(RecordingError, match=r"17\.0 s is longer than the 16\.8 s"):
        seen(np.zeros((17_000, 2)))


@pytest.mark.parametrize("seed", range(20))
def test_the_camera_sees_each_digit_in_turn_and_moves_little_in_a_step(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaken = pan_along(np.random.default_rng(seed)).positions
    monkeypatch.setattr(camera, "_tremor", lambda steps, rng: np.zeros((steps, 2)))
    pan = pan_along(np.random.default_rng(seed))

    shown = [k for k in dict.fromkeys(pan.digit_in_view.tolist()) if k >= 0]
    assert shown == list(range(DIGITS))
    near = np.abs(pan.positions[:, 0] - pan.digit_in_view * PITCH)[pan.digit_in_view >= 0]
    assert near.max() < IN_VIEW
    assert np.abs(np.diff(shaken, axis=0)).max() < 1.5
    assert shaken.min() > -MARGIN


def test_a_hands_tremor_is_a_random_walk_that_ends_where_it_began() -> None:
    tremor = camera._tremor(2000, np.random.default_rng(0))

    assert tremor[-1] == pytest.approx([0, 0])
    assert np.diff(tremor, axis=0).std() == pytest.approx(0.03, rel=0.05)


def test_the_camera_goes_around_a_triangle_at_a_digit_and_ends_where_it_began() -> None:
    way = pan_along(np.random.default_rng(3)).positions

    corners = way[[0, 100, 200, 299]]
    sides = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    assert sides.min() > 2.6  # of at least 3, and a tremor
    assert np.linalg.norm(corners[-1] - corners[0]) < 1.5


def test_scans_lie_on_blank_paper() -> None:
    strip = strip_of(np.full((2, 8, 8), 16.0))

    assert strip.shape == (SIZE + 2 * MARGIN, PITCH + SIZE + 2 * MARGIN)
    assert (strip.min(), strip.max()) == (0, 1)
    assert strip[MARGIN + SIZE // 2, MARGIN + SIZE // 2] == 1
    assert not strip[MARGIN].any()


def test_a_label_says_which_digit_is_in_view_when_its_bin_ends() -> None:
    in_view = np.repeat([0, -1, 1], 20)

    rows = labels_of(in_view, np.array([7, 3]))

    assert rows["t"].tolist() == [20_000, 60_000]
    assert rows["class_id"].tolist() == [7, 3]
    assert rows["track_id"].tolist() == [0, 1]


def contents(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


def test_recordings_come_with_labels_and_the_names_of_classes(recordings: Path) -> None:
    names = [*(f"train/{n:04d}" for n in range(5)), "val/0000", "test/0000"]

    expected = {f"{name}_{what}" for name in names for what in ("td.dat", "bbox.npy")}
    assert set(contents(recordings)) == {*expected, "label_map_dictionary.json"}
    assert json.loads((recordings / "label_map_dictionary.json").read_text())["7"] == "7"
    rows = read_labels(recordings / "train" / "0000_bbox.npy")
    assert set(rows["track_id"]) == set(range(DIGITS))


def test_the_same_seed_makes_the_same_bytes_and_fewer_are_the_first_of_more(
    recordings: Path, tmp_path: Path
) -> None:
    make_recordings(tmp_path, recordings=3, workers=0)

    fewer = contents(tmp_path)
    assert len(fewer) == 7
    assert fewer.items() <= contents(recordings).items()


def test_another_seed_makes_other_recordings(recordings: Path, tmp_path: Path) -> None:
    make_recordings(tmp_path, recordings=3, seed=1, workers=0)

    name = "test/0000_td.dat"
    assert contents(tmp_path)[name] != contents(recordings)[name]


def test_what_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(nb.UsageError, match="2 recordings cannot be made: expected 3 to 359"):
        make_recordings(tmp_path, recordings=2)
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(nb.MissingPackageError, match=r"scikit-learn.*nightbus\[events\]"):
        make_recordings(tmp_path, recordings=3)
