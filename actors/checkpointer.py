"""Checkpointer: decides what a checkpoint holds and when it is saved, and restores runs."""

import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..bus.actor import Actor, actor_name
from ..bus.errors import CheckpointError, UsageError
from ..bus.events import CheckpointSaved, Fault, Fork, Resumed
from ..bus.secrets.redaction import redact_setting, without_secrets
from ..bus.secrets.texts import STRUCK_OUT
from ..bus.system.forks import leave_when_forked
from ..bus.system.logging_setup import get_logger
from .checkpoints.files import free_name, point_at
from .checkpoints.format import (
    Snapshot,
    check_carried,
    is_checkpoint,
    link_checkpoint,
    remove_checkpoint,
    remove_unfinished,
    take_snapshot,
    write_checkpoint,
)
from .checkpoints.module_modes import ModuleModes
from .checkpoints.values import is_registered, registered_without_secrets
from .checkpoints.weight_names import named_as_in, plain_name, plain_names
from .data.rng import rng_state, set_rng_state
from .hyperparameter_values import carried
from .hyperparameters import HyperparametersMixin, become_mappings, unknown_arguments
from .metrics.metric_states import load_torchmetrics_state, torchmetrics_state
from .run_context import RunContext
from .run_optimization import RunOptimization

_log = get_logger("nightbus.checkpoint")
_POLL_S = 0.05


CHECKPOINTS_AT_ONCE = 3
"""Checkpoints on disk at once: the newest two, and the one being written."""


class _Writing:
    """A snapshot that a thread of its own writes.

    Args:
        work: writes it; its exception is kept.
        failed: called, if it failed, by the code that waits for it.
        announce_failure: called by the thread if it failed.
    """

    def __init__(
        self,
        work: Callable[[], object],
        failed: Callable[[], object] | None,
        announce_failure: Callable[[], object],
    ) -> None:
        self.error: BaseException | None = None
        self.failed = failed
        self._work, self._announce_failure = work, announce_failure
        self._is_over = threading.Event()
        # Not a daemon: the interpreter waits for it, so that a checkpoint is completed.
        self._thread = threading.Thread(target=self._run, name="nightbus-checkpoint")

    def start(self) -> None:
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

    @property
    def has_failed(self) -> bool:
        """Return whether it has ended without being written."""
        return self.error is not None

    def wait(self) -> None:
        # In short waits, so that Ctrl-C is handled. No join: an interrupted one believes the
        # thread is over.
        while not self._is_over.wait(_POLL_S):
            if self._thread.ident is None:  # Ctrl-C came before it started
                return


class Checkpointer:
    """Saves the run and restores it.

    A run is saved between two steps or two epochs, where its state is complete; requests made in
    hooks wait until then. A copy of the state is taken there, and a thread writes it while training
    goes on; a second save waits for the first.

    In the run's folder, ``checkpoints/last`` is a link to the newest checkpoint.

    Args:
        context: the run to save.
        optimization: its optimizers and schedulers.

    Attributes:
        last_path: the newest checkpoint in the run's folder, the target of ``last``.
    """

    def __init__(self, context: RunContext, optimization: RunOptimization) -> None:
        self._context, self._optimization = context, optimization
        self._reset()
        leave_when_forked(self)

    def _reset(self) -> None:
        self._wanted: list[Callable[[], object]] = []
        self._writing: _Writing | None = None
        self.last_path: Path | None = None
        self._mine: list[Path] = []  # not saved for a callback, so removed here
        self._validation: dict[str, Any] | None = (
            None  # from where an interrupted validation is repeated
        )
        self._cut: dict[str, Any] | None = (
            None  # the state where an epoch ended before its last batch
        )
        self._end_seq = -1  # the log's last event, once it is closed
        self._saved_here: Path | None = None  # a checkpoint of the whole run at this boundary
        self._saved_step = -1  # global_step of that checkpoint
        self._rng: Mapping[str, Any] | None = None
        self._modes: ModuleModes | None = None  # since training began
        self._saved_modes: Mapping[str, Any] | None = None
        self._reported_left_out = False
        self._reported_gone = False  # that saving stopped because the run's folder is gone

    def leave_to_parent(self) -> None:
        """Forget the writing thread in a forked child, which would wait for it for ever."""
        self._writing = None
        self._wanted.clear()

    def begin(self, fork: Fork | None, state: Mapping[str, Any] | None) -> None:
        """Prepare for a run.

        Args:
            fork: the point from which it continues, if any.
            state: the checkpoint from which it continues, if any.
        """
        self._reset()
        folder = self._folder
        if folder is None:
            return
        if self._context.group.world.is_global_zero:
            remove_unfinished(folder)
        if fork is not None and state is not None:
            # Only names: a checkpoint may be a stranger's, and files that it names get removed.
            names = [str(name) for name in state.get("kept", ()) if Path(str(name)).name == name]
            self._mine = [folder / name for name in names if is_checkpoint(folder / name)]
            resumed = folder / Path(fork.checkpoint).name
            self.last_path = resumed if is_checkpoint(resumed) else None

    @property
    def _folder(self) -> Path | None:
        run = self._context.run_folder
        return None if run is None else run.path / "checkpoints"

    def check_space(self) -> None:
        """Check, before training begins, that checkpoints will fit on the disk.

        Raises:
            CheckpointError: not even the weights do.
        """
        folder = self._folder
        if folder is None or not self._context.enable_checkpointing:
            return
        weights = sum(_size_of(t) for t in self._context.lightning_module.state_dict().values())
        trained = sum(_size_of(p) for g in self._optimization.optimizers for p in _parameters_of(g))
        whole = weights + 2 * trained  # as for Adam; others need less
        free = shutil.disk_usage(folder.parent).free
        advice = (
            "make room, choose another default_root_dir, or train with enable_checkpointing=False"
        )
        if free < weights:
            raise CheckpointError(
                f"there is no room for a checkpoint: the weights take {weights:,} bytes, and the "
                f"disk of {folder.parent} has {free:,}; {advice}"
            )
        if free < CHECKPOINTS_AT_ONCE * whole:
            _log.warning(
                "checkpoints may find no room on the disk; " + advice,
                free_bytes=free,
                a_checkpoint_takes_about=whole,
                checkpoints_at_once=CHECKPOINTS_AT_ONCE,
            )

    def check_carried(self) -> None:
        """Check, before training begins, that a checkpoint can hold the run's state.

        That is: the weights, and the states of optimizers and schedulers.

        Raises:
            CheckpointError: it cannot; the message says which.
        """
        context = self._context
        if self._folder is None or not context.enable_checkpointing:
            return
        self._check_hyperparameters()
        weights = {
            name: value
            for name, value in context.lightning_module.state_dict().items()
            if not (isinstance(value, Tensor) and is_lazy(value))  # unknown before its first call
        }
        schedulers = [config.scheduler for config in self._optimization.schedulers]
        check_carried(weights, "state_dict")
        for what, entries in (
            ("optimizer", self._optimization.optimizers),
            ("lr_scheduler", schedulers),
        ):
            for number, entry in enumerate(entries):
                path = f"{what} {number} ({type(entry).__name__})"
                check_carried(entry.state_dict(), path)

    def _check_hyperparameters(self) -> None:
        """Warn, before training begins, of arguments that ``load_from_checkpoint`` will miss."""
        for owner in (self._context.lightning_module, self._context.datamodule):
            if owner is None:
                continue
            self._hyperparameters(owner)
            if changed := become_mappings(owner, is_registered):
                _log.warning(
                    "dataclasses among the hyperparameters come back as mappings with attributes; "
                    "annotate the arguments with their classes, or call nightbus.register_type for "
                    "these",
                    names=", ".join(changed),
                )
            if unknown := unknown_arguments(owner):
                _log.warning(
                    f"load_from_checkpoint will need arguments of "
                    f"{type(owner).__name__} that are not hyperparameters; call "
                    "self.save_hyperparameters() in its __init__ to have checkpoints keep them",
                    names=", ".join(unknown),
                )

    # -- where the state is complete ---------------------------------------------------------

    def want(self, save: Callable[[], object]) -> None:
        """Request that something is saved at the next boundary between two steps or two epochs.

        Requests are served in their order.
        """
        self._wanted.append(save)
        self._context.bus.attention = True

    def between_steps(self) -> None:
        """Save what was requested, at a boundary between two steps."""
        if self._writing is not None and self._writing.has_failed:
            self.wait()
        if self._wanted:
            self._saved_here = None
            self._save_wanted()

    def between_epochs(self) -> None:
        """Save what was requested, and the run, at a boundary between two epochs."""
        self._saved_here = None
        try:
            self._save_wanted()
        except UsageError:  # a metric's name was misspelt, which is known only now
            self._save_epoch()
            raise
        self._save_epoch()
        self._saved_here = None

    def _save_epoch(self) -> None:
        if self._context.enable_checkpointing and self._cut is None and not self._is_saved_here:
            self.save_run(self._context.current_epoch - 1)

    def end_epoch_early(self) -> None:
        """Save the run when it ends before the last batch of an epoch.

        It is resumed in the middle of the epoch; so is everything else saved from now on.
        """
        if self._context.enable_checkpointing:
            if self._saved_step != self._context.global_step:
                self._saved_here = None  # from an earlier boundary: steps have been made since
            self.between_steps()
            self._cut = self._now()
            if not self._is_saved_here:
                self.save_run()

    @property
    def _is_saved_here(self) -> bool:
        """Return whether the run's folder has a checkpoint of this boundary."""
        return self._saved_here is not None and self._saved_here.parent == self._folder

    def _save_wanted(self) -> None:
        while self._wanted:
            self._wanted.pop(0)()

    def begin_validation(self) -> None:
        """Record that a validation in the middle of training begins.

        A checkpoint saved before it is over is resumed from here, so that the validation is
        repeated.
        """
        self._validation = self._now()

    def end_validation(self) -> None:
        """Record that the validation is over."""
        self._validation = None

    @property
    def in_validation(self) -> bool:
        """True during a validation in the middle of training."""
        return self._validation is not None

    @property
    def can_save(self) -> bool:
        """Return whether training has begun and is not over, so that it can be resumed."""
        return self._context.enable_checkpointing and self._context.is_training_under_way

    # -- saving ------------------------------------------------------------------------------

    def save_run(self, epoch: int | None = None) -> Path | None:
        """Save the run in its folder, and point ``last`` at it.

        Earlier ones are removed, except for the newest, which remains in case this one gets
        damaged.

        Args:
            epoch: for the name; the current one by default.

        Returns:
            The checkpoint; None if the run has no folder.

        Raises:
            CheckpointError: a checkpoint cannot hold the weights.
        """
        context, folder = self._context, self._folder
        if folder is None:
            return None
        self.wait()  # the writing thread removes old checkpoints until it ends
        epoch = context.current_epoch if epoch is None else epoch
        path = free_name(folder / f"epoch={epoch}-step={context.global_step}")
        self._mine.append(path)
        self.save(path)
        return path

    def save(
        self,
        path: Path,
        weights_only: bool = False,
        then: Callable[[], object] | None = None,
        failed: Callable[[], object] | None = None,
        replaces: bool = False,
    ) -> None:
        """Save a checkpoint at a path that does not exist yet; a thread of rank 0 writes it.

        If the run has been saved completely at this boundary, that checkpoint gets this name too.
        State
        other than weights that a checkpoint cannot hold is reported like a failing disk.

        Args:
            path: the checkpoint.
            weights_only: leave out what only resuming needs.
            then: called by the writing thread when it is complete on disk.
            failed: called at the next boundary if it could not be written.
            replaces: replace the checkpoint at the path, which exists until then.

        Raises:
            CheckpointError: a checkpoint cannot hold the weights.
        """
        self._context.bus.check_is_here(f"a checkpoint was to be saved at {path}")
        if not self._context.group.world.is_global_zero:
            return
        self.wait()  # before the state is copied again
        same = None if weights_only else self._saved_here
        snapshot, refused = None, None
        if same is None:
            state = self._state(weights_only)
            try:
                snapshot = take_snapshot(state)
            except CheckpointError as error:
                # If the weights are to blame, no save will succeed, so the run ends now.
                weights = self._context.lightning_module.state_dict()
                check_carried(plain_names(weights), "state.state_dict")
                refused = error  # for example about what on_save_checkpoint added
        if not weights_only:
            self._saved_here, self._saved_step = path, self._context.global_step
        self._writing = _Writing(
            lambda: self._write(path, snapshot or same or refused, weights_only, then, replaces),
            failed,
            self._ask,
        )
        self._writing.start()  # only now that the run's end will wait for it

    def _ask(self) -> None:
        """Request a check at the next boundary; any thread may call this."""
        self._context.bus.attention = True

    def _write(
        self,
        path: Path,
        content: Snapshot | Path | CheckpointError | None,
        weights_only: bool,
        then: Callable[[], object] | None,
        replaces: bool,
    ) -> None:
        if isinstance(content, CheckpointError):
            raise content  # reported like a failing disk: training goes on
        bus, folder = self._context.bus, self._folder
        run = self._context.run_folder
        if run is not None and path.is_relative_to(run.path) and not run.is_there:
            raise CheckpointError(
                f"the run's folder {run.path} was removed or renamed, so that {path.name} is not "
                "saved: it would be alone under the old name"
            )
        former: Path | None = None
        is_newest = folder is not None and path.parent == folder and not weights_only
        try:
            if bus.writer is not None:
                # After a power cut, the log must reach at least as far as the checkpoint.
                bus.writer.sync()
            if isinstance(content, Path):
                digest, size = link_checkpoint(content, path, replaces)
            else:
                assert content is not None
                digest, size = write_checkpoint(path, content, replaces)
            if is_newest:
                former, self.last_path = self.last_path, path
                last = path.with_name("last")
                if not (last.is_symlink() and os.readlink(last) == path.name):
                    point_at(last, path)
        except OSError as error:
            raise CheckpointError(f"cannot write the checkpoint {path}: {error}") from error
        is_inside = run is not None and path.is_relative_to(run.path)
        shown = path.relative_to(run.path) if run is not None and is_inside else path
        bus.emit(CheckpointSaved, str(shown), digest, size)
        if is_newest:
            self._remove_all_but(path, former)
        if then is not None:
            then()

    def _remove_all_but(self, newest: Path, former: Path | None) -> None:
        """Remove the run's checkpoints not saved for a callback, except for the newest two."""
        for old in self._mine[:]:
            if old in (newest, former):
                continue
            self._mine.remove(old)
            try:
                remove_checkpoint(old)
            except FileNotFoundError:
                pass  # it was removed by others
            except OSError as error:
                _log.warning("cannot remove a checkpoint", path=str(old), error=str(error))

    def wait(self) -> None:
        """Wait until the checkpoint being written is complete.

        If writing failed, the log and the program's log report it; training goes on, and the
        checkpoint
        before still exists.
        """
        writing = self._writing
        if writing is None:
            return
        writing.wait()  # if a second Ctrl-C interrupts this, the run's end waits instead
        self._writing = None
        if writing.error is not None:
            self._saved_here = None
            if writing.failed is not None:
                writing.failed()
            self.report(writing.error)

    def save_now(self, path: Path | None = None, weights_only: bool = False) -> Path:
        """Save a checkpoint, and return its path once it is complete on disk.

        Args:
            path: the checkpoint; by default one in the run's folder, to which ``last`` then points.
            weights_only: leave out what only resuming needs.

        Returns:
            The checkpoint's path.

        Raises:
            CheckpointError: a checkpoint cannot hold the state, the disk failed, or there is no
                folder.
        """
        self._context.bus.check_is_here("a checkpoint was to be saved")
        self.wait()
        if path is None:
            self._saved_here = None
            path = self.save_run()
            if path is None:
                raise CheckpointError(
                    "the run has no folder to save a checkpoint in; give Trainer a recording or "
                    "enable_checkpointing=True, or a path to save_checkpoint"
                )
        else:
            self.save(path, weights_only)
        writing = self._writing
        assert writing is not None
        writing.wait()
        self._writing = None
        if writing.error is not None:
            self._saved_here = None
            raise writing.error
        return path

    def report(self, error: BaseException) -> None:
        """Report in the log and the program's log that a checkpoint could not be saved."""
        run = self._context.run_folder
        is_gone = run is not None and not run.is_there
        if not (is_gone and self._reported_gone):
            self._reported_gone = is_gone
            _log.error("cannot save a checkpoint", error=str(error))
        self._context.bus.emit(
            Fault,
            type(error).__name__,
            without_secrets(str(error))[:1000],
            "",
            "",
            source="checkpointer",
        )

    def close(self) -> None:
        """Wait until the checkpoint being written is complete, because the run ends."""
        self.wait()
        self._end_seq = self._last_seq()

    # -- the state ---------------------------------------------------------------------------

    def _last_seq(self) -> int:
        """Return the number of the last event in the log."""
        self._context.bus.flush()
        writer = self._context.bus.writer
        return self._end_seq if writer is None else writer.written_seq - 1

    def _now(self) -> dict[str, Any]:
        """Return from where a run saved now is resumed: all states but the weights."""
        context = self._context
        seq = self._last_seq()  # before actors are asked for states, which might cause events
        return {
            "epoch": context.current_epoch,
            "run": context.run_folder.info.id if context.run_folder else "",
            "attempt": context.attempt,
            "seq": seq,
            "optimizer_states": [
                optimizer.state_dict() for optimizer in self._optimization.optimizers
            ],
            "lr_schedulers": [c.scheduler.state_dict() for c in self._optimization.schedulers],
            "optimizer_classes": [
                type(optimizer).__name__ for optimizer in self._optimization.optimizers
            ],
            "scaler": context.device.state_dict(),
            "loops": {"fit_loop": context.fit_loop.state_dict()},
            "optimization": context.optimization_progress.state_dict(),
            "actors": self._states_of_actors(),
            "loaders": context.loaders.state_dict(),
            "datamodule": context.datamodule.state_dict() if context.datamodule else {},
            "metrics": context.metrics.state_dict(),
            "torchmetrics": torchmetrics_state(context.lightning_module, context.metrics.over),
            "gradients": self._gradients(),
            "modes": self._modes.state_dict(self._optimization.toggle.frozen)
            if self._modes is not None and context.training
            else None,
            "rng": rng_state(),
        }

    def _states_of_actors(self) -> dict[str, Any]:
        return {name: actor.state_dict() for name, actor in self._actors_with_state().items()}

    def _actors_with_state(self) -> dict[str, Actor]:
        """Return callbacks, including those of the module, and actors, by name."""
        return {actor_name(actor): actor for actor in self._context.saved_participants}

    def _state(self, weights_only: bool) -> dict[str, Any]:
        """Return the run's state: plain data and tensors."""
        context = self._context
        module = context.lightning_module
        state: dict[str, Any] = {
            "epoch": context.current_epoch,
            "global_step": context.global_step,
            "state_dict": plain_names(module.state_dict()),
            **self._hyperparameters(module),
        }
        if context.datamodule is not None:
            saved = self._hyperparameters(context.datamodule)
            state |= {f"datamodule_{name}": value for name, value in saved.items()}
        if weights_only:
            return state
        state |= self._validation or self._cut or self._now()
        state["kept"] = [path.name for path in self._mine]
        context.routes.call("on_save_checkpoint", state)
        return state

    def _hyperparameters(self, owner: HyperparametersMixin) -> dict[str, Any]:
        """Return the hyperparameters that a checkpoint can hold, and how they were given.

        Secrets are left out, because checkpoints are passed on. A warning reports what is left out.
        """
        kept: dict[str, Any] = {}
        shapes: dict[str, Any] = {}
        left_out: list[str] = []
        for name, given in owner.hparams.items():
            try:
                value, shape = carried(given, is_registered)
                check_carried({name: value})
            except CheckpointError:
                left_out.append(name)
                continue
            kept[name] = redact_setting(name, value, registered_without_secrets)
            if (
                isinstance(kept[name], str) and kept[name] == STRUCK_OUT
            ):  # == of an array is not a bool
                left_out.append(name)
                del kept[name]
            elif shape:
                shapes[name] = shape
        if left_out and not self._reported_left_out:
            self._reported_left_out = True
            _log.warning(
                "hyperparameters are not in the checkpoint, which cannot hold them or keeps no "
                "secrets; pass them to load_from_checkpoint, or leave them out with "
                "save_hyperparameters(ignore=...)",
                names=", ".join(left_out),
            )
        how = owner._kept_hparams
        form = {"items": list(how.items), "shape": how.shape, "shapes": shapes}
        return {
            "hyper_parameters": kept,
            "hparams_argument": how.argument,
            "hparams_form": form | self._star(how.star),
        }

    def _star(self, star: tuple[Any, ...]) -> dict[str, Any]:
        """Return the values of ``*args``, if a checkpoint can hold them."""
        try:
            check_carried({"*args": list(star)})
        except CheckpointError as error:
            if not self._reported_left_out:
                self._reported_left_out = True
                _log.warning(
                    "the values of *args of __init__ are not in the checkpoint", why=str(error)
                )
            return {}
        return {"star": redact_setting("", list(star), registered_without_secrets)}

    def _gradients(self) -> dict[str, Tensor]:
        """Return the gradients for a step to come.

        They are those of an unfinished accumulation, or all of a module with manual optimization.
        """
        context = self._context
        if not (context.is_accumulating or self._optimization.is_manual):
            return {}
        parameters = context.lightning_module.named_parameters()
        return {plain_name(name): p.grad for name, p in parameters if p.grad is not None}

    # -- restoring ---------------------------------------------------------------------------

    def restore_module(self, state: Mapping[str, Any]) -> None:
        """Load the weights.

        Raises:
            CheckpointError: they do not fit the module.
        """
        try:
            module = self._context.lightning_module
            module.load_state_dict(named_as_in(module, state["state_dict"]))
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(f"the checkpoint does not fit the module: {error}") from error

    def restore_training(self, state: Mapping[str, Any]) -> None:
        """Load everything but the weights, once optimizers are configured.

        Raises:
            CheckpointError: the checkpoint holds only weights, or another set-up.
        """
        context = self._context
        if "loops" not in state and "imported" not in state:
            raise CheckpointError(
                "the checkpoint holds only weights, so training cannot be resumed from it"
            )
        self._restore_optimizers(state)
        if "imported" in state:  # a checkpoint of another library holds nothing else
            context.begin_at(state["imported"]["epochs"], state["imported"]["steps"])
            return
        context.fit_loop.load_state_dict(state["loops"]["fit_loop"])
        context.optimization_progress.load_state_dict(state["optimization"])
        context.device.load_state_dict(state["scaler"])
        self._restore_actors(state["actors"])
        if context.datamodule is not None and state["datamodule"]:
            context.datamodule.load_state_dict(state["datamodule"])
        context.loaders.load_state_dict(state["loaders"])
        context.metrics.load_state_dict(state["metrics"])
        load_torchmetrics_state(context.lightning_module, state["torchmetrics"])
        _restore_gradients(context.lightning_module, state["gradients"])
        self._rng = state["rng"]
        self._saved_modes = state.get("modes")

    def _restore_optimizers(self, state: Mapping[str, Any]) -> None:
        optimizers = self._optimization.optimizers
        schedulers = [config.scheduler for config in self._optimization.schedulers]
        for what, mine, saved in (
            ("optimizers", optimizers, state["optimizer_states"]),
            ("schedulers", schedulers, state["lr_schedulers"]),
        ):
            if len(mine) != len(saved):
                raise CheckpointError(
                    f"the checkpoint has {len(saved)} {what}, configure_optimizers gave {len(mine)}"
                )
        _check_classes(optimizers, state.get("optimizer_classes"))
        for optimizer, saved in zip(optimizers, state["optimizer_states"], strict=True):
            try:
                optimizer.load_state_dict(saved)
            except (ValueError, KeyError) as error:
                raise CheckpointError(
                    f"the checkpoint's {type(optimizer).__name__} does not fit the one that "
                    f"configure_optimizers gave: {error}"
                ) from error
            if saved["state"]:
                optimizer._opt_called = True  # type: ignore[attr-defined]  # schedulers ask for it
        for scheduler, saved in zip(schedulers, state["lr_schedulers"], strict=True):
            scheduler.load_state_dict(saved)

    def _restore_actors(self, saved_actors: Mapping[str, Mapping[str, Any]]) -> None:
        present = self._actors_with_state()
        for name, actor in present.items():
            if name in saved_actors:
                actor.load_state_dict(saved_actors[name])
        lost = [name for name, saved in saved_actors.items() if saved and name not in present]
        if lost:
            _log.warning(
                "the checkpoint has states of callbacks or actors that are not in this run; "
                "they are dropped",
                names=", ".join(lost),
            )

    def begin_training(self) -> None:
        """Include, from now on, the modes of the module's parts in the run's state.

        Raises:
            CheckpointError: a checkpoint cannot hold the state of a callback, an actor or the
                datamodule;
                raised now, before there are results to lose.
        """
        self._modes = ModuleModes(self._context.lightning_module)
        if self._folder is not None and self._context.enable_checkpointing:
            states = self._states_of_actors()
            if self._context.datamodule is not None:
                states["datamodule"] = self._context.datamodule.state_dict()
            for name, state in states.items():
                check_carried(state, f"the state of {name}")

    def restore_rng(self) -> None:
        """Restore random number generators, last before training, because set-up may draw."""
        if self._rng is not None:
            set_rng_state(self._rng)
            self._rng = None
            if self._modes is not None and self._saved_modes is not None:
                self._modes.load_state_dict(self._saved_modes)
            self._context.bus.emit(Resumed)
            self.between_steps()


def _restore_gradients(module: nn.Module, gradients: Mapping[str, Tensor]) -> None:
    parameters = plain_names(dict(module.named_parameters()))
    for name, gradient in gradients.items():
        # With the parameter's own layout in memory, as backward makes them.
        parameters[name].grad = torch.empty_like(parameters[name]).copy_(gradient)


def _check_classes(mine: Sequence[Any], saved: Sequence[str] | None) -> None:
    """Refuse states of other classes; torch would accept many, and fail in the first step."""
    names = [type(each).__name__ for each in mine]
    if saved is not None and names != list(saved):
        raise CheckpointError(
            f"the checkpoint has the optimizers {', '.join(saved)}, configure_optimizers gave "
            f"{', '.join(names)}; resume with the same, or take only the weights with "
            "load_from_checkpoint"
        )


def _parameters_of(optimizer: Any) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _size_of(tensor: Any) -> int:
    if not isinstance(tensor, Tensor) or is_lazy(tensor):
        return 0
    return tensor.numel() * tensor.element_size()
