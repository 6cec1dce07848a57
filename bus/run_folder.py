"""A run on disk: its folder, its name, its attempts, and who is writing it.

runs/<run-id>/                        0700
    run.json                          what was started, once
    attempt-000/rank-00000/*.nlog     the events of the first start
    attempt-001/...                   each later start of the same run
    checkpoints/  cursors/            and what sinks wrote
    control.sock                      while it runs: how it is steered from outside
"""

import fcntl
import os
import re
import secrets
import sys
import threading
import time
import weakref
from pathlib import Path

import msgspec

from .errors import MALFORMED, RunFolderError
from .segments import FolderStore

RUN_ID = re.compile(r"[a-z0-9-]{1,64}")
_ATTEMPT = re.compile(r"attempt-(\d{3,6})")
_SECRET = re.compile(r"token|key|passw|pwd|secret|credential|auth|bearer", re.IGNORECASE)
_URL_USER = re.compile(r"(?<=://)[^/@\s]+@")


class RunInfo(msgspec.Struct, frozen=True):
    """What ``run.json`` says.

    Attributes:
        id: the folder's name.
        name: what the user called it.
        created_ns: wall clock, ns since 1970.
        argv: the command line, secrets struck out.
    """

    id: str
    name: str
    created_ns: int
    argv: list[str]


class RunFolder:
    """One run's folder. Made by ``create`` or found by ``open``.

    Attributes:
        path: the folder.
        info: what run.json says.
        ends_because: why a log of it ends, where no event says how the run ended.
    """

    ends_because = "its process ended without a word"

    def __init__(self, path: Path, info: RunInfo) -> None:
        self.path = path
        self.info = info

    @classmethod
    def create(cls, root: Path, name: str) -> "RunFolder":
        """Make a new run under ``root``, with an id of its own.

        Raises:
            RunFolderError: the folder cannot be made or written.
        """
        stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50] or "run"
        try:
            root.mkdir(parents=True, exist_ok=True)
            while True:
                path = root / f"{stem}-{secrets.token_hex(3)}"
                try:
                    path.mkdir(mode=0o700)
                    break
                except FileExistsError:
                    continue
            info = RunInfo(path.name, name, time.time_ns(), redact(sys.argv))
            write_atomically(path / "run.json", msgspec.json.format(msgspec.json.encode(info)))
        except OSError as error:
            raise RunFolderError(
                f"cannot make a run's folder in {root}: {error.strerror}; choose a folder that "
                "can be written with Trainer(default_root_dir=...)"
            ) from error
        return cls(path, info)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """Find the run at ``path``.

        Raises:
            RunFolderError: there is none.
        """
        folder = Path(path)
        try:
            info = msgspec.json.decode((folder / "run.json").read_bytes(), type=RunInfo)
        except FileNotFoundError:
            raise RunFolderError(
                f"{folder} is not a run: it has no run.json; runs lie in the runs/ folder of the "
                "trainer's default_root_dir"
            ) from None
        except NotADirectoryError:
            raise RunFolderError(f"{folder} is a file, not a run's folder") from None
        except (*MALFORMED, OSError) as error:
            raise RunFolderError(f"{folder / 'run.json'} cannot be read: {error}") from error
        return cls(folder, info)

    @classmethod
    def containing(cls, path: Path) -> "RunFolder | None":
        """The run that a file or folder, a checkpoint say, lies in."""
        for parent in path.resolve().parents:
            if (parent / "run.json").exists():
                return cls.open(parent)
        return None

    def attempts(self) -> list[int]:
        """Numbers of the starts there are, ascending."""
        found = (_ATTEMPT.fullmatch(entry.name) for entry in self.path.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def attempt_path(self, attempt: int) -> Path:
        """One start's folder."""
        return self.path / f"attempt-{attempt:03d}"

    def store(self, attempt: int, rank: int = 0) -> FolderStore:
        """The segments of one start and rank."""
        return FolderStore(self.attempt_path(attempt) / f"rank-{rank:05d}")

    def begin_attempt(self) -> "AttemptLock":
        """Make the next start's folder and hold it for this process.

        Raises:
            RunFolderError: the folder cannot be written.
        """
        try:
            attempt = max(self.attempts(), default=-1) + 1
            while True:
                try:
                    self.attempt_path(attempt).mkdir(mode=0o700)
                    return AttemptLock(attempt, self.attempt_path(attempt) / "lock")
                except FileExistsError:  # another process resumed the run just now
                    attempt += 1
        except OSError as error:
            raise RunFolderError(
                f"cannot begin an attempt in {self.path}: {error.strerror}"
            ) from error

    def is_being_written(self, attempt: int) -> bool:
        """Whether the process that started this attempt is still there."""
        try:
            fd = os.open(self.attempt_path(attempt) / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


class AttemptLock:
    """Held by the process that writes an attempt; gone when it is, however it ends."""

    def __init__(self, attempt: int, path: Path) -> None:
        self.attempt = attempt
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            os.write(self._fd, f"{os.getpid()}\n".encode())
        except BaseException:
            self.release()
            raise
        _held_locks.add(self)

    def release(self) -> None:
        """Let go of the attempt."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_held_locks: weakref.WeakSet[AttemptLock] = weakref.WeakSet()


def _release_in_forked_child() -> None:
    """A forked child, a dataloader's worker say, must not hold on to what its parent writes."""
    for lock in list(_held_locks):
        lock.release()


os.register_at_fork(after_in_child=_release_in_forked_child)


def write_atomically(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` so that a reader sees all of the old or all of the new, also after
    a power cut. Several threads and processes may write at once: the last one wins.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def redact(arguments: list[str]) -> list[str]:
    """A command line with what looks secret struck out: the values of options of such a name,
    what follows such a name and ``=`` or ``:`` within an argument, and who logs in to a URL.
    """
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        if hide_next and not argument.startswith("--"):
            shown.append("***")
            hide_next = False
            continue
        secret = _SECRET.search(argument)
        # The first separator behind the name: what is before it may be looked at.
        sign = re.search("[=:]", argument[secret.end() :]) if secret else None
        if secret and sign:
            shown.append(argument[: secret.end() + sign.end()] + "***")
        else:
            shown.append(_URL_USER.sub("***@", argument))
        hide_next = bool(secret) and not sign and argument.startswith("-")
    return shown


def list_runs(root: Path) -> list[RunFolder]:
    """The runs under a folder, oldest first."""
    found = [RunFolder.open(path.parent) for path in root.glob("*/run.json")]
    return sorted(found, key=lambda run: run.info.created_ns)
