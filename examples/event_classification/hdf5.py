"""HDF5 tensors: recordings that were preprocessed elsewhere."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

import nightbus as nb
from examples.event_classification.errors import RecordingError
from examples.event_classification.event_types import Array

SCALES = {"uint8": 255.0, "int8": 127.0}  # of quantised tensors


class Tensors(NamedTuple):
    """A recording's tensor, and what the file says of how it was made.

    Attributes:
        tensor: float32 [bins, channels, height, width], at most 1.
        delta_t: duration of a bin in us; 0 if the file does not say.
    """

    tensor: Array
    delta_t: int


def read_tensors(file: Path) -> Tensors:
    """Read the dataset ``data`` of an HDF5 tensor file, and its attributes.

    Args:
        file: the file.

    Raises:
        MissingPackageError: h5py is missing.
        RecordingError: the file is damaged or of another layout.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise nb.MissingPackageError(f"reading {file.name}", "h5py", "hdf5") from None
    try:
        with h5py.File(file, "r") as opened:
            data = opened["data"]
            tensor, delta_t = np.asarray(data[()]), int(data.attrs.get("delta_t", 0))
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(f"{file} is no file of HDF5 tensors: {error}") from error
    if tensor.ndim != 4 or not len(tensor) or tensor.dtype.kind not in "uif":
        raise RecordingError(
            f"{file} holds {tensor.dtype} of shape {tensor.shape}; expected numbers of shape "
            "[bins, channels, height, width]"
        )
    scale = SCALES.get(tensor.dtype.name, 1.0)
    scaled = tensor.astype(np.float32) / np.float32(scale)
    if not np.isfinite(scaled).all() or np.abs(scaled).max() > 1:
        raise RecordingError(f"{file} has values beyond -1 to 1; tensors are normalised to 1")
    return Tensors(scaled, delta_t)
