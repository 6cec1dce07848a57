"""The logs of several ranks read as one: in the order of rank 0's clock, in bounded memory."""

import os
import random
from pathlib import Path

import pytest
from recorded_ranks import BEGAN_NS, MS, RecordedRank, record_ranks

import nightbus as nb
from nightbus.bus.events import ClockOffset
from nightbus.bus.inspection import merged_log
from nightbus.bus.inspection.merged_log import MergedLog
from nightbus.bus.log.codec import DecodedEvent
from nightbus.bus.log.reader import LogReader
from nightbus.bus.log.segments import compress_segment


def _merged(run: nb.RunFolder) -> MergedLog:
    return MergedLog({rank: run.store(0, rank) for rank in run.ranks(0)})


def _puts(events: "list[DecodedEvent]") -> list[tuple[str, int]]:
    return [(event.name, event.rank) for event in events if isinstance(event, nb.Put)]


def test_events_of_all_ranks_come_in_the_order_of_time(tmp_path: Path) -> None:
    def record(rank: RecordedRank) -> None:
        for number in range(50):
            rank.now_ns = BEGAN_NS + (number * 4 + 3 - rank.rank) * MS
            rank.put(str(number))
            rank.writer.flush()

    run = record_ranks(tmp_path, range(4), record, 4)

    expected = [(str(number), rank) for number in range(50) for rank in (3, 2, 1, 0)]
    assert _puts(list(_merged(run).events())) == expected


def test_a_clock_that_goes_wrong_and_at_another_rate_is_corrected(tmp_path: Path) -> None:
    def wrong(time_ns: int) -> int:  # 1.234 s ahead, and 1 in 1,000 too fast
        return time_ns + 1_234 * MS + (time_ns - BEGAN_NS) // 1_000

    def record(rank: RecordedRank) -> None:
        for number in range(1, 100):
            truth_ns = BEGAN_NS + number * 10 * MS + rank.rank * MS
            rank.now_ns = wrong(truth_ns) if rank.rank else truth_ns
            if rank.rank and number % 49 == 1:
                rank.add(ClockOffset, truth_ns - rank.now_ns, 1)
            rank.put(str(number))
            rank.writer.flush()

    run = record_ranks(tmp_path, range(2), record, 2)

    events = list(_merged(run).events())
    assert _puts(events) == [(str(number), rank) for number in range(1, 100) for rank in (0, 1)]
    times_ns = [event.time_ns for event in events if isinstance(event, nb.Put)]
    truth_ns = [BEGAN_NS + n * 10 * MS + rank * MS for n in range(1, 100) for rank in (0, 1)]
    # After the last offset, the clock goes on to be too fast by 1 us a ms.
    assert max(abs(a - b) for a, b in zip(times_ns, truth_ns, strict=True)) <= 10_000


def test_what_the_clocks_cannot_tell_apart_is_in_the_order_of_steps_and_ranks(
    tmp_path: Path,
) -> None:
    def record(rank: RecordedRank) -> None:
        rank.add(ClockOffset, 0, MS if rank.rank else 0)
        for number in range(10):
            # Rank 1 is said to be earlier, by less than its clock may be wrong.
            rank.now_ns = BEGAN_NS + number * 10 * MS + 700_000 - rank.rank * 500_000
            rank.place.complete_step(number)
            rank.put(str(number))
            rank.writer.flush()

    run = record_ranks(tmp_path, range(2), record, 2)

    expected = [(str(number), rank) for number in range(10) for rank in (0, 1)]
    assert _puts(list(_merged(run).events())) == expected


@pytest.mark.parametrize("seed", range(5))
def test_every_event_comes_once_and_each_rank_keeps_its_order(tmp_path: Path, seed: int) -> None:
    drawn = random.Random(seed)

    def record(rank: RecordedRank) -> None:
        for _ in range(drawn.randrange(60)):
            rank.now_ns += drawn.randrange(-2, 5) * MS  # threads may record an earlier time later
            if drawn.random() < 0.5:
                rank.step(is_marked=drawn.random() < 0.5)
            else:
                rank.put()
            if drawn.random() < 0.3:
                rank.writer.flush()

    run = record_ranks(tmp_path, range(5), record, 5)
    merged = list(_merged(run).events())

    for rank in range(5):
        mine = [event for event in merged if isinstance(event, nb.Event) and event.rank == rank]
        assert mine == list(LogReader(run.store(0, rank)).events())
    assert [event.time_ns for event in merged if isinstance(event, nb.RunStarted)] == [BEGAN_NS] * 5


def test_many_ranks_are_read_with_few_open_files_and_few_events_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_log, "_EVENTS_AT_ONCE", 200)
    ranks, steps = merged_log.MAX_OPEN_LOGS * 3, 100

    def record(rank: RecordedRank) -> None:
        for _ in range(steps):
            rank.step()
            rank.writer.flush()

    run = record_ranks(tmp_path, range(ranks), record, ranks)
    before = len(os.listdir("/proc/self/fd"))
    opened, largest, times_ns = 0, 0, list[int]()
    for batch in _merged(run).batches():
        opened = max(opened, len(os.listdir("/proc/self/fd")) - before)
        largest = max(largest, len(batch))
        times_ns += [event.time_ns for event in batch if isinstance(event, nb.Event)]

    a_step = 5  # events
    assert opened <= 1
    assert largest <= 200 + ranks * a_step * 2
    assert len(times_ns) == ranks * (steps * a_step + 3)
    assert times_ns == sorted(times_ns)


def test_a_rank_with_a_damaged_log_does_not_hold_up_the_others(tmp_path: Path) -> None:
    def record(rank: RecordedRank) -> None:
        for _ in range(20):
            rank.step()
            rank.writer.flush()

    run = record_ranks(tmp_path, range(3), record, 3)
    path = run.store(0, 1).path(0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)

    merged = _merged(run)
    ended = [event.rank for event in merged.events() if isinstance(event, nb.RunEnded)]

    assert sorted(ended) == [0, 2]
    (problem,) = merged.problems
    assert problem.startswith("rank 1: segment 0: a frame")


def test_a_reader_that_let_its_file_go_reads_on_where_it_was(tmp_path: Path) -> None:
    def record(rank: RecordedRank) -> None:
        for _ in range(2_000):
            rank.step()
            rank.writer.flush()

    run = record_ranks(tmp_path, range(1), record, 1)
    store = run.store(0)
    reader = LogReader(store)
    events = reader.read(max_bytes=1 << 12)
    reader.let_go()
    compress_segment(store, 0)  # by housekeeping, meanwhile
    while more := reader.read(max_bytes=1 << 16):
        events += more
        reader.let_go()
    reader.close()

    assert events == list(LogReader(store).events())
