"""The base of sinks that write one file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from ..bus.errors import SinkError
from ..bus.runs.cursor import BEGINNING, PlainState, Position
from ..bus.system.paths import as_path
from .growing_file import GrowingFile, is_abandoned, remove_file
from .sink import Sink


class FileSink(Sink):
    """A sink that writes one file, in the run's folder or in another.

    Args:
        folder: where; the run's own by default.
        name: the file's name; ``default_name`` if not given.
        destination: takes puts with this label.

    Attributes:
        default_name: set by subclasses.
    """

    default_name = "metrics.txt"

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        destination: str = "loggers",
    ) -> None:
        self.folder = None if folder is None else as_path(folder)
        self.file_name = name or self.default_name
        self.destination = destination
        self._file: GrowingFile | None = None
        self._size: int | None = None
        self._is_superseded = False  # the file has superseded events

    @property
    def needs_run_folder(self) -> bool:
        """True if the file is in the run's folder."""
        return self.folder is None

    @property
    def path(self) -> Path:
        """Path of the file."""
        return (self.run_path if self.folder is None else self.folder) / self.file_name

    def is_lost(self, state: PlainState) -> bool:
        """Return whether the file no longer exists."""
        is_mine = all(state.get(key) == value for key, value in self._where_it_is().items())
        return is_mine and not self._is_there()

    def _is_there(self) -> bool:
        """Return whether anything exists at the file's path."""
        return os.path.lexists(self.path)

    def take_back(
        self, first_superseded: Position, replacement_start: Position, state: PlainState
    ) -> Position:
        """Have the file written anew from the log, which has all that the file had."""
        self._nightbus_good_state = None  # left by an earlier fit with the same object
        if all(state.get(key) == value for key, value in self._where_it_is().items()):
            self._is_superseded = True
        return BEGINNING

    def begin_anew(self, others: Sequence[PlainState]) -> None:
        """Remove a file that a killed process began.

        In the run's own folder that is a file that no other sink of the run has; elsewhere, a file
        without events.
        """
        mine = self._where_it_is()
        is_others = any(all(o.get(k) == v for k, v in mine.items()) for o in others)
        is_begun = self.folder is None or self._is_abandoned()
        self._is_superseded = is_begun and not is_others

    def _open(self, resumed: bool) -> None:
        if self._is_superseded:
            self.discard()
            self._is_superseded = False
        super()._open(resumed)

    def _is_abandoned(self) -> bool:
        """Return whether the file was created but has no events yet."""
        return is_abandoned(self.path, self._head())

    def _head(self) -> bytes:
        """Return the first bytes of a new file."""
        return b""

    def discard(self) -> None:
        """Remove the file."""
        remove_file(self.path)

    def flush(self) -> None:
        assert self._file is not None
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._size = self._file.size
            self._file.close()
            self._file = None

    def state(self) -> PlainState:
        return {
            **self._where_it_is(),
            "destination": self.destination,
            "size": self._file.size if self._file else self._size,
        }

    def _where_it_is(self) -> PlainState:
        """Return the part of the state that identifies the file."""
        return {
            "folder": None if self.folder is None else str(self.folder.resolve()),
            "name": self.file_name,
        }

    def load_state(self, state: PlainState) -> None:
        """Restore what ``state`` returned, except the folder.

        The cursor's file may be a stranger's, so it does not decide where to write.

        Raises:
            SinkError: the state names a file in another folder.
        """
        known = cast("dict[str, Any]", state)
        name = str(known["name"])
        if name in ("", ".", "..") or Path(name).name != name:
            raise SinkError(f"the cursor of {type(self).__name__} names the file {name!r}")
        self.file_name = name
        self.destination = known["destination"]
        self._size = known["size"]
