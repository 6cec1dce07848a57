"""Recordings of handwritten digits, made from scikit-learn's scans, with their labels."""

import json
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

import nightbus as nb
from examples.event_classification.camera import DIGITS, SIZE, STEP_US, pan_along, strip_of
from examples.event_classification.dat import write_dat
from examples.event_classification.event_files import LABEL_MAP
from examples.event_classification.event_types import EVENT_BBOX, Array
from examples.event_classification.pixels import Sensor, record

# scikit-learn's scans by their place in the file: neighbours come from the same hands, so that
# blocks keep most writers apart.
SPLITS = {"train": (0, 1255), "val": (1255, 1525), "test": (1525, 1795)}
ALL_RECORDINGS = sum((end - begin) // DIGITS for begin, end in SPLITS.values())
LABEL_PERIOD_US = 20_000
SIDE_BY_SIDE = 30  # recordings in one computation


class _Job(NamedTuple):
    """A recording to make."""

    folder: Path
    name: str
    scans: Array
    digits: Array
    seed: tuple[int, int]


class Made(NamedTuple):
    """What was made.

    Attributes:
        recordings: how many.
        events: of all recordings.
        camera_s: duration of all recordings, in s of the camera's time.
    """

    recordings: int
    events: int
    camera_s: float


def labels_of(digit_in_view: Array, digits: Array) -> Array:
    """Return a row for each ``LABEL_PERIOD_US`` at whose end one digit is in view.

    Args:
        digit_in_view: [steps], which digit of the strip; -1 for none.
        digits: class of each digit of the strip.

    Returns:
        Rows of dtype EVENT_BBOX; ``track_id`` is the digit's place on the strip.
    """
    times_us = np.arange(LABEL_PERIOD_US, len(digit_in_view) * STEP_US + 1, LABEL_PERIOD_US)
    which = digit_in_view[times_us // STEP_US - 1]
    times_us, which = times_us[which >= 0], which[which >= 0]
    rows = np.zeros(len(times_us), EVENT_BBOX)
    rows["t"], rows["class_id"], rows["track_id"] = times_us, digits[which], which
    rows["w"] = rows["h"] = SIZE
    rows["class_confidence"] = 1
    return rows


def make_recordings(
    root: Path,
    recordings: int = ALL_RECORDINGS,
    seed: int = 0,
    workers: int = 2,
    told: Callable[[int], None] = lambda done: None,
) -> Made:
    """Make the recordings of a data set in ``root/train``, ``root/val`` and ``root/test``.

    The same seed makes the same bytes, and fewer recordings are the first of more.

    Args:
        root: folder for them.
        recordings: how many in all, at most ``ALL_RECORDINGS``; each split gets its share.
        seed: of everything that is drawn.
        workers: processes that make them; 0 for this one.
        told: called with the number of recordings done.

    Raises:
        MissingPackageError: scikit-learn is missing.
        UsageError: there are not so many scans, or root is a file.
    """
    jobs = _jobs(root, recordings, seed)
    parts = [jobs[i : i + SIDE_BY_SIDE] for i in range(0, len(jobs), SIDE_BY_SIDE)]
    for folder in {job.folder for job in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    names = {str(digit): str(digit) for digit in range(10)}
    done: list[tuple[int, int]] = []
    if workers == 0 or len(parts) == 1:
        for part in parts:
            done += _make(part)
            told(len(done))
    else:
        with get_context("spawn").Pool(workers) as pool:
            for made in pool.imap(_make, parts):
                done += made
                told(len(done))
    (root / LABEL_MAP).write_text(json.dumps(names, indent=1) + "\n")  # last: now it is complete
    events, steps = (sum(column) for column in zip(*done, strict=True))
    return Made(len(jobs), events, steps * STEP_US / 1e6)


def _jobs(root: Path, recordings: int, seed: int) -> list[_Job]:
    if root.exists() and not root.is_dir():
        raise nb.UsageError(f"{root} is a file; expected a folder for recordings")
    if not len(SPLITS) <= recordings <= ALL_RECORDINGS:
        raise nb.UsageError(
            f"{recordings} recordings cannot be made: expected {len(SPLITS)} to {ALL_RECORDINGS}"
        )
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise nb.MissingPackageError("making recordings", "scikit-learn", "events") from None
    data = load_digits()
    jobs = []
    for split, count in _shares(recordings).items():
        begin, end = SPLITS[split]
        order = np.random.default_rng(seed).permutation(np.arange(begin, end))
        for n in range(count):
            pick = order[n * DIGITS : (n + 1) * DIGITS]
            key = (seed, begin + n * DIGITS)
            job = _Job(root / split, f"{n:04d}", data.images[pick], data.target[pick], key)
            jobs.append(job)
    return jobs


def _shares(recordings: int) -> dict[str, int]:
    """Return how many recordings each split gets: at least one, training what is left."""
    shares = {
        split: max(1, recordings * (end - begin) // DIGITS // ALL_RECORDINGS)
        for split, (begin, end) in SPLITS.items()
    }
    shares["train"] = recordings - shares["val"] - shares["test"]
    return shares


def _make(jobs: list[_Job]) -> list[tuple[int, int]]:
    """Make recordings side by side; return the number of events and steps of each."""
    rngs = [np.random.default_rng(job.seed) for job in jobs]
    strips = [strip_of(job.scans) for job in jobs]
    pans = [pan_along(rng) for rng in rngs]
    made = []
    recorded = record(strips, pans, rngs, Sensor())
    for job, pan, events in zip(jobs, pans, recorded, strict=True):
        write_dat(job.folder / f"{job.name}_td.dat", events, SIZE, SIZE)
        rows = labels_of(pan.digit_in_view, job.digits)
        np.save(job.folder / f"{job.name}_bbox.npy", rows)
        made.append((len(events), len(pan.positions)))
    return made
