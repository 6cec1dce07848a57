"""What the machine is used for, and how far actors are behind: recorded at intervals of time."""

from collections.abc import Callable, Sequence

import trio

from .events import ActorBacklogs, SystemMetrics
from .recorder import Recorder
from .statistics import BusStatistics
from .system.logging_setup import get_logger
from .system.usage import Reading

SAMPLE_EVERY_S = 5.0
MAX_WAITING = 100  # samples, while training does not come to write them

_log = get_logger("nightbus.bus")


class SystemSampling:
    """Records SystemMetrics and ActorBacklogs at intervals of time, whatever training does.

    Files are read on a thread of trio's, since a disk or a driver may not answer.

    Args:
        recorder: records them.
        sources: what is read of the machine.
        statistics: returns the counts of the bus.
        every_s: seconds between two samples; None for ``SAMPLE_EVERY_S``.
    """

    def __init__(
        self,
        recorder: Recorder,
        sources: Sequence[Callable[[], Reading]],
        statistics: Callable[[], BusStatistics],
        every_s: float | None = None,
    ) -> None:
        self._recorder = recorder
        self._sources = list(sources)
        self._statistics = statistics
        self._every_s = every_s
        self._backlogs: tuple[dict[str, int], dict[str, int]] = ({}, {})  # recorded last
        self._last_problem = ""

    async def run(self) -> None:
        """Record what is used, every few seconds, until it is cancelled."""
        await self._read()  # from here on rates count
        while True:
            await trio.sleep(SAMPLE_EVERY_S if self._every_s is None else self._every_s)
            writer = self._recorder.writer
            values = await self._read()
            if writer is None or len(writer.inbox) >= MAX_WAITING:
                continue
            if values:
                self._recorder.emit_in_time(SystemMetrics, values)
            backlogs = _backlogs(self._statistics())
            if backlogs != self._backlogs:
                self._backlogs = backlogs
                self._recorder.emit_in_time(ActorBacklogs, *backlogs)

    async def _read(self) -> Reading:
        try:
            return await trio.to_thread.run_sync(self._read_all, abandon_on_cancel=True)
        except Exception as error:  # no thread or file descriptor is available now
            if str(error) != self._last_problem:
                self._last_problem = str(error)
                _log.warning("cannot read what the machine uses now", error=self._last_problem)
            return {}

    def _read_all(self) -> Reading:
        values: Reading = {}
        for read in self._sources:
            values |= read()
        return values


def _backlogs(statistics: BusStatistics) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many events each actor is behind, and how many commands wait for it."""
    actors = statistics.actors.items()
    return (
        {name: actor.observer.lag for name, actor in actors if actor.observer is not None},
        {name: actor.mailbox.waiting for name, actor in actors if actor.mailbox.sent},
    )
