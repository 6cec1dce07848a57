"""Recordings on disk: which files they are, and their events, whatever the format."""

from pathlib import Path

import numpy as np

from examples.event_classification.dat import Events, read_dat
from examples.event_classification.errors import RecordingError

ENDINGS = ("_td.dat", "_td.npy", ".h5")
LABEL_MAP = "label_map_dictionary.json"


def recordings_in(folder: Path) -> list[Path]:
    """Return the recordings of a folder, sorted by name.

    Args:
        folder: has ``X_td.dat`` (DAT), ``X_td.npy`` (EventCD) or ``X.h5`` (HDF5 tensors), each
            with ``X_bbox.npy``.

    Raises:
        RecordingError: there is no such folder, or no recording in it.
    """
    if not folder.is_dir():
        raise RecordingError(
            f"there is no folder {folder}; "
            f"make it with: python -m examples.event_classification make {folder.parent}"
        )
    found = sorted(file for file in folder.iterdir() if file.name.endswith(ENDINGS))
    if not found:
        raise RecordingError(
            f"{folder} holds no recordings; expected files that end in {', '.join(ENDINGS)}"
        )
    return found


def labels_file(recording: str) -> Path:
    """Return the path of a recording's labels, ``X_bbox.npy``."""
    for ending in ENDINGS:
        if recording.endswith(ending):
            return Path(recording.removesuffix(ending) + "_bbox.npy")
    raise RecordingError(f"{recording} is no recording: expected a name in {', '.join(ENDINGS)}")


def read_events(file: Path) -> Events:
    """Read the events of a recording in DAT or EventCD npy.

    Args:
        file: the recording.

    Raises:
        RecordingError: it is damaged or of another format, or has no events.
    """
    found = read_dat(file) if file.suffix == ".dat" else _read_npy(file)
    if not len(found.events):
        raise RecordingError(f"{file} has no events; remove it and its labels")
    return found


def _read_npy(file: Path) -> Events:
    try:
        events = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise RecordingError(f"{file} cannot be read as npy: {error}") from error
    fields = events.dtype.names or ()
    if events.ndim != 1 or not {"x", "y", "p", "t"} <= set(fields):
        raise RecordingError(
            f"{file} holds {events.dtype} of shape {events.shape}; expected a structured array of "
            "EventCD: x, y, p, t"
        )
    if (np.diff(events["t"].astype(np.int64)) < 0).any():
        raise RecordingError(f"{file} is damaged: times go back; sort it by t")
    return Events(events, 0, 0)
