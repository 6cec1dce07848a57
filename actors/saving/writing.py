"""The thread that writes a checkpoint while training goes on."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...bus.errors import CheckpointError
from ...bus.events import CheckpointSaved
from ..checkpoints.format import Snapshot, link_checkpoint, write_checkpoint
from ..run_context import RunContext
from .kept import KeptCheckpoints

_POLL_S = 0.05


@dataclass(frozen=True)
class ToWrite:
    """A checkpoint to be written.

    Attributes:
        path: the checkpoint.
        content: a copy of the state; the path of a checkpoint that holds the same; or the error
            because of which there is no copy.
        weights_only: it holds only what is needed for inference.
        replaces: a checkpoint at the path is replaced, and exists until then.
        then: called by the writing thread when it is complete on disk.
    """

    path: Path
    content: Snapshot | Path | CheckpointError
    weights_only: bool
    replaces: bool
    then: Callable[[], object] | None


class WritingThread:
    """A thread that does one piece of work, and keeps its exception.

    Args:
        work: writes the checkpoint.
        announce_failure: called by the thread if the work failed.
    """

    def __init__(self, work: Callable[[], object], announce_failure: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self._work, self._announce_failure = work, announce_failure
        self._is_over = threading.Event()
        # Not a daemon: the interpreter waits for it, so that a checkpoint is completed.
        self._thread = threading.Thread(target=self._run, name="nightbus-checkpoint")

    def start(self) -> None:
        """Do the work, on the thread if one is available."""
        try:
            self._thread.start()
        except (RuntimeError, MemoryError):  # no thread is available now: training waits instead
            self._run()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error
            self._announce_failure()
        finally:
            self._is_over.set()

    def wait(self) -> None:
        """Wait until the work is over; a signal is handled meanwhile."""
        # In short waits, so that Ctrl-C is handled. No join: an interrupted one believes the
        # thread is over.
        while not self._is_over.wait(_POLL_S):
            if self._thread.ident is None:  # Ctrl-C came before it started
                return


class CheckpointWriter:
    """Writes one checkpoint at a time, on a thread.

    Args:
        context: the run.
        kept: the run's own checkpoints.
    """

    def __init__(self, context: RunContext, kept: KeptCheckpoints) -> None:
        self._context, self._kept = context, kept
        self._writing: WritingThread | None = None

    def leave_to_parent(self) -> None:
        """Forget the thread in a forked child, which would wait for it for ever."""
        self._writing = None

    def start(self, checkpoint: ToWrite) -> None:
        """Write a checkpoint on a thread; the one before has to be over.

        Args:
            checkpoint: the checkpoint.
        """
        self._writing = WritingThread(lambda: self._write(checkpoint), self._request_attention)
        self._writing.start()  # only now that the run's end will wait for it

    @property
    def has_failed(self) -> bool:
        """Return whether the last checkpoint could not be written, which nobody reported yet."""
        return self._writing is not None and self._writing.error is not None

    def wait(self) -> BaseException | None:
        """Wait until no checkpoint is being written.

        Returns:
            Why it could not be written, if it could not; once only.
        """
        writing = self._writing
        if writing is None:
            return None
        writing.wait()  # if a second Ctrl-C interrupts this, the run's end waits instead
        self._writing = None
        return writing.error

    def _request_attention(self) -> None:
        """Request a check at the next boundary; any thread may call this."""
        self._context.bus.call_attention()

    def _write(self, checkpoint: ToWrite) -> None:
        path, content = checkpoint.path, checkpoint.content
        if isinstance(content, CheckpointError):
            raise content  # reported like a failing disk: training goes on
        bus, run = self._context.bus, self._context.run_folder
        if run is not None and path.is_relative_to(run.path) and not run.is_there:
            raise CheckpointError(
                f"the run's folder {run.path} was removed or renamed, so that {path.name} is not "
                "saved: it would be alone under the old name"
            )
        former: Path | None = None
        is_newest = path.parent == self._kept.folder and not checkpoint.weights_only
        try:
            if bus.writer is not None:
                # After a power cut, the log must reach at least as far as the checkpoint.
                bus.writer.sync()
            if isinstance(content, Path):
                digest, size = link_checkpoint(content, path, checkpoint.replaces)
            else:
                digest, size = write_checkpoint(path, content, checkpoint.replaces)
            if is_newest:
                former = self._kept.make_last(path)
        except OSError as error:
            raise CheckpointError(f"cannot write the checkpoint {path}: {error}") from error
        is_inside = run is not None and path.is_relative_to(run.path)
        shown = path.relative_to(run.path) if run is not None and is_inside else path
        bus.emit(CheckpointSaved, str(shown), digest, size)
        if is_newest:
            self._kept.remove_all_but(path, former)
        if checkpoint.then is not None:
            checkpoint.then()
