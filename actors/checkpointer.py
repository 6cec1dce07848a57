"""What a checkpoint holds, where it lies, and how a run is restored from it."""

import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..bus.actor import actor_name
from ..bus.errors import CheckpointError
from ..bus.events import CheckpointSaved
from ..bus.logging_setup import get_logger
from ..bus.run_folder import RunFolder, list_runs
from .arguments import as_plain
from .checkpoint_format import read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from ..trainer import Trainer

_log = get_logger("nightbus.checkpoint")


class Checkpointer:
    """Saves a run's state at each epoch's end and keeps the newest.

    Args:
        trainer: whose run it is.
    """

    def __init__(self, trainer: "Trainer") -> None:
        self._trainer = trainer
        self.last_path: Path | None = None

    # -- saving ------------------------------------------------------------------------------

    def save_epoch(self) -> None:
        """Save the run between two epochs; the one saved before is removed after that.

        Raises:
            CheckpointError: the state cannot be carried, or the disk failed.
        """
        trainer = self._trainer
        run = trainer.run_folder
        if run is None:
            return
        folder = run.path / "checkpoints"
        path = _unused(folder, f"epoch={trainer.current_epoch - 1}-step={trainer.global_step}")
        self.save(path)
        _point_at(folder / "last", path)
        previous, self.last_path = self.last_path, path
        if previous is not None:
            shutil.rmtree(previous, ignore_errors=True)

    def save(self, path: Path, weights_only: bool = False) -> None:
        """Save a checkpoint at a path that does not exist yet."""
        trainer = self._trainer
        digest, size = write_checkpoint(path, self.state(weights_only))
        run = trainer.run_folder
        shown = path
        if run is not None and path.is_relative_to(run.path):
            shown = path.relative_to(run.path)
        trainer.bus.emit(CheckpointSaved, str(shown), digest, size)

    def state(self, weights_only: bool = False) -> dict[str, Any]:
        """The run's state: plain data and tensors."""
        trainer = self._trainer
        writer = trainer.bus.writer
        trainer.bus.flush()
        state: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "global_step": trainer.global_step,
            "state_dict": trainer.lightning_module.state_dict(),
            "hyper_parameters": as_plain(trainer.lightning_module.hparams),
        }
        if weights_only:
            return state
        state |= {
            "attempt": trainer.attempt,
            "seq": -1 if writer is None else writer.written_seq - 1,
            "optimizer_states": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "lr_schedulers": [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs],
            "scaler": trainer.device.state_dict(),
            "loops": {"fit_loop": trainer.fit_loop.state_dict()},
            "optimization": trainer.optimization_progress.state_dict(),
            "actors": {
                actor_name(actor): actor.state_dict()
                for actor in (*trainer.callbacks, *trainer.actors)
            },
            "datamodule": trainer.datamodule.state_dict() if trainer.datamodule else {},
            "rng": rng_state(),
        }
        trainer.routes.call("on_save_checkpoint", state)
        return state

    # -- restoring ---------------------------------------------------------------------------

    def restore_module(self, state: Mapping[str, Any]) -> None:
        """Load the weights.

        Raises:
            CheckpointError: they do not fit the module.
        """
        try:
            self._trainer.lightning_module.load_state_dict(state["state_dict"])
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(f"the checkpoint does not fit the module: {error}") from error

    def restore_training(self, state: Mapping[str, Any]) -> None:
        """Load everything else, once optimizers are configured.

        Raises:
            CheckpointError: the checkpoint holds weights alone, or another set-up.
        """
        trainer = self._trainer
        if "loops" not in state:
            raise CheckpointError(
                "the checkpoint holds weights alone, so training cannot be resumed from it"
            )
        for what, mine, saved in (
            ("optimizers", trainer.optimizers, state["optimizer_states"]),
            ("schedulers", trainer.lr_scheduler_configs, state["lr_schedulers"]),
        ):
            if len(mine) != len(saved):
                raise CheckpointError(
                    f"the checkpoint has {len(saved)} {what}, configure_optimizers gave {len(mine)}"
                )
        for optimizer, saved in zip(trainer.optimizers, state["optimizer_states"], strict=True):
            optimizer.load_state_dict(saved)
        for config, saved in zip(trainer.lr_scheduler_configs, state["lr_schedulers"], strict=True):
            config.scheduler.load_state_dict(saved)
        trainer.device.load_state_dict(state["scaler"])
        trainer.fit_loop.load_state_dict(state["loops"]["fit_loop"])
        trainer.optimization_progress.load_state_dict(state["optimization"])
        saved_actors = state["actors"]
        for actor in (*trainer.callbacks, *trainer.actors):
            if actor_name(actor) in saved_actors:
                actor.load_state_dict(saved_actors[actor_name(actor)])
        if trainer.datamodule is not None and state["datamodule"]:
            trainer.datamodule.load_state_dict(state["datamodule"])
        self._rng = state["rng"]

    def restore_rng(self) -> None:
        """Go on with the random numbers where the checkpoint was; the last thing before training,
        because set-up may draw some.
        """
        if self._rng is not None:
            set_rng_state(self._rng)
            self._rng = None

    _rng: Mapping[str, Any] | None = None


def find_checkpoint(ckpt_path: str | os.PathLike[str], root: Path, run_name: str) -> Path:
    """The checkpoint that ``ckpt_path`` means.

    Args:
        ckpt_path: a checkpoint's folder, or ``last``: that of the newest run of this name.
        root: folder of the runs.
        run_name: the run's name, for ``last``.

    Raises:
        CheckpointError: there is none.
    """
    if ckpt_path != "last":
        path = Path(ckpt_path)
        if not path.exists():
            raise CheckpointError(f"there is no checkpoint {path}")
        return path.resolve()
    for run in reversed(list_runs(root)):
        last = run.path / "checkpoints" / "last"
        if run.info.name == run_name and last.exists():
            found = last.resolve()
            if found.parent != run.path.resolve() / "checkpoints":
                raise CheckpointError(
                    f"{last} leads out of its run, to {found}; give that path as ckpt_path if it is "
                    "the checkpoint you mean"
                )
            return found
    raise CheckpointError(
        f"ckpt_path='last': no run called {run_name!r} in {root} has a checkpoint; give the "
        "checkpoint's path, or the run's name with Trainer(run_name=...)"
    )


def load_checkpoint(path: Path) -> tuple[dict[str, Any], RunFolder | None]:
    """A checkpoint's state, and the run it belongs to.

    Raises:
        CheckpointError: it cannot be read.
    """
    return read_checkpoint(path), RunFolder.containing(path)


def rng_state() -> dict[str, Any]:
    """States of all random number generators, as plain data and tensors."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, [int(key) for key in keys], position, has_gauss, cached),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what ``rng_state`` gave."""
    random.setstate(state["python"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _unused(folder: Path, name: str) -> Path:
    path, version = folder / name, 0
    while path.exists():
        version += 1
        path = folder / f"{name}-v{version}"
    return path


def _point_at(link: Path, target: Path) -> None:
    """Make ``link`` lead to ``target``, both in one folder, without a moment of neither."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    temporary.replace(link)
