"""PredictionLoop: predictions for each dataloader."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from torch.utils.data import SequentialSampler

from ..actors.data.combined_loader import CombinedLoader, pass_over
from ..actors.data.loader_workers import owned
from ..actors.data.shard_sampler import ShardSampler
from ..actors.optimization.progress import Progress
from ..actors.step_arguments import check_dataloader_idx
from ..actors.trees import on_cpu
from ..bus.system.logging_setup import get_logger
from .data_source import DataSource
from .dataloader import DataloaderLoop
from .loop import Loop
from .modes import begin_eval_mode, kept_modes

_log = get_logger("nightbus.loops", of_all_ranks=True)


class PredictionEpochLoop(DataloaderLoop):
    """Runs the batches of one dataloader."""

    safe_points = False  # it can be interrupted between batches, and takes no commands
    passes_over_none = False

    def __init__(self) -> None:
        super().__init__()
        self._predictions: list[Any] = []
        self._keep = True

    def on_run_start(self, loader: Any, limit: int | None, dataloader_idx: int, keep: bool) -> None:
        self._predictions, self._keep = [], keep
        is_combined = isinstance(loader, CombinedLoader)
        batches = pass_over(loader) if is_combined else owned(iter(loader))
        self.begin(batches, limit, dataloader_idx, "predict")

    def take(self, output: Any) -> None:
        if self._keep:
            self._predictions.append(on_cpu(output))

    def on_run_end(self) -> list[Any]:
        self._close()
        predictions, self._predictions = self._predictions, []
        return predictions

    def teardown(self) -> None:
        self._close()
        self._predictions = []


class PredictionLoop(Loop):
    """Predicts on each dataloader in turn, without gradients and in eval mode.

    A run is::

        on_predict_start, on_predict_model_eval, on_predict_epoch_start
        for loader in loaders:
            predictions += [self.epoch_loop.run(loader)]
        trainer.wait_for_others()
        on_predict_epoch_end(predictions), on_predict_end

    Attributes:
        return_predictions: keep predictions and return them.
    """

    name = "predict"
    safe_points = False

    def __init__(self) -> None:
        self.epoch_loop = PredictionEpochLoop()
        self.return_predictions = True
        self._predictions: list[list[Any]] = []
        self._idx = 0
        self._keep = True
        self._indices: dict[int, list[Sequence[int]] | None] = {}

    @property
    def _data_source(self) -> DataSource:
        return DataSource(self._loop_context, "predict")

    @property
    def done(self) -> bool:
        return self._idx >= len(self._loaders)

    @property
    def batch_progress(self) -> Progress:
        """Counts of the batches of the dataloader that is read."""
        return self.epoch_loop.batch_progress

    @property
    def _loaders(self) -> list[Any]:
        return self._loop_context.loaders.evaluation("predict")

    def reset(self) -> None:
        context = self._loop_context
        context.loaders.set_epoch("predict", context.current_epoch)
        self._idx = 0
        self._predictions = []
        self._keep = self.return_predictions or context.writes_predictions_at_end
        self._indices = {}

    def on_run_start(self) -> None:
        context = self._loop_context
        check_dataloader_idx(context.lightning_module, "predict_step", len(self._loaders))
        limits = context.loaders.limits("predict")
        known = [limit for limit in limits if limit is not None]
        total = sum(known) if len(known) == len(limits) else None
        context.announce_loop("predict", total, "batch")
        begin_eval_mode(context.lightning_module, "on_predict_model_eval")
        context.routes.call("on_predict_start")
        context.routes.call("on_predict_model_eval")
        context.routes.call("on_predict_epoch_start")

    def advance(self) -> None:
        context = self._loop_context
        context.place.move(dataloader_idx=self._idx)
        limit = context.loaders.limits("predict")[self._idx]
        self._predictions.append(
            self.epoch_loop.run(self._loaders[self._idx], limit, self._idx, self._keep)
        )
        self._idx += 1

    def on_run_end(self) -> Any:
        context = self._loop_context
        context.place.move(dataloader_idx=0, batch_idx=-1)
        context.wait_for_others()
        context.routes.call("on_predict_epoch_end", self._predictions)
        context.routes.call("on_predict_end")
        context.announce_loop_end("predict", self.epoch_loop.batch_progress.current.ready)
        predictions, self._predictions = self._predictions, []
        if not self.return_predictions:
            return None
        _report_none(predictions)
        return predictions[0] if len(predictions) == 1 else predictions

    def teardown(self) -> None:
        self._predictions = []
        self.epoch_loop.teardown()

    def batch_indices(self, dataloader_idx: int, batch_idx: int) -> Sequence[int] | None:
        """Return the indices in the dataset of a batch's samples; None if unknown.

        Only a DataLoader that reads a dataset in order takes the same indices twice.

        Args:
            dataloader_idx: the number of the dataloader, from 0.
            batch_idx: the number of the batch, from 0.
        """
        if dataloader_idx not in self._indices:
            loader = self._loaders[dataloader_idx]
            sampler = getattr(loader, "batch_sampler", None)
            order = getattr(loader, "sampler", None)
            in_order = isinstance(order, SequentialSampler) or (
                isinstance(order, ShardSampler) and order.is_in_order
            )
            self._indices[dataloader_idx] = list(sampler) if in_order and sampler else None
        indices = self._indices[dataloader_idx]
        return None if indices is None else indices[batch_idx]

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Predict, also in the middle of training; restore the module's modes afterwards."""
        context = self._loop_context
        is_there = context.place.stage == "predict"
        with (
            kept_modes(context.lightning_module),
            context.without_gradients(),
            nullcontext() if is_there else context.place.in_stage("predict"),
        ):
            return super().run(*args, **kwargs)


def _report_none(predictions: list[list[Any]]) -> None:
    """Warn of batches for which ``predict_step`` returned nothing."""
    without = sum(each is None for of_loader in predictions for each in of_loader)
    if without:
        _log.warning(
            f"predict returned None for {without} of {sum(map(len, predictions))} batches, "
            "which is what the result has for them; if it is to return nothing, call "
            "predict(..., return_predictions=False)"
        )
