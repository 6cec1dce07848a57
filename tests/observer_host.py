"""Observers over a log that a test writes, without a bus."""

from collections.abc import Callable
from typing import Any

import trio

import nightbus as nb
from nightbus.bus.log.place import Place
from nightbus.bus.log.segments import UnnamedStore
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.mail.mailbox import Undelivered
from nightbus.bus.observer import Observer
from nightbus.bus.runs.cursor import AttemptLog, Position, RunReader


class Host:
    """Runs observers over a log that the test writes."""

    def __init__(self) -> None:
        self.store = UnnamedStore()
        self.place = Place()
        self.writer = LogWriter(self.store, LogIdentity("test"), self.place)
        self.events: list[tuple[str, Any]] = []
        self.buried: list[str] = []
        self.stopped = ""
        self.closing = False

    def emit(self, kind: type[nb.Event], *fields: Any, source: str = "") -> None:
        self.events.append((kind.__name__, fields))

    def open_reader(self, start: Position) -> RunReader:
        return RunReader([AttemptLog(0, self.store, lambda: self.writer.committed)], start)

    def is_closing(self, observer: Observer) -> bool:
        return self.closing

    async def pause(self, observer: Observer, seconds: float) -> None:
        await trio.sleep(seconds)

    def stop_run(self, reason: str) -> None:
        self.stopped = reason

    def make_dead_letter(self, undelivered: Undelivered) -> None:
        undelivered.fail_reply()
        self.buried.append(type(undelivered.envelope.command).__name__)

    def put(self, *values: float) -> None:
        for value in values:
            self.writer.append(
                self.writer.event(nb.Put, "x", value, ("loggers",), "", source="test")
            )
        self.writer.flush()

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


class Collects(nb.Actor):
    def __init__(self, fails: Callable[[float], bool] = lambda value: False) -> None:
        self.values: list[float] = []
        self.starts = 0
        self.fails = fails

    async def on_start(self) -> None:
        self.starts += 1

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None:
        if self.fails(put.value):
            raise ValueError(f"cannot take {put.value}")
        self.values.append(put.value)


async def run_to_end(host: Host, actor: nb.Actor) -> Observer:
    host.closing = True
    observer = Observer(actor, Position(0, 0), host)
    await observer.run()
    return observer
