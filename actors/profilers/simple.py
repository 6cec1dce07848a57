"""SimpleProfiler: how often actions run, and how long they take."""

import os
from array import array
from collections import defaultdict
from typing import Any

from ...bus.clock import monotonic
from ...bus.errors import UsageError
from .profiler import Profiler


class SimpleProfiler(Profiler):
    """Measures how long each hook, and each action that is named, takes.

    Args:
        dirpath: folder of the files; that of the run by default.
        filename: first part of the files' names; None shows the table instead.
        extended: the table has the number of calls, the total and the share, too.

    Attributes:
        recorded_durations: action -> how long each of its calls took, in s.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        extended: bool = True,
    ) -> None:
        super().__init__(dirpath, filename)
        self.extended = extended
        self.recorded_durations: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self._began_s: dict[str, float] = {}
        self._made_s = monotonic()

    def start(self, action_name: str) -> None:
        """Begin an action.

        Raises:
            UsageError: it has begun already.
        """
        if action_name in self._began_s:
            raise UsageError(
                f"profiler.start({action_name!r}): it has begun already; stop it first"
            )
        self._began_s[action_name] = monotonic()

    def stop(self, action_name: str) -> None:
        """End an action.

        Raises:
            UsageError: it has not begun.
        """
        ended_s = monotonic()
        if action_name not in self._began_s:
            raise UsageError(f"profiler.stop({action_name!r}): it has not begun; start it first")
        self.recorded_durations[action_name].append(ended_s - self._began_s.pop(action_name))

    def summary(self) -> str:
        """Return a table of the actions, those that take longest first."""
        if not self.recorded_durations:
            return ""
        whole_s = monotonic() - self._made_s
        totals = {name: sum(each) for name, each in self.recorded_durations.items()}
        width = max(map(len, totals))
        heading = f"{'action':{width}}  {'mean (s)':>12}"
        lines = [
            f"{heading}  {'calls':>9}  {'total (s)':>12}  {'%':>6}" if self.extended else heading
        ]
        for name in sorted(totals, key=lambda name: -totals[name]):
            total_s, calls = totals[name], len(self.recorded_durations[name])
            line = f"{name:{width}}  {total_s / calls:12.6f}"
            if self.extended:
                line += f"  {calls:9}  {total_s:12.6f}  {100 * total_s / whole_s:6.2f}"
            lines.append(line)
        return "\n".join(lines)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out actions that have begun, and what a pickle cannot hold."""
        recorded = dict(self.recorded_durations)
        return {**super().__getstate__(), "recorded_durations": recorded, "_began_s": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        recorded = state.pop("recorded_durations")
        vars(self).update(state)
        self.recorded_durations = defaultdict(lambda: array("d"), recorded)
