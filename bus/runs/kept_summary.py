"""A run in short, kept beside its log when it has ended, so that a first table of many is quick.

It is derived, and holds for as long as nothing about the run has changed: it names the time of
change that it gave the run's folder, which a new attempt, new marks and most files of sinks change,
and how large the last segments of the log are. Otherwise, and where there is none, as of a process
that was killed, the log is read.
"""

import hashlib
import os
import re
import time
from contextlib import suppress

import msgspec

from ..errors import MALFORMED, RunFolderError
from ..log.summary import MetricTotal
from ..system.plain_file import read_small
from .run_folder import RunFolder, write_atomically
from .run_summary import MAX_METRICS, SUMMARY, RunSummary, Said, read_summary

LAYOUT = hashlib.blake2b(
    repr([kind.__struct_fields__ for kind in (RunSummary, MetricTotal)]).encode(), digest_size=6
).hexdigest()
"""What summaries on disk consist of: those of another version are not read."""

MAX_BYTES = 4 << 20  # of a larger one, the log is read
_SEGMENT = re.compile(r"attempt-\d{3,6}/rank-\d{5,6}/\d{6,}\.nlog(\.zst)?")


class _Kept(msgspec.Struct, frozen=True):
    """The content of the file.

    Attributes:
        layout: of the summary.
        changed_ns: the time of change that the run's folder was given.
        segments: size in bytes of the last segment of each attempt, by its path in the run.
        summary: the RunSummary, in msgpack.
    """

    layout: str
    changed_ns: int
    segments: dict[str, int]
    summary: msgspec.Raw


_encode = msgspec.msgpack.Encoder().encode
_decode_kept = msgspec.msgpack.Decoder(_Kept).decode
_decode = msgspec.msgpack.Decoder(RunSummary).decode
_decode_said = msgspec.msgpack.Decoder(Said).decode


def keep_summary(run: RunFolder) -> None:
    """Keep a run in short that has just ended; where that is not possible, there is none.

    Args:
        run: the run.
    """
    with suppress(OSError, RunFolderError, UnicodeEncodeError):  # the last: a path that is no text
        if not run.is_there:
            return
        with run.deciding():  # neither an attempt nor marks are begun meanwhile
            summary = read_summary(run.path)
            if not summary.may_be_kept:
                return
            # Not the clock of the file system, whose ticks are long: no other change has this time.
            now_ns = time.time_ns()
            kept = _Kept(LAYOUT, now_ns, _last_segments(run), msgspec.Raw(_encode(summary)))
            write_atomically(run.path / SUMMARY, _encode(kept))
            os.utime(run.path, ns=(now_ns, now_ns))


def _last_segments(run: RunFolder) -> dict[str, int]:
    found = {}
    for attempt in run.attempts():
        store = run.store(attempt)
        if indices := store.indices():
            path = store.path_there(indices[-1])
            found[str(path.relative_to(run.path))] = path.stat().st_size
    return found


def kept_summary(folder: str, changed_ns: int) -> RunSummary | None:
    """Return a run in short as it was kept; None if there is nothing that still holds.

    The run may be a stranger's: nothing is returned that keep_summary would not have kept.

    Args:
        folder: the run's folder.
        changed_ns: when the folder was changed.
    """
    try:
        data = read_small(f"{folder}/{SUMMARY}", RunFolderError, MAX_BYTES)
        kept = _decode_kept(data)
        if kept.layout != LAYOUT or kept.changed_ns != changed_ns:
            return None
        for segment, size in kept.segments.items():
            if not _SEGMENT.fullmatch(segment) or os.stat(f"{folder}/{segment}").st_size != size:
                return None
        summary = _decode(kept.summary)
        _decode_said(summary.encoded)
    except (*MALFORMED, OSError, RunFolderError):
        return None
    is_as_kept = summary.may_be_kept and len(summary.metrics) <= MAX_METRICS
    return summary if is_as_kept else None
