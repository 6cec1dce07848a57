"""Who wants the run to stop, so that one may think better of it while others do not."""


class StopRequests:
    """Requests to stop, which are honoured once min_epochs and min_steps are reached.

    Attributes:
        any: whether there are any; loops look at it after each step.
        reason: why, for the log: that of the request that came first.
    """

    def __init__(self) -> None:
        self.any = False
        self.reason = ""
        self._by: dict[object, str] = {}

    def add(self, who: object, reason: str) -> None:
        """Ask for a stop, or say another reason for it."""
        former = self._by.get(who, "")
        self._by[who] = reason
        self.any = True
        if self.reason in ("", former):
            self.reason = reason

    def withdraw(self, who: object) -> None:
        """Take back what ``who`` asked for, if anything."""
        if who not in self._by:
            return
        former = self._by.pop(who)
        self.any = bool(self._by)
        if self.reason == former:
            self.reason = next(iter(self._by.values()), "")

    def clear(self) -> None:
        """Take everything back."""
        for who in list(self._by):
            self.withdraw(who)
