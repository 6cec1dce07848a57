"""One process of a simulated run: it trains, fails as the seed says, and ends or is killed."""

import errno
import os
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio
from faulty_disk import ANSWERS, SYNCS, FaultyDisk
from simulated_actors import (
    NOBODY,
    SINKS,
    BesideStep,
    Chances,
    InStep,
    Question,
    Simulated,
    Stops,
    Strange,
    WatchesHooks,
    Work,
    worker_latency_s,
)
from virtual_threads import WALL_NS, VirtualClock, VirtualThreads

import nightbus as nb
from nightbus.bus.bus import Bus
from nightbus.bus.bus_thread import CANCEL_TIMEOUT_S
from nightbus.bus.events import CheckpointSaved, Event, Fault, Fork, Gap
from nightbus.bus.log.codec import DecodedEvent
from nightbus.bus.log.fast_flush import FastLogWriter
from nightbus.bus.log.place import Place
from nightbus.bus.log.reader import LogReader
from nightbus.bus.log.trace import count_hooks, shape_of
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.mail.reply import Reply
from nightbus.bus.observer import Observer
from nightbus.bus.runs.cursor import Position
from nightbus.bus.runs.lineage import logs_before
from nightbus.bus.runs.run_folder import RunFolder

SEGMENT_BYTES = (2_500, 6_000, 1 << 20)
STEP_S = (0.0, 0.005, 0.03, 0.2)
DRAIN_S = (0.0, 0.05, 0.4)
At = tuple[int, int]  # attempt, sequence number


class Violated(AssertionError):
    """A promise was not kept."""


def require(kept: object, promise: str, *what: object) -> None:
    """Raise Violated unless the promise is kept."""
    if not kept:
        raise Violated(": ".join([promise, *map(str, what)]))


class Killed(BaseException):
    """The process is gone."""


class Arriving:
    """A value that is on its way until it was asked for some times."""

    def __init__(self, looks: int, value: float) -> None:
        self._looks, self._value = looks, value

    def ready(self) -> bool:
        """Whether it is there."""
        self._looks -= 1
        return self._looks < 0

    def result(self) -> float:
        """The value."""
        return self._value


class Process:
    """Trains one attempt of a run. It is the witness of what its actors do.

    Args:
        run: the run's folder, on ``disk``.
        disk: the disk.
        clock: what time it is.
        chance: decides all.
        generation: a number for the names of new sinks.
        fork: where it goes on from.

    Attributes:
        ended: whether its log was closed, by a process that lived on.
        left: the folder that is there after it was killed.
        lost_power: it was killed by a power cut.
        was_refused: its log could not begin.
        durable: how many events were durable when it was.
    """

    def __init__(
        self,
        run: RunFolder,
        disk: FaultyDisk,
        clock: VirtualClock,
        chance: random.Random,
        generation: int,
        fork: Fork | None,
    ) -> None:
        self.run, self.disk, self.clock, self.chance = run, disk, clock, chance
        self.fork = fork
        self.chances = some_chances(chance)
        self.everyone: list[str] = []
        self.released = trio.Event()  # the process is gone
        self.ended = self.is_dead = self.lost_power = self.was_refused = False
        self.left: Path | None = None
        self.durable = 0
        self.violations: list[Violated] = []  # seen by actors, whose failures are supervised
        self.seen: dict[At, DecodedEvent] = {}
        self.got: dict[str, list[At]] = defaultdict(list)  # puts, of actors beside the step
        self.got_in_step: dict[str, list[int]] = defaultdict(list)
        self.taken: dict[str, list[tuple[str, int]]] = defaultdict(list)  # target -> sender, number
        self.sent: Counter[str] = Counter()
        self.emitted: list[int] = []  # sequence numbers of the puts
        self.supervisions: dict[str, nb.Supervision] = {}
        self.replies: list[tuple[str, int, Reply]] = []
        self.unfinished: list[Observer] = []  # as closing says
        self.finished: set[str] = set()  # as they say themselves, when it closed
        self.how: tuple[str, str] = ("completed", "")
        self.close_s = 0.0  # how long closing took
        self.close_limit_s = 0.0
        self.threads = VirtualThreads(
            clock, lambda function: worker_latency_s(self._latency, self.chances, function)
        )
        self._numbers: Counter[tuple[str, str]] = Counter()
        self._latency = self._chance_of("workers")
        self._sinks = generation
        self._tail: LogReader | None = None
        self._kill_turn, self._kill_call = some_kill(chance)
        self._how_killed = chance.choice(["killed", "killed", "power", "torn", "torn"])
        self._target: Path | None = None
        self._call = 0
        self._can_map = chance.random() < 0.7  # else it writes
        self._closing_s = float("inf")
        self.disk_failed = False
        earlier = logs_before(run, fork)
        self.lock = run.begin_attempt()
        self.attempt = self.lock.attempt
        self.store = run.store(self.attempt)
        self.place = Place()
        self.bus = Bus(self.place, earlier, run, threads=self.threads)
        self.writer: LogWriter

    def _chance_of(self, what: str) -> random.Random:
        return random.Random(f"{self.chance.random()}/{what}")

    # -- its life ----------------------------------------------------------------------------

    def live(self, target: Path) -> None:
        """Train until the end, or until it is killed.

        Args:
            target: a folder for what is there after that, made if it is killed.
        """
        self._target = target
        self.disk.before_call = self._before_call
        self.threads.before_turn = self._before_turn
        try:
            self._begin()
            self._train()
            self._end()
            if not self.is_dead:  # it may have died in the last call of the disk
                self.ended = True
        except Killed:
            pass
        finally:
            self.disk.before_call = lambda name: None
            self._leave()

    def _begin(self) -> None:
        chance = self.chance
        if chance.random() < 0.05:
            self._break_disk()
        self.writer = FastLogWriter(
            self.store,
            LogIdentity(self.run.info.id, self.attempt),
            self.place,
            segment_bytes=chance.choice(SEGMENT_BYTES),
            clock_ns=self.clock.now_ns,
        )
        self.writer.owner = self.threads.current()
        self._note_syncs()
        if chance.random() < 0.5:
            self._break_disk()
        bus = self.bus
        bus.open_log(self.writer, self.store)
        bus.routes.refresh()
        self.fit = Stops("fit", self, self._chance_of("fit"))
        bus.register(self.fit)
        for number in range(chance.choice([0, 1, 2])):
            self._register(InStep(f"step{number}", self, self._chance_of(f"step{number}")))
        wall_ns = WALL_NS + self.clock.now_ns()
        bus.emit(nb.RunStarted, self.run.info.id, self.attempt, "fit", wall_ns, {}, {}, self.fork)
        bus.flush()
        for number in range(chance.choice([0, 1, 2, 3])):
            self._attach(f"beside{number}")
        for number in range(chance.choice([1, 1, 2])):
            name = f"sink{number}-{self._sinks}"
            sink = SINKS[(number + self._sinks) % 3](name, self, self._chance_of(name))
            assert sink.supervision is not None
            self.supervisions[name] = sink.supervision
            bus.register(sink)
            bus.observe(sink, Position(0, 0), keep_cursor=True)
        bus.start()

    def _break_disk(self) -> None:
        fails = some_disk_faults(self.chance)

        def fails_and_notes(number: int, name: str) -> bool:
            is_failing = bool(fails(number, name))
            self.disk_failed = self.disk_failed or is_failing
            return is_failing

        self.disk.fail(fails_and_notes)

    def _register(self, actor: Simulated) -> None:
        self.bus.register(actor)
        self.everyone.append(actor.name)
        assert actor.supervision is not None
        self.supervisions[actor.name] = actor.supervision

    def _attach(self, name: str) -> None:
        chance = self._chance_of(name)
        kind = chance.choice([BesideStep, BesideStep, WatchesHooks])
        actor = kind(name, self, chance)
        self._register(actor)
        self.bus.observe(actor, Position(self.attempt, 0))

    def _note_syncs(self) -> None:
        writer, sync = self.writer, self.writer.sync

        def sync_and_note() -> None:
            written = writer.written_seq
            sync()
            if not writer._sync.last_error and not self.is_dead:
                self.durable = written

        writer.sync = sync_and_note  # type: ignore[method-assign]

    def _train(self) -> None:
        chance, bus, place = self.chance, self.bus, self.place
        number = chance.choice([3, 10, 25])
        for step in range(number):
            place.begin_batch(step)
            bus.routes.call("on_a")
            for _ in range(chance.choice([0, 1, 1, 3])):
                self._put()
            while chance.random() < self.chances.send:
                self._send()
            if bus.attention:
                bus.attention = False
                bus.post_office.take_commands()
            bus.routes.call("on_b")
            place.complete_step(step + 1)
            if chance.random() < 0.1:
                bus.emit(CheckpointSaved, f"checkpoints/{step}", "", 0, source="checkpointer")
            bus.flush()
            self._look_at_memory()
            if chance.random() < 0.2:
                self._look_from_outside()
            self._attach_or_dismiss(step)
            self.threads.take_turns(chance.choice([0, 0, 1, 5]))
            self.threads.pass_time(chance.choice(STEP_S))
            if self.fit.stopped:
                self.how = "stopped", self.fit.stopped
                return

    def _put(self) -> None:
        name = self.chance.choice(["loss", "loss", "accuracy", f"rare{self.attempt}"])
        if self.chance.random() < 0.1:
            value = Arriving(self.chance.choice([0, 1, 3]), self.attempt + 0.5)
            put = self.writer.event(nb.Put, name, value, ("loggers",), "", source="model")
            self.writer.append_pending(put)
            return
        if not self.is_dead:
            self.emitted.append(self.writer.next_seq())
        number = self.attempt * 1_000_000 + len(self.emitted)
        self.bus.emit(nb.Put, name, number, ("loggers",), "", source="model")

    def _send(self) -> None:
        target = self.chance.choice([*self.everyone, NOBODY])
        kind = self.chance.choice([Work, Work, Strange, Question])
        command = self.sends("model", target, kind)
        reply = Reply() if kind is Question else None
        if reply is not None:
            self.replies.append((target, command.number, reply))
        self.bus.post(target, command, "model", reply)

    def _attach_or_dismiss(self, step: int) -> None:
        if self.chance.random() >= 0.03:
            return
        beside = [o for o in self.bus.observers if isinstance(o.actor, BesideStep)]
        if beside and self.chance.random() < 0.5:
            observer = self.chance.choice(beside)
            if observer.name in self.everyone:
                self.everyone.remove(observer.name)
                self.bus.remove(observer.actor, "it was detached")
        else:
            self._attach(f"late{step}")

    def _look_at_memory(self) -> None:
        writer, office = self.writer, self.bus.post_office
        held = [event for event in writer.records if type(event) not in (Gap, Fault)]
        hooks = count_hooks(shape_of(writer.trace.words))
        is_held = bool(hooks or held) and not writer._pending
        require(not is_held, "what is flushed is held no more")
        waiting = 0
        for name, mailbox in office.mailboxes.items():
            counts = mailbox.statistics()
            require(counts.most_waiting <= counts.capacity, "mailboxes are bounded", name, counts)
            waiting += counts.waiting if mailbox.arrived else 0
        require(len(office._agenda) >= waiting, "commands that wait are announced")
        most = sum(mailbox.limit.capacity for mailbox in office.mailboxes.values())
        require(len(office._agenda) <= most + 1, "announcements are bounded", len(office._agenda))

    def _look_from_outside(self) -> None:
        """As another process does that follows the run."""
        if self._tail is None:
            self._tail = LogReader(self.store)
        self.note_seen([(self.attempt, event.seq, event) for event in self._tail.read()])

    def _end(self) -> None:
        drain_s = self.chance.choice(DRAIN_S)
        stops_s = sum(observer.actor.stop_timeout_s for observer in self.bus.observers)
        # And twice a time for what is cancelled to let go, and the last worker.
        self.close_limit_s = drain_s + stops_s + 2 * CANCEL_TIMEOUT_S + 0.4
        if self.chance.random() < 0.1:
            self.bus.hurry()
        begin_s = self._closing_s = self.clock.now_s
        self.unfinished = self.bus.close(drain_s, self.how)  # type: ignore[arg-type]
        self.close_s = self.clock.now_s - begin_s
        self.finished = {observer.name for observer in self.bus.observers if observer.finished}
        for _ in range(3):  # too late
            self._send()
        self.threads.pass_time(0.1)

    def _leave(self) -> None:
        """Let go of what the operating system takes from a process that is gone."""
        self.is_dead = True
        self.threads.before_turn = lambda: None
        self.released.set()
        self.threads.end()
        if self._tail is not None:
            self._tail.close()
        self.lock.release()
        writer = getattr(self, "writer", None)
        if writer is not None:
            for fd in writer._sync.open_fds:
                os.close(fd)
        for observer in self.bus.observers:
            file = getattr(observer.actor, "_file", None)
            if file is not None:
                file.close()

    def is_late(self, time_s: float) -> bool:
        """Whether it was closing by then."""
        return time_s >= self._closing_s

    # -- its death ---------------------------------------------------------------------------

    def _before_turn(self) -> None:
        if self.is_dead:
            raise Killed
        if self.threads.turns >= self._kill_turn:
            self._die()
            raise Killed

    def _before_call(self, name: str) -> None:
        if name == "posix_fallocate" and not self._can_map:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        self._call += 1
        if self._call >= self._kill_call and not self.is_dead:
            self._die()

    def _die(self) -> None:
        """Keep what is there of its files now: nothing that follows happens."""
        self.is_dead = True
        self.disk.before_call = lambda name: None
        self.disk.fail(lambda number, name: False)
        assert self._target is not None
        self.left = self._target
        if self._how_killed == "killed":
            shutil.copytree(self.disk.root, self.left)
            return
        self.lost_power = True
        self.disk.after_power_cut(self.left, self.chance if self._how_killed == "torn" else None)

    # -- what its actors tell (simulated_actors.Witness) -------------------------------------

    def saw(self, name: str, events: Sequence[DecodedEvent]) -> None:
        """An actor got these events."""
        if self.is_dead:
            return
        if name.startswith("step"):
            self.got_in_step[name] += [event.seq for event in events]
            return
        (observer,) = [o for o in self.bus.observers if o.name == name]
        reader = observer._reader
        if reader is None:  # a worker that was abandoned comes to it at last
            return
        attempt = reader.position.attempt
        self.note_seen([(attempt, event.seq, event) for event in events])
        self.got[name] += [(attempt, event.seq) for event in events if isinstance(event, nb.Put)]

    def note_seen(self, events: Sequence[tuple[int, int, DecodedEvent]]) -> None:
        """Somebody saw these events."""
        if self.is_dead:
            return
        for attempt, seq, event in events:
            before = self.seen.setdefault((attempt, seq), event)
            self._require(same(before, event), "all see the same event", before, event)

    def handled(self, name: str, command: Any) -> None:
        """An actor took a command."""
        if not self.is_dead:
            self.taken[name].append((command.origin, command.number))

    def sends(self, sender: str, target: str, kind: type[Any]) -> Any:
        """The next command from one to the other."""
        self.sent[target] += 1
        self._numbers[sender, target] += 1
        return kind(origin=sender, number=self._numbers[sender, target])

    def asked(self, question: Question, answer: Any, took_s: float, timeout_s: float) -> None:
        """Somebody who asked has an answer, or none."""
        what = "an ask ends within its deadline"
        self._require(took_s <= timeout_s + 1e-9, what, took_s, timeout_s)
        is_right = isinstance(answer, nb.DeliveryError) or answer == question.number
        self._require(is_right, "an ask gets its own answer", question, answer)

    def _require(self, kept: bool, promise: str, *what: object) -> None:
        try:
            require(kept, promise, *what)
        except Violated as violated:
            self.violations.append(violated)


def same(one: DecodedEvent, other: DecodedEvent) -> bool:
    """Whether two events are one."""
    return type(one) is type(other) and tell(one) == tell(other)


def tell(event: DecodedEvent) -> str:
    """An event in a line, without what says where the library lies."""
    fields = [getattr(event, name) for name in event.__struct_fields__ if name != "traceback"]
    kind = type(event).__name__
    return f"{kind}{fields}" if isinstance(event, Event) else kind


def some_chances(chance: random.Random) -> Chances:
    """How often what goes wrong in a process: often not at all."""
    return Chances(
        crash=chance.choice([0.0, 0.02, 0.2]),
        breaks=chance.choice([0.0, 0.0, 0.02]),
        slow=chance.choice([0.0, 0.1, 0.5]),
        hang=chance.choice([0.0, 0.0, 0.01]),
        stubborn=chance.choice([0.0, 0.0, 0.01]),
        send=chance.choice([0.0, 0.2, 0.6]),
    )


def some_kill(chance: random.Random) -> tuple[float, float]:
    """At which turn of trio, or call of the disk, it is killed; never, often."""
    never = float("inf")
    how = chance.choice(["never", "turn", "call"])
    turn = chance.choice([chance.randrange(40), chance.randrange(600)])
    call = chance.choice([chance.randrange(15), chance.randrange(150)])
    return (turn if how == "turn" else never), (call if how == "call" else never)


def some_disk_faults(chance: random.Random) -> Any:
    """Which calls fail."""
    first = chance.choice([0, chance.randrange(10), chance.randrange(120)])
    last = first + chance.choice([1, 4, 30, 10**9])
    some = chance.choice(list(ANSWERS))
    names = chance.choice([tuple(ANSWERS), SYNCS, (some,), ("posix_fallocate", "mmap", "pwrite")])
    return lambda number, name: first <= number < last and name in names
