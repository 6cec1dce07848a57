"""Labels of recordings: rows of EVENT_BBOX, and the bins that they belong to."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from examples.event_classification.errors import ClassListError, RecordingError
from examples.event_classification.event_files import LABEL_MAP, labels_file
from examples.event_classification.event_types import Array


class Recording(NamedTuple):
    """What is known of a recording.

    Attributes:
        path: of its events or tensors.
        duration: in us, a whole number of bins.
        height: of the sensor, in pixels.
        width: the same.
    """

    path: str
    duration: int
    height: int
    width: int


def load_classes(
    metadata: Recording,
    batch_start_time: int,
    duration: int,
    tensor: Array,
    class_lookup: Array | None = None,
    labelling_delta_t: int | None = None,
) -> tuple[list[Array], Array]:
    """Return the labels of each time bin of a part of a recording.

    A row at time t belongs to the bin with begin < t <= end: a label at a bin's end is known when
    the bin is.

    Args:
        metadata: the recording; its labels are read from ``X_bbox.npy`` beside it.
        batch_start_time: begin of the part, in us.
        duration: of the part, in us; a whole number of bins.
        tensor: the part's event tensor, [tbins, ...]: as many bins as there are.
        class_lookup: maps the class ids of the file; rows whose class maps to a negative number
            are left out. By default each is mapped to itself.
        labelling_delta_t: leave out rows that are not at a multiple of this time, in us.

    Returns:
        For each bin, its rows of dtype EVENT_BBOX; and bool [tbins]: whether it has any.

    Raises:
        RecordingError: the labels are missing or damaged, or bins are not of one duration.
        ClassListError: a class id is not in ``class_lookup``.
    """
    tbins = len(tensor)
    if tbins == 0 or duration % tbins:
        raise RecordingError(f"{duration} us cannot be {tbins} bins of one duration")
    delta_t = duration // tbins
    rows = read_labels(labels_file(metadata.path))
    is_inside = (rows["t"] > batch_start_time) & (rows["t"] <= batch_start_time + duration)
    rows = rows[is_inside]
    if labelling_delta_t is not None:
        rows = rows[rows["t"] % labelling_delta_t == 0]
    if class_lookup is not None:
        rows = _mapped(rows, class_lookup, metadata.path)
    which = (rows["t"] - batch_start_time - 1) // delta_t
    labels = [rows[which == k] for k in range(tbins)]
    return labels, np.array([len(each) > 0 for each in labels])


def _mapped(rows: Array, class_lookup: Array, path: str) -> Array:
    lookup = np.asarray(class_lookup)
    unknown = rows["class_id"] >= len(lookup)
    if unknown.any():
        raise ClassListError(
            f"the labels of {path} have class {rows['class_id'][unknown][0]}, which is not in "
            f"{LABEL_MAP}; add its name there"
        )
    ids = lookup[rows["class_id"]]
    rows = rows[ids >= 0].copy()
    rows["class_id"] = ids[ids >= 0]
    return rows


def read_labels(file: Path) -> Array:
    """Read the rows of a labels file, sorted by time.

    Args:
        file: ``X_bbox.npy``.

    Raises:
        RecordingError: it is missing, damaged, or has no times, classes or tracks.
    """
    if not file.exists():
        raise RecordingError(f"there are no labels {file}; each recording needs its own")
    try:
        rows: Array = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise RecordingError(f"{file} cannot be read as npy: {error}") from error
    needed = {"class_id", "track_id"}
    fields = set(rows.dtype.names or ())
    if "ts" in fields and "t" not in fields:  # the name of older files
        names = rows.dtype.names or ()
        rows = rows.astype([("t" if name == "ts" else name, rows.dtype[name]) for name in names])
        fields.add("t")
    if rows.ndim != 1 or not {*needed, "t"} <= fields:
        raise RecordingError(f"{file} holds {rows.dtype}; expected rows of EventBbox")
    return rows[np.argsort(rows["t"], kind="stable")]


def check_labels(recording: Recording) -> None:
    """Check that a recording's labels lie within it.

    Args:
        recording: the recording.

    Raises:
        RecordingError: they do not.
    """
    times = read_labels(labels_file(recording.path))["t"]
    if len(times) and not 0 <= times[0] <= times[-1] <= recording.duration:
        raise RecordingError(
            f"{labels_file(recording.path)} has labels from {times[0]} to {times[-1]} us, and the "
            f"recording ends at {recording.duration} us; are these its labels, in us?"
        )


def class_names(root: Path) -> dict[int, str]:
    """Read which class id has which name.

    Args:
        root: folder of the data set.

    Raises:
        ClassListError: ``label_map_dictionary.json`` is missing or damaged, or names one class
            twice.
    """
    file = root / LABEL_MAP
    if not file.exists():
        raise ClassListError(
            f"there is no {file}; it maps class ids to names, such as {{'0': 'rock'}}"
        )
    try:
        found: Any = json.loads(file.read_text())
        names = {int(id_): str(name) for id_, name in found.items()}
    except (ValueError, AttributeError) as error:
        raise ClassListError(f"{file} is not a JSON object of class ids and names") from error
    if len(set(names.values())) != len(names) or not names or min(names) < 0:
        raise ClassListError(f"{file} needs class ids from 0, with a name of its own for each")
    return names


def lookup_of(names: dict[int, str], classes: list[str]) -> Array:
    """Return what maps the class ids of a data set to those of a model.

    Args:
        names: class id -> name, of the data set.
        classes: the names of the model's classes, in their order.

    Returns:
        int64 [highest id + 1]: the model's id; -1 for a class that the model does not have.

    Raises:
        ClassListError: the data set lacks one of the model's classes, or they are named twice.
    """
    missing = [name for name in classes if name not in names.values()]
    if missing or len(set(classes)) != len(classes) or not classes:
        problem = f"lack {', '.join(missing)}" if missing else "are to be named once each"
        raise ClassListError(
            f"the classes {', '.join(classes)}: the data's classes {problem}; "
            f"there are: {', '.join(names.values())}"
        )
    lookup = np.full(max(names) + 1, -1)
    for id_, name in names.items():
        if name in classes:
            lookup[id_] = classes.index(name)
    return lookup
