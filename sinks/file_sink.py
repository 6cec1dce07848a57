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
    """Writes one file, in the run's folder or in another.

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
        self._is_superseded = False  # the file has what holds no more

    @property
    def needs_run_folder(self) -> bool:
        """Whether it writes into the run's folder."""
        return self.folder is None

    @property
    def path(self) -> Path:
        """The file."""
        return (self.run_path if self.folder is None else self.folder) / self.file_name

    def is_lost(self, state: PlainState) -> bool:
        """Whether the file is not there any more."""
        is_mine = all(state.get(key) == value for key, value in self._where_it_is().items())
        return is_mine and not self._is_there()

    def _is_there(self) -> bool:
        """Whether there is anything in the file's place."""
        return os.path.lexists(self.path)

    def take_back(self, held: Position, beyond: Position, state: PlainState) -> Position:
        """Write the file anew from the log, which has all that it had."""
        self._good_state = None  # of an earlier fit that the same object served
        if all(state.get(key) == value for key, value in self._where_it_is().items()):
            self._is_superseded = True
        return BEGINNING

    def begin_anew(self, others: Sequence[PlainState]) -> None:
        """A file in the run's own folder that no other sink has is what a killed process began;
        elsewhere, one that has no events yet.
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
        """Whether the file was made, and no event was written."""
        return is_abandoned(self.path, self._head())

    def _head(self) -> bytes:
        """What the file begins with when it is made."""
        return b""

    def discard(self) -> None:
        """Remove what was written."""
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
        """Which file it is."""
        return {
            "folder": None if self.folder is None else str(self.folder.resolve()),
            "name": self.file_name,
        }

    def load_state(self, state: PlainState) -> None:
        """Take up what ``state`` gave, all but the folder: a file that is read, and may be a
        stranger's, does not say where to write.

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
