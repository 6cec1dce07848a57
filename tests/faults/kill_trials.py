"""Kills recording processes at random moments, and checks what is left of their logs.

    python tests/faults/kill_trials.py --rounds 1000 --seed 1

Each round starts a process that records events and tells on a pipe which of them were written and
which a sink has seen. It is killed (SIGKILL) at a random microsecond. Its log must open as it is,
be gapless, and hold all that was told. Segments are small, and synced and compressed all the time,
so that kills hit these moments too; every other round writes with write(2) instead of a mapping.
"""

import argparse
import json
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from nightbus.bus import housekeeping
from nightbus.bus.bus import Bus
from nightbus.bus.errors import LogError
from nightbus.bus.events import Event, Hook, Put
from nightbus.bus.log import writer as log_writer
from nightbus.bus.log.fast_flush import FastLogWriter
from nightbus.bus.log.place import Place
from nightbus.bus.log.reader import LogReader
from nightbus.bus.log.writer import LogIdentity
from nightbus.bus.runs.cursor import Position
from nightbus.bus.runs.run_folder import RunFolder
from nightbus.sinks.sink import Sink

TOLD = struct.Struct("<cQ")  # who tells, and the last sequence number that is safe
SEEN, WRITTEN = b"s", b"w"
MAX_DELAY_S = 0.05
START_TIMEOUT_S = 120.0
SEGMENT_BYTES = 30_000


class Trial(NamedTuple):
    """What one kill left.

    Attributes:
        events: how many events the log holds.
        told: the last sequence number that was told before the kill.
        problem: what is wrong with the log; empty if nothing is.
    """

    events: int
    told: int
    problem: str


# -- the process that is killed ------------------------------------------------------------------


class Echo(Sink):
    """Tells on the pipe which events it has seen."""

    destination = None
    poll_interval_s = 0.001

    def write(self, batch: list[Any]) -> None:
        os.write(1, TOLD.pack(SEEN, batch[-1].seq))


class BufferedFile:
    """A file that keeps what is appended in memory: what the trials must find out."""

    def __init__(self, fd: int) -> None:
        self.size = 0
        self._file = open(os.dup(fd), "wb", buffering=1 << 16)  # noqa: SIM115

    def append(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)

    def finish(self) -> None:
        self._file.close()


def record_until_killed(folder: Path, file: str) -> None:
    """Record steps for ever, and tell after each that it is written."""
    housekeeping.SYNC_EVERY_S = 0.004
    if file == "buffered":
        setattr(log_writer, "open_segment_file", BufferedFile)  # noqa: B010
    elif file == "written":

        def refuse(*_: object) -> None:
            raise OSError(95, "not supported here")

        os.posix_fallocate = refuse
    run = RunFolder.create(folder, "trial")
    lock = run.begin_attempt()
    place, store = Place(), run.store(lock.attempt)
    bus = Bus(place, [], run)
    identity = LogIdentity(run.info.id, lock.attempt)
    writer = FastLogWriter(store, identity, place, segment_bytes=SEGMENT_BYTES)
    bus.open_log(writer, store)
    bus.routes.refresh()
    bus.start()
    sink = Echo()
    bus.register(sink)
    bus.observe(sink, Position(lock.attempt, 0), keep_cursor=True)
    step = 0
    while True:
        step += 1
        place.complete_step(step)
        for number in range(step % 7):
            bus.routes.call(f"on_{number}")
        bus.emit(Put, "x", writer.next_seq(), ("loggers",), "", source="trial")
        bus.flush()
        os.write(1, TOLD.pack(WRITTEN, writer.written_seq - 1))


# -- the process that kills ----------------------------------------------------------------------


def run_trial(folder: Path, file: str, delay_s: float) -> Trial:
    """Start a process, kill it some time after its sink has seen an event, and look at its log."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--record", str(folder), "--file", file],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    pipe = process.stdout.fileno()
    told = bytearray()
    kill_at = None
    give_up_at = time.monotonic() + START_TIMEOUT_S
    try:
        while kill_at is None or time.monotonic() < kill_at:
            # The pipe is kept empty, so that the process never waits for us.
            if select.select([pipe], [], [], 0.0005)[0]:
                data = os.read(pipe, 1 << 16)
                if not data:
                    break
                told += data
            if kill_at is None and told:
                kill_at = time.monotonic() + delay_s
            if time.monotonic() > give_up_at:
                break
        ended_by_itself = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        rest, errors = process.communicate()
        told += rest
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()
    if kill_at is None or ended_by_itself:
        return Trial(0, -1, f"the process did not record: {errors.decode()[-500:]}")
    return check(folder, max(seq for _, seq in TOLD.iter_unpack(told[: len(told) // 9 * 9])))


def check(folder: Path, told: int) -> Trial:
    """Read the log as it lies there, and compare it with what was told."""
    (path,) = folder.iterdir()
    reader = LogReader(RunFolder.open(path).store(0))
    try:
        events: list[Any] = list(reader.events())
    except LogError as error:
        return Trial(0, told, f"the log cannot be read: {error}")
    finally:
        reader.close()
    problem = ""
    if [event.seq for event in events] != list(range(len(events))):
        problem = "the log has a gap"
    elif len(events) <= told:
        problem = f"event {told} was told, the log ends at {len(events) - 1}"
    elif any(not is_whole(event) for event in events):
        problem = "an event differs from what was recorded"
    return Trial(len(events), told, problem)


def is_whole(event: Event) -> bool:
    """Whether an event says what ``record_until_killed`` recorded."""
    if isinstance(event, Put):
        return event.value == event.seq and event.name == "x"
    return not isinstance(event, Hook) or event.name.startswith("on_")


def run_trials(rounds: int, seed: int, file: str | None = None) -> list[Trial]:
    """Run so many trials.

    Args:
        rounds: how many.
        seed: of the moments.
        file: how the log is written: mapped, written or buffered; by turns if not given.
    """
    chance = random.Random(seed)
    trials = []
    for number in range(rounds):
        folder = Path(tempfile.mkdtemp(prefix="nightbus-kill-"))
        try:
            how = file or ("mapped", "written")[number % 2]
            trial = run_trial(folder, how, chance.random() * MAX_DELAY_S)
        finally:
            shutil.rmtree(folder)
        if trial.problem:
            print(f"round {number}: {trial.problem}", file=sys.stderr)
        trials.append(trial)
    return trials


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", choices=["mapped", "written", "buffered"])
    parser.add_argument("--record", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record:
        record_until_killed(Path(options.record), options.file)
    began_s = time.monotonic()
    trials = run_trials(options.rounds, options.seed, options.file)
    violations = sum(bool(trial.problem) for trial in trials)
    print(
        json.dumps(
            {
                "rounds": len(trials),
                "seed": options.seed,
                "violations": violations,
                "events": sum(trial.events for trial in trials),
                "events_told": sum(trial.told + 1 for trial in trials),
                "seconds": round(time.monotonic() - began_s),
            }
        )
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
