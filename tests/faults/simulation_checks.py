"""What is promised of a simulated run, checked against what its processes left and saw."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from helpers import read_to_end
from simulated_actors import NOBODY, SINKS, Chances
from simulated_process import At, Process, require, same, tell

import nightbus as nb
from nightbus.bus.bus import Bus
from nightbus.bus.events import (
    ActorRestarted,
    ActorStopped,
    ActorTotals,
    CommandsDropped,
    CommandTaken,
    DeadLetter,
    Fault,
    Gap,
    RunStarted,
)
from nightbus.bus.log.codec import DecodedEvent
from nightbus.bus.log.reader import EndKind
from nightbus.bus.mail.mailbox import Mailbox
from nightbus.bus.replay.replay import replay
from nightbus.bus.runs.cursor import AttemptLog, RunReader
from nightbus.bus.runs.lineage import consistent_logs
from nightbus.bus.runs.run_folder import RunFolder

BOUNDARY_S = 1e-6  # so close to the end of a period, rounding decides


class Log:
    """One attempt's log as it is read when its process is gone."""

    def __init__(self, run: RunFolder, attempt: int) -> None:
        self.events, self.end = read_to_end(run.store(attempt))
        self.by_seq = {event.seq: event for event in self.events}
        self.puts = [event.seq for event in self.events if isinstance(event, nb.Put)]
        self.gaps = [event for event in self.events if isinstance(event, Gap)]
        self.told = sum(gap.count for gap in self.gaps)
        seqs = [event.seq for event in self.events]
        require(seqs == sorted(set(seqs)), "sequence numbers ascend", attempt)
        self.missing = seqs[-1] + 1 - len(seqs) if seqs else 0


def check_process(process: Process, run: RunFolder, earlier: Mapping[int, Log]) -> Log:
    """All that is promised of one process.

    Args:
        process: which is gone.
        run: what it left.
        earlier: logs of the processes before it.
    """
    if process.violations:
        raise process.violations[0]
    log = Log(run, process.attempt)
    if process.was_refused:
        require(not log.events, "an attempt that could not begin recorded nothing", log.events)
        return log
    _check_what_was_seen(process, {**earlier, process.attempt: log})
    _check_gaps(process, log)
    _check_order_of_delivery(process, log)
    _check_order_of_commands(process, log)
    if not log.missing and not process.lost_power:
        _check_restarts(process, log)
    if process.ended:
        _check_end(process, log)
        _check_commands_add_up(process)
        if not process.writer.lost_events:
            _check_totals(process.bus, log)
    return log


def _check_what_was_seen(process: Process, logs: Mapping[int, Log]) -> None:
    """Nothing that anybody saw is missing, except after a power cut what was not synced."""
    for (attempt, seq), event in process.seen.items():
        if seq in logs[attempt].by_seq:
            found = logs[attempt].by_seq[seq]
            require(same(found, event), "the log holds what was seen", tell(event))
            continue
        is_cut = attempt == process.attempt and process.lost_power
        require(is_cut, "what was seen is in the log", attempt, tell(event))
        require(seq >= process.durable, "what was synced outlives a power cut", tell(event))
    log = logs[process.attempt]
    # A segment that could not be synced may be lost, as the log says.
    writer = process.writer
    if process.lost_power and not writer.lost_events and not writer._sync.last_error:
        seqs = [event.seq for event in log.events]
        require(seqs == list(range(len(seqs))), "a power cut leaves a prefix", seqs)
        require(len(seqs) >= process.durable, "what was synced is there", process.durable)


def _check_gaps(process: Process, log: Log) -> None:
    """What is missing is told: all of it, if the log ended in order."""
    missing = told = following = 0
    for event in log.events:
        missing += event.seq - following
        following = event.seq + 1
        told += event.count if isinstance(event, Gap) else 0
        require(told <= missing, "no more is told missing than is", told, missing)
    if not process.ended:
        return
    lost = process.writer.lost_events
    problems = process.bus.log_problems
    require((lost > 0) == any("missing" in each for each in problems), "a loss is said", problems)
    at_end = process.writer.written_seq - following
    require(missing + at_end == lost, "as much is missing as was lost", missing, at_end, lost)
    if not at_end:
        require(told == missing, "gaps tell all that is missing", told, missing)


def _check_order_of_delivery(process: Process, log: Log) -> None:
    """Each actor beside the step gets each put, in order; again only after a failure."""
    observers = {observer.name: observer for observer in process.bus.observers}
    for name, got in process.got.items():
        index = {seq: number for number, seq in enumerate(log.puts)}
        numbers = [index.get(seq) for attempt, seq in got if attempt == process.attempt]
        if process.lost_power:
            numbers = [number for number in numbers if number is not None]
        repeats = 0
        furthest = numbers[0] if numbers else None
        for before, after in pairwise(numbers):
            require(before is not None and after is not None, "what is delivered is recorded", name)
            assert before is not None
            assert after is not None
            assert furthest is not None
            require(after <= before + 1, "no put is passed over", name, before, after)
            repeats += after <= before
            furthest = max(furthest, after)
        require(repeats <= observers[name].faults, "only a failure repeats a put", name, repeats)
        finished = process.ended and name in process.finished and not observers[name]._stop_reason
        if finished and log.puts:
            require(furthest == len(log.puts) - 1, "who finished has got all", name, furthest)
    for name, got_in_step in process.got_in_step.items():
        require(got_in_step == process.emitted, "in the step each put is got once", name)


def _check_order_of_commands(process: Process, log: Log) -> None:
    """What one sends another comes in order, and the log has it in the order of taking."""
    for target, taken in process.taken.items():
        numbers: dict[str, int] = defaultdict(int)
        for origin, number in taken:
            require(number > numbers[origin], "commands come in order", target, origin, number)
            numbers[origin] = number
        recorded = [
            (arguments["origin"], arguments["number"])
            for event in log.events
            if isinstance(event, CommandTaken) and event.target == target
            for arguments in [json.loads(event.arguments)]
        ]
        if not log.missing:
            in_order = recorded == taken[: len(recorded)]
            require(in_order, "the log has commands in the order of taking", target)


def _check_restarts(process: Process, log: Log) -> None:
    """An actor is restarted as its supervision says: as often, and after as long."""
    for name, supervision in process.supervisions.items():
        kinds = (Fault, ActorRestarted, ActorStopped)
        story = [e for e in log.events if isinstance(e, kinds) and e.source == name]
        times_s: list[float] = []
        expected_s: float | None = None
        for number, event in enumerate(story):
            if not isinstance(event, Fault):
                continue
            now_s = event.time_ns / 1e9
            ages_s = [now_s - time_s for time_s in times_s]
            if any(abs(age_s - supervision.period_s) < BOUNDARY_S for age_s in ages_s):
                break
            times_s = [now_s - age_s for age_s in ages_s if age_s <= supervision.period_s]
            expected_s = None
            if len(times_s) < supervision.restarts:
                backoff_s = supervision.backoff_s * 2 ** len(times_s)
                expected_s = min(backoff_s, supervision.max_backoff_s)
                times_s.append(now_s)
            following = story[number + 1] if number + 1 < len(story) else None
            if following is None:
                over = expected_s is not None or not process.ended or process.is_late(now_s)
                require(over, "who may not be restarted is told stopped", name)
            elif isinstance(following, ActorRestarted):
                is_right = following.delay_s == expected_s
                require(is_right, "a restart is one that the supervision allows", name, expected_s)
                waited_s = following.time_ns / 1e9 - now_s
                require(
                    waited_s <= following.delay_s + BOUNDARY_S, "the wait is not longer", waited_s
                )
            else:
                require(isinstance(following, ActorStopped), "a failure has its end", name)
                gave_up = isinstance(following, ActorStopped) and "gave up" in following.reason
                require(gave_up == (expected_s is None), "it gives up when it has to", name)


def _check_end(process: Process, log: Log) -> None:
    """The end comes in time, and RunEnded is the last event."""
    took_s, limit_s = process.close_s, process.close_limit_s
    require(took_s <= limit_s, "the end comes within the deadlines", took_s, limit_s)
    if not process.writer.lost_events:
        require(log.events, "a log that ended in order holds events")
        # But for the log's own word on a sync that failed when it was closed.
        last = [
            event
            for event in log.events
            if not (isinstance(event, Fault) and event.source == "log")
        ][-1]
        require(isinstance(last, nb.RunEnded), "RunEnded is last", tell(last))
        if not process.disk_failed:
            require(log.end.kind is EndKind.SEALED, "a log that ended is sealed", log.end)
    named = {observer.name for observer in process.unfinished}
    everyone = {observer.name for observer in process.bus.observers}
    require(named == everyone - process.finished, "who has not seen all is named", named)


def _check_commands_add_up(process: Process) -> None:
    """Each command was delivered, dropped, or is a dead letter."""
    bus, office, arrived = process.bus, process.bus.post_office, 0
    boxes: list[tuple[str, Mailbox]] = [(m.name, m.mailbox) for m in bus.members.removed]
    boxes += office.mailboxes.items()
    dead = office.unknown
    for name, mailbox in boxes:
        counts = mailbox.statistics()
        settled = counts.delivered + counts.dropped + counts.dead
        require(counts.sent == settled, "sent = delivered + dropped + dead", name, counts)
        require(counts.most_waiting <= counts.capacity, "mailboxes are bounded", name, counts)
        dead += counts.dead
        if name == "fit":
            continue
        arrived += counts.sent
        taken = len(process.taken[name])
        require(counts.delivered == taken, "delivered is what was taken", name, counts, taken)
    sent = process.sent.total()
    known = arrived, office.unknown
    require(sum(known) == sent, "each command is counted", *known, sent)
    require(office.unknown >= process.sent[NOBODY], "what names nobody is counted")
    require(office.dead_letters == dead, "dead letters are counted", office.dead_letters, dead)
    stuck = {observer.name for observer in bus.observers if not observer.done.is_set()}
    for target, number, reply in process.replies:
        if not reply._future.done():
            require(target in stuck, "who asked is told", target, number)
        elif reply._future.exception() is None:
            require(reply._future.result() == number, "the answer is to the question", target)
        else:
            error = reply._future.exception()
            require(isinstance(error, nb.DeliveryError), "a failed ask is typed", repr(error))


def _check_totals(bus: Bus, log: Log) -> None:
    """The totals in the log are those of its own events."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for event in log.events:
        if isinstance(event, CommandTaken):
            counted[event.target]["delivered"] += 1
        elif isinstance(event, CommandsDropped):
            counted[event.target]["dropped"] += event.count
        elif isinstance(event, DeadLetter):
            counted[event.target]["dead"] += 1
        elif isinstance(event, ActorRestarted):
            counted[event.source]["restarts"] += 1
        elif isinstance(event, Fault):
            counted[event.source]["faults"] += 1
        elif isinstance(event, ActorTotals):
            name, mine = event.source, counted[event.source]
            require(event.sent == event.delivered + event.dropped + event.dead, "totals", name)
            for what in ("delivered", "dropped", "restarts", "faults"):
                said = getattr(event, what)
                require(said == mine[what], "totals are what the log holds", name, what, said)
            # More, if the actor was let go: then its name was nobody's.
            require(event.dead <= mine["dead"], "dead letters are in the log", name, event, mine)


# -- the run as a whole -------------------------------------------------------------------------


def check_logs(run: RunFolder, logs: Mapping[int, Log]) -> list[nb.Put]:
    """What is left of all processes: logs do not change, and what was superseded is left out.

    Args:
        run: the run's folder.
        logs: its logs, as they were when their processes were gone.

    Returns:
        The puts that hold.
    """
    for attempt, log in logs.items():
        again = Log(run, attempt)
        is_same = [tell(e) for e in again.events] == [tell(e) for e in log.events]
        require(is_same, "a log that is complete does not change", attempt)
    return _check_lineage(run, logs)


def _check_lineage(run: RunFolder, logs: Mapping[int, Log]) -> list[nb.Put]:
    """What was superseded is left out; gives the puts that hold."""
    views: dict[int, list[At]] = {}
    holds: list[At] = []
    for attempt, log in logs.items():
        starts = [event for event in log.events if isinstance(event, RunStarted)]
        fork = starts[0].fork if starts else None
        if fork is not None:
            until = (fork.attempt, fork.seq)
            holds = [at for at in views[fork.attempt] if at <= until]
        holds = views[attempt] = [*holds, *((attempt, event.seq) for event in log.events)]
    found = read_all(consistent_logs(run))
    require([at for at, _ in found] == holds, "what was superseded is left out")
    return [event for _, event in found if isinstance(event, nb.Put)]


def read_all(logs: Sequence[AttemptLog]) -> list[tuple[At, DecodedEvent]]:
    """All events of a run."""
    reader = RunReader(logs)
    found: list[tuple[At, DecodedEvent]] = []
    while True:
        before = reader.position
        events = reader.read()
        found += [((reader.position.attempt, event.seq), event) for event in events]
        if not events and reader.position == before:
            reader.close()
            return found


class _Quiet:
    """Nobody watches, and nothing goes wrong."""

    chances = Chances()
    everyone: Sequence[str] = ()
    released = None

    def saw(self, name: str, events: Sequence[DecodedEvent]) -> None:
        """It does not matter."""


def check_sinks(run: RunFolder, puts: Sequence[nb.Put], generation: int, target: Path) -> None:
    """Each sink's file holds each put that holds once, after the rest was delivered to it.

    Args:
        run: the run's folder.
        puts: those that hold.
        generation: of the sinks that the last processes had.
        target: an empty folder.
    """
    wanted = [(put.step, put.name, put.value) for put in puts]
    for number in range(2):
        name = f"sink{number}-{generation}"
        has_cursor = (run.path / "cursors" / f"{name}.json").exists()
        if not has_cursor and not any(run.path.glob(f"{name}.*")):
            continue  # it was never there
        kind = SINKS[(number + generation) % 3]
        sink = kind(name, _Quiet(), random.Random(0))  # type: ignore[arg-type]
        sink.is_broken = False
        replay(run, sinks=[sink], resume=True)
        file = run.path / sink.file_name
        if sink.file_name.endswith(".jsonl"):
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            found = [(line["step"], line["name"], line["value"]) for line in lines]
            require(found == wanted, "a sink that is refilled holds each put once", name)
        else:
            replay(run, sinks=[nb.CSV(target)])
            anew = (target / "metrics.csv").read_bytes()
            require(file.read_bytes() == anew, "a refilled table is the same to the byte", name)
