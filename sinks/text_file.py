"""A text file that only grows, and can be cut back to a known size."""

import os
from pathlib import Path

from ..bus.errors import SinkError


class TextFile:
    """One file of a sink.

    Args:
        path: where; its folder is made.
        size: go on after so many bytes; None for a file that must not exist yet.

    Raises:
        SinkError: the file is not as the arguments say.
    """

    def __init__(self, path: Path, size: int | None) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if size is None:
            try:
                self._file = open(path, "xb")  # noqa: SIM115
            except FileExistsError:
                raise SinkError(
                    f"{path} exists already and is not overwritten; choose another folder, or "
                    "deliver the rest of a run to it with: nightbus replay RUN --resume"
                ) from None
        else:
            found = path.stat().st_size if path.exists() else 0
            if found < size:
                raise SinkError(
                    f"{path} has {found} bytes, but {size} were delivered before; it was changed "
                    "or lost: delete it and the run's cursor for this sink to write it anew"
                )
            os.truncate(path, size)
            self._file = open(path, "ab")  # noqa: SIM115
        self.size = size or 0

    def append(self, text: str) -> None:
        """Add text at the end."""
        self.size += self._file.write(text.encode())

    def replace(self, text: str) -> None:
        """Put other content in the file's place, all at once."""
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        data = text.encode()
        try:
            temporary.write_bytes(data)
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._file.close()
        self._file = open(self.path, "ab")  # noqa: SIM115
        self.size = len(data)

    def read(self) -> str:
        """All of it."""
        self.flush()
        return self.path.read_text()

    def flush(self) -> None:
        """Hand what was appended to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
