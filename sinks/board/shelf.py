"""The runs of a folder as the board has them: under keys, and as a table that is kept a moment."""

import hashlib
import math
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ...bus.errors import NightbusError
from ...bus.library.table import Runs, runs
from ...bus.runs.run_folder import RUN_ID
from ...bus.runs.run_summary import RunSummary

_KEPT_S = 1.0
_SOON_S = 0.1
_COSTS = 20  # a table is kept this many times as long as it takes to read


_encode = msgspec.msgpack.Encoder().encode


class UnknownRunError(NightbusError):
    """There is no run with the key that was asked for."""


class Table(NamedTuple):
    """The runs of a folder at a time.

    Attributes:
        number: larger when something has changed.
        runs: the runs, oldest first.
        by_key: key -> run.
    """

    number: int
    runs: Runs
    by_key: dict[str, RunSummary]


class Shelf:
    """The runs of a folder, read again when what is known is old. Any thread may ask.

    A key is what the page calls a run: the name of its folder where that is as nightbus makes it.
    It is looked up among the runs that there are, and never becomes part of a path.

    Args:
        root: the folder the runs lie in, or the one that holds its folder ``runs``.
        archived: also those that were put away.
        where: a condition, for a part of them.
        since_s: only those that began in so many seconds before now; None for all.
        tags: only those with all of these.
        group: only those of this group; all if empty.
    """

    def __init__(
        self,
        root: Path,
        archived: bool = False,
        where: str = "",
        *,
        since_s: float | None = None,
        tags: Sequence[str] = (),
        group: str = "",
    ) -> None:
        self.root = root
        self._since_s, self._tags, self._group = since_s, tags, group
        self._archived = archived
        self._where = where
        self._lock = threading.Lock()
        self._table = Table(0, Runs([]), {})
        self._read_again_s = -1.0

    def choice(self, where: str = "") -> list[str]:
        """Return the arguments with which the verbs of the command line choose these runs.

        Args:
            where: a condition besides, for a part of them.
        """
        conditions = [condition for condition in (self._where, where) if condition]
        said = [str(self.root.absolute())]
        for name, value in (
            ("since", "" if self._since_s is None else f"{math.ceil(self._since_s / 60)}min"),
            *(("tag", tag) for tag in self._tags),
            ("group", self._group),
            (
                "where",
                " and ".join(conditions if len(conditions) < 2 else map("({})".format, conditions)),
            ),
        ):
            said += [f"--{name}", value] if value else []
        return [*said, *(["--archived"] if self._archived else [])]

    @property
    def known(self) -> Table:
        """The runs as they were read last; its number is 0 if they were not yet."""
        return self._table

    def table(self) -> Table:
        """Return the runs; while another thread reads them again, as they were before.

        Raises:
            RunFolderError: there is no such folder any more.
            UsageError: the condition is wrong, or no run has one of its names.
        """
        if not self._lock.acquire(blocking=self._table.number == 0):
            return self._table
        try:
            if time.monotonic() >= self._read_again_s:
                self._read()
            return self._table
        finally:
            self._lock.release()

    def _read(self) -> None:
        began_s = time.monotonic()
        found = self._chosen()
        now_s = time.monotonic()
        self._read_again_s = now_s + max(_KEPT_S, _COSTS * (now_s - began_s))
        if self._table.number == 0 or not _are_same(found.summaries, self._table.runs.summaries):
            by_key = {key_of(run): run for run in found.summaries}
            self._table = Table(self._table.number + 1, found, by_key)

    def read_again(self) -> None:
        """Have the table read again when it is asked for next, because a run has ended."""
        self._read_again_s = min(self._read_again_s, time.monotonic() + _SOON_S)

    def _chosen(self) -> Runs:
        found = runs(self.root, archived=self._archived).tagged(*self._tags)
        if self._since_s is not None:
            found = found.begun_since(time.time_ns() - int(self._since_s * 1e9))
        if self._group:
            found = found.of_group(self._group)
        return found.where(self._where) if self._where else found

    def run(self, key: str) -> RunSummary:
        """Return a run in short.

        Args:
            key: its key.

        Raises:
            UnknownRunError: there is none.
        """
        if (found := self.table().by_key.get(key)) is None:
            raise UnknownRunError(f"there is no run {key[:80]!r} in {self.root}")
        return found


def _are_same(runs: Sequence[RunSummary], others: Sequence[RunSummary]) -> bool:
    return len(runs) == len(others) and all(
        # Encoded where they differ, since NaN differs from itself.
        run == other or (run.path == other.path and _encoded(run) == _encoded(other))
        for run, other in zip(runs, others, strict=True)
    )


def _encoded(run: RunSummary) -> bytes:
    return _encode(msgspec.structs.replace(run, path=""))  # which may be no text


def key_of(run: RunSummary) -> str:
    """Return what the page calls a run.

    Args:
        run: the run.
    """
    name = Path(run.path).name
    if RUN_ID.fullmatch(name):
        return name
    return "x-" + hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()
