"""Counters of what a loop has done, saved in checkpoints.

``ready``: an iteration was begun; ``started``: its start hooks ran; ``processed``: its work is
done; ``completed``: its end hooks ran. Counting starts at 0, so during the first iteration
``ready`` is 1 and ``completed`` 0.
"""

from collections.abc import Mapping


class Counts:
    """Four counters."""

    __slots__ = ("completed", "processed", "ready", "started")

    def __init__(
        self, ready: int = 0, started: int = 0, processed: int = 0, completed: int = 0
    ) -> None:
        self.ready = ready
        self.started = started
        self.processed = processed
        self.completed = completed

    def state_dict(self) -> dict[str, int]:
        """The counters as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counts) and self.state_dict() == other.state_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Counts({', '.join(f'{k}={v}' for k, v in self.state_dict().items())})"


class Progress:
    """A loop's counters: over the whole run, and in the current run of the loop.

    Attributes:
        total: since training began; loops add to these alone.
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
        """Go on with an iteration that was begun but not completed: begin it again."""
        completed = self.total.completed
        self.total = Counts(completed, completed, completed, completed)

    def state_dict(self) -> dict[str, dict[str, int]]:
        """Counters as plain data."""
        return {"total": self.total.state_dict(), "current": self.current.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Mapping[str, int]]) -> None:
        """Restore counters."""
        self.total = Counts(**state_dict["total"])
        current = state_dict["current"]
        self._base = Counts(
            **{name: state_dict["total"][name] - current[name] for name in Counts.__slots__}
        )
