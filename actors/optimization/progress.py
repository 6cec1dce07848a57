"""Progress: counters of a loop's iterations, saved in checkpoints.

``ready``: an iteration was begun; ``started``: its start hooks ran; ``processed``: its work is
done; ``completed``: its end hooks ran. Counting starts at 0, so during the first iteration
``ready`` is 1 and ``completed`` 0.
"""

from collections.abc import Mapping
from typing import Any


class Counts:
    """Four counters.

    Args:
        ready: iterations begun.
        started: iterations whose start hooks ran.
        processed: iterations whose work is done.
        completed: iterations whose end hooks ran.
    """

    __slots__ = ("completed", "processed", "ready", "started")

    def __init__(
        self, ready: int = 0, started: int = 0, processed: int = 0, completed: int = 0
    ) -> None:
        self.ready = ready
        self.started = started
        self.processed = processed
        self.completed = completed

    def state_dict(self) -> dict[str, int]:
        """Return the counters as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counts) and self.state_dict() == other.state_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Counts({', '.join(f'{k}={v}' for k, v in self.state_dict().items())})"


class Progress:
    """A loop's counters: over the whole run, and in the current run of the loop.

    Attributes:
        total: counts since training began; loops add only to these.
    """

    __slots__ = ("_base", "total")

    def __init__(self) -> None:
        self.total = Counts()
        self._base = Counts()

    @property
    def current(self) -> Counts:
        """Counts since the last ``begin``."""
        total, base = self.total, self._base
        return Counts(
            total.ready - base.ready,
            total.started - base.started,
            total.processed - base.processed,
            total.completed - base.completed,
        )

    def begin(self) -> None:
        """Start a new current count."""
        self._base = Counts(**self.total.state_dict())

    def begin_interrupted(self) -> None:
        """Begin again the iteration that was begun but not completed."""
        completed = self.total.completed
        self.total = Counts(completed, completed, completed, completed)

    def complete(self, iterations: int) -> None:
        """Set the number of completed iterations of the current run of the loop."""
        done = self._base.completed + iterations
        self.total = Counts(done, done, done, done)
        base = self._base.completed
        self._base = Counts(base, base, base, base)

    def state_dict(self) -> dict[str, dict[str, int]]:
        """Return the counters as plain data."""
        return {"total": self.total.state_dict(), "current": self.current.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Mapping[str, int]]) -> None:
        """Restore counters."""
        self.total = Counts(**state_dict["total"])
        current = state_dict["current"]
        self._base = Counts(
            **{name: state_dict["total"][name] - current[name] for name in Counts.__slots__}
        )


class OptimizationProgress:
    """Counts of what was done to the optimizers of a run, whichever loops do it.

    Attributes:
        step: optimizer steps, of all optimizers together; ``step.total.completed`` is the
            trainer's ``global_step``.
        zero_grad: number of times that gradients were cleared.
        scheduler_step: number of times that schedulers advanced.
        steps_by_optimizer: completed steps of each optimizer.
    """

    __slots__ = ("scheduler_step", "step", "steps_by_optimizer", "zero_grad")

    def __init__(self) -> None:
        self.step = Progress()
        self.zero_grad = Progress()
        self.scheduler_step = Progress()
        self.steps_by_optimizer: list[int] = []

    def begin(self, num_optimizers: int) -> None:
        """Prepare for a run with some number of optimizers; earlier counts stay."""
        for progress in (self.step, self.zero_grad, self.scheduler_step):
            progress.begin_interrupted()
            progress.begin()
        missing = num_optimizers - len(self.steps_by_optimizer)
        self.steps_by_optimizer = [*self.steps_by_optimizer, *[0] * missing]

    def begin_at(self, steps: int) -> None:
        """Continue after some steps, of which the optimizers are unknown."""
        self.step.complete(steps)
        if self.steps_by_optimizer:
            self.steps_by_optimizer[0] = steps

    def state_dict(self) -> dict[str, Any]:
        """Return the counters as plain data."""
        return {
            "step": self.step.state_dict(),
            "zero_grad": self.zero_grad.state_dict(),
            "scheduler_step": self.scheduler_step.state_dict(),
            "steps_by_optimizer": list(self.steps_by_optimizer),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore counters."""
        self.step.load_state_dict(state_dict["step"])
        self.zero_grad.load_state_dict(state_dict["zero_grad"])
        self.scheduler_step.load_state_dict(state_dict["scheduler_step"])
        self.steps_by_optimizer = list(state_dict["steps_by_optimizer"])
