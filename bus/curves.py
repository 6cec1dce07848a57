"""A run's metrics as curves."""

import math
from array import array
from collections.abc import Collection
from typing import NamedTuple

from .cursor import attempt_logs
from .events import Fork, Put, RunStarted
from .log_reader import LogReader
from .run_folder import RunFolder


class Curve:
    """One metric of a run, point by point.

    Attributes:
        steps: optimizer steps.
        times: seconds since the run began, pauses between attempts included.
        values: what was put; NaN and infinities are among them.
    """

    def __init__(self) -> None:
        self.steps = array("q")
        self.times = array("d")
        self.values = array("d")

    def __len__(self) -> int:
        return len(self.values)


class _Point(NamedTuple):
    attempt: int
    seq: int


class _Recorded:
    """A curve, and where its points were recorded."""

    def __init__(self) -> None:
        self.curve = Curve()
        self.origins: list[_Point] = []

    def drop_after(self, fork: Fork) -> None:
        """Drop what was recorded after a checkpoint from which the run went on."""
        last = _Point(fork.attempt, fork.seq)
        while self.origins and self.origins[-1] > last:
            self.origins.pop()
            for column in (self.curve.steps, self.curve.times, self.curve.values):
                column.pop()


def read_curves(run: RunFolder, metrics: Collection[str] = (), rank: int = 0) -> dict[str, Curve]:
    """Curves of a run, in the order in which metrics first appear. Where an attempt was resumed
    from a checkpoint, it takes the place of what came after that checkpoint.

    Args:
        run: the run.
        metrics: only these; all if none are named.
        rank: of which process.
    """
    found: dict[str, _Recorded] = {}
    began_ns: int | None = None
    for log in attempt_logs(run, rank):
        reader = LogReader(log.store)
        offset_ns = 0
        for event in reader.events(hooks="none"):
            if type(event) is Put:
                if metrics and event.name not in metrics:
                    continue
                recorded = found.get(event.name)
                if recorded is None:
                    recorded = found[event.name] = _Recorded()
                curve = recorded.curve
                curve.steps.append(event.step)
                curve.times.append((event.time_ns + offset_ns) / 1e9)
                curve.values.append(event.value)
                recorded.origins.append(_Point(log.attempt, event.seq))
            elif type(event) is RunStarted:
                wall_offset_ns = event.wall_ns - event.time_ns
                if began_ns is None:
                    began_ns = event.wall_ns
                offset_ns = wall_offset_ns - began_ns
                if event.fork is not None:
                    for recorded in found.values():
                        recorded.drop_after(event.fork)
        reader.close()
    return {name: recorded.curve for name, recorded in found.items() if len(recorded.curve)}


def thinned(curve: Curve, x: array, most: int) -> tuple[list[float], list[float]]:  # type: ignore[type-arg]
    """The finite points of a curve, at most about so many: means over stretches of it.

    Args:
        curve: the curve.
        x: its steps or times.
        most: how many points are enough.
    """
    points = [
        (at, value) for at, value in zip(x, curve.values, strict=True) if math.isfinite(value)
    ]
    stretch = max(1, math.ceil(len(points) / most))
    xs, ys = [], []
    for first in range(0, len(points), stretch):
        part = points[first : first + stretch]
        xs.append(sum(at for at, _ in part) / len(part))
        ys.append(sum(value for _, value in part) / len(part))
    return xs, ys
