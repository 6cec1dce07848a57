"""A file takes the place of another one: a reader sees all of the old or all of the new."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_file(
    path: Path, temporary: Path, permissions: int = 0o600, is_durable: bool = True
) -> Iterator[IO[bytes]]:
    """Write a file that is called ``path`` once the block ends without an error.

    What it holds is durable before it has the name, so a power cut leaves the old file or the new
    one, never an empty one. The name itself is durable once the caller has synced the folder, where
    that matters.

    Args:
        path: what the file is to be called; another file of that name is replaced.
        temporary: what it is called meanwhile, in the same folder. What has that name, of a
            process that was killed or a stranger's link, is removed.
        permissions: of the new file, less what the umask takes.
        is_durable: wait for the disk; what can be made again need not, and may be damaged after a
            power cut.

    Yields:
        The file, open for writing.

    Raises:
        OSError: the disk failed; what was at ``path`` is there as it was.
    """
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, permissions)
    try:
        with open(fd, "wb") as file:
            yield file
            file.flush()
            if is_durable:
                os.fsync(fd)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
