"""``log`` and ``log_dict`` for modules and callbacks."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..bus.errors import MetricError, UsageError

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

    from .trainer_type import Trainer

ReduceFx = str | Callable[[Any], Any]


class LoggingMixin:
    """The familiar way to record metrics, built on ``put``."""

    _of_run: ClassVar[tuple[str, ...]] = ("_trainer",)
    _trainer: "Trainer | None" = None
    _address: str

    @property
    def trainer(self) -> "Trainer":
        """The trainer this belongs to while it runs.

        Raises:
            UsageError: it belongs to none.
        """
        if self._trainer is None:
            raise UsageError(
                f"{type(self).__name__} is not attached to a Trainer; trainer.fit() and its kin "
                "attach it"
            )
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: "Trainer | None") -> None:
        self._attach(trainer)

    def _attach(self, trainer: Any) -> None:
        object.__setattr__(self, "_trainer", trainer)  # no submodule of a module

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = True,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: ReduceFx = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Record a metric of this step, of the epoch, or both.

        Args:
            name: the metric.
            value: a number, a one-element tensor, or a torchmetrics Metric; or a dict of them, each
                of which is recorded as ``name/key``.
            prog_bar: show it in the progress bar.
            logger: hand it to sinks, which None does too; step values only every
                ``log_every_n_steps`` steps.
            on_step: record each value; default by hook: in training steps.
            on_epoch: record the epoch's reduction; default by hook: in evaluation and at epoch
                ends. With both, ``name_step`` and ``name_epoch`` are recorded.
            reduce_fx: mean (weighted by batch size), sum, min, max, or a function of the epoch's
                values as a tensor of shape (N,).
            enable_graph: accepted for code written for Lightning; no graph is kept.
            sync_dist: reduce over processes; one process is supported so far, so it is exact.
            sync_dist_group: the process group to reduce over.
            add_dataloader_idx: append ``/dataloader_idx_N`` when there are several dataloaders.
            batch_size: weight for the mean; by default the first dimension of the batch's tensors
                and arrays, or the length of its lists; what cannot be found is said once.
            metric_attribute: accepted for code written for Lightning; metrics find themselves.
            rank_zero_only: record on the first process only.

        Raises:
            MetricError: it cannot be logged here, or not like this; the message says what to do.
        """
        if type(value) is dict:
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
                    batch_size=batch_size,
                )
            return
        self.trainer.metrics.log(
            self._address,
            name,
            value,
            prog_bar,
            logger is not False,
            on_step,
            on_epoch,
            reduce_fx,
            add_dataloader_idx,
            batch_size,
        )

    def log_dict(
        self,
        dictionary: "Mapping[str, Any] | MetricCollection",
        prog_bar: bool = False,
        **options: Any,
    ) -> None:
        """``log`` for each item of a mapping.

        Args:
            dictionary: metric name -> value, or a torchmetrics MetricCollection, which is updated
                by you, and computed and reset when the epoch is over.
            prog_bar: show them in the progress bar.
            options: as for ``log``.

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
                f"log_dict takes a mapping of names to values, or a MetricCollection, not "
                f"{type(dictionary).__name__}"
            )
        metrics = self.trainer.metrics
        if not metrics.log_known_collection(dictionary, options):
            # Not as copies: metrics of a collection that share a state go on sharing it.
            found = dict(dictionary.items(copy_state=False))
            for name, metric in found.items():
                self.log(name, metric, **options)
            metrics.remember_collection(dictionary, options, found)
