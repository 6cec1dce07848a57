"""Groups puts into rows, one row for each step."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from ..bus.events import Put, Scalar
from ..bus.runs.cursor import PlainState


class StepRow(NamedTuple):
    """The puts of one step.

    Attributes:
        epoch, step: the place in training.
        wall_ns: when the first was put, in ns since 1970.
        values: name -> value.
    """

    epoch: int
    step: int
    wall_ns: int
    values: dict[str, Scalar]


def is_extreme(row: StepRow) -> bool:
    """Return whether a row holds values that many libraries cannot.

    If so, an error is the row's fault, not the destination's.
    """
    return not -(1 << 31) <= row.step < 1 << 31 or any(
        not math.isfinite(value) or abs(value) >= 1 << 63 for value in row.values.values()
    )


class StepRows:
    """Collects puts into rows.

    A row ends where the step changes or a name comes again, so rows depend on the puts alone, not
    on how they are delivered.
    """

    def __init__(self) -> None:
        self._row: StepRow | None = None

    def add(self, put: Put, wall_ns: int) -> StepRow | None:
        """Add a put.

        Args:
            put: the next put.
            wall_ns: its wall clock, in ns since 1970.

        Returns:
            The row that it ended, or None.
        """
        row = self._row
        if row is not None and put.step == row.step and put.name not in row.values:
            row.values[put.name] = put.value
            return None
        self._row = StepRow(put.epoch, put.step, wall_ns, {put.name: put.value})
        return row

    def end(self) -> StepRow | None:
        """Return the last row, which is complete now."""
        row, self._row = self._row, None
        return row

    def state(self) -> PlainState:
        """Return the unfinished row as plain data."""
        if self._row is None:
            return {}
        epoch, step, wall_ns, values = self._row
        return {
            "row_place": [epoch, step, wall_ns],
            "row_names": list(values),
            "row_values": list(values.values()),
        }

    def load_state(self, state: PlainState) -> None:
        """Restore what ``state`` returned."""
        self._row = None
        if "row_place" in state:
            known = cast("Mapping[str, Any]", state)
            values = dict(zip(known["row_names"], known["row_values"], strict=True))
            epoch, step, wall_ns = known["row_place"]
            self._row = StepRow(epoch, step, wall_ns, values)
