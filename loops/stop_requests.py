"""StopRequests: requests to stop the run, which can be withdrawn one by one."""


class StopRequests:
    """Requests to stop, which take effect once min_epochs and min_steps are reached.

    Attributes:
        any: there are requests; loops check it after each step.
        reason: the reason of the first request, for the log.
    """

    def __init__(self) -> None:
        self.any = False
        self.reason = ""
        self._by: dict[object, str] = {}

    def add(self, who: object, reason: str) -> None:
        """Request a stop, or change the reason of one's request.

        Args:
            who: the requester.
            reason: why, for the log.
        """
        former = self._by.get(who, "")
        self._by[who] = reason
        self.any = True
        if self.reason in ("", former):
            self.reason = reason

    def withdraw(self, who: object) -> None:
        """Withdraw the request of ``who``, if any."""
        if who not in self._by:
            return
        former = self._by.pop(who)
        self.any = bool(self._by)
        if self.reason == former:
            self.reason = next(iter(self._by.values()), "")

    def clear(self) -> None:
        """Withdraw all requests."""
        for who in list(self._by):
            self.withdraw(who)
