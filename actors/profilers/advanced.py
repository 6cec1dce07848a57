"""AdvancedProfiler: which functions take how long in each action, by cProfile."""

import cProfile
import os
import pstats
from io import StringIO

from ...bus.errors import UsageError
from .profiler import Profiler


class AdvancedProfiler(Profiler):
    """Measures, in each hook and each action that is named, how long functions take.

    Args:
        dirpath: folder of the files; that of the run by default.
        filename: first part of the files' names; None shows the tables instead.
        line_count_restriction: how many functions a table has: a number (int), or a share (float).
        dump_stats: write each action's numbers to a file for pstats and viewers, too.

    Attributes:
        profiled_actions: action -> its cProfile.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        line_count_restriction: float = 1.0,
        dump_stats: bool = False,
    ) -> None:
        super().__init__(dirpath, filename)
        self.line_count_restriction, self.dump_stats = line_count_restriction, dump_stats
        self.profiled_actions: dict[str, cProfile.Profile] = {}
        self._running: list[str] = []  # the last one is measured: Python has one profiler at a time

    def start(self, action_name: str) -> None:
        """Begin an action; what it does is not counted for the action around it."""
        if self._running:
            self.profiled_actions[self._running[-1]].disable()
        self._running.append(action_name)
        self.profiled_actions.setdefault(action_name, cProfile.Profile()).enable()

    def stop(self, action_name: str) -> None:
        """End an action.

        Raises:
            UsageError: it is not the one that began last.
        """
        if not self._running or self._running[-1] != action_name:
            raise UsageError(
                f"profiler.stop({action_name!r}): it is not the action that began last; "
                f"running: {', '.join(self._running) or 'none'}"
            )
        self.profiled_actions[self._running.pop()].disable()
        if self._running:
            self.profiled_actions[self._running[-1]].enable()

    def summary(self) -> str:
        """Return a table of functions for each action."""
        parts = []
        for name, profile in self.profiled_actions.items():
            text = StringIO()
            stats = pstats.Stats(profile, stream=text).strip_dirs().sort_stats("cumulative")
            stats.print_stats(self.line_count_restriction)
            parts.append(f"{name}\n{text.getvalue().rstrip()}")
            if self.dump_stats:
                stats.dump_stats(self.path_of("prof", name))
        return "\n\n".join(parts)

    def __getstate__(self) -> dict[str, object]:
        """Leave out what was measured, which cannot be copied."""
        return {**super().__getstate__(), "profiled_actions": {}, "_running": []}
