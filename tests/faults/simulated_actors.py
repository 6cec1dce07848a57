"""Actors of a simulated run: what they see and get is written down, and they fail at random."""

import math
import random
from collections.abc import Sequence
from typing import Any, Protocol

import trio

import nightbus as nb
from nightbus.bus.log.codec import DecodedEvent
from nightbus.bus.mail.mailbox import OVERFLOWS

NOBODY = "ghost"  # an address that no actor has


class Work(nb.Command, frozen=True, kw_only=True):
    """Do something."""

    origin: str
    number: int


class Question(nb.Command, frozen=True, kw_only=True):
    """Its number is the answer."""

    origin: str
    number: int


class Strange(nb.Command, frozen=True, kw_only=True):
    """What nobody has a handler for."""

    origin: str
    number: int


class Crash(Exception):
    """An actor failed."""


class Chances(nb.Command, frozen=True, kw_only=True):
    """How often what goes wrong, from 0 to 1.

    Attributes:
        crash: a handler raises.
        breaks: it raises from then on.
        slow: it takes a while.
        hang: it never comes back, unless it is cancelled.
        stubborn: it does not come back even then.
        send: an actor that sees an event sends a command.
    """

    crash: float = 0.0
    breaks: float = 0.0
    slow: float = 0.0
    hang: float = 0.0
    stubborn: float = 0.0
    send: float = 0.0


class Witness(Protocol):
    """Who writes down what actors see and do."""

    chances: Chances
    everyone: list[str]
    released: trio.Event  # set when the process is gone

    def saw(self, name: str, events: Sequence[DecodedEvent]) -> None:
        """An actor got these events."""

    def handled(self, name: str, command: Work | Question) -> None:
        """An actor took a command."""

    def sends(self, sender: str, target: str, kind: type[Any]) -> Any:
        """The next command from one to the other."""

    def asked(self, question: Question, answer: Any, took_s: float, timeout_s: float) -> None:
        """Somebody who asked has an answer, or none."""


class Simulated(nb.Actor):
    """What all simulated actors share.

    Args:
        name: its address.
        witness: who writes down what happens.
        chance: decides what it does.
    """

    def __init__(self, name: str, witness: Witness, chance: random.Random) -> None:
        self.name = name
        self.witness = witness
        self.chance = chance
        self.is_broken = False
        self.mailbox_limit = nb.MailboxLimit(
            capacity=chance.choice([1, 2, 5]),
            overflow=chance.choice(OVERFLOWS),
            block_s=chance.choice([0.0, 0.1, 1.0]),
        )
        self.supervision = some_supervision(chance)
        self.poll_interval_s = chance.choice([0.01, 0.05, 0.25])
        self.stop_timeout_s = chance.choice([0.05, 0.3, 1.0])

    def may_crash(self) -> None:
        chances = self.witness.chances
        if self.chance.random() < chances.breaks:
            self.is_broken = True
        if self.is_broken or self.chance.random() < chances.crash:
            raise Crash(f"{self.name} failed")

    async def mishap(self) -> None:
        """Something may go wrong here."""
        chance, chances = self.chance, self.witness.chances
        if chance.random() < chances.slow:
            await trio.sleep(chance.choice([0.0, 0.02, 0.2, 2.0]))
        if chance.random() < chances.hang:
            await trio.sleep_forever()
        if chance.random() < chances.stubborn:
            with trio.CancelScope(shield=True):
                await self.witness.released.wait()
        self.may_crash()


def some_supervision(chance: random.Random) -> nb.Supervision:
    return nb.Supervision(
        restarts=chance.choice([0, 1, 3, 20]),
        period_s=chance.choice([0.1, 1.0, 100.0]),
        backoff_s=chance.choice([0.0, 0.05, 0.5]),
        max_backoff_s=chance.choice([0.05, 1.0, 30.0]),
        then=chance.choice(["stop_actor", "stop_actor", "stop_run"]),
    )


class InStep(Simulated):
    """Works in the step: training waits for it."""

    @nb.on(nb.Put)
    def note(self, put: nb.Put) -> None:
        self.witness.saw(self.name, [put])

    @nb.on(Work)
    def work(self, command: Work) -> None:
        self.witness.handled(self.name, command)

    @nb.on(Question)
    def answer(self, command: Question) -> int:
        self.witness.handled(self.name, command)
        return command.number


class Stops(Simulated):
    """Is asked to end the run, as ``fit`` is."""

    stopped = ""

    @nb.on(nb.Stop)
    def stop(self, command: nb.Stop) -> None:
        self.stopped = command.reason


class BesideStep(Simulated):
    """Works beside the step: sees events, sends commands and takes them, and fails."""

    async def on_start(self) -> None:
        await self.mishap()

    async def on_stop(self) -> None:
        await self.mishap()
        await self.send()

    @nb.on(nb.Put)
    async def note(self, put: nb.Put) -> None:
        self.witness.saw(self.name, [put])
        await self.mishap()
        await self.send()

    @nb.on(nb.RunEnded)
    async def note_the_end(self, ended: nb.RunEnded) -> None:
        self.witness.saw(self.name, [ended])
        await self.send()

    @nb.on(Work)
    async def work(self, command: Work) -> None:
        self.witness.handled(self.name, command)
        await self.mishap()

    @nb.on(Question)
    async def answer(self, command: Question) -> int:
        self.witness.handled(self.name, command)
        await self.mishap()
        return command.number

    async def send(self) -> None:
        """Perhaps tell or ask somebody something."""
        chance, witness = self.chance, self.witness
        if chance.random() >= witness.chances.send:
            return
        target = chance.choice([*witness.everyone, NOBODY])
        if chance.random() < 0.3:
            timeout_s = chance.choice([0.0, 0.1, 1.0])
            await self.ask_for_number(target, timeout_s)
            return
        kind = Strange if chance.random() < 0.1 else Work
        told = self.tell(target, witness.sends(self.name, target, kind))
        if chance.random() < 0.7:
            await told

    async def ask_for_number(self, target: str, timeout_s: float) -> None:
        question = self.witness.sends(self.name, target, Question)
        begin_s = trio.current_time()
        answer: Any
        try:
            answer = await self.ask(target, question, timeout_s)
        except nb.DeliveryError as error:
            answer = error
        self.witness.asked(question, answer, trio.current_time() - begin_s, timeout_s)


class WatchesHooks(BesideStep):
    """Sees hooks, too."""

    @nb.on("on_a")
    async def note_hook(self, hook: nb.Hook) -> None:
        self.witness.saw(self.name, [hook])
        await self.mishap()


class Fails(nb.Sink):
    """What simulated sinks share: they fail before, in the middle of, or after a write."""

    witness: Witness
    chance: random.Random
    address: str
    is_broken = False

    def begin(self, name: str, witness: Witness, chance: random.Random) -> None:
        self.name = self.address = name
        self.witness, self.chance = witness, chance
        self.supervision = some_supervision(chance)
        self.poll_interval_s = chance.choice([0.01, 0.25])
        self.stop_timeout_s = chance.choice([0.05, 0.3, 1.0])
        self.batch_size = chance.choice([1, 7, 1000])

    def part_of(self, batch: list[Any]) -> int:
        """How much of a batch is written before it fails; all of it if it does not."""
        chance, chances = self.chance, self.witness.chances
        self.witness.saw(self.address, batch)
        if chance.random() < chances.breaks:
            self.is_broken = True
        if self.is_broken or chance.random() < chances.crash:
            return chance.choice([0, len(batch) // 2, len(batch)])
        return -1


class Lines(Fails, nb.JSONLines):
    """A file of lines, written by a worker."""

    def __init__(self, name: str, witness: Witness, chance: random.Random) -> None:
        super().__init__(name=f"{name}.jsonl")
        self.begin(name, witness, chance)

    def write(self, batch: list[Any]) -> None:
        part = self.part_of(batch)
        super().write(batch if part < 0 else batch[:part])
        if part >= 0:
            if self.chance.random() < 0.5:
                self.flush()
            raise Crash(f"{self.address} failed")


class AsyncLines(Fails, nb.JSONLines):
    """A file of lines, written on the bus thread."""

    def __init__(self, name: str, witness: Witness, chance: random.Random) -> None:
        super().__init__(name=f"{name}.jsonl")
        self.begin(name, witness, chance)

    async def write(self, batch: list[Any]) -> None:  # type: ignore[override]
        part = self.part_of(batch)
        chance, chances = self.chance, self.witness.chances
        if chance.random() < chances.slow:
            await trio.sleep(chance.choice([0.0, 0.02, 0.2, 2.0]))
        super().write(batch if part < 0 else batch[:part])
        if chance.random() < chances.hang:
            await trio.sleep_forever()
        if part >= 0:
            raise Crash(f"{self.address} failed")


class Table(Fails, nb.CSV):
    """A table, of which all is written anew when there is a new column."""

    def __init__(self, name: str, witness: Witness, chance: random.Random) -> None:
        super().__init__(name=f"{name}.csv")
        self.begin(name, witness, chance)

    def write(self, batch: list[Any]) -> None:
        part = self.part_of(batch)
        super().write(batch if part < 0 else batch[:part])
        if part >= 0:
            raise Crash(f"{self.address} failed")


SINKS: tuple[type[Lines | AsyncLines | Table], ...] = (Lines, AsyncLines, Table)


def worker_latency_s(chance: random.Random, chances: Chances, function: Any) -> float:
    """How long a worker takes to begin; only what a sink does may hang."""
    if chance.random() < chances.slow:
        return chance.choice([0.01, 0.1, 0.4])
    of_sink = isinstance(getattr(function, "__self__", None), nb.Sink)
    return math.inf if of_sink and chance.random() < chances.hang else 0.0
