"""Summaries of segments: counted while writing, kept in footers.

Because every sealed segment carries its summary, ``nightbus show`` reads footers and the last
few megabytes, whatever the run's size.
"""

import math
from collections.abc import Sequence
from copy import copy

import msgspec

from ..event_kinds import kind_of
from ..events import (
    Event,
    Fault,
    Hook,
    Put,
    RunEnded,
    RunStarted,
    Scalar,
    SystemMetrics,
    UserEvent,
)
from .codec import DecodedEvent

MAX_FAULTS = 20
MAX_METRICS = 10_000
MAX_KINDS = 1_000  # of events; more of users' are counted as one


class HookTotal(msgspec.Struct, array_like=True):
    """Number of a hook's runs, and their total time in ns."""

    count: int = 0
    total_ns: int = 0


class MetricTotal(msgspec.Struct, array_like=True):
    """Last, smallest and largest value of a metric with their places; NaN is counted apart."""

    count: int = 0
    last: Scalar = 0.0
    last_epoch: int = 0
    last_step: int = 0
    low: float = math.inf
    low_step: int = 0
    high: float = -math.inf
    high_step: int = 0
    non_finite: int = 0

    def add(self, value: Scalar, epoch: int, step: int) -> None:
        """Count one value.

        Args:
            value: the value.
            epoch: its epoch.
            step: its optimizer step.
        """
        self.count += 1
        self.last, self.last_epoch, self.last_step = value, epoch, step
        if self.low <= value <= self.high:
            return
        if not math.isfinite(value):
            self.non_finite += 1
            return
        if value < self.low:
            self.low, self.low_step = +value, step  # a number, even if it is a bool
        if value > self.high:
            self.high, self.high_step = +value, step

    def merge(self, later: "MetricTotal") -> None:
        """Add the counts of a later segment."""
        self.count += later.count
        self.last, self.last_epoch, self.last_step = later.last, later.last_epoch, later.last_step
        self.non_finite += later.non_finite
        if later.low < self.low:
            self.low, self.low_step = later.low, later.low_step
        if later.high > self.high:
            self.high, self.high_step = later.high, later.high_step


class Summary(msgspec.Struct):
    """Counts over a stretch of a log.

    Attributes:
        events: events by type name, those of users by the name they are recorded under; at most
            MAX_KINDS of them.
        hooks: by hook name.
        metrics: by metric name, at most MAX_METRICS of them.
        faults: the first MAX_FAULTS.
        started, ended: the attempt's start and end, if this stretch has them.
        first_time_ns, last_time_ns: monotonic times of the stretch; 0 when empty.
        epoch, step: the last seen.
        system: what the machine used, by name, at most MAX_METRICS names.
    """

    events: dict[str, int] = {}
    hooks: dict[str, HookTotal] = {}
    metrics: dict[str, MetricTotal] = {}
    faults: list[Fault] = []
    started: RunStarted | None = None
    ended: RunEnded | None = None
    first_time_ns: int = 0
    last_time_ns: int = 0
    epoch: int = 0
    step: int = 0
    system: dict[str, MetricTotal] = {}

    def count_metric(self, name: str, value: Scalar, epoch: int, step: int) -> None:
        """Count one put.

        Args:
            name: the metric.
            value: its value.
            epoch: its epoch.
            step: its optimizer step.
        """
        _count(self.metrics, name, value, epoch, step)

    def add_record(self, event: DecodedEvent) -> None:
        """Count an event that is not a hook."""
        if type(event) is Put:
            self.events["Put"] = self.events.get("Put", 0) + 1
            self.count_metric(event.name, event.value, event.epoch, event.step)
            return
        name = kind_of(event)
        if len(self.events) >= MAX_KINDS and name not in self.events:
            name = UserEvent.__name__
        self.events[name] = self.events.get(name, 0) + 1
        if isinstance(event, Fault):
            if len(self.faults) < MAX_FAULTS:
                self.faults.append(event)
        elif isinstance(event, SystemMetrics):
            for metric, value in event.values.items():
                _count(self.system, metric, value, event.epoch, event.step)
        elif isinstance(event, RunStarted):
            self.started = event
        elif isinstance(event, RunEnded):
            self.ended = event

    def add(self, events: Sequence[DecodedEvent]) -> None:
        """Count events read back from a log."""
        hooks = self.hooks
        for event in events:
            if type(event) is Hook:
                total = hooks.get(event.name)
                if total is None:
                    total = hooks[event.name] = HookTotal()
                total.count += 1
                total.total_ns += event.duration_ns
            else:
                self.add_record(event)
        first = next((event for event in events if isinstance(event, Event)), None)
        last = next((event for event in reversed(events) if isinstance(event, Event)), None)
        if first is not None and last is not None:
            self.first_time_ns = self.first_time_ns or first.time_ns
            self.last_time_ns = last.time_ns
            self.epoch, self.step = last.epoch, last.step

    def shrink(self) -> None:
        """Drop what takes most space: half of the metrics, or else details."""
        if self.metrics:
            for name in list(self.metrics)[len(self.metrics) // 2 :]:
                del self.metrics[name]
        elif self.system:
            self.system.clear()
        elif self.faults:
            self.faults.clear()
        else:
            self.started = self.ended = None

    def merge(self, later: "Summary") -> None:
        """Add the counts of a later stretch of the same run."""
        for name, count in later.events.items():
            self.events[name] = self.events.get(name, 0) + count
        for name, hook in later.hooks.items():
            mine = self.hooks.setdefault(name, HookTotal())
            mine.count += hook.count
            mine.total_ns += hook.total_ns
        _merge(self.metrics, later.metrics)
        _merge(self.system, later.system)
        self.faults.extend(later.faults[: MAX_FAULTS - len(self.faults)])
        self.started = self.started or later.started
        self.ended = later.ended or self.ended
        self.first_time_ns = self.first_time_ns or later.first_time_ns
        if later.last_time_ns:
            self.last_time_ns = later.last_time_ns
            self.epoch, self.step = later.epoch, later.step


def _count(totals: dict[str, MetricTotal], name: str, value: Scalar, epoch: int, step: int) -> None:
    total = totals.get(name)
    if total is None:
        if len(totals) >= MAX_METRICS:
            return
        total = totals[name] = MetricTotal()
    total.add(value, epoch, step)


def _merge(totals: dict[str, MetricTotal], later: dict[str, MetricTotal]) -> None:
    for name, metric in later.items():
        known = totals.get(name)
        if known is not None:
            known.merge(metric)
        elif len(totals) < MAX_METRICS:
            totals[name] = copy(metric)
