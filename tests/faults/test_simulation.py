"""Simulated runs: no seed violates a promise, and what is broken on purpose is found."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import simulation
import trio
import trio.lowlevel
from simulation import DISK, World, search, simulate

from nightbus.bus import housekeeping, observer
from nightbus.bus.bus import Bus
from nightbus.bus.closing import Closing
from nightbus.bus.drain import Drain
from nightbus.bus.log import segment_file, segments
from nightbus.bus.log import writer as log_writer
from nightbus.bus.log.codec import DecodedEvent
from nightbus.bus.log.reader import LogReader
from nightbus.bus.log.segments import FolderStore
from nightbus.bus.log.writer import LogWriter
from nightbus.bus.mail import reply
from nightbus.bus.mail.mailbox import Envelope, Mailbox
from nightbus.bus.observer import Observer, RestartBudget
from nightbus.bus.post_office import PostOffice
from nightbus.bus.runs import lineage
from nightbus.sinks.growing_file import GrowingFile

SEEDS = 200
SEEDS_TO_FIND = 150

Breaks = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory, where there is such a place."""
    with tempfile.TemporaryDirectory(dir=DISK if DISK.is_dir() else None) as path:
        yield Path(path)


def simulate_in(folder: Path, seed: int) -> World:
    folder.mkdir()
    world = simulate(seed, folder)
    shutil.rmtree(folder)
    return world


def test_no_seed_violates_a_promise(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts, violations = search(1, SEEDS, folder, tell_progress=False)

    assert violations == 0, capsys.readouterr().out
    # And it was worth looking.
    for what in ("ended", "killed", "power cuts", "ActorRestarted", "Gap", "forks", "DeadLetter"):
        assert counts[what] > 0, what


@pytest.mark.parametrize("seed", [5, 20, 21, 33, 35])
def test_a_seed_does_the_same_again(seed: int, folder: Path) -> None:
    traces = [simulate_in(folder / name, seed).trace for name in "ab"]

    assert len(traces[0]) > 20
    assert traces[0] == traces[1]


@pytest.fixture
def a_bus_thread_that_was_left() -> Iterator[None]:
    """As a test leaves one whose actor hangs: its trio runs on, in the same process."""
    is_over = threading.Event()

    async def beat() -> None:
        while not is_over.is_set():
            await trio.lowlevel.checkpoint()

    async def run_on() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat)
            nursery.start_soon(beat)

    thread = threading.Thread(target=trio.run, args=(run_on,))
    thread.start()
    yield
    is_over.set()
    thread.join()


def test_a_seed_does_the_same_beside_another_bus_thread(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    alone = simulate_in(folder / "alone", 5).trace
    request.getfixturevalue("a_bus_thread_that_was_left")

    assert simulate_in(folder / "beside", 5).trace == alone


def test_a_seed_does_the_same_in_another_process() -> None:
    command = [sys.executable, simulation.__file__, "--seed", "33", "--trace"]
    tests = Path(__file__).parents[1]

    traces = []
    for hash_seed in "12":
        path = os.pathsep.join([str(tests), *sys.path])
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        traces.append(done.stdout)

    assert len(traces[0]) > 1_000
    assert traces[0] == traces[1]


# -- what is broken on purpose ---------------------------------------------------------------------


def does_not_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LogWriter, "sync", lambda self: None)


def does_not_sync_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FolderStore, "sync_names", lambda self: None)


def writes_a_segment_anew_unsynced(patch: pytest.MonkeyPatch) -> None:
    compress = segments.compress_segment

    def write_anew_and_compress(store: FolderStore, index: int) -> None:
        data = store.path(index).read_bytes()
        store.path(index).unlink()
        store.path(index).write_bytes(data)
        compress(store, index)

    patch.setattr(housekeeping, "compress_segment", write_anew_and_compress)


def tells_one_too_few(patch: pytest.MonkeyPatch) -> None:
    gap = LogWriter._gap
    patch.setattr(LogWriter, "_gap", lambda self, number, *rest: gap(self, number - 1, *rest))


def forgets_what_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LogWriter, "problems", lambda self: [])


def writes_over_what_is_there(patch: pytest.MonkeyPatch) -> None:
    append = segment_file.open_segment_file

    def open_file(fd: int) -> Any:
        file = append(fd)
        write = file.append

        def append_over(data: bytes) -> None:
            write(data)
            if random.Random(len(data)).random() < 0.05:
                file.size -= len(data)

        file.append = append_over  # type: ignore[method-assign]
        return file

    patch.setattr(log_writer, "open_segment_file", open_file)


def passes_over_events(patch: pytest.MonkeyPatch) -> None:
    read = LogReader.read

    def read_less(self: LogReader, *arguments: Any) -> list[DecodedEvent]:
        events = read(self, *arguments)
        return events[:-1] if len(events) == 3 and self._limit is not None else events

    patch.setattr(LogReader, "read", read_less)


def moves_on_before_delivery(patch: pytest.MonkeyPatch) -> None:
    deliver = Observer._deliver

    async def move_and_deliver(self: Observer, events: Any, after: Any) -> None:
        self.position = after
        await deliver(self, events, after)

    patch.setattr(Observer, "_deliver", move_and_deliver)


def does_not_cut_off(patch: pytest.MonkeyPatch) -> None:
    reopen = GrowingFile.reopen.__func__  # type: ignore[attr-defined]

    def reopen_all(cls: type[GrowingFile], path: Path, size: int) -> GrowingFile:
        found: GrowingFile = reopen(cls, path, max(size, path.stat().st_size))
        return found

    patch.setattr(GrowingFile, "reopen", classmethod(reopen_all))


def commits_what_is_not_delivered(patch: pytest.MonkeyPatch) -> None:
    commit = Observer._commit_now

    def commit_ahead(self: Observer) -> None:
        delivered = self.position
        self.position = delivered._replace(seq=delivered.seq + 1)
        commit(self)
        self.position = delivered

    patch.setattr(Observer, "_commit_now", commit_ahead)


def takes_the_newest_first(patch: pytest.MonkeyPatch) -> None:
    def take(self: Mailbox) -> Envelope | None:
        if not self._waiting:
            return None
        self._delivered += 1
        return self._waiting.pop()

    patch.setattr(Mailbox, "take", take)


def has_no_limit(patch: pytest.MonkeyPatch) -> None:
    def admit(self: Mailbox, envelope: Envelope) -> tuple[str, list[Envelope]]:
        if not self.is_open:
            return "the actor has stopped", []
        self._waiting.append(envelope)
        return "", []

    patch.setattr(Mailbox, "_admit", admit)


def drops_without_counting(patch: pytest.MonkeyPatch) -> None:
    admit = Mailbox._admit
    patch.setattr(Mailbox, "_admit", lambda self, envelope: (admit(self, envelope)[0], []))


def closes_without_counting(patch: pytest.MonkeyPatch) -> None:
    def close(self: Mailbox) -> list[Envelope]:
        self.is_open = False
        left = list(self._waiting)
        self._waiting.clear()
        return left

    patch.setattr(Mailbox, "close", close)


def says_one_drop_for_many(patch: pytest.MonkeyPatch) -> None:
    make = PostOffice._make_dropped

    def make_one(self: PostOffice, writer: LogWriter, key: Any, policy: str) -> Any:
        self._drops[key] = 1
        return make(self, writer, key, policy)

    patch.setattr(PostOffice, "_make_dropped", make_one)


def does_not_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reply.Reply, "fail", lambda self, error: None)


def ignores_the_deadline(patch: pytest.MonkeyPatch) -> None:
    wait = reply.Reply.wait_async
    patch.setattr(
        reply.Reply, "wait_async", lambda self, timeout_s, *rest: wait(self, timeout_s + 1, *rest)
    )


def restarts_once_too_often(patch: pytest.MonkeyPatch) -> None:
    decide = RestartBudget.next_delay_s

    def decide_kindly(self: RestartBudget, now_s: float) -> float | None:
        delay_s = decide(self, now_s)
        if delay_s is None and len(self._times) < 3:
            self._times.append(now_s)
            return 0.0
        return delay_s

    patch.setattr(RestartBudget, "next_delay_s", decide_kindly)


def does_not_back_off(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(observer, "MAX_DOUBLINGS", 0)


def waits_for_everyone(patch: pytest.MonkeyPatch) -> None:
    await_ = Drain._await
    patch.setattr(
        Drain,
        "_await",
        lambda self, is_ready, timeout_s, until_s: await_(self, is_ready, timeout_s, until_s + 30),
    )


def goes_on_after_the_end(patch: pytest.MonkeyPatch) -> None:
    record_end = Closing._record_end

    def record_and_go_on(self: Closing, ended: Any) -> None:
        writer = self._recorder.writer
        assert writer is not None
        owner = writer.owner
        record_end(self, ended)
        writer.takes, writer.owner = True, owner

    patch.setattr(Closing, "_record_end", record_and_go_on)


def names_nobody(patch: pytest.MonkeyPatch) -> None:
    close = Bus.close

    def close_and_say_nothing(self: Bus, *arguments: Any) -> list[Observer]:
        close(self, *arguments)
        return []

    patch.setattr(Bus, "close", close_and_say_nothing)


def keeps_what_was_superseded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lineage, "_forked", lambda views, fork, *rest: list(views[fork.attempt]))


BROKEN: list[Breaks] = [
    does_not_sync,
    does_not_sync_names,
    writes_a_segment_anew_unsynced,
    tells_one_too_few,
    forgets_what_is_lost,
    writes_over_what_is_there,
    passes_over_events,
    moves_on_before_delivery,
    does_not_cut_off,
    commits_what_is_not_delivered,
    takes_the_newest_first,
    has_no_limit,
    drops_without_counting,
    closes_without_counting,
    says_one_drop_for_many,
    does_not_answer,
    ignores_the_deadline,
    restarts_once_too_often,
    does_not_back_off,
    waits_for_everyone,
    goes_on_after_the_end,
    names_nobody,
    keeps_what_was_superseded,
]


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_what_is_broken_on_purpose_is_found(
    breaks: Breaks, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(monkeypatch)

    for seed in range(1, SEEDS_TO_FIND + 1):
        world = simulate_in(folder / f"{seed}", seed)
        if world.violation:
            break
    else:
        pytest.fail(f"{SEEDS_TO_FIND} seeds did not find it")

    print(f"found by seed {seed}: {world.violation[:200]}")
    assert simulate_in(folder / "again", seed).trace == world.trace


def test_a_violation_is_told_with_the_seed_that_shows_it_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names_nobody(monkeypatch)

    _, violations = search(1, 5, folder, tell_progress=False)

    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("seed ")]
    assert 0 < violations == len(told)
    seed = int(told[0].split()[1].removesuffix(":"))
    assert simulate(seed, folder).violation.splitlines()[0] in told[0]
