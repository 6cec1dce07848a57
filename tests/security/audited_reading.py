"""Reads run folders, checkpoints and control messages that a stranger made, under an audit hook.

    python tests/security/audited_reading.py FOLDER READINGS

Prints as JSON how many were read, how often our errors refused one, and each event that says that
code was loaded or run, that somebody was connected to, or that a file outside FOLDER was written.
The interpreter itself raises these events; what reads cannot avoid them.
"""

import contextlib
import json
import os
import pickle
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import hostile
import torch
from fuzz_decoder import MESSAGES, sample_state

import nightbus as nb
from nightbus.actors.checkpoints.format import STATE, TENSORS, read_checkpoint, write_checkpoint
from nightbus.bus.errors import NightbusError
from nightbus.bus.system.logging_setup import get_logger

FORBIDDEN = frozenset(
    [
        "pickle.find_class",
        "exec",
        "compile",
        "import",
        "os.system",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "subprocess.Popen",
        "socket.connect",
        "socket.bind",
        "socket.sendto",
        "socket.getaddrinfo",
        "ctypes.dlopen",
        "code.__new__",
        "function.__new__",
        "marshal.load",
        "marshal.loads",
        "webbrowser.open",
    ]
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Not ``send``, which is for connecting; what it is answered is among the messages.
VERBS = tuple(verb for verb in hostile.READING_VERBS if verb[0] != "send")
ONE_OF_EACH = tuple({verb[0]: verb for verb in VERBS}.values())
FILES = ("run.json", "cursors/csv.json", hostile.LOG, hostile.OTHER_LOG)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.sentinel), "w")


class Watch:
    """Notes what is forbidden, while it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder)
        self.is_on = False
        self.seen: Counter[str] = Counter()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event == "compile" and _is_traceback():
            return
        if event in FORBIDDEN:
            self.seen[f"{event} {arguments!r}"[:200]] += 1
        elif event == "open":
            path, _, flags = arguments
            is_text = isinstance(path, str | bytes)
            if is_text and flags & WRITING and not self._is_inside(os.fsdecode(path)):
                self.seen[f"open to write {path!r}"] += 1

    def _is_inside(self, path: str) -> bool:
        return path == os.devnull or os.path.abspath(path).startswith(self.folder + os.sep)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """The hook listens."""
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False


def _is_traceback() -> bool:
    """Whether a traceback is being written: it parses our own line for the place to point at."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename == traceback.__file__:
            return True
        frame = frame.f_back
    return False


class Readings:
    """Reads, and counts.

    Args:
        folder: where; everything that is written lies in it.
        watch: what listens meanwhile.
    """

    def __init__(self, folder: Path, watch: Watch) -> None:
        self.watch = watch
        self.number = 0
        self.refused = 0
        self.sentinel = folder / "sentinel"
        self.run = hostile.make_run(folder, steps=2).path
        (self.run / "cursors/csv.json").unlink()
        sinks = (nb.CSV(), nb.JSONLines(), nb.SQLite(), nb.Parquet(), nb.TensorBoard())
        nb.replay(self.run, sinks=sinks, resume=True)
        self.sink_files = [path.name for path in self.run.glob("*") if path.is_file()]
        self.sound = {name: (self.run / name).read_bytes() for name in FILES}
        self.checkpoint = folder / "checkpoint"
        write_checkpoint(self.checkpoint, sample_state())
        self.tensors = {name: (self.checkpoint / name).read_bytes() for name in (STATE, TENSORS)}

    def all_ways(self) -> None:
        """Each way to read once, so that what is loaded on first use is loaded."""
        get_logger("nightbus.tests").warning("the first warning loads what writes warnings")
        for verb in VERBS:
            hostile.read_with_verb(verb, self.run)
        hostile.read_run(self.run)
        read_checkpoint(self.checkpoint)
        for data, decode in MESSAGES:
            decode(data)
            self._quietly(partial(decode, b"\xff"))
        for name in FILES:
            with self._instead(self.run / name, b"\xff" * 100):
                for verb in VERBS:
                    hostile.read_with_verb(verb, self.run)

    def read_mutants(self, number: int) -> None:
        """So many files and messages that differ from sound ones."""
        ways = (self._read_run, self._read_with_verb, self._read_checkpoint, self._read_message)
        for index in range(number):
            chance = random.Random(index)
            self._count(partial(ways[index % len(ways)], chance))

    def read_bombs(self) -> None:
        """A pickle that makes a file, and one as torch.save writes it, by each name there is."""
        torch_bomb = self.run.parent / "bomb.pt"
        torch.save(Bomb(self.sentinel), torch_bomb)
        bombs = (pickle.dumps(Bomb(self.sentinel)), torch_bomb.read_bytes())
        for bomb in bombs:
            for name in (*FILES, hostile.COMPRESSED, "attempt-000/lock", *self.sink_files):
                with self._instead(self.run / name, bomb):
                    for verb in ONE_OF_EACH:
                        self._count(partial(hostile.read_with_verb, verb, self.run))
            for name in (STATE, TENSORS):
                with self._instead(self.checkpoint / name, bomb):
                    self._count(partial(read_checkpoint, self.checkpoint))
            for _, decode in MESSAGES:
                self._count(partial(decode, bomb))

    def _count(self, read: Callable[[], object]) -> None:
        self.number += 1
        with self.watch.watching():
            self.refused += self._quietly(read)

    def _quietly(self, read: Callable[[], object]) -> bool:
        """Whether it was refused."""
        try:
            return isinstance(said := read(), str) and bool(said)
        except NightbusError:
            return True

    def _read_run(self, chance: random.Random) -> str:
        with self._mutant(chance):
            return hostile.read_run(self.run)

    def _read_with_verb(self, chance: random.Random) -> str:
        with self._mutant(chance):
            return hostile.read_with_verb(chance.choice(VERBS), self.run)

    def _read_checkpoint(self, chance: random.Random) -> None:
        name = chance.choice((STATE, TENSORS))
        with self._instead(self.checkpoint / name, hostile.mutate(self.tensors[name], chance)):
            read_checkpoint(self.checkpoint)

    def _read_message(self, chance: random.Random) -> None:
        sound, decode = chance.choice(MESSAGES)
        decode(hostile.mutate_json(sound, chance))

    def _mutant(self, chance: random.Random) -> contextlib.AbstractContextManager[None]:
        name = chance.choice(FILES)
        way = hostile.mutate_json if name.endswith(".json") else hostile.mutate
        way = hostile.mutate_inside if name == hostile.LOG else way
        return self._instead(self.run / name, way(self.sound[name], chance))

    @contextlib.contextmanager
    def _instead(self, path: Path, data: bytes) -> Iterator[None]:
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(data)
        try:
            yield
        finally:
            if before is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(before)


def main() -> None:
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    watch = Watch(folder)
    readings = Readings(folder, watch)
    readings.all_ways()
    readings.read_mutants(number)
    readings.read_bombs()
    print(
        json.dumps(
            {
                "readings": readings.number,
                "refused": readings.refused,
                "forbidden": watch.seen.most_common(20),
                "sentinel": readings.sentinel.exists(),
            }
        )
    )


if __name__ == "__main__":
    main()
