"""Runs that end while actors do what they should not: a line of JSON about each.

python stopping_process.py FOLDER

Each run has an actor that behaves well, then one that does not, then another good one, so that
what the bad one does to others before and after it shows. It needs a process of its own: what
never ends goes on after the run. Those that do nothing but wait are run at once, each by a thread.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import trio

import nightbus as nb
from nightbus.bus.bus import Bus
from nightbus.bus.bus_thread import CANCEL_TIMEOUT_S, END_TIMEOUT_S
from nightbus.bus.log.place import Place
from nightbus.bus.log.reader import EndKind, LogReader
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.runs.cursor import Position

DRAIN_S = 0.5
STOP_S = 0.5  # of the bad ones
PATIENCE_S = 60.0  # with the others, which are done at once, on a busy machine
SLACK_S = 60.0


class Good(nb.Actor):
    """Takes every put, and says when it stops."""

    stop_timeout_s = PATIENCE_S

    def __init__(self, name: str, stopped: list[str]) -> None:
        self.name = name
        self.stopped = stopped
        self.values: list[float] = []

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None:
        self.values.append(put.value)

    async def on_stop(self) -> None:
        self.stopped.append(self.name)


class Bad(nb.Actor):
    name = "bad"
    is_bad_at_the_end = False
    stop_timeout_s = STOP_S
    supervision = nb.Supervision(restarts=0)


class SleepsShielded(Bad):
    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()


class SleepsShieldedAtTheEnd(Bad):
    is_bad_at_the_end = True

    @nb.on(nb.RunEnded)
    async def take(self, ended: nb.RunEnded) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()


class NeverStarts(Bad):
    async def on_start(self) -> None:
        await trio.sleep_forever()

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None: ...


class NeverStops(Bad):
    is_bad_at_the_end = True

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None: ...

    async def on_stop(self) -> None:
        await trio.sleep_forever()


class RaisesAsItStops(Bad):
    is_bad_at_the_end = True
    stop_timeout_s = PATIENCE_S

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None: ...

    async def on_stop(self) -> None:
        raise OSError("cannot close")


class ExitsAsItStops(Bad):
    is_bad_at_the_end = True
    stop_timeout_s = PATIENCE_S

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None: ...

    async def on_stop(self) -> None:
        sys.exit(1)


class HangsInItsThread(nb.Sink):
    name = "bad"
    destination = None
    stop_timeout_s = STOP_S

    def write(self, batch: list[nb.Put]) -> None:
        threading.Event().wait()


class HangsAsItCloses(nb.Sink):
    name = "bad"
    is_bad_at_the_end = True
    destination = None
    stop_timeout_s = STOP_S

    def write(self, batch: list[nb.Put]) -> None: ...

    def close(self) -> None:
        threading.Event().wait()


class RestartsForEver(Bad):
    supervision = nb.Supervision(restarts=10**9, period_s=1e9, backoff_s=0.0)

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None:
        raise ValueError("again")


class AnswersEachEvent(Bad):
    """Puts a value for each that it gets, so that the log never comes to an end."""

    drain_s = PATIENCE_S  # it does get what was put before

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None:
        self.put("x", put.value + 1)


class HoldsTheThread(Bad):
    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None:
        time.sleep(3600)  # noqa: ASYNC251 - what it is here to show


class HoldsTheThreadAsItStops(Bad):
    is_bad_at_the_end = True

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None: ...

    async def on_stop(self) -> None:
        time.sleep(3600)  # noqa: ASYNC251 - what it is here to show


class Again(nb.Command, frozen=True):
    """Do it again."""


class TellsItself(Bad):
    """Sends itself a command whenever it has handled one, so that they never come to an end."""

    drain_s = PATIENCE_S  # it does get what was put

    async def on_start(self) -> None:
        self.tell("bad", Again())

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None: ...

    @nb.on(Again)
    async def again(self, command: Again) -> None:
        self.tell("bad", Again())
        self.tell("bad", Again())


class IgnoresCancellation(Bad):
    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None:
        while True:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                continue


WAITING: list[Callable[[], nb.Actor]] = [
    SleepsShielded,
    SleepsShieldedAtTheEnd,
    NeverStarts,
    NeverStops,
    RaisesAsItStops,
    ExitsAsItStops,
    HangsInItsThread,
    HangsAsItCloses,
    HoldsTheThread,
    HoldsTheThreadAsItStops,
]
BUSY: list[Callable[[], nb.Actor]] = [
    RestartsForEver,
    AnswersEachEvent,
    TellsItself,
    IgnoresCancellation,  # the last: it keeps a processor busy for as long as the process lives
]


def wait_for(bus: Bus, *names: str) -> None:
    """Wait until these have got what was put so far."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        actors = bus.statistics().actors
        observers = [actors[name].observer for name in names]
        if all(observer is not None and observer.lag == 0 for observer in observers):
            return
        time.sleep(0.001)
    raise TimeoutError(f"{names} did not get what was put")


def run_with(folder: Path, bad: nb.Actor) -> dict[str, object]:
    stopped: list[str] = []
    run = nb.RunFolder.create(folder, "stopping")
    lock, place = run.begin_attempt(), Place()
    store = run.store(lock.attempt)
    bus = Bus(place, (), run)
    writer = LogWriter(store, LogIdentity(run.info.id), place)
    bus.open_log(writer, store)

    def put(source: str, name: str, value: object, destinations: object) -> None:
        bus.emit(nb.Put, name, value, ("loggers",), "", source=source)

    bus.admission.record_put = put
    before, after = Good("before", stopped), Good("after", stopped)
    for actor in (before, bad, after):
        bus.register(actor)
        bus.observe(actor, Position(0, 0))
    for number in range(5):
        bus.emit(nb.Put, "x", number, ("loggers",), "", source="test")
        bus.flush()
    is_bad_at_the_end = getattr(bad, "is_bad_at_the_end", False)
    if not isinstance(bad, HoldsTheThread):  # then nobody gets anything
        wait_for(bus, "before", "after", *["bad"] * is_bad_at_the_end)
    drain_s = PATIENCE_S if is_bad_at_the_end else getattr(bad, "drain_s", DRAIN_S)
    begin_s = time.monotonic()
    unfinished = bus.close(drain_s, ("completed", ""))
    took_s = time.monotonic() - begin_s
    lock.release()
    reader = LogReader(run.store(0))
    events = [type(event).__name__ for event in reader.events()]
    return {
        "bad": type(bad).__name__,
        "in_time": took_s < DRAIN_S + STOP_S + 3 * CANCEL_TIMEOUT_S + END_TIMEOUT_S + SLACK_S,
        "last": events[-1],
        "sealed": reader.end().kind is EndKind.SEALED,
        "unfinished": [observer.name for observer in unfinished],
        "why": [observer.gave_up for observer in unfinished],
        "stopped": list(stopped),
        "got": [before.values[:5], after.values[:5]],
    }


def main() -> None:
    folder = Path(sys.argv[1])
    with ThreadPoolExecutor(len(WAITING)) as pool:
        found = list(pool.map(lambda make: run_with(folder, make()), WAITING))
    found += [run_with(folder, make()) for make in BUSY]
    for each in found:
        print(json.dumps(each), flush=True)
    os._exit(0)  # at once: threads that never end are still there


if __name__ == "__main__":
    main()
