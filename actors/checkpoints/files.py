"""Names and places of checkpoints: the link ``last``, and the checkpoint that a user means."""

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...bus.errors import CheckpointError, MissingCheckpointError, NoBestCheckpointError
from ...bus.log.segments import sync_folder
from ...bus.runs.checkpoint_folder import check_digest
from ...bus.runs.run_folder import RunFolder, newest_runs
from ...bus.system.logging_setup import get_logger
from ...bus.system.paths import as_path
from .format import (
    is_checkpoint,
    meant_checkpoint,
    read_checkpoint,
    temporary_name,
    what_is_not_there,
)
from .replaced import restore_replaced

MAX_NAMED_RUNS = 5  # of those skipped

_log = get_logger("nightbus.checkpoint", of_all_ranks=True)


class Found(NamedTuple):
    """A checkpoint that was read.

    Attributes:
        path: its folder.
        state: its content.
        run: the run that contains it, if any.
    """

    path: Path
    state: dict[str, Any]
    run: RunFolder | None


def free_name(
    path: Path, mine: Collection[str] = (), join: str = "-", first: int = 1, extension: str = ""
) -> Path:
    """Return the path, or the first of ``path-v1``, ``path-v2`` ... that does not exist.

    Args:
        path: the wanted name.
        mine: paths that may be used although they exist.
        join: the text between name and version.
        first: the first version.
        extension: what the name ends in, and a name with a version too.
    """
    free, version = path, first
    name = path.name.removesuffix(extension)
    while os.path.lexists(free) and str(free) not in mine:
        free = path.with_name(f"{name}{join}v{version}{extension}")
        version += 1
    return free


def point_at(link: Path, target: Path) -> None:
    """Point a link at a target atomically and durably.

    Args:
        link: the link.
        target: its target, in the same folder.
    """
    temporary = temporary_name(link)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    temporary.replace(link)
    sync_folder(link.parent)


def find_checkpoint(
    ckpt_path: str | os.PathLike[str], root: Path, run_name: str, best_paths: Sequence[str] = ()
) -> Found | None:
    """Return the checkpoint that ``ckpt_path`` means.

    Args:
        ckpt_path: a checkpoint's folder; ``last``: the newest of the run of this name that was
            started or resumed last and has one, or the one before if that is damaged; ``best``:
            the best of this trainer's ModelCheckpoint, or of that run if it has not saved one.
        root: folder of the runs.
        run_name: the run's name.
        best_paths: the best checkpoints of this trainer's callbacks.

    Returns:
        The checkpoint; None if no run of this name has a checkpoint, for ``last``.

    Raises:
        MissingCheckpointError: there is none at that path.
        CheckpointError: there is none, or it is damaged.
    """
    if ckpt_path == "last":
        return _find_last(root, run_name)
    if ckpt_path == "best":
        return _find_best(root, run_name, best_paths)
    path = meant_checkpoint(as_path(ckpt_path))
    restore_replaced(path.parent)
    if not path.exists():
        raise MissingCheckpointError(what_is_not_there(path))
    return _read(path.resolve())


def _read(path: Path) -> Found:
    run = RunFolder.containing(path)
    try:
        return Found(path, read_checkpoint(path), run)
    except CheckpointError as error:
        instead = _newest_intact(run) if run is not None and is_checkpoint(path) else None
        if instead is None:
            raise
        raise CheckpointError(
            f"{error}; the newest of its run that is intact is {instead}"
        ) from error


def _newest_intact(run: RunFolder) -> Path | None:
    for path in _newest_first(run):
        with contextlib.suppress(CheckpointError, OSError):
            check_digest(path)
            return path
    return None


def _find_last(root: Path, run_name: str) -> Found | None:
    passed_over = []
    for run_id in newest_runs(root):
        run = RunFolder.open(root / run_id)
        if run.info.name != run_name:
            continue
        found = last_of(run)
        if found is None:
            passed_over.append(run_id)
            continue
        if passed_over:
            _log.warning(
                "newer runs of this name are skipped: they have no checkpoint to resume from",
                passed_over=", ".join(passed_over[:MAX_NAMED_RUNS]),
                taken=run_id,
            )
        return found
    return None


def last_of(run: RunFolder) -> Found | None:
    """Return a run's newest readable checkpoint that can be resumed; None if it has no checkpoint.

    Raises:
        CheckpointError: all of its checkpoints are damaged.
    """
    damaged: list[CheckpointError] = []
    for path in _newest_first(run):
        try:
            found = Found(path, read_checkpoint(path), run)
        except CheckpointError as error:
            damaged.append(error)
            _log.warning("a checkpoint is skipped for the one before", error=str(error))
            continue
        if "loops" in found.state:
            return found
    if damaged:
        raise damaged[0]
    return None


def _newest_first(run: RunFolder) -> Iterator[Path]:
    """Yield the run's checkpoints in its own folder: the target of ``last``, then the others."""
    folder = run.path / "checkpoints"
    restore_replaced(folder)
    last = folder / "last"
    first = None
    if last.is_symlink():
        first = folder / os.readlink(last)
        real = Path(os.path.realpath(last))  # the final target, if it is a link to a link
        if first.parent != folder or real.parent != Path(os.path.realpath(folder)):
            raise CheckpointError(
                f"{last} leads out of its run, to {real}; use that path as ckpt_path if it is "
                "the checkpoint you mean"
            )
        if is_checkpoint(first):
            yield first
    if not folder.is_dir():
        return
    others = [
        path
        for path in folder.iterdir()
        if path != first
        and not path.name.startswith(".")
        and not path.is_symlink()
        and is_checkpoint(path)
    ]
    yield from sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _find_best(root: Path, run_name: str, best_paths: Sequence[str]) -> Found:
    known = [path for path in best_paths if path]
    if not known:
        last = _find_last(root, run_name)
        if last is not None:
            known = _best_of(last)
    if not known:
        raise NoBestCheckpointError(
            "ckpt_path='best': `ModelCheckpoint` is not configured to save the best one: none of "
            f"this trainer or of the newest run named {run_name!r} in {root} has saved any; add "
            "ModelCheckpoint(monitor=...) to callbacks, or use the checkpoint's path"
        )
    if len(best_paths) > 1:
        _log.warning(
            "there are several ModelCheckpoints: ckpt_path='best' is the best of the first that "
            "has saved one; use another one's best_model_path if you mean that",
            checkpoint=known[0],
        )
    return _read(Path(known[0]).resolve())


def _best_of(last: Found) -> list[str]:
    """Return the best checkpoints of the run's callbacks when it was saved last."""
    found = []
    for state in last.state.get("actors", {}).values():
        if isinstance(state, dict) and (path := state.get("best_model_path")):
            here = Path(path)
            restore_replaced(here.parent)
            if not here.exists() and last.run is not None:  # the run was moved
                here = last.run.path / "checkpoints" / here.name
            found.append(str(here))
    return found
