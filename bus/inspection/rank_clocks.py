"""The clocks of ranks: how far each is from that of rank 0, as its log says."""

from bisect import bisect_right

import msgspec

from ..errors import LogFormatError
from ..events import ClockOffset, Event
from ..log.codec import DecodedEvent
from ..log.reader import LogReader
from ..log.segments import FolderStore, Stretch, read_footer


class RankClock:
    """The clock of one rank: rank 0's time of its events.

    Between two offsets that the log has it goes evenly from one to the other; before the first and
    after the last, they hold.

    Args:
        offsets: as the rank recorded them, in order.

    Attributes:
        bound_ns: how wrong the times can be; 0 if the clock is that of rank 0.
    """

    def __init__(self, offsets: list[ClockOffset] | None = None) -> None:
        offsets = offsets or []
        self.bound_ns = max((offset.bound_ns for offset in offsets), default=0)
        self._times_ns = [offset.time_ns for offset in offsets]
        self._offsets_ns = [offset.offset_ns for offset in offsets]

    @property
    def is_rank_0s(self) -> bool:
        """Return whether no offset was recorded, or none but 0."""
        return not any(self._offsets_ns)

    def time_ns(self, time_ns: int) -> int:
        """Return rank 0's time.

        Args:
            time_ns: this rank's.
        """
        times, offsets = self._times_ns, self._offsets_ns
        if not times:
            return time_ns
        at = bisect_right(times, time_ns)
        if at == 0 or at == len(times):
            return time_ns + offsets[max(at - 1, 0)]
        begin_ns, span_ns = times[at - 1], times[at] - times[at - 1]
        before, after = offsets[at - 1], offsets[at]
        return time_ns + before + (after - before) * (time_ns - begin_ns) // span_ns


def whole_clock(store: FolderStore) -> RankClock:
    """Return a rank's clock with all offsets of its log; segments that have none are not read.

    Args:
        store: the rank's segments.
    """
    offsets: list[ClockOffset] = []
    for index in store.indices():
        if _may_have_offsets(store, index):
            offsets += _offsets_in(store, index)
    return RankClock(offsets)


def last_clock(store: FolderStore) -> RankClock:
    """Return a rank's clock as it is at the end of its log.

    Args:
        store: the rank's segments.
    """
    for index in reversed(store.indices()):
        if _may_have_offsets(store, index) and (offsets := _offsets_in(store, index)):
            return RankClock(offsets)
    return RankClock()


def corrected(event: DecodedEvent, clock: RankClock) -> DecodedEvent:
    """Return an event with rank 0's time.

    Args:
        event: of any rank.
        clock: that of its rank.
    """
    if clock.is_rank_0s or not isinstance(event, Event):
        return event
    return msgspec.structs.replace(event, time_ns=clock.time_ns(event.time_ns))


def _may_have_offsets(store: FolderStore, index: int) -> bool:
    try:
        footer = read_footer(store, index)
    except LogFormatError:  # its events may still be sound
        footer = None
    return footer is None or ClockOffset.__name__ in footer.summary.events


def _offsets_in(store: FolderStore, index: int) -> list[ClockOffset]:
    offsets: list[ClockOffset] = []
    reader = LogReader(Stretch(store, index, index))
    try:
        for _, parts in reader.parts(hooks=False):
            offsets += [record for record in parts.records if isinstance(record, ClockOffset)]
    except LogFormatError:
        pass  # reported by the reader of its events
    finally:
        reader.close()
    return offsets
