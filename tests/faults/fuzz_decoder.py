"""Feeds mutants of real logs, run folders, checkpoints and control messages to all that reads them.

    make fuzz MUTANTS=1000000 SEED=1

Only nightbus's own errors may come out, within seconds, and with at most 512 MiB of address space
beyond what the imports take. A mutant is made from the seed and its number alone, so that
``--first NUMBER --mutants 1`` shows one again.
"""

import argparse
import contextlib
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import hostile
import msgspec
import torch

from nightbus.actors.checkpoints.format import STATE, TENSORS, read_checkpoint, write_checkpoint
from nightbus.bus.control.protocol import (
    COMMAND,
    Answer,
    Request,
    RunStatus,
    decode_answer,
    decode_request,
    encode_line,
)
from nightbus.bus.errors import NightbusError
from nightbus.bus.log.reader import LogReader
from nightbus.bus.log.segments import FolderStore, read_footer
from nightbus.bus.system.logging_setup import get_logger

EXTRA_ADDRESS_SPACE = 512 << 20
SECONDS_A_MUTANT = 20


class Hang(Exception):
    """A mutant took too long."""


class Finding(NamedTuple):
    """A mutant that did what none may.

    Attributes:
        number: which.
        kind: what it is a mutant of.
        what: what happened.
    """

    number: int
    kind: str
    what: str


class Fuzzer:
    """Makes mutants in a folder, and reads them.

    Args:
        folder: where; in memory if possible.
        seed: of the mutants.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.kinds: Counter[str] = Counter()
        self.refused = 0
        self.findings: list[Finding] = []
        run = hostile.make_run(folder, steps=2)
        self._run = run.path
        for verb in hostile.READING_VERBS:  # what they load on first use takes room too
            hostile.read_with_verb(verb, self._run)
        files = ("run.json", "cursors/csv.json", hostile.LOG, hostile.OTHER_LOG)
        self._files = {name: (run.path / name).read_bytes() for name in files}
        self._log = self._files[hostile.LOG]
        self._store = FolderStore(folder / "log")
        self._store.folder.mkdir()
        self._checkpoint = folder / "checkpoint"
        write_checkpoint(self._checkpoint, sample_state())
        self._checkpoint_files = {
            name: (self._checkpoint / name).read_bytes() for name in (STATE, TENSORS)
        }

    def run(self, first: int, number: int) -> None:
        """Make and read so many mutants."""
        ways: tuple[tuple[str, Callable[[random.Random], object]], ...] = (
            *[("log", self._read_log)] * 12,
            *[("log with right checksums", self._read_inside)] * 12,
            *[("checkpoint", self._read_checkpoint)] * 4,
            *[("control message", self._read_message)] * 4,
            ("run folder", self._read_run),
            ("run folder, by a verb", self._read_with_verb),
            ("run of strange values, by a verb", self._read_strange),
        )
        for index in range(first, first + number):
            chance = random.Random(f"{self.seed}-{index}")
            kind, way = ways[chance.randrange(len(ways))]
            self.kinds[kind] += 1
            signal.alarm(SECONDS_A_MUTANT)
            try:
                if way(chance):
                    self.refused += 1
            except NightbusError:
                self.refused += 1
            except (Exception, MemoryError) as error:
                self._find(index, kind, f"{type(error).__name__}: {error}"[:300])
            finally:
                signal.alarm(0)

    def crafted(self) -> None:
        """Logs that are made to hurt."""
        for name, data in hostile.crafted_logs():
            path = self._run / name
            sound = path.read_bytes() if path.exists() else None
            path.write_bytes(data)
            self.kinds["crafted"] += 1
            if name == hostile.COMPRESSED:
                (self._run / hostile.LOG).unlink()
            signal.alarm(SECONDS_A_MUTANT)
            try:
                if hostile.read_run(self._run):
                    self.refused += 1
            except (Exception, MemoryError) as error:
                self._find(-1, "crafted", f"{type(error).__name__}: {error}"[:300])
            finally:
                signal.alarm(0)
                if sound is None:
                    path.unlink()
                (self._run / hostile.LOG).write_bytes(self._log)

    def _find(self, number: int, kind: str, what: str) -> None:
        self.findings.append(Finding(number, kind, what))
        print(f"mutant {number} of a {kind}: {what}", file=sys.stderr, flush=True)

    def _read_log(self, chance: random.Random) -> None:
        self._read_bytes(hostile.mutate(self._log, chance))

    def _read_inside(self, chance: random.Random) -> None:
        self._read_bytes(hostile.mutate_inside(self._log, chance))

    def _read_bytes(self, data: bytes) -> None:
        self._store.path(0).write_bytes(data)
        reader = LogReader(self._store)
        try:
            for _ in reader.events():
                pass
        finally:
            reader.end()
            reader.close()
        read_footer(self._store, 0)

    def _read_checkpoint(self, chance: random.Random) -> None:
        name = chance.choice((STATE, TENSORS))
        with self._changed(self._checkpoint / name, self._checkpoint_files[name], chance):
            read_checkpoint(self._checkpoint)

    def _read_message(self, chance: random.Random) -> None:
        sound, decode = chance.choice(MESSAGES)
        decode(hostile.mutate_json(sound, chance))

    def _read_run(self, chance: random.Random) -> str:
        with self._changed_file(chance):
            return hostile.read_run(self._run)

    def _read_with_verb(self, chance: random.Random) -> str:
        with self._changed_file(chance):
            return hostile.read_with_verb(chance.choice(hostile.READING_VERBS), self._run)

    def _read_strange(self, chance: random.Random) -> str:
        name, make = "run.json", lambda _, chance: hostile.strange_json(chance)
        if chance.random() < 0.8:
            name, make = hostile.LOG, hostile.strange_log
        with self._changed(self._run / name, self._files[name], chance, make):
            return hostile.read_with_verb(chance.choice(hostile.READING_VERBS), self._run)

    def _changed_file(self, chance: random.Random) -> contextlib.AbstractContextManager[None]:
        name = chance.choice(list(self._files))
        mutation = hostile.mutate
        if name == hostile.LOG and chance.random() < 0.8:
            mutation = hostile.mutate_inside
        elif name.endswith(".json"):
            mutation = hostile.mutate_json
        return self._changed(self._run / name, self._files[name], chance, mutation)

    @contextlib.contextmanager
    def _changed(
        self,
        path: Path,
        sound: bytes,
        chance: random.Random,
        mutation: Callable[[bytes, random.Random], bytes] = hostile.mutate,
    ) -> Iterator[None]:
        path.write_bytes(mutation(sound, chance))
        try:
            yield
        finally:
            path.write_bytes(sound)


MESSAGES: tuple[tuple[bytes, Callable[[bytes], object]], ...] = (
    (encode_line(Request("stop", "loss is nan", 2.5)), decode_request),
    (
        encode_line(
            Request(
                COMMAND,
                to="rates",
                command="team.SetRate",
                arguments=msgspec.Raw(b'{"rate": 0.1, "why": {"a": [1, null]}}'),
            )
        ),
        decode_request,
    ),
    (
        encode_line(
            Answer(
                "late",
                "it may still be done",
                RunStatus(1, "digits-7f3a", 0, "fit", "train", 1, 2, 3, False, True, True, 1.5, 0),
                msgspec.Raw(b'{"rate": [0.1]}'),
            )
        ),
        decode_answer,
    ),
)


def sample_state() -> dict[str, Any]:
    """What a checkpoint may hold: all types of values."""
    return {
        "epoch": 3,
        "state_dict": {"weight": torch.ones(2, 3), "bias": torch.zeros(3, dtype=torch.float64)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(4)}}, "param_groups": [[1, 2]]}],
        "rng": {"python": (3, tuple(range(40)), None), "half": torch.ones(4, dtype=torch.bfloat16)},
        "text": "text",
        "bytes": b"bytes",
    }


def limit_address_space() -> None:
    """Let this process take so much more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + EXTRA_ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _on_alarm(number: int, frame: FrameType | None) -> NoReturn:
    raise Hang(f"nothing came of it in {SECONDS_A_MUTANT} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    get_logger("nightbus")  # set up before its output is closed
    shared = Path("/dev/shm")
    place = tempfile.mkdtemp(prefix="nightbus-fuzz-", dir=shared if shared.is_dir() else None)
    signal.signal(signal.SIGALRM, _on_alarm)
    began_s = time.monotonic()
    try:
        fuzzer = Fuzzer(Path(place), options.seed)
        limit_address_space()
        fuzzer.crafted()
        fuzzer.run(options.first, options.mutants)
    finally:
        shutil.rmtree(place)
    print(
        json.dumps(
            {
                "mutants": options.mutants,
                "seed": options.seed,
                "kinds": dict(fuzzer.kinds),
                "refused": fuzzer.refused,
                "findings": len(fuzzer.findings),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
                "seconds": round(time.monotonic() - began_s),
            }
        )
    )
    return 1 if fuzzer.findings else 0


if __name__ == "__main__":
    sys.exit(main())
