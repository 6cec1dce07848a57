"""A seeded simulation of whole runs: bus, log, actors, sinks and supervision, with faults.

A seed is a world: processes that train one run, one after the other, on a disk and with actors
that fail as the seed says. All of it happens in one thread, in virtual time, in an order that the
seed decides. After each process what is promised is checked; a violation names its seed, and the
same seed does the same again::

    python tests/faults/simulation.py --seeds 20000 --seed 1
    python tests/faults/simulation.py --seeds 1 --seed 4711 --trace
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from faulty_disk import faulty_disk
from simulated_process import Process, Violated, tell
from simulation_checks import Log, check_logs, check_process, check_sinks
from virtual_threads import VirtualClock, determined_by

from nightbus.bus.errors import RunFolderError
from nightbus.bus.events import Fork, RunStarted
from nightbus.bus.runs.run_folder import RunFolder

AT_THE_SAME_TIME = 1
DISK = Path("/dev/shm")  # in memory, where there is such a place


class World(NamedTuple):
    """What came of a seed.

    Attributes:
        trace: all that happened, a line each.
        counts: how much of what.
        violation: what promise was not kept, and where; empty if all were.
    """

    trace: list[str]
    counts: Counter[str]
    violation: str


def simulate(seed: int, folder: Path) -> World:
    """Let a seed's world take its course.

    Args:
        seed: decides all.
        folder: an empty one.
    """
    clock, trace, counts = VirtualClock(), list[str](), Counter[str]()
    violation = ""
    with determined_by(seed, clock, lambda said: trace.append(f"{clock.now_s:.6f} said {said}")):
        try:
            _simulate(seed, folder, clock, trace, counts)
        except Exception as error:
            where = "" if isinstance(error, Violated) else traceback.format_exc()
            violation = f"{type(error).__name__}: {error}\n{where}".rstrip()
            trace.append(violation.replace(str(folder), ""))
    return World([line.replace(str(folder), "") for line in trace], counts, violation)


def _simulate(
    seed: int, folder: Path, clock: VirtualClock, trace: list[str], counts: Counter[str]
) -> None:
    chance = random.Random(f"{seed}")
    root = folder / "disk"
    root.mkdir()
    with faulty_disk(root):
        path = RunFolder.create(root / "runs", "simulated").path.relative_to(root)
    logs: dict[int, Log] = {}
    generation, fork, are_forks_known = 0, None, True
    for number in range(chance.choice([1, 1, 2, 3])):
        with faulty_disk(root) as disk:
            run = RunFolder.open(root / path)
            process = Process(run, disk, clock, chance, generation, fork)
            counts["processes"] += 1
            try:
                process.live(folder / f"disk{number}")
            except RunFolderError as error:
                trace.append(f"{clock.now_s:.6f} refused {error}")
                counts["refused"] += 1
                process.was_refused = True
        trace += process_trace(process)
        root = process.left or root
        run = RunFolder.open(root / path)
        log = logs[process.attempt] = check_process(process, run, logs)
        trace += [f"{process.attempt}/{event.seq} {tell(event)}" for event in log.events]
        counts += process_counts(process, log)
        is_forked = process.fork is not None and not process.was_refused
        is_known = any(type(event) is RunStarted for event in log.events)
        if is_forked and not is_known and process.writer.lost_events:
            counts["forks that are not recorded"] += 1
            are_forks_known = False
        generation += process.lost_power  # a sink's file may be behind its cursor, or ahead
        fork = None
        if log.events and chance.random() < 0.4:
            fork = Fork(process.attempt, chance.choice(log.events).seq, "checkpoints/1")
    puts = check_logs(run, logs)
    # Sinks took back what was superseded; the log cannot know it, if the disk took that event.
    if are_forks_known:
        check_sinks(run, puts, generation, folder / "anew")


def process_trace(process: Process) -> list[str]:
    """What a process did, a line each."""
    how = "ended" if process.ended else "lost power" if process.lost_power else "killed"
    lines = [f"process {process.attempt} {how} after {process.threads.turns} turns"]
    lines += [f"{name} got {got}" for name, got in process.got.items()]
    lines += [f"{name} took {taken}" for name, taken in process.taken.items()]
    return [*lines, f"disk {' '.join(process.disk.calls)}", f"durable {process.durable}"]


def process_counts(process: Process, log: Log) -> Counter[str]:
    """How much of what a process had."""
    counts = Counter({"events": len(log.events), "lost events": log.missing})
    counts["ended" if process.ended else "power cuts" if process.lost_power else "killed"] += 1
    counts["turns"] = process.threads.turns
    counts["commands"] = process.sent.total()
    counts["forks"] = process.fork is not None
    counts.update(type(event).__name__ for event in log.events)
    return counts


def search(first: int, number: int, folder: Path, tell_progress: bool) -> tuple[Counter[str], int]:
    """Simulate many seeds; returns what they had, and how many violated a promise."""
    counts, violations = Counter[str](), 0
    begin_s = time.monotonic()
    for seed in range(first, first + number):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            world = simulate(seed, Path(place))
        counts += world.counts
        if world.violation:
            violations += 1
            print(f"seed {seed}: {world.violation}", flush=True)
        done = seed - first + 1
        if tell_progress and done % 1000 == 0:
            print(f"{done} seeds, {time.monotonic() - begin_s:.0f} s", flush=True)
    return counts, violations


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate runs with faults, one for each seed.")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--trace", action="store_true", help="show all that happens")
    arguments = parser.parse_args()
    folder = DISK if DISK.is_dir() else Path(tempfile.gettempdir())
    if arguments.trace:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            world = simulate(arguments.seed, Path(place))
        print("\n".join(world.trace))
        return bool(world.violation)
    begin_s = time.monotonic()
    counts, violations = search(arguments.seed, arguments.seeds, folder, arguments.seeds > 1000)
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    took_s = time.monotonic() - begin_s
    print(f"{arguments.seeds} seeds from {arguments.seed}, {violations} violations, {took_s:.0f} s")
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main())
