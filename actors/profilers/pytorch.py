"""PyTorchProfiler: torch's own profiler, for some steps, with a trace of them."""

import os
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler_util import EventList

from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger
from .profiler import Profiler

_log = get_logger("nightbus.profilers")
_OF_TABLE = signature(EventList.table).parameters
_STEPS = ("training_step", "validation_step", "test_step", "predict_step")


class PyTorchProfiler(Profiler):
    """Profiles operations of some steps with torch.profiler, and writes a trace of them.

    The trace, for https://ui.perfetto.dev or chrome://tracing, is in the run's folder. It has the
    hooks, and the actions that are named, as ranges.

    Args:
        dirpath: folder of the files; that of the run by default.
        filename: first part of the files' names; None shows the table instead.
        group_by_input_shapes: the table tells operations with inputs of other shapes apart.
        export_to_chrome: write the trace.
        row_limit: number of the table's rows; -1 for all.
        sort_by_key: column by which the table is sorted; the time on the GPU by default, or on the
            CPU without one.
        table_kwargs: further arguments of the table.
        record_shapes: record the shapes of inputs, as ``group_by_input_shapes`` does too.
        **profiler_kwargs: arguments of torch.profiler.profile, such as ``schedule``: by default,
            one step is left out, one is for warming up, and three are recorded.

    Attributes:
        function_events: the events that were recorded last; None before.

    Raises:
        UsageError: torch.profiler.profile, or the table, has no such argument, or ``emit_nvtx`` is
            True, which Lightning has.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        group_by_input_shapes: bool = False,
        export_to_chrome: bool = True,
        row_limit: int = 20,
        sort_by_key: str | None = None,
        table_kwargs: Mapping[str, Any] | None = None,
        record_shapes: bool = False,
        **profiler_kwargs: Any,
    ) -> None:
        super().__init__(dirpath, filename)
        if profiler_kwargs.pop("emit_nvtx", False):
            raise UsageError(
                "PyTorchProfiler(emit_nvtx=True): expected False. For ranges in Nsight Systems, "
                "leave the profiler out, write `with torch.autograd.profiler.emit_nvtx():` around "
                "trainer.fit(), and start the script with `nsys profile python ...`"
            )
        known = signature(torch.profiler.profile).parameters
        for name in profiler_kwargs:
            if name not in known:
                raise UsageError(
                    f"PyTorchProfiler has no argument {name!r}, nor has torch.profiler.profile"
                )
        self._by_shapes, self._exports = group_by_input_shapes, export_to_chrome
        for name in table_kwargs or {}:
            if name in ("self", "row_limit", "sort_by") or name not in _OF_TABLE:
                raise UsageError(
                    f"table_kwargs has {name!r}; expected arguments of the table that "
                    "PyTorchProfiler does not have itself: "
                    f"{', '.join(sorted({*_OF_TABLE} - {'self', 'row_limit', 'sort_by'}))}"
                )
        has_gpu = torch.cuda.is_available()
        self._table = {
            "row_limit": row_limit,
            "sort_by": sort_by_key or ("cuda_time_total" if has_gpu else "cpu_time_total"),
            **(table_kwargs or {}),
        }
        self._users_own = profiler_kwargs.pop("on_trace_ready", None)
        self._options = {
            "record_shapes": record_shapes or group_by_input_shapes,
            **profiler_kwargs,
        }
        self.function_events: EventList | None = None
        self._profile: torch.profiler.profile | None = None
        self._ranges: dict[str, Any] = {}
        self._text = ""

    def setup(self, stage: str, local_rank: int | None, folder: Callable[[], Path]) -> None:
        """Begin to profile.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
            local_rank: which process of this machine it is; None if there is only this one.
            folder: returns the folder of the run, for files.
        """
        super().setup(stage, local_rank, folder)
        self._begin()

    def _begin(self) -> None:
        self._text, self.function_events = "", None
        options: dict[str, Any] = {
            "schedule": torch.profiler.schedule(wait=1, warmup=1, active=3, repeat=1),
            "on_trace_ready": self._keep,
            **self._options,
        }
        self._profile = torch.profiler.profile(**options)
        self._profile.__enter__()

    def teardown(self, stage: str) -> None:
        """End profiling.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        self._ranges.clear()
        profile, self._profile = self._profile, None
        if profile is None:
            return
        profile.__exit__(None, None, None)
        if self.function_events is None:
            _log.warning(
                "PyTorchProfiler: there were too few steps for its schedule, and nothing was "
                "recorded; schedule=None records all steps",
                stage=stage or "actions",
            )

    def _keep(self, profile: torch.profiler.profile) -> None:
        averages = profile.key_averages(group_by_input_shape=self._by_shapes)
        self._text = averages.table(**self._table)
        self.function_events = profile.events()
        if self._exports:
            profile.export_chrome_trace(str(self.path_of("json", "trace")))
        if self._users_own is not None:
            self._users_own(profile)

    def start(self, action_name: str) -> None:
        """Begin an action, which is a range in the trace; outside of a run, profiling begins."""
        if self._profile is None and not self._stage:
            self._begin()
        if self._profile is not None and action_name not in self._ranges:
            entered = torch.profiler.record_function(action_name)
            entered.__enter__()
            self._ranges[action_name] = entered

    def stop(self, action_name: str) -> None:
        """End an action; with that of a step, a step of the profiler ends."""
        if (entered := self._ranges.pop(action_name, None)) is not None:
            entered.__exit__(None, None, None)

    def wrapped(self, hook: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Return a hook's handler that is profiled; a batch's first hook ends the step before.

        Args:
            hook: the hook, which names the action.
            handler: what it does.
        """
        inner = super().wrapped(hook, handler)
        if hook not in _STEPS:
            return inner

        def stepping(*objects: Any) -> Any:
            if self._profile is not None:
                self._profile.step()
            return inner(*objects)

        return stepping

    def summary(self) -> str:
        """Return the table of operations; empty if there were too few steps to record one.

        Outside of a run, profiling ends.
        """
        if not self._stage:
            self.teardown("")
        return self._text

    def __getstate__(self) -> dict[str, object]:
        """Leave out the profiler that runs."""
        return {**super().__getstate__(), "_profile": None, "_ranges": {}, "function_events": None}
