"""BusMonitor: shows what the bus is doing while training runs."""

import math

import trio

from ..bus.actor import Actor
from ..bus.errors import UsageError
from ..bus.statistics import BusStatistics
from ..bus.system.streams import notify_user

HEADER = ("actor", "state", "events", "lag", "restarts", "faults")
MAIL_HEADER = ("commands", "waiting", "dropped", "dead")


class BusMonitor(Actor):
    """Shows regularly how far sinks and actors are behind training, and what failed.

    Pass it to ``Trainer(actors=[...])``, or attach it to a running run with ``trainer.attach``. It
    works on the bus thread, so training is not slowed.

    Args:
        every_s: seconds between two reports; there is one more when the run ends.
        show: print a table to stderr.
        log: put the numbers as metrics for loggers: ``bus/lag/csv`` is the number of events that
            the actor ``csv`` has not passed, ``bus/waiting/csv`` the number of commands that wait
            for it; ``bus/events``, ``bus/lost_events`` and ``bus/dead_letters`` count for the run.

    Raises:
        UsageError: an argument is wrong.
    """

    poll_interval_s = 0.25

    def __init__(self, every_s: float = 10.0, *, show: bool = True, log: bool = False) -> None:
        if isinstance(every_s, bool) or not 0 < every_s < math.inf:
            raise UsageError(f"BusMonitor(every_s={every_s!r}): expected seconds, more than 0")
        if not (show or log):
            raise UsageError("BusMonitor(show=False, log=False) would do nothing; set one of them")
        self.every_s = every_s
        self._show = show
        self._log = log
        self._due_s = 0.0
        self.poll_interval_s = min(self.poll_interval_s, every_s)

    async def on_start(self) -> None:
        """Start the clock."""
        self._due_s = trio.current_time() + self.every_s

    async def on_stop(self) -> None:
        """Show the numbers at the end, which are too late for the log."""
        if self._show:
            notify_user(as_table(self._statistics()))

    async def _on_poll(self) -> None:
        now_s = trio.current_time()
        if now_s < self._due_s:
            return
        self._due_s = now_s + self.every_s
        statistics = self._statistics()
        if self._show:
            notify_user(as_table(statistics))
        if self._log:
            self.put_dict(as_metrics(statistics), destinations=("loggers",))

    def _statistics(self) -> BusStatistics:
        return self._require_context("statistics").statistics()

    def _is_observer(self) -> bool:
        return True


def as_metrics(statistics: BusStatistics) -> dict[str, int]:
    """Return the numbers as metrics."""
    metrics = {"bus/dead_letters": statistics.dead_letters}
    if statistics.log is not None:
        metrics["bus/events"] = statistics.log.events
        metrics["bus/lost_events"] = statistics.log.lost
    for name, actor in statistics.actors.items():
        if actor.observer is not None:
            metrics[f"bus/lag/{name}"] = actor.observer.lag
        if actor.mailbox.sent:
            metrics[f"bus/waiting/{name}"] = actor.mailbox.waiting
    return metrics


def as_table(statistics: BusStatistics) -> str:
    """Return the numbers as a table for people, with a line for each actor that did something."""
    log = statistics.log
    total = "" if log is None else f"{log.events:,} events, {log.lost:,} lost, "
    lines = [f"nightbus: {total}{statistics.dead_letters:,} dead letters"]
    rows: list[tuple[str, ...]] = []
    for name, actor in statistics.actors.items():
        seen, mail = actor.observer, actor.mailbox
        if seen is None and not mail.sent:
            continue
        if seen is None:
            work: tuple[str, ...] = ("in step", "", "", "", "")
        else:
            numbers = (seen.delivered, seen.lag, seen.restarts, seen.faults)
            work = (seen.state, *(f"{number:,}" for number in numbers))
        post = (mail.sent, mail.waiting, mail.dropped, mail.dead)
        rows.append((name, *work, *(f"{number:,}" for number in post)))
    if rows:
        rows.insert(0, (*HEADER, *MAIL_HEADER))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            head = f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}"
            cells = (f"{c:>{w}}" for c, w in zip(row[2:], widths[2:], strict=True))
            lines.append("  ".join((head, *cells)))
    return "\n".join(lines)
