"""ProgressBarBase, TQDMProgressBar and RichProgressBar: which progress bar a Trainer shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger
from ..arguments import check_at_least
from ..callback import Callback
from .shown_loop import INSTEAD, BarOfLoop, ShownLoop

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

_OF_OTHER_BARS = (
    "init_sanity_tqdm",
    "init_train_tqdm",
    "init_predict_tqdm",
    "init_validation_tqdm",
    "init_test_tqdm",
    "configure_columns",
)
_log = get_logger("nightbus.progress_bar")


class ProgressBarBase(Callback):
    """The base of progress bars of your own, which take the place of the Trainer's.

    Override the hooks to show what you like. An actor that reads the log, such as a sink, does the
    same without taking time from training.
    """

    why_not_replayed = "it shows a run that goes on; `nightbus replay` has a bar of its own"
    sanity_check_description: str = "Sanity Checking"
    train_description: str = "Training"
    validation_description: str = "Validation"
    test_description: str = "Testing"
    predict_description: str = "Predicting"
    _is_enabled: bool = True
    _dataloader_idx: int | None = None

    @property
    def is_enabled(self) -> bool:
        """Whether it shows anything."""
        return self._is_enabled

    @property
    def is_disabled(self) -> bool:
        """Whether it shows nothing."""
        return not self.is_enabled

    def enable(self) -> None:
        """Show the bar; called before the Trainer is made."""
        self._is_enabled = True

    def disable(self) -> None:
        """Show no bar; called before the Trainer is made."""
        self._is_enabled = False

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        if not trainer.is_global_zero:
            self.disable()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar.

        Args:
            *args: as for the built-in ``print``.
            **kwargs: as for the built-in ``print``.
        """
        print(*args, **kwargs)

    def get_metrics(
        self, trainer: "Trainer", pl_module: "LightningModule"
    ) -> dict[str, int | str | float]:
        """Return the metrics that the bar shows: those logged with ``prog_bar=True``.

        The version of the first logger that has one is added, as ``v_num``.

        Args:
            trainer: the trainer.
            pl_module: the module.
        """
        return {**get_standard_metrics(trainer), **trainer.progress_bar_metrics}

    @property
    def total_train_batches(self) -> int | float:
        """Number of training batches of an epoch; infinite if it is not known.

        If only ``max_steps`` limits training, at most as many as there are steps left.
        """
        trainer, batches = self.trainer, self.trainer.num_training_batches
        if trainer.max_epochs == -1 and trainer.max_steps > 0:
            return min(batches, trainer.max_steps - trainer.global_step)
        return batches

    @property
    def total_val_batches(self) -> int | float:
        """Number of batches of all validation dataloaders; 0 in an epoch that does not validate."""
        trainer = self.trainer
        if not trainer.loaders.schedule.is_due_in(trainer.current_epoch):
            return 0
        return sum(self.trainer.num_val_batches)

    @property
    def total_val_batches_current_dataloader(self) -> int | float:
        """Number of batches of the validation dataloader that is read."""
        return self._of_current(self.trainer.num_val_batches)

    @property
    def total_test_batches_current_dataloader(self) -> int | float:
        """Number of batches of the test dataloader that is read."""
        return self._of_current(self.trainer.num_test_batches)

    @property
    def total_predict_batches_current_dataloader(self) -> int | float:
        """Number of batches of the prediction dataloader that is read."""
        return self._of_current(self.trainer.num_predict_batches)

    def _of_current(self, batches: Sequence[int | float]) -> int | float:
        return batches[self._dataloader_idx or 0]

    def has_dataloader_changed(self, dataloader_idx: int) -> bool:
        """Return whether this is another dataloader than at the last call, and note it.

        Args:
            dataloader_idx: number of the dataloader, from 0.
        """
        before, self._dataloader_idx = self._dataloader_idx, dataloader_idx
        return before != dataloader_idx

    def reset_dataloader_idx_tracker(self) -> None:
        """Forget which dataloader was read last."""
        self._dataloader_idx = None


class _OfTrainer(ProgressBarBase):
    """A callback whose arguments set the bar of the Trainer, which draws it on another thread."""

    _method_names: ClassVar[tuple[str, ...]] = _OF_OTHER_BARS
    _shown: Mapping[str, float] | None = None

    def __init__(self, refresh_rate: int, leave: bool) -> None:
        if refresh_rate is None:
            raise UsageError("refresh_rate=None: expected an int of at least 0")
        check_at_least("refresh_rate", refresh_rate, 0)
        kind = type(self)
        for name in self._method_names:
            method = getattr(kind, name, None)
            if method is not None and getattr(method, "__module__", "") != __name__:
                _log.warning(f"{kind.__name__}.{name} is not called: {INSTEAD}")
        self.refresh_rate = refresh_rate
        self.leave = leave

    @property
    def is_enabled(self) -> bool:
        return self._is_enabled and self.refresh_rate > 0

    def bar_options(self) -> dict[str, Any]:
        """Return the arguments of the bar that the Trainer makes."""
        is_chosen = type(self).get_metrics is not _OfTrainer.get_metrics
        return {"leave": self.leave, "choose": self._choose if is_chosen else None}

    def _choose(self, metrics: Mapping[str, float]) -> Mapping[str, Any]:
        """Return what ``get_metrics`` makes of the metrics that the bar knows."""
        self._shown = metrics
        try:
            return self.get_metrics(self.trainer, self.trainer.lightning_module)
        finally:
            self._shown = None

    def get_metrics(
        self, trainer: "Trainer", pl_module: "LightningModule"
    ) -> dict[str, int | str | float]:
        """Return the metrics that the bar shows; an override is called when it is drawn.

        It is called on the thread that draws, so it should read its arguments only.

        Args:
            trainer: the trainer.
            pl_module: the module.
        """
        if self._shown is None:
            return super().get_metrics(trainer, pl_module)
        return {**get_standard_metrics(trainer), **self._shown}

    # -- what Lightning's bars have -------------------------------------------------------------

    train_progress_bar = BarOfLoop("train")
    main_progress_bar = BarOfLoop("train")  # under the name of Lightning 1
    val_progress_bar = BarOfLoop("val")
    test_progress_bar = BarOfLoop("test")
    predict_progress_bar = BarOfLoop("predict")

    def __getattr__(self, name: str) -> Any:
        if name == "configure_columns" or name == "progress" or name.endswith("_progress_bar_id"):
            raise AttributeError(f"{type(self).__name__} has no {name}: {INSTEAD}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def get_standard_metrics(trainer: "Trainer") -> dict[str, int | str]:
    """Return the version of the first logger that has one, as ``v_num``; nothing without.

    Args:
        trainer: the trainer.
    """
    versions = (getattr(logger, "version", None) for logger in trainer.loggers)
    version = next((found for found in versions if found not in (None, "")), None)
    if version is None:
        return {}
    return {"v_num": version[-4:] if isinstance(version, str) else version}


class TQDMProgressBar(_OfTrainer):
    """Sets the Trainer's progress bar with the arguments of Lightning's bar of this name.

    Args:
        refresh_rate: 0 shows no bar; otherwise without effect, for the bar paces itself.
        process_position: accepted for code written for Lightning, without effect.
        leave: keep a line of each epoch above the bar.

    Raises:
        UsageError: an argument is wrong.
    """

    def __init__(
        self, refresh_rate: int = 1, process_position: int = 0, leave: bool = False
    ) -> None:
        super().__init__(refresh_rate, leave)
        self.process_position = process_position

    def init_sanity_tqdm(self) -> ShownLoop:
        """Return what says where the sanity check is; an override is not called."""
        return ShownLoop(self, "val")

    def init_train_tqdm(self) -> ShownLoop:
        """Return what says where training is; an override is not called."""
        return ShownLoop(self, "train")

    def init_validation_tqdm(self) -> ShownLoop:
        """Return what says where validation is; an override is not called."""
        return ShownLoop(self, "val")

    def init_test_tqdm(self) -> ShownLoop:
        """Return what says where testing is; an override is not called."""
        return ShownLoop(self, "test")

    def init_predict_tqdm(self) -> ShownLoop:
        """Return what says where prediction is; an override is not called."""
        return ShownLoop(self, "predict")


@dataclass(frozen=True)
class RichProgressBarTheme:
    """Styles of rich for the parts of the bar; None for the bar's own.

    Attributes:
        description: the loop's name.
        progress_bar: the part that is done.
        progress_bar_finished: accepted without effect: a finished bar gives way to the next.
        progress_bar_pulse: accepted without effect: a bar without a known length has no cells.
        batch_progress: the counts.
        time: the time left.
        processing_speed: the rate.
        metrics: the values of metrics.
        metrics_text_delimiter: what stands between metrics.
        metrics_format: how values are formatted, such as ``.3f``.
    """

    description: str | None = None
    progress_bar: str | None = None
    progress_bar_finished: str | None = None
    progress_bar_pulse: str | None = None
    batch_progress: str | None = None
    time: str | None = None
    processing_speed: str | None = None
    metrics: str | None = None
    metrics_text_delimiter: str | None = None
    metrics_format: str | None = None


class RichProgressBar(_OfTrainer):
    """Sets the Trainer's progress bar with the arguments of Lightning's bar of this name.

    Args:
        refresh_rate: 0 shows no bar; otherwise without effect, for the bar paces itself.
        leave: keep a line of each epoch above the bar.
        theme: styles of its parts.
        console_kwargs: options of ``rich.console.Console``.

    Raises:
        UsageError: an argument is wrong.
    """

    def __init__(
        self,
        refresh_rate: int = 1,
        leave: bool = False,
        theme: RichProgressBarTheme | None = None,
        console_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(refresh_rate, leave)
        self.theme = theme or RichProgressBarTheme()
        self._console_kwargs = dict(console_kwargs or {})

    def bar_options(self) -> dict[str, Any]:
        given = {name: value for name, value in vars(self.theme).items() if value is not None}
        return {**super().bar_options(), "styles": given, "console_options": self._console_kwargs}
