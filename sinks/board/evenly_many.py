"""Evenly many of what comes one by one, without knowing how much will come."""

from typing import Generic, TypeVar

T = TypeVar("T")


class EvenlyMany(Generic[T]):
    """All of it, or of much every so many-th; always the first and the last.

    Args:
        most: so many are kept.

    Attributes:
        kept: what is kept, as it came.
    """

    def __init__(self, most: int) -> None:
        self.kept: list[T] = []
        self._most = most
        self._every, self._passed = 1, 0
        self._is_last_extra = False  # it is there only because it is the last

    def add(self, item: T) -> None:
        """Add what came.

        Args:
            item: it.
        """
        if self._is_last_extra:
            self.kept.pop()
        self.kept.append(item)
        self._is_last_extra = self._passed % self._every != 0
        if len(self.kept) > self._most:
            self._every *= 2
            self.kept = self.kept[:-1:2] if self._is_last_extra else self.kept[::2]
            self._is_last_extra = self._passed % self._every != 0
            if self._is_last_extra:
                self.kept.append(item)
        self._passed += 1
