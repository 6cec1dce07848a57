"""Profiler: the base of profilers, and PassThroughProfiler, which does nothing."""

import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ...bus.system.paths import as_path
from ...bus.system.streams import notify_user

T = TypeVar("T")

_NOT_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f]')


class Profiler:
    """The base of profilers: derive your own, with ``start``, ``stop`` and ``summary``.

    The hooks that do something are actions, by their names, such as ``training_step``; further ones
    are named by ``with trainer.profiler.profile("name"):``. When ``fit``, ``validate``, ``test`` or
    ``predict`` ends, the summary is shown on stderr, or written to a file.

    Args:
        dirpath: folder of the files; ``trainer.log_dir`` by default: that of the first logger, or
            of the run.
        filename: first part of the files' names; None shows the summary instead.

    Attributes:
        profiles_hooks: the actions are hooks, too.
    """

    profiles_hooks: ClassVar = True

    def __init__(
        self, dirpath: str | os.PathLike[str] | None = None, filename: str | None = None
    ) -> None:
        self.dirpath = None if dirpath is None else as_path(dirpath)
        self.filename = filename
        self._stage, self._rank = "", 0
        self._has_others = False  # other processes profile too
        self._folder: Callable[[], Path] = Path.cwd

    def setup(self, stage: str, local_rank: int | None, folder: Callable[[], Path]) -> None:
        """Prepare for a function.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
            local_rank: which process of this machine it is; None if there is only this one.
            folder: returns the folder of the run, for files.
        """
        self._stage, self._rank, self._folder = stage, local_rank or 0, folder
        self._has_others = local_rank is not None

    def teardown(self, stage: str) -> None:
        """End what was begun for a function.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """

    @abstractmethod
    def start(self, action_name: str) -> None:
        """Begin an action."""

    @abstractmethod
    def stop(self, action_name: str) -> None:
        """End an action."""

    @abstractmethod
    def summary(self) -> str:
        """Return what was found, as text; empty for nothing."""

    @contextmanager
    def profile(self, action_name: str) -> Iterator[str]:
        """Profile what is done within, as an action.

        Args:
            action_name: its name.
        """
        self.start(action_name)
        try:
            yield action_name
        finally:
            self.stop(action_name)

    def profile_iterable(self, iterable: Iterable[T], action_name: str) -> Iterator[T]:
        """Yield what an iterable has, each reading profiled as an action; a name of Lightning 1.x.

        Args:
            iterable: what is read.
            action_name: the action's name.
        """
        entries = iter(iterable)
        while True:
            with self.profile(action_name):
                try:
                    entry = next(entries)
                except StopIteration:
                    return
            yield entry

    def wrapped(self, hook: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Return a hook's handler that is profiled.

        Args:
            hook: the hook, which names the action.
            handler: what it does.
        """

        @wraps(handler, assigned=(), updated=())
        def profiled(*objects: Any) -> Any:
            self.start(hook)
            try:
                return handler(*objects)
            finally:
                self.stop(hook)

        return profiled

    def describe(self) -> None:
        """Show the summary, or write it to a file."""
        text = self.summary()
        if not text:
            return
        if self.filename is not None:
            self.path_of("txt").write_text(text + "\n")
        elif self._rank == 0:
            notify_user(f"nightbus: profile of {self._stage or 'actions'}\n{text}")

    def path_of(self, suffix: str, name: str = "") -> Path:
        """Return the path of a file for this function and process; its folder exists.

        Args:
            suffix: of the file, without a dot.
            name: what else it is called by; what no file may be called becomes ``_``.
        """
        folder = self._folder() if self.dirpath is None else self.dirpath
        folder.mkdir(parents=True, exist_ok=True)
        rank = str(self._rank) if self._has_others else ""
        parts = (self._stage, self.filename, rank, _NOT_IN_NAMES.sub("_", name))
        return folder / f"{'-'.join(part for part in parts if part)}.{suffix}"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the run, for copies and pickles."""
        return {**vars(self), "_folder": Path.cwd}


class PassThroughProfiler(Profiler):
    """Profiles nothing: what a Trainer has without ``profiler=``."""

    profiles_hooks = False

    def start(self, action_name: str) -> None:
        """Do nothing."""

    def stop(self, action_name: str) -> None:
        """Do nothing."""

    def summary(self) -> str:
        """Return nothing."""
        return ""
