"""What events and their labels are, under the field names that event-camera tools use."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

EVENT_CD = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
"""A change of contrast: pixel, 1 for brighter and 0 for darker, time in us."""

EVENT_BBOX = np.dtype(
    [
        ("t", "<i8"),
        ("x", "<f4"),
        ("y", "<f4"),
        ("w", "<f4"),
        ("h", "<f4"),
        ("class_id", "<u4"),
        ("track_id", "<u4"),
        ("class_confidence", "<f4"),
    ]
)
"""A label: time in us, a box in pixels, its class, and the id of the object through time."""
