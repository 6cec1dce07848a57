"""What reads the log of a run, live or in replay: no model, no data."""

import json
import statistics
from typing import Any, NamedTuple

import torch

import nightbus as nb
from examples.event_classification.kpis import times_to_prediction
from examples.event_classification.results import Showing


class Times(NamedTuple):
    """Times to prediction in one validation.

    Attributes:
        step: of the training.
        times_us: of each showing.
        never_right: share of the showings.
    """

    step: int
    times_us: list[int]
    never_right: float

    @property
    def mean_ms(self) -> float:
        """Mean time to prediction, in ms."""
        return statistics.fmean(self.times_us) / 1000

    @property
    def median_ms(self) -> float:
        """Median time to prediction, in ms."""
        return statistics.median(self.times_us) / 1000


class TimesFromTheLog(nb.Sink):
    """Computes times to prediction again from the tables of predictions in the log.

    Args:
        stage: ``val`` or ``test``.
    """

    events = (nb.Media,)

    def __init__(self, stage: str = "val") -> None:
        self._table = f"{stage}_predictions"
        self._showings: dict[int, list[tuple[Showing, int]]] = {}  # by step, each with its bin

    def write(self, batch: list[nb.Media]) -> None:
        """Take the tables among some media."""
        for media in batch:
            if media.name == self._table:
                rows = json.loads(media.data)["rows"]
                self._showings.setdefault(media.step, []).extend(map(_showing, rows))

    def times(self) -> list[Times]:
        """Return the times of each validation, in their order."""
        found = []
        for step, some in self._showings.items():
            times_us = [times_to_prediction([each], delta_t)[0] for each, delta_t in some]
            never = statistics.fmean(each.is_never_right for each, _ in some)
            found.append(Times(step, times_us, never))
        return found


def _showing(row: list[Any]) -> tuple[Showing, int]:
    name, track_id, true, predicted, delta_t = row
    preds = torch.tensor([int(word) for word in predicted.split()])
    return Showing(name, track_id, preds, torch.full_like(preds, true)), delta_t


class RightSoonEnough(nb.Actor):
    """Stops training once the mean time to prediction of a validation is short enough.

    A showing that is never right counts with the time of its last bin, so a constant prediction is
    slow. It reads the log, and can be asked of a recorded run when it would have stopped it.

    Args:
        limit_ms: the mean time to prediction to be below, in ms.
        never_right: the share of showings never predicted right to be at most.

    Attributes:
        seen: step, mean time in ms and share never right of each validation.
    """

    def __init__(self, limit_ms: float, never_right: float = 0.05) -> None:
        self.limit_ms = limit_ms
        self.never_right = never_right
        self.seen: list[tuple[int, float, float]] = []
        self._time_ms: dict[int, float] = {}  # by step, until both values are there
        self._never: dict[int, float] = {}

    @nb.on(nb.Put, name="val_time_to_prediction_ms")
    async def take_time(self, put: nb.Put) -> None:
        """Take the mean time to prediction of a validation."""
        self._time_ms[put.step] = put.value
        await self._check(put.step)

    @nb.on(nb.Put, name="val_never_right")
    async def take_never_right(self, put: nb.Put) -> None:
        """Take the share of showings never right in a validation."""
        self._never[put.step] = put.value
        await self._check(put.step)

    async def _check(self, step: int) -> None:
        if step not in self._time_ms or step not in self._never:
            return
        time_ms, never = self._time_ms.pop(step), self._never.pop(step)
        self.seen.append((step, time_ms, never))
        if time_ms < self.limit_ms and never <= self.never_right:
            await self.tell("fit", nb.Stop(reason=f"right after {time_ms:.0f} ms"))
