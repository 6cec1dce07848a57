"""Monitors: values of ``early_stop_on`` and ``checkpoint_on`` in results."""

from collections.abc import Mapping
from typing import Any

from .reduction import Reduction
from .results import Result
from .values import to_scalar


class Monitors:
    """Gathers the monitored values of an epoch.

    Once validation has provided a value, values of training do not replace it.
    """

    def __init__(self) -> None:
        self._reductions: dict[tuple[str, str], Reduction] = {}  # (kind of stage, name) -> values
        self._chosen_in_evaluation: set[str] = set()

    def add(self, stage: str, result: Result, size: int) -> None:
        """Add the values of a result.

        Args:
            stage: the stage of the result.
            result: of a batch or an epoch.
            size: its weight.
        """
        kind = "train" if stage == "train" else "evaluation"
        for name, value in result.monitors():
            reduction = self._reductions.setdefault((kind, name), Reduction("mean"))
            reduction.add(to_scalar(name, value), size)

    def end(self, stage: str, is_choice: bool) -> dict[str, Reduction]:
        """Return the epoch's reductions by name, and start over.

        Args:
            stage: the stage whose epoch ends.
            is_choice: an evaluation's values take precedence; not those of the sanity check.
        """
        kind = "train" if stage == "train" else "evaluation"
        found = {}
        for name in ("early_stop_on", "checkpoint_on"):
            reduction = self._reductions.pop((kind, name), None)
            if reduction is None or (kind == "train" and name in self._chosen_in_evaluation):
                continue
            if kind == "evaluation" and is_choice:
                self._chosen_in_evaluation.add(name)
            found[name] = reduction
        return found

    def drop(self) -> None:
        """Drop the gathered values; the precedence of validation stays."""
        self._reductions.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the training epoch's values so far, as plain data."""
        return {
            "monitors": {
                name: reduction.state_dict()
                for (kind, name), reduction in self._reductions.items()
                if kind == "train"
            },
            "chosen_in_evaluation": sorted(self._chosen_in_evaluation),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        for name, saved in state_dict["monitors"].items():
            reduction = self._reductions["train", name] = Reduction("mean")
            reduction.load_state_dict(saved)
        self._chosen_in_evaluation = set(state_dict["chosen_in_evaluation"])
