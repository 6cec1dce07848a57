"""A run's metrics as series of points."""

import math
from array import array
from collections.abc import Collection, Iterable
from copy import copy

from ..errors import LogFormatError, NewerFormatError
from ..events import Event, Put, RunStarted, Scalar, SystemMetrics
from ..runs.cursor import RunReader, attempt_logs
from ..runs.lineage import consistent_logs
from ..runs.run_folder import RunFolder

LARGEST = 1e300
_LAST_STEP = (1 << 63) - 1  # the largest number that an array of steps holds


class Curve:
    """One metric of a run, point by point.

    Attributes:
        steps: optimizer steps completed.
        epochs: epochs completed.
        times: seconds since the run began, pauses between attempts included.
        began_s: when the run began, in seconds since 1970.
        values: what was put, NaN and infinities included.
    """

    def __init__(self) -> None:
        self.steps = array("q")
        self.epochs = array("q")
        self.began_s = 0.0
        self.times = array("d")
        self.values = array("d")

    def __len__(self) -> int:
        return len(self.values)

    def with_values(self, values: Iterable[float]) -> "Curve":
        """Return the same points with other values.

        Args:
            values: as many as there are points.
        """
        curve = copy(self)
        curve.values = array("d", values)
        return curve

    def append(self, event: Event, offset_ns: int, value: Scalar) -> None:
        """Add a point.

        Args:
            event: where it was recorded.
            offset_ns: what to add to the event's time for that since the run began.
            value: its value.
        """
        self.steps.append(min(event.step, _LAST_STEP))
        self.epochs.append(min(event.epoch, _LAST_STEP))
        self.times.append((event.time_ns + offset_ns) / 1e9)
        self.values.append(value)

    @property
    def walls(self) -> "array[float]":
        """Seconds since 1970."""
        return array("d", (self.began_s + time for time in self.times))


def read_curves(
    run: RunFolder,
    metrics: Collection[str] = (),
    rank: int = 0,
    all_attempts: bool = False,
    problems: list[str] | None = None,
    system: bool = False,
) -> dict[str, Curve]:
    """Return the curves of a run, in the order in which metrics first appear.

    Args:
        run: the run.
        metrics: only these; all if empty.
        rank: of which process.
        all_attempts: also return superseded values.
        problems: collects what cannot be read, a line each; what comes before it is returned.
        system: what the process and its machine used, instead of metrics.

    Returns:
        Metric -> curve.

    Raises:
        LogFormatError: the log is damaged, and ``problems`` is not given; or nothing can be read.
        NewerFormatError: the log is from a newer major version.
    """
    found: dict[str, Curve] = {}
    wanted = SystemMetrics if system else Put
    began_ns: int | None = None
    offset_ns = 0
    reader = RunReader(attempt_logs(run, rank) if all_attempts else consistent_logs(run, rank))
    try:
        for event in reader.events(hooks="none"):
            if type(event) is wanted:
                for name, value in _values(event):
                    if not metrics or name in metrics:
                        found.setdefault(name, Curve()).append(event, offset_ns, value)
            elif type(event) is RunStarted:
                if began_ns is None:
                    began_ns = event.wall_ns
                offset_ns = event.wall_ns - event.time_ns - began_ns
    except NewerFormatError:
        raise
    except LogFormatError as error:
        if problems is None or not found:
            raise
        problems.append(str(error))
    finally:
        reader.close()
    for curve in found.values():
        curve.began_s = (began_ns or 0) / 1e9
    return found


def _values(event: Put | SystemMetrics) -> Iterable[tuple[str, Scalar]]:
    return (
        event.values.items() if isinstance(event, SystemMetrics) else ((event.name, event.value),)
    )


def thinned(curve: Curve, x: array, most: int) -> tuple[list[float], list[float]]:  # type: ignore[type-arg]
    """Return the finite points of a curve, reduced to about ``most`` by taking means.

    Values beyond ``LARGEST`` are drawn there, so that differences of two are finite.

    Args:
        curve: the curve.
        x: its steps or times.
        most: how many points are enough.

    Returns:
        The x and y of the points.
    """
    points = [
        (at, min(max(value, -LARGEST), LARGEST))
        for at, value in zip(x, curve.values, strict=True)
        if math.isfinite(value)
    ]
    stretch = max(1, math.ceil(len(points) / most))
    xs, ys = [], []
    for first in range(0, len(points), stretch):
        part = points[first : first + stretch]
        xs.append(sum(at for at, _ in part) / len(part))
        ys.append(sum(value for _, value in part) / len(part))
    return xs, ys
