"""Finds the checkpoint that ``ckpt_path`` names, and the run that it belongs to."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..actors.callbacks.checkpoint import Checkpoint
from ..actors.callbacks.run_checkpoint import RunCheckpoint
from ..actors.checkpoints.files import find_checkpoint
from ..bus.errors import CheckpointError
from ..bus.events import Fork
from ..bus.runs.run_folder import RunFolder, list_runs
from ..bus.system.logging_setup import get_logger

_log = get_logger("nightbus.trainer", of_all_ranks=True)


class Start(NamedTuple):
    """Where a run starts.

    Attributes:
        state: state of the checkpoint to resume from or to take the weights from; None for none.
        fork: event of an earlier attempt behind which the run continues; None unless it resumes.
        run: run that is resumed, if there is a fork.
        path: the checkpoint; None for none.
    """

    state: dict[str, Any] | None = None
    fork: Fork | None = None
    run: RunFolder | None = None
    path: Path | None = None


def best_of_training(
    function: str, callbacks: Sequence[Checkpoint], fast_dev_run: bool | int
) -> str | None:
    """Choose the weights to evaluate after training if neither module nor checkpoint is given.

    A warning says which were chosen.

    Args:
        function: ``validate``, ``test`` or ``predict``.
        callbacks: the trainer's callbacks that save checkpoints.
        fast_dev_run: the Trainer's argument, with which no checkpoints are saved.

    Returns:
        The best checkpoint; None for the module as training left it, if no callback keeps a best
        checkpoint, and the run has saved none.

    Raises:
        CheckpointError: a callback keeps the best checkpoint, but has saved none.
    """
    keeping = [
        each
        for each in callbacks
        if hasattr(each, "best_model_path")
        and not (isinstance(each, RunCheckpoint) and not each.best_model_path)
    ]
    how = f"to choose, call {function}() with a model, or with ckpt_path='best', 'last' or a path"
    if not keeping or fast_dev_run:
        why = "fast_dev_run saves no checkpoint" if fast_dev_run else "no checkpoint was saved"
        _log.warning(
            f"{function}() was called without a model: it uses the weights at the end of training, "
            f"because {why}; {how}"
        )
        return None
    best = str(keeping[0].best_model_path)
    if not best:
        raise CheckpointError(
            f"{function}() was called without a model, so it needs the best checkpoint, but "
            f"{type(keeping[0]).__name__} has saved none; {how}"
        )
    whose = " of the first of several ModelCheckpoints" if len(keeping) > 1 else ""
    _log.warning(
        f"{function}() was called without a model: it uses the best checkpoint{whose}; {how}",
        checkpoint=best,
    )
    return best


def find_start(
    function: str,
    ckpt_path: str | os.PathLike[str],
    root: Path,
    run_name: str,
    best_paths: Sequence[str],
) -> Start:
    """Read the checkpoint that ``ckpt_path`` names.

    Args:
        function: function to run; ``fit`` resumes the checkpoint's run, the others take weights.
        ckpt_path: a path, ``last`` or ``best``.
        root: folder of all runs.
        run_name: name of the runs among which ``last`` is the newest checkpoint.
        best_paths: paths of the best checkpoint of each callback that keeps one.

    Returns:
        Where to start; empty if ``last`` finds no checkpoint, so that ``fit`` begins from scratch.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be read.
    """
    found = find_checkpoint(ckpt_path, root, run_name, best_paths)
    if found is None:
        if function != "fit":
            raise CheckpointError(
                f"ckpt_path='last': no run called {run_name!r} in {root} has a checkpoint; give "
                "the checkpoint's path, or the run's name with Trainer(run_name=...)"
            )
        _log.warning(
            "ckpt_path='last': no run of this name has a checkpoint, so training begins from "
            "scratch",
            run_name=run_name,
            folder=str(root),
        )
        return Start()
    state, run = found.state, found.run
    if run is None:  # saved elsewhere, for example by ModelCheckpoint(dirpath=...)
        run = next((r for r in list_runs(root) if r.info.id == state.get("run")), None)
    # A checkpoint that was moved into the folder of another run has no attempt there.
    if run is None or state.get("run") != run.info.id:
        return Start(state, path=found.path)
    if function != "fit" or "attempt" not in state:
        return Start(state, path=found.path)
    shown = str(found.path)
    if found.path.is_relative_to(run.path.resolve()):
        shown = str(found.path.relative_to(run.path.resolve()))
    return Start(state, Fork(state["attempt"], state["seq"], shown), run, found.path)
