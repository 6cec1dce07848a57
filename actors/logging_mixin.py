"""``log`` and ``log_dict`` for modules and callbacks."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..bus.errors import MetricError, NotAttachedError
from ..bus.own_names import keeps_own_names
from ..bus.system.logging_setup import get_logger
from ..bus.system.streams import notify_once

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

    from .trainer_type import Trainer

_log = get_logger("nightbus.metrics")
ReduceFx = str | Callable[[Any], Any]


@keeps_own_names
class LoggingMixin:
    """Records metrics as in Lightning; built on ``put``."""

    _of_run: ClassVar[tuple[str, ...]] = ("_trainer",)
    _has_trainer_always: ClassVar[bool] = True  # so that reading it without one is an error
    _trainer: "Trainer | None" = None
    _is_exported: bool = False  # TorchScript reads every attribute, whether it is used or not
    _nightbus_address: str

    @property
    def trainer(self) -> "Trainer":
        """The trainer to which the object is attached; of a datamodule without one, None.

        Raises:
            NotAttachedError: a module or a callback is attached to none.
        """
        if self._trainer is None and self._has_trainer_always and not self._is_exported:
            raise NotAttachedError(
                f"{type(self).__name__} is not attached to a `Trainer`; trainer.fit(), validate(), "
                "test() and predict() attach it"
            )
        return self._trainer  # type: ignore[return-value]

    @trainer.setter
    def trainer(self, trainer: "Trainer | None") -> None:
        self._attach(trainer)

    def _nightbus_trainer_or_none(self) -> "Trainer | None":
        try:
            return self.trainer
        except NotAttachedError:
            return None

    def _attach(self, trainer: Any) -> None:
        object.__setattr__(self, "_trainer", trainer)  # so that it is no submodule of a module

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: ReduceFx = "mean",
        enable_graph: bool = False,
        sync_dist: bool | None = None,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Record a metric of this step, of the epoch, or both.

        Without a Trainer, as in a step that your own code calls, a warning says that nothing is
        recorded.

        Args:
            name: name of the metric.
            value: a number, a one-element tensor, or a torchmetrics Metric; or a dict of them, each
                of which is recorded as ``name/key``.
            prog_bar: show the metric in the progress bar.
            logger: send the metric to sinks; None means True. Values of training steps are sent
                only every ``log_every_n_steps`` steps. If True is given and the Trainer has no
                sink, a warning says so once.
            on_step: record each value. The default depends on the hook: True in training steps.
            on_epoch: record the epoch's reduction. The default depends on the hook: True in
                evaluation and at epoch ends. With both, ``name_step`` and ``name_epoch`` are
                recorded.
            reduce_fx: mean (weighted by batch size), sum, min, max, or a function of the epoch's
                values as a tensor of shape (N,).
            enable_graph: accepted for code written for Lightning; no graph is kept.
            sync_dist: reduce over all ranks: True also each step's value, in training; False leaves
                the epoch's value to each rank too. By default the epoch's value is that of all
                ranks. A mean is weighted by batch size. Not all ranks have to log the metric.
            sync_dist_group: accepted for code written for Lightning, without effect: all ranks
                are reduced over.
            add_dataloader_idx: append ``/dataloader_idx_N`` if there are several dataloaders.
            batch_size: weight for the mean; by default the first dimension of the batch's tensors
                and arrays, or the length of its lists. If it cannot be found, a warning says so
                once.
            metric_attribute: accepted for code written for Lightning, without effect.
            rank_zero_only: record in the process of rank 0 only, and its value alone.

        Raises:
            MetricError: the metric cannot be logged here or in this way; the message says what to
                do.
        """
        if type(value) is dict:
            notify_once(
                "nightbus: log(name, value) got a dict, and records each item of it as name/key; "
                "log_dict records them under their own names"
            )
            for key, part in value.items():
                self.log(
                    f"{name}/{key}",
                    part,
                    prog_bar,
                    logger,
                    on_step,
                    on_epoch,
                    reduce_fx,
                    add_dataloader_idx=add_dataloader_idx,
                    sync_dist=sync_dist,
                    batch_size=batch_size,
                    rank_zero_only=rank_zero_only,
                )
            return
        trainer = self._trainer or self._nightbus_trainer_or_none()
        if trainer is None:
            _log.warning(
                f"{type(self).__name__}.log({name!r}) records nothing: it is not attached to a "
                "Trainer, because its method was called by other code"
            )
            return
        if rank_zero_only:
            if not trainer.is_global_zero:
                return
            sync_dist = False
        metrics = trainer.metrics
        if logger and metrics.asks_for_sinks:
            metrics.note_sinks(name, has_sinks=bool(trainer.loggers))
        metrics.log(
            self._nightbus_address,
            name,
            value,
            prog_bar,
            logger is not False,
            on_step,
            on_epoch,
            reduce_fx,
            add_dataloader_idx,
            batch_size,
            sync_dist,
        )

    def log_dict(
        self,
        dictionary: "Mapping[str, Any] | MetricCollection",
        prog_bar: bool = False,
        **options: Any,
    ) -> None:
        """Call ``log`` for each item of a mapping.

        Args:
            dictionary: values by name, or a torchmetrics MetricCollection, which you update, and
                which is computed and reset at the end of the epoch.
            prog_bar: show the metrics in the progress bar.
            **options: as for ``log``.

        Raises:
            MetricError: as for ``log``.
        """
        options["prog_bar"] = prog_bar
        if isinstance(dictionary, Mapping):
            for name, value in dictionary.items():
                self.log(name, value, **options)
            return
        if not hasattr(dictionary, "compute_groups"):
            raise MetricError(
                f"log_dict got {type(dictionary).__name__}; expected a mapping of names to values, "
                "or a MetricCollection"
            )
        trainer = self._nightbus_trainer_or_none()
        if trainer is None:
            for name, metric in dictionary.items(copy_state=False):
                self.log(name, metric, **options)  # which says that it is not recorded
            return
        metrics = trainer.metrics
        if not metrics.log_known_collection(dictionary, options):
            # Not as copies: metrics of a collection that share a state have to go on sharing it.
            found = dict(dictionary.items(copy_state=False))
            for name, metric in found.items():
                self.log(name, metric, **options)
            metrics.remember_collection(dictionary, options, found)
