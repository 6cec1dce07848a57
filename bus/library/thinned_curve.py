"""ThinnedCurve: a metric's values as they come, in bounded memory, with their extremes."""

from ..events import Scalar

MAX_POINTS = 4096  # then each two become one


class ThinnedCurve:
    """The values of a metric, thinned: of each group of values the lowest and the highest.

    Attributes:
        last: the last value.
        count, not_finite: number of all values, and of those that are not finite.
        lows, highs: of each group.
    """

    def __init__(self) -> None:
        self.last: Scalar = 0.0
        self.count = self.not_finite = 0
        self.lows: list[float] = []
        self.highs: list[float] = []
        self._group, self._in_last = 1, 0

    def add(self, value: Scalar) -> None:
        """Include the next value.

        Args:
            value: the value; of those that are not finite only their number is kept.
        """
        self.last = value
        self.count += 1
        if not -1e300 < value < 1e300:
            self.not_finite += 1
            return
        if self.lows and self._in_last < self._group:
            self.lows[-1] = min(self.lows[-1], value)
            self.highs[-1] = max(self.highs[-1], value)
            self._in_last += 1
            return
        if len(self.lows) >= MAX_POINTS:
            self.lows = [min(pair) for pair in zip(self.lows[::2], self.lows[1::2], strict=True)]
            self.highs = [max(pair) for pair in zip(self.highs[::2], self.highs[1::2], strict=True)]
            self._group *= 2
        self.lows.append(value)
        self.highs.append(value)
        self._in_last = 1
