"""What ``ckpt_path`` asks for: the state to go on from, and where in which run."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..actors.callbacks.checkpoint import Checkpoint
from ..actors.checkpoints.files import find_checkpoint
from ..bus.errors import CheckpointError
from ..bus.events import Fork
from ..bus.runs.run_folder import RunFolder, list_runs
from ..bus.system.logging_setup import get_logger

_log = get_logger("nightbus.trainer")


class Start(NamedTuple):
    """Where a run starts.

    Attributes:
        state: of the checkpoint that it goes on from, or takes its weights from.
        fork: the event of an earlier attempt that it goes on behind.
        run: the run that is gone on with, when there is a fork.
    """

    state: dict[str, Any] | None = None
    fork: Fork | None = None
    run: RunFolder | None = None


def best_of_training(
    function: str, callbacks: Sequence[Checkpoint], fast_dev_run: bool | int
) -> str | None:
    """What is evaluated after training when neither a module nor a checkpoint is given; it is said.

    Args:
        function: ``validate``, ``test`` or ``predict``.
        callbacks: the trainer's, that save checkpoints.
        fast_dev_run: the Trainer's argument, with which no checkpoints are made.

    Returns:
        The best checkpoint; None for the module as training left it, where no callback keeps a
        best one.

    Raises:
        CheckpointError: a callback keeps the best checkpoint, but has saved none.
    """
    keeping = [each for each in callbacks if hasattr(each, "best_model_path")]
    how = f"to choose, call {function}() with a model, or with ckpt_path='best', 'last' or a path"
    if not keeping or fast_dev_run:
        why = "fast_dev_run makes no checkpoints" if fast_dev_run else "there is no ModelCheckpoint"
        _log.warning(
            f"{function}() was called without a model: it takes the weights that training ended "
            f"with, because {why}; {how}"
        )
        return None
    best = str(keeping[0].best_model_path)
    if not best:
        raise CheckpointError(
            f"{function}() was called without a model, which takes the best checkpoint, and "
            f"{type(keeping[0]).__name__} has saved none; {how}"
        )
    whose = " of the first of several ModelCheckpoints" if len(keeping) > 1 else ""
    _log.warning(
        f"{function}() was called without a model: it takes the best checkpoint{whose}; {how}",
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
    """Read the checkpoint that ``ckpt_path`` means.

    Args:
        function: only ``fit`` goes on with a run; others take weights.
        ckpt_path: a path, ``last`` or ``best``.
        root: the folder of all runs.
        run_name: whose newest checkpoint ``last`` is.
        best_paths: what callbacks hold to be best.

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
            "ckpt_path='last': no run of this name has a checkpoint, so training begins anew",
            run_name=run_name,
            folder=str(root),
        )
        return Start()
    state, run = found.state, found.run
    if run is None:  # saved elsewhere, by ModelCheckpoint(dirpath=...) say
        run = next((r for r in list_runs(root) if r.info.id == state.get("run")), None)
    # Of a checkpoint that lies in another run's folder, that run knows no attempt.
    if run is None or state.get("run") != run.info.id:
        return Start(state)
    if function != "fit" or "attempt" not in state:
        return Start(state)
    shown = str(found.path)
    if found.path.is_relative_to(run.path.resolve()):
        shown = str(found.path.relative_to(run.path.resolve()))
    return Start(state, Fork(state["attempt"], state["seq"], shown), run)
