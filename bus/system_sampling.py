"""What the process and its machine use, recorded at intervals, on the bus thread."""

from collections.abc import Callable, Sequence

import trio

from .events import SystemMetrics
from .recorder import Recorder
from .system.logging_setup import get_logger
from .system.usage import Reading

SAMPLE_EVERY_S = 5.0
MAX_WAITING = 100  # samples, while training does not come to write them

_log = get_logger("nightbus.bus")


class SystemSampling:
    """Records SystemMetrics at intervals of time, whatever training does.

    Files are read on a thread of trio's, since a disk or a driver may not answer.

    Args:
        recorder: records them.
        sources: what is read.
        every_s: seconds between two samples; None for ``SAMPLE_EVERY_S``.
    """

    def __init__(
        self,
        recorder: Recorder,
        sources: Sequence[Callable[[], Reading]],
        every_s: float | None = None,
    ) -> None:
        self._recorder = recorder
        self._sources = list(sources)
        self._every_s = every_s
        self._last_problem = ""

    async def run(self) -> None:
        """Record what is used, every few seconds, until it is cancelled."""
        await self._read()  # from here on rates count
        while True:
            await trio.sleep(SAMPLE_EVERY_S if self._every_s is None else self._every_s)
            writer = self._recorder.writer
            values = await self._read()
            if values and writer is not None and len(writer.inbox) < MAX_WAITING:
                self._recorder.emit_in_time(SystemMetrics, values)

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
