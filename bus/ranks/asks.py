"""The asks that wait for a point: which of them are one, and which overrule others.

Asks of one kind are one: the first stands, with its payload. Two Ctrl-C's stop a run once. If the
first has a point already, an ask is one with it as long as its own rank has not done with that
point: it is acted on there, after it was asked. An ask of a later run is none with those before it,
which came too late for theirs.

Some asks overrule others that wait with them, so that what is acted on at one point makes sense:

- Pause and Resume: the later takes the place of the earlier. It is what was wished for last.
- Stop and Pause: Stop takes the place of Pause, whichever came first. A run that is to end would
  only be held up until someone resumes it. A Pause that comes when Stop has a point already gets a
  later one: with min_epochs or min_steps the run may go on after Stop.
"""

from collections.abc import Iterable, Iterator

from .messages import MAX_ASKS, Ask

STOP, PAUSE, RESUME = "nightbus.Stop", "nightbus.Pause", "nightbus.Resume"
_TAKES_THE_PLACE_OF = {STOP: PAUSE, PAUSE: RESUME, RESUME: PAUSE}
_IS_NOT_ADDED_TO = {PAUSE: STOP}
MAX_REMEMBERED = 64  # kinds; an ask of a kind whose point was forgotten is acted on once more


class Asks:
    """The asks that wait for a point, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: dict[str, Ask] = {}
        self._points: dict[str, int] = {}  # of a kind: that of its last proposal, if not dropped
        self._run = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Ask]:
        return iter(tuple(self._waiting.values()))

    def add(self, ask: Ask) -> None:
        """Add an ask, unless it is one with an earlier one or overruled."""
        if ask.run < self._run:
            return
        if ask.run > self._run:
            self._run, self._waiting, self._points = ask.run, {}, {}
        if ask.point < self._points.get(ask.kind, 0):  # it may be older than what waits
            return
        if _IS_NOT_ADDED_TO.get(ask.kind) in self._waiting:
            return
        opposite = _TAKES_THE_PLACE_OF.get(ask.kind, "")
        self._waiting.pop(opposite, None)
        self._points.pop(opposite, None)  # after Pause, Resume another Pause is a new one
        self._waiting.setdefault(ask.kind, ask)

    def take(self, point: int) -> tuple[Ask, ...]:
        """Return the asks to propose a point for, which no longer wait, at most MAX_ASKS."""
        taken = tuple(self._waiting.values())[:MAX_ASKS]
        for ask in taken:
            del self._waiting[ask.kind]
            self._points.pop(ask.kind, None)
            self._points[ask.kind] = point
        while len(self._points) > MAX_REMEMBERED:
            del self._points[next(iter(self._points))]
        return taken

    def put_back(self, asks: Iterable[Ask]) -> None:
        """Have asks wait again, before all others, because their proposal was dropped."""
        later = tuple(self._waiting.values())
        self._waiting = {}
        for ask in asks:
            self._points.pop(ask.kind, None)
            self.add(ask)
        for ask in later:
            self.add(ask)
