"""The values of metrics as arrays."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UsageError
from ..inspection.metric_series import Curve, read_curves
from ..runs.run_folder import RunFolder

if TYPE_CHECKING:
    import numpy as np

MAX_NAMED = 10


class Series(NamedTuple):
    """All values of one metric, none left out, in the order in which they were put.

    Attributes:
        name: the metric.
        steps: optimizer steps completed, int64 of shape (n).
        epochs: epochs completed, int64 of shape (n).
        times: seconds since the run began, float64 of shape (n).
        walls: seconds since 1970, float64 of shape (n).
        values: float64 of shape (n); NaN and infinities are kept.
    """

    name: str
    steps: "np.ndarray[Any, Any]"
    epochs: "np.ndarray[Any, Any]"
    times: "np.ndarray[Any, Any]"
    walls: "np.ndarray[Any, Any]"
    values: "np.ndarray[Any, Any]"

    def __repr__(self) -> str:
        """Return the metric's name, number of values, and the last of them."""
        last = f", last {self.values[-1]:.6g} at step {self.steps[-1]}" if len(self.values) else ""
        return f"<Series {self.name}: {len(self.values)} values{last}>"


class MetricSeries(Mapping[str, Series]):
    """The metrics of a run by name, read from its log when the first is asked for.

    Args:
        run: the run.
        rank: of which process.
        system: what the process and its machine used, instead of metrics.
    """

    def __init__(self, run: RunFolder, rank: int = 0, system: bool = False) -> None:
        self._run, self._rank, self._system = run, rank, system
        self._curves: dict[str, Curve] | None = None
        self.problems: list[str] = []

    def curves(self) -> dict[str, Curve]:
        """Return the same as curves, which need no NumPy."""
        if self._curves is None:
            self._curves = read_curves(
                self._run, rank=self._rank, problems=self.problems, system=self._system
            )
        return self._curves

    def __getitem__(self, name: str) -> Series:
        """Return a metric's values.

        Raises:
            UnknownMetricError: the run has no metric of this name.
        """
        if (curve := self.curves().get(name)) is None:
            raise UnknownMetricError(_unknown(name, list(self.curves())))
        import numpy as np

        columns = (curve.steps, curve.epochs, curve.times, curve.walls, curve.values)
        types = (np.int64, np.int64, np.float64, np.float64, np.float64)
        arrays = [np.array(column, kind) for column, kind in zip(columns, types, strict=True)]
        return Series(name, *arrays)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in the order in which they first appear."""
        return iter(self.curves())

    def __len__(self) -> int:
        """Return the number of metrics."""
        return len(self.curves())

    def __contains__(self, name: object) -> bool:
        """Return whether the run has a metric of this name."""
        return name in self.curves()

    def __repr__(self) -> str:
        """Return the names."""
        return f"<metrics of {self._run.info.id}: {', '.join(self)}>"


class UnknownMetricError(UsageError, KeyError):
    """A run has no metric of this name."""

    __str__ = Exception.__str__  # KeyError would put it in quotes


def _unknown(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names) or names[:MAX_NAMED]
    there = f"it has {', '.join(near)}" if near else "it has none"
    more = " and others" if len(names) > len(near) else ""
    return f"the run has no metric {name!r}; {there}{more}"
