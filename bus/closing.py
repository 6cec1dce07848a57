"""Closing: ends the bus of a run, from the last step to the sealed log."""

from .bus_thread import BusThread
from .copies import StaysInRun
from .drain import Drain
from .event_recorder import EventRecorder
from .events import Ending, RunEnded
from .housekeeping import Housekeeping
from .log.flight_recorder import NOBODY
from .log.segments import UnnamedStore
from .observer import Observer
from .post_office import PostOffice
from .run_counts import RunCounts
from .secrets.redaction import without_secrets


class Closing(StaysInRun):
    """Has observers read the rest, records the end, has them stop, and seals the log.

    Args:
        recorder: writes the log.
        thread: runs the observers.
        drain: waits for them.
        post_office: refuses commands.
        counts: of the run, whose totals are recorded.
        housekeeping: compresses the log.
    """

    def __init__(
        self,
        recorder: EventRecorder,
        thread: BusThread,
        drain: Drain,
        post_office: PostOffice,
        counts: RunCounts,
        housekeeping: Housekeeping,
    ) -> None:
        self._recorder = recorder
        self._thread = thread
        self._drain = drain
        self._post_office = post_office
        self._counts = counts
        self._housekeeping = housekeeping

    def close(self, drain_timeout_s: float, ended: tuple[Ending, str] | None) -> list[Observer]:
        """Close the bus: drain observers, record the end, stop observers one by one, seal the log.

        Args:
            drain_timeout_s: how long observers may take to read up to the end, in s.
            ended: how the run ended and why, for the last event; None for a log that just stops.

        Returns:
            The observers that have not read everything.

        Raises:
            Exception: a plain handler's exception on the last events; everything is closed then.
        """
        recorder, observers = self._recorder, self._thread.observers
        recorder.keeps_failures = True
        self._thread.begin_closing()
        # Observers still take their own commands.
        self._post_office.close_all_but({observer.name for observer in observers})
        self._thread.wait_until_up()
        if recorder.writer is None:
            self._thread.announce_closing()
            self._thread.wait_until_ended()  # it runs only for the control socket
            recorder.refuse_puts()
            return []
        recorder.flush_all()
        with recorder.writer.alone():
            recorder.writer.flush(wait=True)
        self._thread.announce_closing()
        self._drain.until_read(drain_timeout_s)
        recorder.flush_all()
        self._counts.record_totals()
        self._record_end(ended)
        has_end = recorder.writer.flush_end()
        self._drain.stop_observers()
        self._housekeeping.check_folder()
        self._seal()
        if ended is not None and not has_end:
            recorder.log_problems.append(
                f"cannot record the run's end ({ended[0]}); the run will look as if it was killed"
            )
        if recorder.failures:
            raise recorder.failures[0]
        return sorted(
            [observer for observer in observers if not observer.finished],
            key=lambda observer: not observer.gave_up.startswith("held up"),
        )

    def _record_end(self, ended: tuple[Ending, str] | None) -> None:
        """Record the last events.

        RunEnded, if given, is the last, after what plain handlers put when they receive it.
        """
        recorder, writer = self._recorder, self._recorder.writer
        assert writer is not None
        if ended is not None:
            ended = ended[0], without_secrets(ended[1])
            with writer.alone():
                announced = writer.event(RunEnded, *ended)
            recorder.announce(announced)
        writer.takes = False  # requested events are recorded, new ones are refused
        recorder.flush_all()
        # Never reset: nothing comes after RunEnded, whatever interrupts.
        writer.owner = NOBODY
        if ended is not None:
            writer.append(writer.event(RunEnded, *ended))

    def _seal(self) -> None:
        writer, store = self._recorder.close_log(), self._recorder.store
        if isinstance(store, UnnamedStore):
            store.close()
        else:
            self._housekeeping.compress(writer.sealed)
