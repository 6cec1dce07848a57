"""How much memory a run takes whose sink never returns: bounded, however many events there are.

python tests/faults/stuck_sink.py [--events N]

Prints a line of JSON: events recorded, MiB that the process grew from the first hundredth of them
to the last, what the sink did not get, and the microseconds that each event took with a stuck
sink and without one.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nightbus as nb
from nightbus.bus.bus import Bus
from nightbus.bus.inspection.report import summarise
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.runs.cursor import Position

HOOKS = tuple(f"on_{letter}" for letter in "abcdefgh")
PUTS = ("loss", "accuracy")
EVENTS_A_STEP = len(HOOKS) + len(PUTS)
MIB = 1 << 20


class Stuck(nb.Sink):
    """Takes the first values and never returns."""

    destination = None
    stop_timeout_s = 0.1

    def write(self, batch: list[Any]) -> None:
        threading.Event().wait()


def own_bytes() -> int:
    """Memory that is this process's own; mapped pages of the log are the page cache's."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["RssAnon"].split()[0]) * 1024


def all_bytes() -> int:
    """Memory that the process has mapped in, files included."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(folder: Path, events: int, sinks: list[nb.Sink]) -> dict[str, Any]:
    """Record so many events while these sinks watch."""
    run_folder = nb.RunFolder.create(folder, "stuck")
    lock, place = run_folder.begin_attempt(), Place()
    store = run_folder.store(lock.attempt)
    bus = Bus(place, (), run_folder)
    writer = LogWriter(store, LogIdentity(run_folder.info.id), place)
    bus.open_log(writer, store)
    bus.routes.refresh()
    for sink in sinks:
        bus.register(sink)
        bus.observe(sink, Position(0, 0), keep_cursor=True)
    bus.start()
    steps = events // EVENTS_A_STEP
    settled = max(1, steps // 100)
    grown = 0
    begin_s = time.perf_counter()
    for step in range(steps):
        place.complete_step(step)
        for name in HOOKS:
            bus.routes.call(name)
        for name in PUTS:
            bus.emit(nb.Put, name, 0.5 * step, ("loggers",), "on_a", source="module")
        bus.flush()
        if step == settled:
            own, everything = own_bytes(), all_bytes()
        if step % 10_000 == 0 and step > settled:
            grown = max(grown, all_bytes() - everything)
    took_s = time.perf_counter() - begin_s
    grown = max(grown, all_bytes() - everything)
    observed = [actor.observer for actor in bus.statistics().actors.values() if actor.observer]
    unfinished = bus.close(0.1, ("completed", ""))
    found = {
        "events": writer.written_seq,
        "grown_mib": round(grown / MIB, 2),
        "grown_own_mib": round((own_bytes() - own) / MIB, 2),
        "us_an_event": round(took_s / (steps * EVENTS_A_STEP) * 1e6, 3),
        "lag": max((each.lag for each in observed), default=0),
        "unfinished": [observer.name for observer in unfinished],
    }
    lock.release()
    report = summarise(run_folder)
    found["to_refill"] = sum(cursor.lag for cursor in report.cursors)
    found["ended"] = report.attempts[0].how
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=10_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        without = run(Path(folder) / "without", options.events // 10, [])
        found = run(Path(folder) / "stuck", options.events, [Stuck()])
    found["us_an_event_without"] = without["us_an_event"]
    print(json.dumps(found), flush=True)
    os._exit(0)  # at once: the stuck sink's thread is still there


if __name__ == "__main__":
    main()
