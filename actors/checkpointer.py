"""What a checkpoint holds, where it lies, and how a run is restored from it."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ..bus.actor import actor_name
from ..bus.errors import CheckpointError
from ..bus.events import CheckpointSaved
from ..bus.logging_setup import get_logger
from ..bus.run_folder import RunFolder, list_runs
from .arguments import as_plain
from .checkpoint_format import read_checkpoint, write_checkpoint
from .metric_states import load_torchmetrics_state, torchmetrics_state
from .rng import rng_state, set_rng_state

if TYPE_CHECKING:
    from ..trainer import Trainer

_log = get_logger("nightbus.checkpoint")


class _Moment(NamedTuple):
    """From where a run is resumed."""

    seq: int
    rng: dict[str, Any]


class Checkpointer:
    """Saves a run's state at each epoch's end and keeps the newest.

    Args:
        trainer: whose run it is.
    """

    def __init__(self, trainer: "Trainer") -> None:
        self._trainer = trainer
        self.last_path: Path | None = None
        self._validation: _Moment | None = None

    # -- validation --------------------------------------------------------------------------

    def begin_validation(self) -> None:
        """A validation in the middle of training begins: what is saved before it is over is resumed
        from here, so that the whole of it is done again.
        """
        self._trainer.bus.flush()
        self._validation = _Moment(self._last_seq, rng_state())

    def end_validation(self) -> None:
        """It is over, but for its last hooks."""
        self._validation = None

    @property
    def in_validation(self) -> bool:
        """Whether a validation in the middle of training goes on."""
        return self._validation is not None

    @property
    def _last_seq(self) -> int:
        """The last event that is in the log."""
        writer = self._trainer.bus.writer
        return -1 if writer is None else writer.written_seq - 1

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
        trainer.bus.flush()
        state: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "global_step": trainer.global_step,
            "state_dict": trainer.lightning_module.state_dict(),
            "hyper_parameters": as_plain(trainer.lightning_module.hparams),
        }
        if weights_only:
            return state
        moment = self._validation or _Moment(self._last_seq, rng_state())
        state |= {
            "attempt": trainer.attempt,
            "seq": moment.seq,
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
            "metrics": trainer.metrics.state_dict(),
            "torchmetrics": torchmetrics_state(trainer.lightning_module),
            "gradients": self._gradients(),
            "rng": moment.rng,
        }
        trainer.routes.call("on_save_checkpoint", state)
        return state

    def _gradients(self) -> dict[str, Tensor]:
        """Gradients of a step to come: those of an unfinished accumulation; of a module that steps
        by itself, all there are.
        """
        trainer = self._trainer
        if not (trainer.is_accumulating or trainer.optimizes_manually):
            return {}
        parameters = trainer.lightning_module.named_parameters()
        return {name: p.grad for name, p in parameters if p.grad is not None}

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
        trainer.metrics.load_state_dict(state["metrics"])
        load_torchmetrics_state(trainer.lightning_module, state["torchmetrics"])
        parameters = dict(trainer.lightning_module.named_parameters())
        for name, gradient in state["gradients"].items():
            parameters[name].grad = gradient.to(parameters[name].device)
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
            return last.resolve()
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
