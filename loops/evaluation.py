"""EvaluationLoop: validation and test, dataloader by dataloader."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..actors.data.combined_loader import pass_over
from ..actors.metrics.log_entry import ALL_LOADERS
from ..actors.metrics.results import EvalResult, Result
from ..actors.optimization.progress import Progress
from ..actors.overrides import is_overridden
from ..actors.step_arguments import check_dataloader_idx
from ..bus.events import Scalar
from .data_source import DataSource
from .dataloader import DataloaderLoop
from .loop import Loop
from .modes import begin_eval_mode, kept_modes
from .outputs import in_one
from .results_table import print_results


class EvaluationEpochLoop(DataloaderLoop):
    """Runs the batches of one dataloader; a batch that is None is skipped."""

    _of_run: ClassVar[tuple[str, ...]] = ("outputs", "_loader")
    outputs: list[Any] | None = None
    _loader: Any = ()

    def on_run_start(
        self, loader: Any, limit: int | None, dataloader_idx: int, kind: str, keep_outputs: bool
    ) -> None:
        self._loader = loader
        self.outputs = [] if keep_outputs else None
        self.begin(pass_over(loader), limit, dataloader_idx, kind)

    def take(self, output: Any) -> None:
        if output is None:
            return
        if isinstance(output, Result):
            context, step = self._loop_context, self.names.step
            context.metrics.log_result(output, step, self.outputs is not None)
            if isinstance(output, EvalResult) and not context.sanity_checking:
                context.predictions.add(output.writes())
            output = output.detach()
        if self.outputs is not None:
            self.outputs.append(output)

    def on_run_end(self) -> list[Any] | None:
        if self.batch_idx < 0 and self.limit != 0:
            self._loop_context.loaders.report_empty(self.kind, self._loader)
        self._close()
        outputs, self.outputs = self.outputs, None
        return outputs

    def _close(self) -> None:
        super()._close()
        self._loader = iter(())

    def teardown(self) -> None:
        self._close()
        self.outputs = None


class EvaluationLoop(Loop):
    """Evaluates on each dataloader in turn, without gradients and in eval mode.

    A run, here of validation, is::

        on_validation_model_eval, on_validation_start, on_epoch_start, on_validation_epoch_start
        for loader in loaders:
            outputs = self.epoch_loop.run(loader)
        trainer.wait_for_others()
        validation_epoch_end(outputs), on_validation_epoch_end, on_epoch_end, on_validation_end
        on_validation_model_train  # each part is in its former mode again

    Args:
        stage: validate or test.
    """

    safe_points = False  # commands wait until training continues

    def __init__(self, stage: Literal["validate", "test"] = "validate") -> None:
        self.epoch_loop = EvaluationEpochLoop()
        self.dataloader_progress = Progress()
        self.serve(stage)
        self._idx = 0
        self._outputs: list[list[Any]] = []
        self._results: dict[int, dict[str, Scalar]] = {}

    @property
    def _data_source(self) -> DataSource:
        return DataSource(self._loop_context, self.stage)

    def serve(self, stage: Literal["validate", "test"]) -> None:
        """Set the stage; called by the trainer for its validate and test loops."""
        self.stage = self.name = stage
        self._kind = "validation" if stage == "validate" else "test"

    def print_results(self, results: Sequence[Mapping[str, Scalar]]) -> None:
        """Print what ``validate`` or ``test`` returns, as ``_print_results`` does.

        Args:
            results: metrics of each dataloader by name.
        """
        tensors = [
            {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
            for values in results
        ]
        self._print_results(tensors, self.stage)

    @staticmethod
    def _print_results(results: list[dict[str, Tensor]], stage: str) -> None:
        # Under Lightning's name, because code overrides it, to print in a form of its own.
        print_results(stage, results)

    @property
    def done(self) -> bool:
        return self._idx >= len(self._loaders)

    @property
    def skip(self) -> bool:
        reads = any(limit != 0 for limit in self._limits)
        # A rank without a batch still takes part in what all ranks do at the end.
        return not any(self._loop_context.group.gather("whether there is a batch", reads))

    @property
    def batch_progress(self) -> Progress:
        """Counts of the batches of the dataloader that is read."""
        return self.epoch_loop.batch_progress

    @property
    def _loaders(self) -> list[Any]:
        return self._loop_context.loaders.evaluation(self.stage)

    @property
    def _limits(self) -> list[int | None]:
        return self._loop_context.loaders.limits(self.stage)

    def reset(self) -> None:
        context = self._loop_context
        self._idx = 0
        self._outputs = []
        self._results = {}
        context.metrics.num_dataloaders = len(self._loaders)
        context.loaders.set_epoch(self.stage, context.current_epoch)
        self.dataloader_progress.begin_interrupted()
        self.dataloader_progress.begin()

    def on_run_start(self) -> None:
        context, kind = self._loop_context, self._kind
        check_dataloader_idx(context.lightning_module, f"{kind}_step", len(self._loaders))
        limits = self._limits
        known = [limit for limit in limits if limit is not None]
        total = sum(known) if len(known) == len(limits) else None
        if context.optimization.replicas is not None:
            context.optimization.replicas.share_buffers()
        context.announce_loop(context.place.stage, total, "batch")
        begin_eval_mode(context.lightning_module, f"on_{kind}_model_eval")
        context.routes.call(f"on_{kind}_model_eval")
        if not context.is_accumulating:  # gradients for a step to come stay
            self._clear_gradients()
        context.routes.call(f"on_{kind}_start")
        context.routes.call("on_epoch_start")
        context.routes.call(f"on_{kind}_epoch_start")

    def _clear_gradients(self) -> None:
        context, hook = self._loop_context, "on_validation_model_zero_grad"
        module = context.lightning_module
        if context.checkpointer.in_validation and is_overridden(module, hook):  # amid training
            context.routes.call(hook)
        else:
            module.zero_grad()

    def advance(self) -> None:
        context = self._loop_context
        context.place.move(dataloader_idx=self._idx)
        self.dataloader_progress.total.ready += 1
        keep = context.wiring.keeps_evaluation_outputs(self._kind)
        outputs = self.epoch_loop.run(
            self._loaders[self._idx], self._limits[self._idx], self._idx, self._kind, keep
        )
        if keep:
            self._outputs.append(outputs)
        self.dataloader_progress.total.completed += 1
        self._idx += 1

    def on_run_end(self) -> list[dict[str, Scalar]]:
        context, kind = self._loop_context, self._kind
        context.place.move(dataloader_idx=0, batch_idx=-1)
        context.wait_for_others()
        several = len(self._loaders) > 1
        self._publish()
        if context.wiring.keeps_evaluation_outputs(kind):
            outputs: Any = in_one(self._outputs if several else self._outputs[0])
            returned = context.routes.call(f"{kind}_epoch_end", outputs)
            for idx, values in context.metrics.log_epoch_end(
                returned, outputs, f"{kind}_step"
            ).items():
                self._results.setdefault(idx, {}).update(values)
            self._publish()
        context.write_predictions()
        context.routes.call(f"on_{kind}_epoch_end")
        self._publish()
        context.routes.call("on_epoch_end")
        self._publish()
        context.routes.call(f"on_{kind}_end")
        context.metrics.end_epoch()
        context.announce_loop_end(context.place.stage, self.epoch_loop.batch_progress.current.ready)
        context.bus.flush()
        shared = self._results.get(ALL_LOADERS, {})
        return [
            {**self._results.get(idx, {}), **shared} for idx in range(max(1, len(self._loaders)))
        ]

    def _publish(self) -> None:
        for idx, values in self._loop_context.metrics.publish_epoch().items():
            self._results.setdefault(idx, {}).update(values)

    def run(self, *args: Any, **kwargs: Any) -> list[dict[str, Scalar]]:
        """Evaluate, also in the middle of training; restore the module's modes afterwards."""
        context = self._loop_context
        place = context.place
        is_there = place.stage in (self.stage, "sanity_check")
        if place.stage == "train" and place.batch_idx >= 0:
            # An observer may have skipped the hooks of the last batches before.
            context.announce_iteration("train", place.batch_idx + 1)
        with (
            kept_modes(context.lightning_module),
            context.without_gradients(),
            nullcontext() if is_there else context.place.in_stage(self.stage),
        ):
            result = super().run(*args, **kwargs)
        context.routes.call(f"on_{self._kind}_model_train")
        return result or []

    def teardown(self) -> None:
        self._outputs = []
        self.epoch_loop.teardown()
