"""ModelCheckpoint: saves the run during training, and keeps the best checkpoints."""

import json
import math
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from inspect import signature
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ...bus.clock import monotonic
from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger
from ...bus.system.paths import as_path
from ...bus.system.streams import notify_once, notify_user
from ..arguments import check_at_least, check_choice
from ..checkpoints.files import free_name, point_at
from ..checkpoints.format import is_checkpoint, remove_checkpoint, remove_unfinished
from ..former_arguments import check_former, check_not_both, mode_of
from .checkpoint import Checkpoint
from .on_exception_checkpoint import save_failed_run

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

_log = get_logger("nightbus.checkpoint", of_all_ranks=True)


class ModelCheckpoint(Checkpoint):
    """Saves checkpoints, which are folders, and keeps the best or the newest of them.

    A checkpoint is taken before the next step or epoch begins, where the state is complete: a run
    that is resumed from it continues as if it had never ended. A thread writes it while training
    goes on.

    It removes only folders that it wrote itself, and after a resume only those that the resumed
    checkpoint knew; the resumed checkpoint itself stays.

    Args:
        dirpath: folder of the checkpoints; ``checkpoints`` in the run's folder by default.
        filename: template of a checkpoint's name: ``{epoch}-{val_loss:.2f}`` gives
            ``epoch=3-val_loss=0.25``; ``{step}`` and every recorded metric can be used.
            ``{epoch}-{step}`` by default. A name in use gets ``-v1``, ``-v2`` and so on, unless its
            checkpoint is no longer kept then: the new one replaces it.
        monitor: the metric that decides which checkpoints are best; without one, the newest is.
        verbose: report each checkpoint on stderr.
        save_last: keep the newest checkpoint too, with a link ``last`` to it; one is saved for it
            at the end of each epoch, whatever else is due, and where ``max_steps`` ends one.
            ``"link"`` means the same as True.
        save_top_k: number of best checkpoints to keep; -1 for all, 0 for none. Without
            ``monitor``, one of -1, 0 and 1.
        save_weights_only: leave out what only resuming needs.
        mode: ``min`` if less is better, ``max`` if more is.
        auto_insert_metric_name: put the metric's name in front of its value in the filename.
        every_n_train_steps: optimizer steps between two checkpoints. A checkpoint that is due
            before validation has recorded ``monitor`` is saved after validation.
        train_time_interval: time between two checkpoints, which are saved at the end of a batch;
            the same of ``monitor``.
        every_n_epochs: epochs between two checkpoints; 1 if none of these three is given, 0 for
            never.
        save_on_train_epoch_end: save at the end of training epochs (True) or of validation
            (False); by default of validation. Without validation, at the end of training epochs.
            If ``max_steps`` ends an epoch before it validates, it is saved there by default, unless
            ``monitor`` is a metric of validation.
        save_on_exception: save the run, under the checkpoint's usual name, when training fails with
            an exception; see OnExceptionCheckpoint, which this does.
        enable_version_counter: give a checkpoint whose name is in use another one; otherwise it
            replaces the checkpoint of that name.
        former: arguments of Lightning, accepted if they mean the default.

    Attributes:
        best_model_path: the best checkpoint, or without ``monitor`` the newest; empty if none.
        best_model_score: its metric, a tensor of shape (); None if none.
        best_k_models: path -> metric of all checkpoints kept.
        kth_best_model_path: the worst of them, once there are ``save_top_k``; of all with -1.
        kth_value: its metric.
        current_score: the metric of the checkpoint considered last.
        last_model_path: the link to the newest checkpoint; empty without ``save_last``.

    Raises:
        UsageError: an argument is wrong.
    """

    why_not_replayed = (
        "it saves the model's state, which a log does not hold; replay EarlyStopping, or an "
        "actor with @on(Put), to try a rule on the metrics"
    )

    CHECKPOINT_JOIN_CHAR = "-"
    CHECKPOINT_EQUALS_CHAR = "="
    CHECKPOINT_NAME_LAST = "last"
    STARTING_VERSION = 1

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | Literal["link"] | None = None,
        save_top_k: int = 1,
        save_weights_only: bool = False,
        mode: Literal["min", "max"] = "min",
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
        every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None,
        save_on_exception: bool = False,
        enable_version_counter: bool = True,
        **former: Any,
    ) -> None:
        own = check_former("ModelCheckpoint", former, list(signature(type(self)).parameters))
        now = {"dirpath": dirpath, "filename": filename, "every_n_epochs": every_n_epochs}
        check_not_both("ModelCheckpoint", former, own, now)
        dirpath, filename = own.get("dirpath", dirpath), own.get("filename", filename)
        every_n_epochs = own.get("every_n_epochs", every_n_epochs)
        better = mode_of("ModelCheckpoint", mode, monitor)
        check_choice("save_last", save_last, (None, True, False, "link"))
        check_choice("save_on_train_epoch_end", save_on_train_epoch_end, (None, True, False))
        check_at_least("every_n_train_steps", every_n_train_steps, 0)
        check_at_least("every_n_epochs", every_n_epochs, 0)
        if save_top_k is None:
            raise UsageError("save_top_k=None: expected an int of at least -1")
        check_at_least("save_top_k", save_top_k, -1)
        if monitor is None and save_top_k not in (-1, 0, 1):
            raise UsageError(
                f"save_top_k={save_top_k} without monitor: there is no metric to compare; give "
                "monitor, or save_top_k=-1 (all), 0 (none) or 1 (the newest)"
            )
        if train_time_interval is not None and not (
            isinstance(train_time_interval, timedelta) and train_time_interval >= timedelta(0)
        ):
            raise UsageError(
                f"train_time_interval={train_time_interval!r}: expected a timedelta of at least 0"
            )
        triggers = {
            "every_n_train_steps": every_n_train_steps,
            "train_time_interval": train_time_interval,
            "every_n_epochs": every_n_epochs,
        }
        given = [f"{name}={value!r}" for name, value in triggers.items() if value]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} were given; give one of them")
        self.monitor = monitor
        self.verbose = verbose
        self._said_unknown_names = False
        self.filename = filename
        self.save_last = save_last
        self.save_top_k = save_top_k
        self.save_weights_only = save_weights_only
        self.mode = better
        self.auto_insert_metric_name = auto_insert_metric_name
        self.every_n_train_steps = every_n_train_steps or 0
        self.train_time_interval = train_time_interval
        nothing_given = all(value is None for value in triggers.values())
        self.every_n_epochs = 1 if nothing_given else every_n_epochs or 0
        self.save_on_train_epoch_end = save_on_train_epoch_end
        self.save_on_exception = save_on_exception
        self._counts_versions = enable_version_counter
        self.dirpath = None if dirpath is None else os.path.abspath(as_path(dirpath))
        if dirpath is not None and os.fspath(dirpath).startswith("~"):
            notify_once(f"nightbus: ModelCheckpoint: {os.fspath(dirpath)} is {self.dirpath}")
        self._has_own_dirpath = dirpath is not None
        self.best_model_path = ""
        self.best_model_score: Tensor | None = None
        self.best_k_models: dict[str, Tensor] = {}
        self.current_score: Tensor | None = None
        self.last_model_path = ""
        self._kept: list[str] = []  # checkpoints that this callback keeps and may remove
        self._newest = ""  # the target of last_model_path
        self._pending: dict[str, float] | None = (
            None  # candidates of a checkpoint to be saved between two epochs
        )
        self._only_last = False  # the pending checkpoint is only for ``last``
        self._saved_step = -1
        self._writes: Callable[[Path], None] | None = None  # while an override saves
        self._keeps: Callable[[], None] | None = None  # while a checkpoint is considered
        self._considered: dict[str, float] | None = None  # its values
        self._given_kth_path: str | None = None
        self._given_kth_value: Tensor | None = None
        self._begin()
        if filename is not None:
            self._fields(filename)

    def _begin(self) -> None:
        self._is_due = self._epoch_is_over = self._validated = False
        self._said_missing = False
        self._waits_for_validation = False  # a checkpoint is due whose metric was not recorded yet
        self._looked_at_step = 0
        self._looked_at_s = 0.0
        self._is_active = False

    @property
    def kth_best_model_path(self) -> str:
        """The worst of the ``save_top_k`` best checkpoints; empty while there are fewer.

        With ``save_top_k=-1`` it is the worst of all.
        What is assigned to it, or to ``kth_value``, holds until the next checkpoint is chosen.
        """
        if self._given_kth_path is not None:
            return self._given_kth_path
        if not self.best_k_models or len(self.best_k_models) < self.save_top_k:
            return ""
        worst = max if self.mode == "min" else min
        return worst(self.best_k_models, key=lambda path: self.best_k_models[path].item())

    @kth_best_model_path.setter
    def kth_best_model_path(self, path: str) -> None:
        self._given_kth_path = path

    @property
    def kth_value(self) -> Tensor:
        """Its metric; infinitely bad while there are fewer than ``save_top_k``."""
        if self._given_kth_value is not None:
            return self._given_kth_value
        path = self.kth_best_model_path
        return self.best_k_models.get(path, _tensor(self._worst))

    @kth_value.setter
    def kth_value(self, value: Tensor | float) -> None:
        self._given_kth_value = value if isinstance(value, Tensor) else _tensor(value)

    @property
    def _next_dropped(self) -> str:
        """The checkpoint whose place a better one takes; empty if there is room."""
        return self.kth_best_model_path if self.save_top_k > 0 else ""

    @property
    def _worst(self) -> float:
        return math.inf if self.mode == "min" else -math.inf

    # -- when --------------------------------------------------------------------------------

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Determine where to save.

        Raises:
            UsageError: it was given to a trainer with ``enable_checkpointing=False``.
        """
        self._begin()
        if stage != "fit":
            return
        self._is_active = not trainer.fast_dev_run
        was_given = any(callback is self for callback in trainer.callbacks)
        if self._is_active and was_given and not trainer.enable_checkpointing:
            raise UsageError(
                "a ModelCheckpoint and enable_checkpointing=False were given; leave one out"
            )
        if not self._has_own_dirpath and trainer.run_folder is not None:
            self.dirpath = str(trainer.run_folder.path / "checkpoints")
        cleans_up = self._is_active and trainer.is_global_zero
        if cleans_up and self._has_own_dirpath and self.dirpath is not None:
            remove_unfinished(Path(self.dirpath))

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._looked_at_step = trainer.global_step
        self._looked_at_s = monotonic()
        if (
            self._pending is not None
        ):  # the run was resumed from another checkpoint of the same moment
            self._ask(trainer)

    def on_batch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if self.every_n_train_steps:
            every, step = self.every_n_train_steps, trainer.global_step
            if step // every > self._looked_at_step // every:
                self._take_due(trainer)
            self._looked_at_step = step
        elif self.train_time_interval is not None:
            now = monotonic()
            is_due = now - self._looked_at_s >= self.train_time_interval.total_seconds()
            if trainer.agreed("whether a checkpoint is due", is_due):
                self._looked_at_s = now
                self._take_due(trainer)

    def on_validation_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if trainer.sanity_checking:
            return
        self._validated = True
        is_late, self._waits_for_validation = self._waits_for_validation, False
        if self.save_on_train_epoch_end is True and not is_late:
            return
        if is_late or self._is_epoch_due(trainer):
            self._take_due(trainer)
        elif self._is_last_due(trainer):
            self._take_due(trainer, only_last=True)

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        # What the module logs in this hook is available in the next one, on_epoch_end.
        self._epoch_is_over = True
        at_epoch_end = self.save_on_train_epoch_end or not trainer.loaders.can_validate
        is_cut = not trainer.is_last_batch and 0 <= trainer.max_steps <= trainer.global_step
        if not (at_epoch_end or is_cut) or not self._is_active:
            return
        if self._is_epoch_due(trainer) and (at_epoch_end or self._chooses_without(trainer)):
            self._is_due, self._only_last = True, False
        elif self._is_last_due(trainer):
            self._is_due = self._only_last = True

    def on_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if not self._epoch_is_over:
            return  # of validation
        self._epoch_is_over = False
        if self._is_due:
            self._is_due = False
            self._pending = self._candidates(trainer)
            self._ask(trainer)

    def on_exception(
        self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException
    ) -> None:
        if self.save_on_exception and self._is_active and self.dirpath is not None:
            own = {name: float(value) for name, value in trainer.callback_metrics.items()}
            own |= {"epoch": trainer.current_epoch, "step": trainer.global_step}
            path = self._unused(Path(self.format_checkpoint_name(own)))
            save_failed_run(trainer, path, exception)

    def _ask(self, trainer: "Trainer") -> None:
        """Request that the pending checkpoint is saved where the state is complete."""
        trainer.checkpointer.want(lambda: self._save_pending(trainer))

    def _save_pending(self, trainer: "Trainer") -> None:
        if self._pending is not None:
            candidates, self._pending = self._pending, None
            only_last, self._only_last = self._only_last, False
            self._consider(trainer, candidates, only_last)

    def _is_last_due(self, trainer: "Trainer") -> bool:
        """Return whether ``last`` is due at an epoch's end where nothing else is."""
        return bool(self.save_last) and not self._is_due and self._pending is None

    def _is_epoch_due(self, trainer: "Trainer") -> bool:
        every = self.every_n_epochs
        return every > 0 and (trainer.current_epoch + 1) % every == 0

    def save_checkpoint(self, trainer: "Trainer") -> None:
        """Have a checkpoint considered before the next step, as if one were due now.

        Args:
            trainer: the trainer that runs ``fit``.
        """
        self._take_due(trainer)

    def _chooses_without(self, trainer: "Trainer") -> bool:
        """Return whether the validation is not needed that max_steps has left out of the epoch."""
        if self.save_on_train_epoch_end is False or trainer.val_check_interval != 1.0:
            return False
        is_of_training = not self._validated and self.monitor in trainer.callback_metrics
        needs_none = self.monitor in (None, "epoch", "step")
        chooses: bool = trainer.agreed(
            "whether a checkpoint can be chosen", needs_none or is_of_training
        )
        return chooses

    def _take_due(self, trainer: "Trainer", only_last: bool = False) -> None:
        """Save before the next step, or at the end of the epoch if this was its last batch."""
        if not self._is_active:
            return
        self._only_last = only_last
        if trainer.is_last_batch:
            self._is_due = True
            return
        candidates = self._candidates(trainer)
        is_missing = self.monitor is not None and self.monitor not in candidates
        if is_missing and not self._validated and trainer.loaders.can_validate:
            self._waits_for_validation = True
            return
        self._pending = candidates
        self._ask(trainer)

    @staticmethod
    def _candidates(trainer: "Trainer") -> dict[str, float]:
        """Return the values for names and for the monitored metric, the same on all ranks."""
        metrics = ModelCheckpoint._values(trainer)
        found: dict[str, float] = trainer.agreed("values for ModelCheckpoint", metrics)
        return found

    @staticmethod
    def _values(trainer: "Trainer") -> dict[str, float]:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return metrics | {"epoch": trainer.current_epoch, "step": trainer.global_step}

    # -- which -------------------------------------------------------------------------------

    def check_monitor_top_k(self, trainer: "Trainer", current: Tensor | float) -> bool:
        """Return whether a value of the metric is among the ``save_top_k`` best.

        Args:
            trainer: the trainer.
            current: the value; a tensor has shape ().
        """
        if self.save_top_k == -1 or len(self.best_k_models) < self.save_top_k:
            return True
        if self.save_top_k == 0:
            return False
        value, kth = float(current), self.kth_value.item()
        return value < kth if self.mode == "min" else value > kth

    def _consider(
        self, trainer: "Trainer", candidates: dict[str, float], only_last: bool = False
    ) -> None:
        """Save a checkpoint if it is to be kept, and remove those no longer kept."""
        step = int(candidates["step"])
        if step == self._saved_step or not self._is_active:
            return
        trainer.checkpointer.wait()  # afterwards, checkpoints that failed are not kept any more
        chosen, score = False, None
        if not only_last and self.monitor is not None and self.monitor not in candidates:
            self._miss(trainer, candidates)
            if trainer.loaders.can_validate:
                return
            only_last = True
        if not only_last:
            chosen, score = self._judge(trainer, candidates)
            chosen = trainer.agreed("whether a checkpoint is one of the best", chosen)
        if not chosen and not self.save_last:
            return
        self._keeps = partial(self._keep, trainer, candidates, chosen, score)
        self._considered = candidates
        try:
            if chosen and score is not None:
                self._update_best_and_save(score, trainer, self._monitor_candidates(trainer))
            else:
                self._keeps()
        finally:
            self._keeps = self._considered = None

    def _keep(
        self, trainer: "Trainer", candidates: dict[str, float], chosen: bool, score: Tensor | None
    ) -> None:
        """Save a checkpoint, and remove those no longer kept."""
        step = int(candidates["step"])
        self._warn_unknown_names(candidates)
        before = {*self._kept, self._newest}
        leaving = {path for path in before - self._staying(chosen) if _is_own(path)}
        path = str(self._free_name(candidates, leaving))
        link = str(self._last_link(candidates)) if self.save_last else ""
        path, link = trainer.agreed("the name of a checkpoint", [path, link])
        choice = self._choice()
        if chosen:
            self._choose(path, score)
        former_link = self.last_model_path
        if link:
            self._newest, self.last_model_path = path, link
        self._saved_step = step
        start = "" if trainer.ckpt_path is None else os.path.abspath(trainer.ckpt_path)
        dropped = before - {*self._kept, self._newest, path, start, ""}  # the start may be replaced

        def tidy_up() -> None:
            """Remove checkpoints no longer kept, once the new one is complete."""
            if link:
                _move_link(former_link, Path(link), Path(path))
            for former in dropped:
                self._remove_checkpoint(trainer, former)
            self.tell_loggers(trainer.loggers)

        def take_back() -> None:
            """Restore the choice before, if the checkpoint could not be written."""
            vars(self).update(choice)

        epoch = int(candidates["epoch"])
        self._write(trainer, path, epoch, tidy_up, take_back, path in leaving)
        if self.verbose:
            shown = "" if score is None else f", {self.monitor} {score.item():g}"
            notify_user(f"ModelCheckpoint: saved {path}{shown}, best: {self.best_model_path}")

    def _write(
        self,
        trainer: "Trainer",
        path: str,
        epoch: int,
        tidy_up: Callable[[], None],
        take_back: Callable[[], None],
        replaces: bool,
    ) -> None:
        """Save the checkpoint that was chosen, or have an override of ``_save_checkpoint`` do it.

        An override finds it complete on disk when the method that it overrides has returned.
        """
        save, weights_only = trainer.checkpointer.save, self.save_weights_only
        if not self._is_overridden(
            "_save_checkpoint", "_remove_checkpoint", "_update_best_and_save"
        ):
            save(Path(path), weights_only, tidy_up, take_back, replaces)
            return
        failures: list[Callable[[], None]] = []
        completed = trainer.current_epoch

        def write(at: Path) -> None:
            failed = partial(failures.append, take_back)
            with trainer.showing_epoch(completed):
                save(at, weights_only, None, failed, replaces)
            trainer.checkpointer.wait()

        self._writes = write
        try:
            with trainer.showing_epoch(epoch):  # the one that ran, as in Lightning
                self._save_checkpoint(trainer, path)
        except BaseException:
            take_back()
            raise
        finally:
            self._writes = None
        for each in failures or [tidy_up] * trainer.is_global_zero:
            each()

    # Under Lightning's names, because code overrides them, to save in a form of its own.

    def _monitor_candidates(self, trainer: "Trainer") -> dict[str, Tensor]:
        """Return the values for names and for the monitored metric, as tensors."""
        values = self._considered or self._values(trainer)
        return {name: torch.tensor(value) for name, value in values.items()}

    def _update_best_and_save(
        self, current: Tensor, trainer: "Trainer", monitor_candidates: dict[str, Tensor]
    ) -> None:
        if self._keeps is not None:
            self._keeps()

    def _save_checkpoint(self, trainer: "Trainer", filepath: str) -> None:
        if self._writes is None:
            trainer.save_checkpoint(filepath, self.save_weights_only)
        else:
            self._writes(Path(filepath))

    def _remove_checkpoint(self, trainer: "Trainer", filepath: str) -> None:
        if self._is_overridden("_save_checkpoint") and not _is_checkpoint(filepath):
            _remove_foreign(filepath)  # what the override wrote, where nothing was before
        else:
            _remove(filepath)

    def _is_overridden(self, *names: str) -> bool:
        return any(
            getattr(type(self), name) is not getattr(ModelCheckpoint, name) for name in names
        )

    def tell_loggers(self, loggers: Sequence[Any]) -> None:
        """Tell loggers that want to know that a checkpoint is complete.

        Args:
            loggers: the trainer's.
        """
        for logger in loggers:
            if (told := getattr(logger, "after_save_checkpoint", None)) is not None:
                told(self)

    def _judge(
        self, trainer: "Trainer", candidates: Mapping[str, float]
    ) -> tuple[bool, Tensor | None]:
        """Return whether a checkpoint saved now is one of the best, and its score."""
        if self.monitor is None:
            return self.save_top_k != 0, None
        value = candidates[self.monitor]
        is_count = isinstance(value, int)  # ``step`` or ``epoch``
        number = self._worst if math.isnan(value) else value
        score = self.current_score = torch.tensor(number) if is_count else _tensor(number)
        return self.check_monitor_top_k(trainer, score), score

    def _staying(self, chosen: bool) -> set[str]:
        """Return the checkpoints still kept when the next one is saved.

        Args:
            chosen: the next one is one of the best.
        """
        staying = set(self._kept)
        if chosen and self.monitor is not None:
            staying.discard(self._next_dropped)
        elif chosen and self.save_top_k == 1:
            staying.clear()
        return staying if self.save_last else staying | {self._newest}

    def _choice(self) -> dict[str, Any]:
        """Return the present choice."""
        return {
            "_kept": list(self._kept),
            "_newest": self._newest,
            "_saved_step": self._saved_step,
            "best_k_models": dict(self.best_k_models),
            "best_model_path": self.best_model_path,
            "best_model_score": self.best_model_score,
            "last_model_path": self.last_model_path,
        }

    def _choose(self, path: str, score: Tensor | None) -> None:
        """Add a checkpoint to the best, and drop the worst if there are too many."""
        self._given_kth_path = self._given_kth_value = None
        if score is None:
            self._kept = [*self._kept, path] if self.save_top_k == -1 else [path]
            self.best_model_path = path
            return
        dropped = self._next_dropped
        if dropped:
            del self.best_k_models[dropped]
        self.best_k_models[path] = score
        self._kept = list(self.best_k_models)
        self._find_best()

    def _find_best(self) -> None:
        best = min if self.mode == "min" else max
        self.best_model_path = best(self._kept, key=lambda path: self.best_k_models[path].item())
        self.best_model_score = self.best_k_models[self.best_model_path]

    def _miss(self, trainer: "Trainer", candidates: Mapping[str, float]) -> None:
        known = ", ".join(sorted(set(candidates) - {"epoch", "step"})) or "nothing"
        message = (
            f"ModelCheckpoint(monitor={self.monitor!r}): no such metric was recorded; recorded: "
            f"{known}"
        )
        if self._validated:
            raise UsageError(message + "; log it, or leave monitor out to keep the newest")
        if trainer.loaders.can_validate:  # validation, which may record it, is still to run
            _log.warning(message)
        elif self.save_top_k != 0 and not self._said_missing:
            self._said_missing = True
            _log.warning(
                f"{message}, and fit does not validate: no checkpoint is one of the best; log the "
                "metric, or leave monitor out to keep the newest"
            )

    # -- names -------------------------------------------------------------------------------

    def format_checkpoint_name(
        self,
        metrics: Mapping[str, Any],
        filename: str | None = None,
        ver: int | None = None,
        prefix: str | None = None,
    ) -> str:
        """Return a checkpoint's path.

        Args:
            metrics: values for the name, including ``epoch`` and ``step``; a missing one is 0.
            filename: the template; the callback's own by default.
            ver: a version number to append.
            prefix: text in front of the name.

        Raises:
            UsageError: a value does not fit its format.
        """
        template = self.filename if filename is None else filename
        if template is None:
            template = "{epoch}" + self.CHECKPOINT_JOIN_CHAR + "{step}"
        name = "".join(
            text if field is None else text + self._shown(field, spec, metrics)
            for text, field, spec in self._fields(template)
        )
        if prefix:
            name = f"{prefix}{self.CHECKPOINT_JOIN_CHAR}{name}"
        if ver is not None:
            name = f"{name}{self.CHECKPOINT_JOIN_CHAR}v{ver}"
        name += self.FILE_EXTENSION
        return os.path.join(self.dirpath, name) if self.dirpath else name

    def file_exists(self, filepath: str | os.PathLike[str], trainer: "Trainer") -> bool:
        """Return whether a path is there, as rank 0 sees it.

        Args:
            filepath: the path.
            trainer: the trainer.
        """
        found: bool = trainer.agreed("whether a checkpoint is there", os.path.exists(filepath))
        return found

    def to_yaml(self, filepath: str | os.PathLike[str] | None = None) -> None:
        """Write the best checkpoints and their metrics to a YAML file.

        Args:
            filepath: the file; ``best_k_models.yaml`` in ``dirpath`` by default.

        Raises:
            UsageError: neither it nor ``dirpath`` is known.
        """
        if filepath is None and self.dirpath is None:
            raise UsageError("to_yaml() needs filepath=: no run has determined dirpath yet")
        path = Path(filepath or os.path.join(self.dirpath or "", "best_k_models.yaml"))
        best = self.best_k_models.items()
        lines = [f"{json.dumps(name)}: {score.item()}\n" for name, score in best]
        path.write_text("".join(lines) or "{}\n")

    def _warn_unknown_names(self, candidates: Mapping[str, float]) -> None:
        """Warn, once, of names in ``filename`` that no metric has: the value 0 would mislead."""
        if self.filename is None or self._said_unknown_names:
            return
        names = {field for _, field, _ in self._fields(self.filename) if field is not None}
        if unknown := sorted(names - set(candidates)):
            self._said_unknown_names = True
            known = ", ".join(sorted(candidates))
            _log.warning(
                f"ModelCheckpoint(filename={self.filename!r}): {', '.join(unknown)} was not "
                f"recorded and counts as 0; recorded: {known}"
            )

    def _fields(self, template: str) -> list[tuple[str, str | None, str]]:
        """Return a template's parts: text, the metric after it, and its format."""
        try:
            parts = [(text, field, spec or "") for text, field, spec, _ in _parse(template)]
        except ValueError as error:
            raise UsageError(
                f"filename={template!r}: {error}; expected something like "
                "'{epoch}-{val_loss:.2f}'"
            ) from None
        if not template or any(field == "" for _, field, _ in parts):
            raise UsageError(
                f"filename={template!r}: expected names of metrics between the braces, such as "
                "'{epoch}-{val_loss:.2f}'"
            )
        return parts

    def _shown(self, field: str, spec: str, metrics: Mapping[str, Any]) -> str:
        value = metrics.get(field, 0)
        value = value.item() if isinstance(value, Tensor) else value
        if spec[-1:] in ("d", "b", "o", "x", "X") and isinstance(value, float):
            value = int(value) if value.is_integer() else value
        try:
            shown = format(value, spec)
        except ValueError as error:
            raise UsageError(
                f"filename={self.filename!r}: {field}={value!r} cannot be shown as {spec!r}: "
                f"{error}"
            ) from None
        if not self.auto_insert_metric_name:
            return shown
        return f"{field.replace('/', '_')}{self.CHECKPOINT_EQUALS_CHAR}{shown}"

    def _free_name(self, candidates: Mapping[str, float], leaving: set[str]) -> Path:
        """Return a checkpoint's path; one that may be replaced there is added to those leaving."""
        path = self.format_checkpoint_name(candidates)
        if not self._counts_versions and _is_own(path):
            leaving.add(path)
        return self._unused(Path(path), leaving)

    def _unused(self, path: Path, mine: Collection[str] = ()) -> Path:
        return free_name(
            path, mine, self.CHECKPOINT_JOIN_CHAR, self.STARTING_VERSION, self.FILE_EXTENSION
        )

    def _last_link(self, candidates: Mapping[str, float]) -> Path:
        link = Path(self.format_checkpoint_name(candidates, self.CHECKPOINT_NAME_LAST))
        if link.is_symlink() and not self._has_own_dirpath:
            return link  # the run's own link to its newest checkpoint, whichever callback saved it
        if link.is_symlink() and not self._counts_versions:
            return link
        return self._unused(link, mine=[self.last_model_path])  # never replaces another run's link

    # -- state -------------------------------------------------------------------------------

    def _told_apart_by(self) -> dict[str, Any]:
        return {
            "monitor": self.monitor,
            "mode": self.mode,
            "every_n_train_steps": self.every_n_train_steps,
            "every_n_epochs": self.every_n_epochs,
            "train_time_interval": self.train_time_interval,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return plain data and tensors for a checkpoint."""
        return {
            **self._told_apart_by(),
            "dirpath": self.dirpath or "",
            "best_model_path": self.best_model_path,
            "best_model_score": self.best_model_score,
            "best_k_models": {self._relative(p): s for p, s in self.best_k_models.items()},
            "kept": [self._relative(path) for path in self._kept],
            "newest": self._relative(self._newest),
            "last_model_path": self._relative(self.last_model_path),
            "pending": self._pending,
            "is_due": self._is_due,
            "only_last": self._only_last,
            "validated": self._validated,
            "saved_step": self._saved_step,
            "current_score": self.current_score,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, for the checkpoints still in ``dirpath``.

        If there are none, or if the metric is another one, the choice starts anew.
        """
        if (state_dict["monitor"], state_dict["mode"]) != (self.monitor, self.mode):
            _log.warning(
                "the choice of checkpoints starts anew: the checkpoint's monitored another metric",
                monitor=self.monitor,
                checkpoint=state_dict["monitor"],
            )
            return
        self._pending = state_dict["pending"]
        self._is_due, self._validated = state_dict["is_due"], state_dict["validated"]
        self._only_last = state_dict.get("only_last", False)
        self._saved_step = state_dict["saved_step"]
        self.current_score = state_dict["current_score"]
        here = {name: self._absolute(name) for name in (*state_dict["kept"], state_dict["newest"])}
        # Only those in ``dirpath``: the state may be a stranger's, and kept ones get removed.
        here = {name: p for name, p in here.items() if _is_checkpoint(p) and self._is_here(p)}
        scores = state_dict["best_k_models"]
        self._kept = [here[name] for name in state_dict["kept"] if name in here]
        self.best_k_models = {here[name]: s for name, s in scores.items() if name in here}
        self._newest = here.get(state_dict["newest"], "")
        link = self._absolute(state_dict["last_model_path"])
        self.last_model_path = link if os.path.islink(link) and self._is_here(link) else ""
        if self.best_k_models:
            self._find_best()
        elif self._kept:
            self.best_model_path = self._kept[-1]
        elif state_dict["kept"]:
            self.best_model_path = state_dict["best_model_path"]
            self.best_model_score = state_dict["best_model_score"]
            _log.warning(
                "the checkpoints that were kept are not in dirpath; the choice starts anew",
                dirpath=self.dirpath,
                before=state_dict["dirpath"],
            )

    def _relative(self, path: str) -> str:
        """Return a path for the state, relative because a run's folder may be moved."""
        if path and self.dirpath and Path(path).is_relative_to(self.dirpath):
            return str(Path(path).relative_to(self.dirpath))
        return path

    def _is_here(self, path: str) -> bool:
        """Return whether a path is in ``dirpath``, without ``..`` and links on the way."""
        folder, name = os.path.split(path)
        if not self.dirpath or name in ("", ".", ".."):
            return False
        root = os.path.realpath(self.dirpath)
        return os.path.commonpath([root, os.path.realpath(folder)]) == root

    def _absolute(self, path: str) -> str:
        return os.path.join(self.dirpath, path) if path and self.dirpath else path


def _parse(template: str) -> Any:
    return Formatter().parse(template)


def _tensor(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _is_checkpoint(path: str) -> bool:
    return bool(path) and is_checkpoint(Path(path))


def _is_own(path: str) -> bool:
    """Return whether a saved checkpoint still is at its path, not replaced by a link."""
    return _is_checkpoint(path) and not os.path.islink(path)


def _move_link(former: str, link: Path, path: Path) -> None:
    """Point a link at a checkpoint, and remove the link that did so under another name."""
    point_at(link, path)
    if former not in ("", str(link)) and os.path.islink(former):
        os.unlink(former)


def _remove_foreign(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _remove(path: str) -> None:
    if _is_own(path):
        remove_checkpoint(Path(path))
