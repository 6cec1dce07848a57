"""Copies and pickles of a trainer, which have the trainer's state but no open run."""

import copy
from abc import abstractmethod
from typing import Any, Self

from ..loops import OptimizationProgress
from .parts import TrainerParts

_PARTS = (
    "group",
    "state",
    "collectives",
    "place",
    "bus",
    "routes",
    "metrics",
    "predictions",
    "optimization",
    "wiring",
    "checkpointer",
    "enrolment",
    "safe_points",
    "for_loggers",
    "running_loss",
    "open_run",
)
"""Parts that a copy makes again, because they know a run."""
_LOOPS = ("_fit_loop", "validate_loop", "test_loop", "predict_loop")


class TrainerCopies(TrainerParts):
    """Defines what copies and pickles of a trainer contain.

    Copies have the trainer's arguments, participants, module, datamodule, loops with their
    counters, and latest metrics. They have no optimizers, which belong to a run, and no
    dataloaders. A copy made during a run begins a run of its own.
    """

    @abstractmethod
    def _make_parts(
        self, log_every_n_steps: int, max_media_bytes: int, progress: OptimizationProgress
    ) -> None:
        """Make the parts of the trainer."""

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name not in _PARTS}
        metrics = self.metrics
        state["_made_with"] = metrics.log_every_n_steps, metrics.max_media_bytes
        state["_latest"] = metrics.latest()
        if self.open_run is not None:
            state |= {"run_folder": None, "attempt": -1}
            state |= {"should_stop": False, "stop_reason": "", "paused": False}
            state |= {"interrupted": False, "is_training_under_way": False}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        (log_every_n_steps, max_media_bytes), latest = state.pop("_made_with"), state.pop("_latest")
        progress = state["optimization_progress"]
        vars(self).update(state)
        self._make_parts(log_every_n_steps, max_media_bytes, progress)
        vars(self).update(open_run=None, running_loss=None)
        self.metrics.take_latest(latest)
        for name in _LOOPS:
            loop = getattr(self, name)
            if hasattr(loop, "attach"):
                loop.attach(self)
        self.find_epoch_counter()

    def __copy__(self) -> Self:
        """Copy the trainer with its loops: a loop belongs to one trainer, so it is copied too."""
        state = dict(self.__getstate__())
        mine = {name: state[name] for name in (*_LOOPS, "optimization_progress", "participants")}
        shared = {id(entry): entry for entry in self.participants.beside_module}
        twin = type(self).__new__(type(self))
        twin.__setstate__({**state, **copy.deepcopy(mine, {**shared, id(self): twin})})
        return twin
