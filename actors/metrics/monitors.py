"""What results hold to be monitored: ``early_stop_on`` and ``checkpoint_on``."""

from collections.abc import Iterator, Mapping
from typing import Any

from ...bus.events import Scalar
from .metric_values import to_scalar
from .reduction import Reduction
from .results import Result


class Monitors:
    """Gathers the monitored values of an epoch. A choice that validation made stays, whatever
    training says.
    """

    def __init__(self) -> None:
        self._reductions: dict[tuple[str, str], Reduction] = {}  # by kind of stage and name
        self._chosen_in_evaluation: set[str] = set()

    def add(self, stage: str, result: Result, size: int) -> None:
        """Take in what a result holds.

        Args:
            stage: where it comes from.
            result: of a batch or an epoch.
            size: its weight.
        """
        kind = "train" if stage == "train" else "evaluation"
        for name, value in result.monitors():
            reduction = self._reductions.setdefault((kind, name), Reduction("mean"))
            reduction.add(to_scalar(name, value), size)

    def take(self, stage: str, is_choice: bool) -> Iterator[tuple[str, Scalar]]:
        """The epoch's values, by name; the next epoch begins anew.

        Args:
            stage: whose epoch ends.
            is_choice: whether evaluation chooses by it; the sanity check does not.
        """
        kind = "train" if stage == "train" else "evaluation"
        for name in ("early_stop_on", "checkpoint_on"):
            reduction = self._reductions.pop((kind, name), None)
            if reduction is None or (kind == "train" and name in self._chosen_in_evaluation):
                continue
            if kind == "evaluation" and is_choice:
                self._chosen_in_evaluation.add(name)
            yield name, reduction.compute()

    def drop(self) -> None:
        """Forget what was gathered; a choice stays."""
        self._reductions.clear()

    def state_dict(self) -> dict[str, Any]:
        """What the training epoch has gathered so far: plain data."""
        return {
            "monitors": {
                name: reduction.state_dict()
                for (kind, name), reduction in self._reductions.items()
                if kind == "train"
            },
            "chosen_in_evaluation": sorted(self._chosen_in_evaluation),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        for name, saved in state_dict["monitors"].items():
            reduction = self._reductions["train", name] = Reduction("mean")
            reduction.load_state_dict(saved)
        self._chosen_in_evaluation = set(state_dict["chosen_in_evaluation"])
