"""Who may write a run, and that those who read it are in nobody's way: with real processes."""

import signal
import subprocess
from pathlib import Path

import pytest
from helpers import DEADLINE_S, SMALL_SEGMENT_BYTES, Recording, read_log, values
from models import Small, loader, trainer
from programs import Program, run_program

import nightbus as nb
from nightbus.bus.errors import RunFolderError
from nightbus.bus.log.segments import compress_segment

HOLD = """
import sys
from nightbus.bus.runs.run_folder import RunFolder
lock = RunFolder.open(sys.argv[1]).begin_attempt()
print(lock.attempt, flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that writes a run, until it is killed."""

    def __init__(self, run: Path) -> None:
        self.process = Program(
            ["-c", HOLD, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.attempt = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run with a checkpoint."""
    run = trainer(tmp_path, max_epochs=1, enable_checkpointing=True)
    run.fit(Small(), loader())
    assert run.run_folder is not None
    return run.run_folder.path


def resume(run: Path) -> int:
    """Train on from the run's checkpoint; returns the steps that were done in all."""
    again = trainer(run.parents[1], max_epochs=2, enable_checkpointing=True)
    again.fit(Small(), loader(), ckpt_path=run / "checkpoints" / "last")
    return again.global_step


def test_a_run_that_another_process_writes_is_refused_before_training_with_its_pid(
    trained: Path,
) -> None:
    holder = Holder(trained)
    before = sorted(trained.iterdir())

    try:
        with pytest.raises(RunFolderError, match=f"written by process {holder.process.pid};"):
            resume(trained)
    finally:
        holder.kill()

    assert sorted(trained.iterdir()) == before


def test_a_killed_writer_holds_nothing(trained: Path) -> None:
    Holder(trained).kill()

    assert resume(trained) == 12


WITH_WORKER = """
import os, sys
from nightbus.bus.runs.run_folder import RunFolder
lock = RunFolder.open(sys.argv[1]).begin_attempt()
if os.fork():
    os.kill(os.getpid(), 9)
print(flush=True)
sys.stdin.read()
"""


def test_a_worker_that_outlives_a_killed_writer_holds_nothing(trained: Path) -> None:
    pipe = subprocess.PIPE
    with Program(["-c", WITH_WORKER, trained], stdin=pipe, stdout=pipe) as writer:
        assert writer.wait(DEADLINE_S) == -signal.SIGKILL
        assert writer.stdout is not None
        assert writer.stdout.readline() == "\n"

        assert resume(trained) == 12


RACE = """
import os, sys
from nightbus.bus.errors import RunFolderError
from nightbus.bus.runs.run_folder import RunFolder
run = RunFolder.create(__import__("pathlib").Path(sys.argv[1]), "race")
for _ in range(40):
    go, start = os.pipe()
    answers, answer = os.pipe()
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            os.close(start)
            os.read(go, 1)  # ends when all are ready
            try:
                lock = run.begin_attempt()
                os.write(answer, b"w")
            except RunFolderError:
                os.write(answer, b"r")
            os.close(answer)
            sys.stdin.read()  # keeps what it has
            os._exit(0)
        children.append(child)
    os.close(start)
    os.close(answer)
    found = b""
    while len(found) < 4:
        found += os.read(answers, 4)
    print(found.count(b"w"), flush=True)
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
"""


def test_of_processes_that_begin_at_once_exactly_one_writes(tmp_path: Path) -> None:
    done = Program(["-c", RACE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert done.stdout is not None

    winners = [int(line) for line in done.stdout]
    done.communicate(timeout=DEADLINE_S)

    assert winners == [1] * 40


# -- readers ---------------------------------------------------------------------------------------


class Written:
    """A run that this process writes."""

    def __init__(self, root: Path) -> None:
        self.run = nb.RunFolder.create(root, "written")
        self.lock = self.run.begin_attempt()
        self.store = self.run.store(self.lock.attempt)
        self.log = Recording(self.store, segment_bytes=SMALL_SEGMENT_BYTES)

    def end(self) -> None:
        self.log.writer.close()
        self.lock.release()


WATCHED = """
import fcntl, os, sys
done = []

def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            done.append(f"opened {arguments[0]} for writing")
    elif event in ("fcntl.flock", "fcntl.lockf"):
        operation = arguments[1]
        if operation & fcntl.LOCK_EX or not operation & fcntl.LOCK_NB:
            done.append(f"{event} {operation}")
    elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate",
                   "os.link", "os.symlink", "os.utime"):
        done.append(f"{event} {arguments}")

from nightbus.__main__ import main
sys.dont_write_bytecode = True
sys.addaudithook(watch)
main(sys.argv[1:])
print(done, file=sys.stderr)
"""


@pytest.mark.parametrize("verb", [["show"], ["tail"], ["doctor"]], ids=lambda verb: " ".join(verb))
def test_a_reader_changes_nothing_and_waits_for_no_lock(tmp_path: Path, verb: list[str]) -> None:
    written = Written(tmp_path)
    written.log.steps(40)

    done = run_program("-c", WATCHED, *verb, str(written.run.path), timeout=DEADLINE_S)
    written.end()

    assert done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_reader_that_stands_still_in_the_middle_does_not_hold_up_the_writer(
    tmp_path: Path,
) -> None:
    written = Written(tmp_path)
    written.log.steps(1)
    command = ["tail", "-f", "-n", "1", "--metric", "x", str(written.run.path)]
    reader = Program(["-m", "nightbus", *command], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    assert "x = 0" in reader.stdout.readline()

    reader.send_signal(signal.SIGSTOP)
    written.log.steps(100)
    written.log.writer.sync()
    for index in written.store.indices()[:-1]:
        compress_segment(written.store, index)
    written.end()
    following = written.run.begin_attempt()
    following.release()
    reader.send_signal(signal.SIGCONT)

    lines, _ = reader.communicate(timeout=DEADLINE_S)
    assert reader.returncode == 0
    assert [line.split()[-2] for line in lines.splitlines()] == [str(n) for n in range(1, 101)]
    assert values(read_log(written.store)) == list(range(101))
