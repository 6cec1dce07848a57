"""A training process that is killed or interrupted: real processes, real signals."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import DEADLINE_S
from programs import Program, run_program

import nightbus as nb
from nightbus.bus.log.reader import EndKind, LogReader

SCRIPT = Path(__file__).parent / "training_process.py"


@contextmanager
def training(folder: Path, *options: str) -> Iterator[Program]:
    process = Program(
        [str(SCRIPT), str(folder), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: Program, line: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for found in process.stdout:
        lines.append(found.strip())
        if lines[-1] == line:
            return lines
    raise AssertionError(f"the process ended without printing {line!r}: {lines[-3:]}")


def the_run(folder: Path) -> nb.RunFolder:
    (path,) = (folder / "runs").iterdir()
    return nb.RunFolder.open(path)


def recorded(run: nb.RunFolder) -> tuple[list[nb.Event], LogReader]:
    reader = LogReader(run.store(0))
    return list(reader.events()), reader  # type: ignore[arg-type]


class Killed(NamedTuple):
    """A killed run, and what its process printed."""

    run: nb.RunFolder
    lines: list[str]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    with training(folder) as process:
        lines = read_until(process, "batch 40")
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
    return Killed(the_run(folder), [*lines, *rest.split("\n")])


def test_kill_minus_nine_loses_nothing_that_anybody_saw(killed: Killed) -> None:
    lines = killed.lines
    found, reader = recorded(killed.run)
    seqs = [event.seq for event in found]
    seen = [int(line.split()[1]) for line in lines if line.startswith("saw ")]
    steps = [int(line.split()[1]) for line in lines if line.startswith("batch ")]
    assert seqs == list(range(len(seqs)))
    assert max(seen) <= seqs[-1]
    assert reader.end().kind is not EndKind.SEALED
    # batch n is printed in its last hook, before its events are written at the step's end
    assert max(event.step for event in found) >= steps[-1] - 1


def test_a_killed_run_replays_what_is_there_and_says_that_it_was_cut(killed: Killed) -> None:
    class Counts(nb.Actor):
        losses = 0

        @nb.on(nb.Put, name="train_loss")
        async def count(self, put: nb.Put) -> None:
            self.losses += 1

    counts = Counts()
    replayed = nb.replay(killed.run.path, actors=[counts])

    assert counts.losses >= 39
    assert replayed.unclean != ""


def test_the_first_ctrl_c_ends_the_run_gracefully_and_the_log_says_so(tmp_path: Path) -> None:
    with training(tmp_path) as process:
        read_until(process, "batch 20")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()

    found, reader = recorded(the_run(tmp_path))
    (ended,) = [event for event in found if isinstance(event, nb.RunEnded)]
    assert process.returncode == 0, err
    assert out.strip().endswith("ended True")
    assert (ended.how, ended.reason) == ("interrupted", "Ctrl-C")
    assert reader.end().kind is EndKind.SEALED


def test_the_second_ctrl_c_ends_the_run_at_once(tmp_path: Path) -> None:
    hangs = f"""
import sys, time
sys.path.insert(0, {str(SCRIPT.parent.parent)!r})
from models import QUIET, Small, loader
import nightbus as nb

class Hangs(Small):
    def training_step(self, batch, batch_idx):
        print("hanging", flush=True)
        time.sleep(600)

nb.Trainer(max_epochs=1, default_root_dir={str(tmp_path)!r}, **QUIET).fit(Hangs(), loader())
"""
    process = Program(["-c", hangs], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        read_until(process, "hanging")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        for line in process.stderr:
            if "Ctrl-C again" in line:
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()

    (ended,) = [event for event in recorded(the_run(tmp_path))[0] if isinstance(event, nb.RunEnded)]
    assert process.returncode != 0
    assert ended.how == "interrupted"


def test_a_sink_that_blocks_is_given_up_after_the_drain_and_loses_nothing(tmp_path: Path) -> None:
    program = f"""
import sys, time
sys.path.insert(0, {str(SCRIPT.parent.parent)!r})
from models import QUIET, Small, loader
import nightbus as nb

class Blocks(nb.Sink):
    destination = "callbacks"
    def write(self, batch):
        time.sleep(600)

run = nb.Trainer(
    max_epochs=2, default_root_dir={str(tmp_path)!r}, sinks=[Blocks()], drain_timeout=0.2, **QUIET
)
run.fit(Small(), loader())
print("trained", run.global_step, flush=True)
"""
    done = run_program("-c", program, timeout=DEADLINE_S)

    class Collects(nb.Sink):
        name = "blocks"
        destination = "callbacks"

        def __init__(self) -> None:
            self.steps: list[int] = []

        def write(self, batch: list[nb.Put]) -> None:
            self.steps += [put.step for put in batch]

    collects = Collects()
    nb.replay(the_run(tmp_path).path, sinks=[collects], resume=True)
    assert "trained 12" in done.stdout, done.stderr
    assert "blocks stopped early" in done.stderr
    assert "sinks=[Blocks()], resume=True)" in done.stderr
    assert collects.steps == list(range(12))
