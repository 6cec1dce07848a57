"""Prophesee's DAT format, read and written.

Lines of text that begin with ``%``, a byte for the kind of events, one for their size, and 8 bytes
an event: the time in us as uint32, then x in 14 bits, y in 14 bits and the polarity in 4 bits.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from examples.event_classification.errors import RecordingError
from examples.event_classification.event_types import EVENT_CD, Array

KINDS = {0: "Event2d", 12: "EventCD"}
EVENT_BYTES = 8
LARGEST_TIME_US = 2**32 - 1
LARGEST_PLACE = 2**14 - 1


class Events(NamedTuple):
    """The events of a recording.

    Attributes:
        events: of dtype EVENT_CD, sorted by time.
        height: of the sensor, in pixels; 0 if the file does not say.
        width: the same.
    """

    events: Array
    height: int
    width: int


def write_dat(file: Path, events: Array, height: int, width: int) -> None:
    """Write events as DAT.

    Args:
        file: where to.
        events: of dtype EVENT_CD.
        height: of the sensor, in pixels.
        width: the same.

    Raises:
        RecordingError: an event is later than the format can say (71.6 minutes), outside the
            sensor, or earlier than the one before.
    """
    if len(events):
        t = events["t"]
        if t[0] < 0 or t[-1] > LARGEST_TIME_US or (np.diff(t) < 0).any():
            raise RecordingError(
                f"{file.name}: DAT holds sorted times from 0 to {LARGEST_TIME_US:,} us; "
                "cut the recording into shorter ones"
            )
        bottom, right = int(events["y"].max()), int(events["x"].max())
        if bottom >= height or right >= width or max(height, width) > LARGEST_PLACE + 1:
            raise RecordingError(
                f"{file.name}: there is an event at ({right}, {bottom}), and the sensor has "
                f"{width} x {height} pixels"
            )
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = events["t"]
    x, y, p = (events[name].astype(np.uint32) for name in "xyp")
    words[:, 1] = x | y << 14 | p << 28
    header = f"% Data file containing CD events\n% Version 2\n% Width {width}\n% Height {height}\n"
    file.write_bytes(header.encode() + bytes([12, EVENT_BYTES]) + words.tobytes())


def read_dat(file: Path) -> Events:
    """Read a DAT file of any event camera.

    Args:
        file: the file.

    Returns:
        Its events and the size of the sensor.

    Raises:
        RecordingError: it is no DAT file, holds other events, or is damaged.
    """
    raw = file.read_bytes()
    start = 0
    while raw[start : start + 1] == b"%":
        end = raw.find(b"\n", start)
        if end < 0:
            raise RecordingError(f"{file} ends within its header; copy it again")
        start = end + 1
    if start == 0:
        raise RecordingError(
            f"{file} does not begin with '%', as DAT files do; convert RAW files to DAT first"
        )
    if len(raw) < start + 2:
        raise RecordingError(f"{file} ends behind its header; copy it again")
    kind, size = raw[start], raw[start + 1]
    if kind not in KINDS or size != EVENT_BYTES:
        raise RecordingError(
            f"{file} holds events of kind {kind} with {size} bytes; expected kind 0 or 12 with 8"
        )
    body = memoryview(raw)[start + 2 :]
    if len(body) % EVENT_BYTES:
        raise RecordingError(
            f"{file} ends within an event: {len(body) % EVENT_BYTES} bytes are left; copy it again"
        )
    header = raw[:start].decode("latin-1")
    return _checked(file, _unpacked(body), _number(header, "Height"), _number(header, "Width"))


def _unpacked(body: memoryview) -> Array:
    words = np.frombuffer(body, "<u4").reshape(-1, 2)
    events = np.zeros(len(words), EVENT_CD)
    places = words[:, 1]
    events["t"] = words[:, 0]
    events["x"] = places & LARGEST_PLACE
    events["y"] = places >> 14 & LARGEST_PLACE
    events["p"] = places >> 28 & 1
    return events


def _number(header: str, keyword: str) -> int:
    found = re.search(rf"^%\s*{keyword}\s+(\d+)\s*$", header, re.MULTILINE)
    return int(found[1]) if found else 0


def _checked(file: Path, events: Array, height: int, width: int) -> Events:
    if (np.diff(events["t"]) < 0).any():
        raise RecordingError(f"{file} is damaged: times go back; copy it again")
    if len(events) and height and width:
        bottom, right = int(events["y"].max()), int(events["x"].max())
        if bottom >= height or right >= width:
            raise RecordingError(
                f"{file} is damaged: an event at ({right}, {bottom}) is outside the sensor of "
                f"{width} x {height} pixels; copy it again"
            )
    return Events(events, height, width)
