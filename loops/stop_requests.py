"""StopRequests: requests to stop the run, which can be withdrawn one by one."""

from collections.abc import Callable


class StopRequests:
    """Requests to stop, which take effect once min_epochs and min_steps are reached.

    Attributes:
        any: there are requests; loops check it after each step.
        reason: the reason of the first request, for the log.
        share: has all ranks take a request at the same safe point, with its reason, or withdraw all
            requests, with None; None if this process trains alone.
        shared: the reason of a request of this rank that not all ranks have taken yet; None if
            there is none.
    """

    def __init__(self) -> None:
        self.any = False
        self.reason = ""
        self.share: Callable[[str | None], None] | None = None
        self.shared: str | None = None
        self._by: dict[object, str] = {}

    @property
    def any_here(self) -> bool:
        """Whether there are requests, or one of this rank that not all ranks have taken yet."""
        return self.any or self.shared is not None

    def request(self, who: object, reason: str) -> None:
        """Request a stop that this rank may have decided on by itself, so that all have to agree.

        Args:
            who: the requester.
            reason: why, for the log.
        """
        if self.share is None:
            self.add(who, reason)
        elif self.shared is None:
            self.shared = reason
            self.share(reason)

    def add(self, who: object, reason: str) -> None:
        """Request a stop, or change the reason of one's request.

        Args:
            who: the requester.
            reason: why, for the log.
        """
        self.shared = None
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

    def withdraw_all(self) -> None:
        """Have all ranks withdraw all requests."""
        if self.share is None:
            self.clear()
        else:
            self.share(None)

    def clear(self) -> None:
        """Withdraw all requests on this rank."""
        self.shared = None
        for who in list(self._by):
            self.withdraw(who)
