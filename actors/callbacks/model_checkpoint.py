"""ModelCheckpoint: saves the run as it goes on, and keeps the best checkpoints."""

import math
import os
from collections.abc import Collection, Mapping
from datetime import timedelta
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
from ...bus.system.streams import notify_user
from ..arguments import check_at_least, check_choice
from ..checkpoints.files import free_name, point_at
from ..checkpoints.format import is_checkpoint, remove_checkpoint, remove_unfinished
from ..former_arguments import check_former
from .checkpoint import Checkpoint

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

_log = get_logger("nightbus.checkpoint")


class ModelCheckpoint(Checkpoint):
    """Saves checkpoints, which are folders, and keeps the best or the newest of them.

    What is due is saved before the next step or the next epoch begins, where the state is whole: a
    run that is resumed from it goes on as if it had never ended. It is written beside training.

    Only folders that it wrote itself are removed, and never one that it did not know before the
    run was resumed.

    Args:
        dirpath: where to; the folder ``checkpoints`` in the run's folder by default.
        filename: what a checkpoint is called: ``{epoch}-{val_loss:.2f}`` gives
            ``epoch=3-val_loss=0.25``; ``{step}`` and every recorded metric can be used.
            ``{epoch}-{step}`` by default. A name that is taken gets ``-v1``, ``-v2`` and so on, but
            for that of a checkpoint which is no longer kept then: the new one takes its place.
        monitor: the metric that says which checkpoints are best; without one, the newest is.
        verbose: report each checkpoint on stderr.
        save_last: keep the newest checkpoint too, and have a link ``last`` lead to it; one is saved
            at each epoch's end for it, whatever else is due. ``"link"`` means the same as True.
        save_top_k: how many of the best to keep; -1 for all, 0 for none. Without ``monitor``, one
            of -1, 0 and 1.
        save_weights_only: leave out what is needed to resume.
        mode: ``min`` if less is better, ``max`` if more is.
        auto_insert_metric_name: put the metric's name in front of its value in the filename.
        every_n_train_steps: save every so many optimizer steps.
        train_time_interval: save after so much time, at the end of a batch.
        every_n_epochs: save every so many epochs; 1 if none of these three is given, 0 for never.
        save_on_train_epoch_end: save at the end of training epochs (True) or of validation
            (False); by default of validation if there is any.
        former: arguments of Lightning's, if they say what is done anyway.

    Attributes:
        best_model_path: the best checkpoint, or without ``monitor`` the newest; empty if none.
        best_model_score: its metric, a tensor of shape (); None if none.
        best_k_models: path -> metric of all that are kept.
        kth_best_model_path: the worst of them, once there are ``save_top_k``.
        kth_value: its metric.
        current_score: the metric at the time of the last choice.
        last_model_path: the link to the newest checkpoint; empty without ``save_last``.

    Raises:
        UsageError: an argument makes no sense.
    """

    why_not_replayed = (
        "it saves the model's state, and a log holds none; replay EarlyStopping, or an "
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
        **former: Any,
    ) -> None:
        check_former("ModelCheckpoint", former, list(signature(type(self)).parameters))
        check_choice("mode", mode, ("min", "max"))
        check_choice("save_last", save_last, (None, True, False, "link"))
        check_choice("save_on_train_epoch_end", save_on_train_epoch_end, (None, True, False))
        check_at_least("every_n_train_steps", every_n_train_steps, 0)
        check_at_least("every_n_epochs", every_n_epochs, 0)
        if save_top_k is None:
            raise UsageError("save_top_k=None: expected an int of at least -1")
        check_at_least("save_top_k", save_top_k, -1)
        if monitor is None and save_top_k not in (-1, 0, 1):
            raise UsageError(
                f"save_top_k={save_top_k} without monitor: nothing says which are best; give "
                "monitor, or save_top_k=-1 (all), 0 (none) or 1 (the newest)"
            )
        if train_time_interval is not None and not (
            isinstance(train_time_interval, timedelta) and train_time_interval > timedelta(0)
        ):
            raise UsageError(
                f"train_time_interval={train_time_interval!r}: expected a timedelta above 0"
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
        self.mode = mode
        self.auto_insert_metric_name = auto_insert_metric_name
        self.every_n_train_steps = every_n_train_steps or 0
        self.train_time_interval = train_time_interval
        nothing_given = all(value is None for value in triggers.values())
        self.every_n_epochs = 1 if nothing_given else every_n_epochs or 0
        self.save_on_train_epoch_end = save_on_train_epoch_end
        self.dirpath = None if dirpath is None else os.path.abspath(as_path(dirpath))
        self._has_own_dirpath = dirpath is not None
        self.best_model_path = ""
        self.best_model_score: Tensor | None = None
        self.best_k_models: dict[str, Tensor] = {}
        self.current_score: Tensor | None = None
        self.last_model_path = ""
        self._kept: list[str] = []  # what this callback has chosen and may remove
        self._newest = ""  # what last_model_path leads to
        self._pending: dict[str, float] | None = None  # what is to be saved between two epochs
        self._only_last = False  # what is pending or due is for last alone
        self._saved_step = -1
        self._begin()
        if filename is not None:
            self._fields(filename)

    def _begin(self) -> None:
        self._is_due = self._epoch_is_over = self._validated = False
        self._looked_at_step = 0
        self._looked_at_s = 0.0
        self._is_active = False

    @property
    def kth_best_model_path(self) -> str:
        """The worst of the ``save_top_k`` best; empty as long as there are fewer."""
        if self.save_top_k < 1 or len(self.best_k_models) < self.save_top_k:
            return ""
        worst = max if self.mode == "min" else min
        return worst(self.best_k_models, key=lambda path: self.best_k_models[path].item())

    @property
    def kth_value(self) -> Tensor:
        """Its metric; infinitely bad as long as there are fewer than ``save_top_k``."""
        path = self.kth_best_model_path
        return self.best_k_models[path] if path else _tensor(self._worst)

    @property
    def _worst(self) -> float:
        return math.inf if self.mode == "min" else -math.inf

    # -- when --------------------------------------------------------------------------------

    def setup(self, trainer: "Trainer", module: "LightningModule", stage: str) -> None:
        """Find out where to save.

        Raises:
            UsageError: the trainer was told not to save checkpoints.
        """
        self._begin()
        if stage != "fit":
            return
        self._is_active = not trainer.fast_dev_run
        if self._is_active and not trainer.enable_checkpointing:
            raise UsageError(
                "a ModelCheckpoint and enable_checkpointing=False were given; leave one out"
            )
        if not self._has_own_dirpath and trainer.run_folder is not None:
            self.dirpath = str(trainer.run_folder.path / "checkpoints")
        if self._is_active and self._has_own_dirpath and self.dirpath is not None:
            remove_unfinished(Path(self.dirpath))

    def on_train_start(self, trainer: "Trainer", module: "LightningModule") -> None:
        self._looked_at_step = trainer.global_step
        self._looked_at_s = monotonic()
        if self._pending is not None:  # the run was resumed from a checkpoint beside this one
            self._ask(trainer)

    def on_batch_end(self, trainer: "Trainer", module: "LightningModule") -> None:
        if self.every_n_train_steps:
            every, step = self.every_n_train_steps, trainer.global_step
            if step // every > self._looked_at_step // every:
                self._take_due(trainer)
            self._looked_at_step = step
        elif self.train_time_interval is not None:
            now = monotonic()
            if now - self._looked_at_s >= self.train_time_interval.total_seconds():
                self._looked_at_s = now
                self._take_due(trainer)

    def on_validation_end(self, trainer: "Trainer", module: "LightningModule") -> None:
        if trainer.sanity_checking:
            return
        self._validated = True
        if self.save_on_train_epoch_end is True:
            return
        if self._is_epoch_due(trainer):
            self._take_due(trainer)
        elif self._is_last_due(trainer):
            self._take_due(trainer, only_last=True)

    def on_train_epoch_end(self, trainer: "Trainer", module: "LightningModule") -> None:
        # What the module logs in this hook is known in the next one, on_epoch_end.
        self._epoch_is_over = True
        at_epoch_end = self.save_on_train_epoch_end
        if at_epoch_end is None:
            at_epoch_end = not trainer.loaders.can_validate
        if not at_epoch_end or not self._is_active:
            return
        if self._is_epoch_due(trainer):
            self._is_due, self._only_last = True, False
        elif self._is_last_due(trainer):
            self._is_due = self._only_last = True

    def on_epoch_end(self, trainer: "Trainer", module: "LightningModule") -> None:
        if not self._epoch_is_over:
            return  # validation's
        self._epoch_is_over = False
        if self._is_due:
            self._is_due = False
            self._pending = self._candidates(trainer)
            self._ask(trainer)

    def _ask(self, trainer: "Trainer") -> None:
        """Have what is pending saved where the state is whole."""
        trainer.checkpointer.want(lambda: self._save_pending(trainer))

    def _save_pending(self, trainer: "Trainer") -> None:
        if self._pending is not None:
            candidates, self._pending = self._pending, None
            only_last, self._only_last = self._only_last, False
            self._consider(trainer, candidates, only_last)

    def _is_last_due(self, trainer: "Trainer") -> bool:
        """Whether an epoch's end, where nothing else is due, is one for ``last``."""
        return bool(self.save_last) and not self._is_due and self._pending is None

    def _is_epoch_due(self, trainer: "Trainer") -> bool:
        every = self.every_n_epochs
        return every > 0 and (trainer.current_epoch + 1) % every == 0

    def _take_due(self, trainer: "Trainer", only_last: bool = False) -> None:
        """Save before the next step; at the epoch's last batch, at its end."""
        if not self._is_active:
            return
        self._only_last = only_last
        if trainer.is_last_batch:
            self._is_due = True
        else:
            self._pending = self._candidates(trainer)
            self._ask(trainer)

    @staticmethod
    def _candidates(trainer: "Trainer") -> dict[str, float]:
        """What names can be made of and what can be monitored."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return metrics | {"epoch": trainer.current_epoch, "step": trainer.global_step}

    # -- which -------------------------------------------------------------------------------

    def check_monitor_top_k(self, trainer: "Trainer", current: Tensor | float) -> bool:
        """Whether a value of the metric is among the ``save_top_k`` best."""
        if self.save_top_k == -1 or len(self.best_k_models) < self.save_top_k:
            return True
        if self.save_top_k == 0:
            return False
        value, kth = float(current), self.kth_value.item()
        return value < kth if self.mode == "min" else value > kth

    def _consider(
        self, trainer: "Trainer", candidates: dict[str, float], only_last: bool = False
    ) -> None:
        """Save, if it is to be kept, and remove what is no longer."""
        step = int(candidates["step"])
        if step == self._saved_step or not self._is_active:
            return
        trainer.checkpointer.wait()  # what it could not save is not chosen any more then
        score = None
        if only_last:
            chosen = False
        elif self.monitor is not None:
            if self.monitor not in candidates:
                self._miss(trainer, candidates)
                return
            value = candidates[self.monitor]
            score = self.current_score = _tensor(self._worst if math.isnan(value) else value)
            chosen = self.check_monitor_top_k(trainer, score)
        else:
            chosen = self.save_top_k != 0
        if not chosen and not self.save_last:
            return
        self._say_unknown_names(candidates)
        before = {*self._kept, self._newest}
        leaving = {path for path in before - self._staying(chosen) if _is_own(path)}
        path = str(self._unused(Path(self.format_checkpoint_name(candidates)), leaving))
        choice = self._choice()
        if chosen:
            self._choose(path, score)
        link = self._last_link(candidates) if self.save_last else None
        former_link = self.last_model_path
        if link is not None:
            self._newest, self.last_model_path = path, str(link)
        self._saved_step = step
        dropped = before - {*self._kept, self._newest, ""}

        def tidy_up() -> None:
            """When the new one is complete."""
            if link is not None:
                point_at(link, Path(path))
                if former_link not in ("", str(link)) and os.path.islink(former_link):
                    os.unlink(former_link)
            for former in dropped:
                _remove(former)

        def take_back() -> None:
            """When the disk did not take it: what was kept before still is."""
            vars(self).update(choice)

        trainer.checkpointer.save(
            Path(path), self.save_weights_only, tidy_up, take_back, replaces=path in leaving
        )
        if self.verbose:
            shown = "" if score is None else f", {self.monitor} {score.item():g}"
            notify_user(f"ModelCheckpoint: saved {path}{shown}, best: {self.best_model_path}")

    def _staying(self, chosen: bool) -> set[str]:
        """What is still kept when the next one is saved.

        Args:
            chosen: whether that is taken into the selection.
        """
        staying = set(self._kept)
        if chosen and self.monitor is not None:
            staying.discard(self.kth_best_model_path)
        elif chosen and self.save_top_k == 1:
            staying.clear()
        return staying if self.save_last else staying | {self._newest}

    def _choice(self) -> dict[str, Any]:
        """What is chosen, as it is now."""
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
        """Take a checkpoint into the selection, and drop the worst if that is one too many."""
        if score is None:
            self._kept = [*self._kept, path] if self.save_top_k == -1 else [path]
            self.best_model_path = path
            return
        dropped = self.kth_best_model_path
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
        if self._validated or not trainer.loaders.can_validate:
            raise UsageError(message + "; log it, or leave monitor out to keep the newest")
        _log.warning(message)  # validation, which may record it, is still to come

    # -- names -------------------------------------------------------------------------------

    def format_checkpoint_name(
        self,
        metrics: Mapping[str, Any],
        filename: str | None = None,
        ver: int | None = None,
    ) -> str:
        """A checkpoint's path.

        Args:
            metrics: values for the name, ``epoch`` and ``step`` among them; one that is missing
                counts as 0.
            filename: the template; the callback's own by default.
            ver: a version to append.

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
        if ver is not None:
            name = f"{name}{self.CHECKPOINT_JOIN_CHAR}v{ver}"
        return os.path.join(self.dirpath, name) if self.dirpath else name

    def _say_unknown_names(self, candidates: Mapping[str, float]) -> None:
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
        """A template's parts: text, the metric behind it, and how that is shown."""
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

    def _unused(self, path: Path, mine: Collection[str] = ()) -> Path:
        return free_name(path, mine, self.CHECKPOINT_JOIN_CHAR, self.STARTING_VERSION)

    def _last_link(self, candidates: Mapping[str, float]) -> Path:
        link = Path(self.format_checkpoint_name(candidates, self.CHECKPOINT_NAME_LAST))
        if link.is_symlink() and not self._has_own_dirpath:
            return link  # the run's own, which leads to its newest checkpoint, whoever saved that
        return self._unused(link, mine=[self.last_model_path])  # another run's is left alone

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors that a checkpoint keeps."""
        return {
            "monitor": self.monitor,
            "mode": self.mode,
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
        """Take up what ``state_dict`` gave: what is still in ``dirpath`` is chosen from and removed
        as before. If nothing is, or if the metric is another one, the choice begins anew.
        """
        if (state_dict["monitor"], state_dict["mode"]) != (self.monitor, self.mode):
            _log.warning(
                "the choice of checkpoints begins anew: the checkpoint's monitored another metric",
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
        # Only what lies there: a checkpoint may be a stranger's, and what is kept may be removed.
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
                "the checkpoints that were kept are not in dirpath; the choice begins anew",
                dirpath=self.dirpath,
                before=state_dict["dirpath"],
            )

    def _relative(self, path: str) -> str:
        """A path as the state has it: a run's folder may be moved."""
        if path and self.dirpath and Path(path).is_relative_to(self.dirpath):
            return str(Path(path).relative_to(self.dirpath))
        return path

    def _is_here(self, path: str) -> bool:
        """Whether a path is one in ``dirpath``, without ``..`` and links on the way to it."""
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
    """Whether there still is a checkpoint where one was saved, and no link to somebody else's."""
    return _is_checkpoint(path) and not os.path.islink(path)


def _remove(path: str) -> None:
    if _is_own(path):
        remove_checkpoint(Path(path))
