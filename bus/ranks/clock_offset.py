"""How far a rank's clock is from that of rank 0: asked many times, and taken from the quickest."""

from typing import NamedTuple

from .messages import Ping, Pong

ROUNDS = 50
_MAX_ROUND_TRIP_NS = 10_000_000_000


class Offset(NamedTuple):
    """What is to be added to this rank's clock to have that of rank 0.

    Attributes:
        offset_ns: the offset.
        bound_ns: how wrong it can be: half of the round trip, all of which may have been one way.
    """

    offset_ns: int
    bound_ns: int


class ClockExchange:
    """Asks rank 0 for its time, one question after the answer to the last."""

    def __init__(self) -> None:
        self._rounds = 0
        self._asked_ns = -1
        self._best: Offset | None = None

    def begin(self, now_ns: int) -> Ping:
        """Return the first question.

        Args:
            now_ns: this rank's clock.
        """
        self._rounds, self._best = 0, None
        return self._ask(now_ns)

    def _ask(self, now_ns: int) -> Ping:
        self._asked_ns = now_ns
        return Ping(now_ns)

    def hear(self, pong: Pong, now_ns: int) -> Ping | Offset | None:
        """Take an answer.

        Args:
            pong: the answer.
            now_ns: this rank's clock, read as soon as it came.

        Returns:
            The next question; the offset after the last; None for an answer to nothing.
        """
        took_ns = now_ns - pong.sent_ns
        if pong.sent_ns != self._asked_ns or not 0 <= took_ns < _MAX_ROUND_TRIP_NS:
            return None
        bound_ns = (took_ns + 1) // 2
        if self._best is None or bound_ns < self._best.bound_ns:
            self._best = Offset(pong.desk_ns - (pong.sent_ns + now_ns) // 2, bound_ns)
        self._rounds += 1
        if self._rounds < ROUNDS:
            return self._ask(now_ns)
        self._asked_ns = -1
        return self._best
