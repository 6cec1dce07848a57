"""A run on disk: its folder, name and attempts, and the process that is writing it.

runs/<run-id>/                        0700
    run.json                          what was started, once
    marks.json                        name, tags and notes, once they were changed
    summary.msgpack                   the run in short, once it has ended; derived
    attempt-000/rank-00000/*.nlog     the events of the first start, of each rank
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ..errors import MALFORMED, RunFolderError
from ..events import Fork, Plain
from ..log.segments import FolderStore, sync_folder
from ..secrets.redaction import redact
from ..system.atomic_file import atomic_file
from ..system.forks import leave_when_forked
from ..system.plain_file import open_plain, read_small, refuse_link
from .crash_leftovers import remove_leftovers

RUN_ID = re.compile(r"[a-z0-9-]{1,64}")
_ATTEMPT = re.compile(r"attempt-(\d{3,6})")
_RANK = re.compile(r"rank-(\d{5,6})")
FORK = "fork.json"
CODE_DIFF = "code.diff"


class RunInfo(msgspec.Struct, frozen=True):
    """The content of ``run.json``.

    Attributes:
        id: the folder's name.
        name: the name that the user gave.
        created_ns: wall clock, ns since 1970.
        argv: the command line, secrets struck out.
        tags, notes, group: as given to the Trainer; ``marks.json`` has what was changed later.
        config: the Trainer's arguments that differ from their defaults.
        environment: the process, its machine and its code, as in RunStarted.
        hparams: hyperparameters of module and datamodule, as the first attempt has them.
        parent: the run whose checkpoint it began from; empty for none, and where it is this run.
    """

    id: str
    name: str
    created_ns: int
    argv: list[str]
    tags: tuple[str, ...] = ()
    notes: str = ""
    group: str = ""
    config: dict[str, Plain] = {}
    environment: dict[str, Plain] = {}
    hparams: dict[str, Plain] = {}
    parent: str = ""


class RunFolder:
    """One run's folder, made by ``create`` or found by ``open``.

    Args:
        path: the folder.
        info: the content of run.json.

    Attributes:
        path: the folder.
        info: the content of run.json.
        ends_because: why its log ends, where no event says how the run ended.
    """

    ends_because = "its process ended without a word"

    def __init__(self, path: Path, info: RunInfo) -> None:
        self.path = path
        self.info = info
        self._identity = _identity(path)

    @property
    def is_there(self) -> bool:
        """Return whether its path still is the same folder, neither removed nor renamed."""
        return self._identity is not None and _identity(self.path) == self._identity

    @classmethod
    def create(cls, root: Path, name: str, said: RunInfo | None = None) -> "RunFolder":
        """Create a new run, with an id of its own.

        Args:
            root: the folder of runs.
            name: the run's name; its id begins with it.
            said: what else goes into run.json; its id, name, time and command line do not count.

        Returns:
            The new run.

        Raises:
            RunFolderError: the folder cannot be created or written.
        """
        stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50] or "run"
        try:
            is_new = not root.is_dir()
            make_private_folder(root)
            if is_new:
                sync_folder(root.parent)
            while True:
                path = root / f"{stem}-{secrets.token_hex(3)}"
                try:
                    path.mkdir(mode=0o700)
                    break
                except FileExistsError:
                    continue
            begun = RunInfo(path.name, name, time.time_ns(), redact(sys.argv))
            info = begun if said is None else _with_names(said, begun)
            write_atomically(path / "run.json", msgspec.json.format(msgspec.json.encode(info)))
            sync_folder(path)
            sync_folder(root)
        except OSError as error:
            raise RunFolderError(
                f"cannot create a run's folder in {root}: {error.strerror}; choose a writable "
                "folder with Trainer(default_root_dir=...)"
            ) from error
        return cls(path, info)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """Return the run at ``path``.

        Raises:
            RunFolderError: there is none.
        """
        folder = Path(path)
        try:
            data = read_small(folder / "run.json", RunFolderError)
            info = msgspec.json.decode(data, type=RunInfo)
        except FileNotFoundError:
            raise RunFolderError(
                f"{folder} is not a run: it has no run.json; runs are in the runs/ folder of the "
                "trainer's default_root_dir"
            ) from None
        except NotADirectoryError:
            raise RunFolderError(f"{folder} is a file, not a run's folder") from None
        except (*MALFORMED, OSError) as error:
            raise RunFolderError(f"{folder / 'run.json'} cannot be read: {error}") from error
        if not RUN_ID.fullmatch(info.id):
            raise RunFolderError(
                f"{folder / 'run.json'} names the run {info.id[:80]!r}; a run's id has 1 to 64 "
                "characters out of a-z, 0-9 and -, so this file was not written by nightbus"
            )
        return cls(folder, info)

    @classmethod
    def containing(cls, path: Path) -> "RunFolder | None":
        """Return the run that contains a file or folder, such as a checkpoint."""
        for parent in path.resolve().parents:
            if (parent / "run.json").exists():
                return cls.open(parent)
        return None

    def attempts(self) -> list[int]:
        """Return the numbers of its attempts, ascending."""
        with os.scandir(self.path) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        return sorted(int(match[1]) for name in names if (match := _ATTEMPT.fullmatch(name)))

    def ranks(self, attempt: int) -> list[int]:
        """Return the ranks that an attempt has logs of, ascending."""
        with os.scandir(self.attempt_path(attempt)) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        return sorted(int(match[1]) for name in names if (match := _RANK.fullmatch(name)))

    def refuse_missing_rank(self, rank: int) -> None:
        """Refuse a rank that no attempt has a log of.

        Args:
            rank: the rank.

        Raises:
            RunFolderError: there is no log of it.
        """
        known = sorted({each for attempt in self.attempts() for each in self.ranks(attempt)})
        if rank in known:
            return
        if not known:
            raise RunFolderError(f"{self.path} has no log of rank {rank}, nor of another")
        are_all = known == list(range(len(known))) and len(known) > 2
        there = f"0 to {known[-1]}" if are_all else ", ".join(map(str, known[:20]))
        raise RunFolderError(f"{self.path} has no log of rank {rank}; it has logs of rank {there}")

    def attempt_path(self, attempt: int) -> Path:
        """Return one attempt's folder."""
        return self.path / f"attempt-{attempt:03d}"

    def keep_fork(self, attempt: int, fork: Fork) -> None:
        """Write from where an attempt continues to a file of its own, besides its log.

        If the disk loses the first event of the log, superseded events must not look current.

        Args:
            attempt: the attempt.
            fork: from where it continues.

        Raises:
            RunFolderError: it cannot be written.
        """
        try:
            write_atomically(self.attempt_path(attempt) / FORK, msgspec.json.encode(fork))
        except OSError as error:
            raise RunFolderError(
                f"cannot begin an attempt in {self.path}: {error.strerror}"
            ) from error

    def keep_code_diff(self, attempt: int, text: str) -> None:
        """Write what is changed in the code of an attempt since its commit.

        Args:
            attempt: the attempt.
            text: the output of ``git diff``.

        Raises:
            RunFolderError: it cannot be written.
        """
        try:
            write_atomically(self.attempt_path(attempt) / CODE_DIFF, text.encode())
        except OSError as error:
            raise RunFolderError(
                f"cannot write the changes of the code into {self.path}: {error.strerror}"
            ) from error

    def code_diff(self) -> str:
        """Return what was changed in the code of the last attempt that says so; empty if none does.

        Raises:
            RunFolderError: it cannot be read.
        """
        for attempt in reversed(self.attempts()):
            try:
                found = read_small(self.attempt_path(attempt) / CODE_DIFF, RunFolderError)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise RunFolderError(f"cannot read the code's changes: {error}") from error
            return found.decode(errors="replace")
        return ""

    def store(self, attempt: int, rank: int = 0) -> FolderStore:
        """Return the segments of one attempt and rank.

        Args:
            attempt: the attempt.
            rank: of which process.

        Raises:
            RunFolderError: their folder leads out of the run.
        """
        folder = self.attempt_path(attempt) / f"rank-{rank:05d}"
        refuse_link(folder, RunFolderError)
        return FolderStore(folder)

    def begin_attempt(self) -> "AttemptLock":
        """Create the next attempt's folder and lock it for this process.

        Only one process writes a run at a time: two would mix up its sinks' files, cursors and
        checkpoints.

        Raises:
            RunFolderError: the folder cannot be written, or another process, whose id is named, is
                writing the run.
        """
        try:
            with self.deciding():
                attempts = self.attempts()
                for earlier in attempts:
                    if self.is_being_written(earlier):
                        writer = _pid_in(self.attempt_path(earlier) / "lock")
                        raise RunFolderError(
                            f"the run {self.path} is being written by {writer}; "
                            "wait for its end, stop it, or begin a new run without "
                            "ckpt_path"
                        )
                attempt = max(attempts, default=-1) + 1
                while True:
                    try:
                        self.attempt_path(attempt).mkdir(mode=0o700)
                        break
                    except FileExistsError:  # something else has this name
                        attempt += 1
                lock = AttemptLock(attempt, self.attempt_path(attempt) / "lock")
                remove_leftovers(self.path, _is_held)
                sync_folder(self.path)
                return lock
        except OSError as error:
            raise RunFolderError(
                f"cannot begin an attempt in {self.path}: {error.strerror}"
            ) from error

    def join_attempt(self, attempt: int, rank: int) -> "AttemptLock":
        """Lock the folder of one more rank of an attempt, which rank 0 has begun.

        Args:
            attempt: the attempt.
            rank: of this process.

        Returns:
            The lock.

        Raises:
            RunFolderError: the folder cannot be written, or another process is writing it.
        """
        folder = self.store(attempt, rank).folder
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            return AttemptLock(attempt, folder / "lock")
        except OSError as error:
            raise RunFolderError(
                f"rank {rank} cannot write in {folder}: {error.strerror}; all ranks need the run's "
                "folder, so it has to be on a file system that all machines share"
            ) from error

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Hold a lock while a writer is chosen or marks are changed, by one process at a time."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self.path / "run.json", flags)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def is_being_written(self, attempt: int) -> bool:
        """Return whether the process that began this attempt is still running."""
        return _is_held(self.attempt_path(attempt) / "lock")

    def is_running(self) -> bool:
        """Return whether a process is writing the run."""
        return any(self.is_being_written(attempt) for attempt in self.attempts())


class AttemptLock:
    """The lock of the process that writes an attempt; released when the process ends.

    Args:
        attempt: the attempt's number.
        path: the lock file.

    Raises:
        RunFolderError: another process is writing the attempt.
    """

    def __init__(self, attempt: int, path: Path) -> None:
        self.attempt = attempt
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        try:
            self._take(path)
            os.ftruncate(self._fd, 0)
            os.write(self._fd, f"{os.getpid()}\n".encode())
        except BaseException:
            self.release()
            raise
        leave_when_forked(self)

    def _take(self, path: Path) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(
                    f"the attempt {path.parent} is being written by {_pid_in(path)}; two processes "
                    "cannot write one attempt"
                ) from None
            # Only readers that check for a writer hold it, for a moment.
            fcntl.flock(self._fd, fcntl.LOCK_EX)

    def release(self) -> None:
        """Release the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def leave_to_parent(self) -> None:
        """Close the lock file in a forked child, such as a dataloader worker."""
        self.release()


def _is_held(lock: Path) -> bool:
    """Return whether a process holds a lock."""
    try:
        fd = open_plain(lock, RunFolderError)
    except (OSError, RunFolderError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _pid_in(lock: Path) -> str:
    """Return the holder of a lock, for people."""
    try:
        content = read_small(lock, RunFolderError).strip()
    except (OSError, RunFolderError):
        content = b""
    return f"process {int(content)}" if content.isdigit() else "another process"


def _with_names(said: RunInfo, begun: RunInfo) -> RunInfo:
    names = {name: getattr(begun, name) for name in ("id", "name", "created_ns", "argv")}
    return msgspec.structs.replace(said, **names)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def make_private_folder(path: Path) -> None:
    """Create a folder for its owner alone if there is none; parents get the mode of the umask."""
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)


def read_fork(attempt_path: Path) -> Fork | None:
    """Return from where an attempt continues, as ``keep_fork`` wrote it; None if it did not."""
    try:
        return msgspec.json.decode(read_small(attempt_path / FORK, RunFolderError), type=Fork)
    except (*MALFORMED, OSError, RunFolderError):
        return None


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a reader sees all of the old or all of the new content.

    This holds after a power cut too. Several threads and processes may write at once: the last one
    wins.

    Args:
        path: the file.
        data: its new content.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with atomic_file(path, temporary) as file:
        file.write(data)


def list_runs(root: Path) -> list[RunFolder]:
    """Return the runs in a folder, oldest first."""
    found = [RunFolder.open(path.parent) for path in root.glob("*/run.json")]
    return sorted(found, key=lambda run: run.info.created_ns)


def newest_runs(root: Path) -> list[str]:
    """Return the ids of the runs in a folder, the last started or resumed first."""
    dated = sorted((_started_ns(file), file.parent.name) for file in root.glob("*/run.json"))
    return [name for _, name in reversed(dated)]


def _started_ns(run_json: Path) -> int:
    """Return when a run's latest attempt took its lock, or when the run was created."""
    locks = run_json.parent.glob("attempt-*/lock")
    return max(file.lstat().st_mtime_ns for file in (run_json, *locks))
