"""A run is steered from other processes: real ones, over the real socket."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers import DEADLINE_S, eventually, nightbus
from models import Small, events, loader, trainer
from programs import Program, run_program
from steered_runs import Training, recorded, talk, training

import nightbus as nb
from nightbus.bus.bus_thread import BusThread
from nightbus.bus.control import server as control
from nightbus.bus.control import socket as control_socket
from nightbus.bus.control.protocol import (
    MAX_LINE_BYTES,
    Answer,
    Request,
    decode_answer,
    encode_line,
)
from nightbus.bus.control.socket import SOCKET_NAME, Peer, connect, is_listening, listen
from nightbus.bus.errors import ControlError
from nightbus.bus.inspection.control_client import send

pytestmark = pytest.mark.long


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Training]:
    with training(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    """One for the tests that leave it as it was."""
    with training(tmp_path_factory.mktemp("lasting"), "--umask", "0") as started:
        yield started


class Stopped(NamedTuple):
    """A run that ``nightbus send`` has stopped."""

    run: nb.RunFolder
    answer: str
    sender_pid: int
    last_line: str


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    with training(tmp_path_factory.mktemp("stopped")) as live:
        sender = Program(
            ["-m", "nightbus", "send", str(live.run.path), *("stop", "--reason", "seen enough")],
            stdout=subprocess.PIPE,
        )
        answer, _ = sender.communicate(timeout=DEADLINE_S)
        return Stopped(live.run, answer, sender.pid, live.end())


# -- what a run does when it is told -------------------------------------------------------------


def test_stop_ends_the_run_and_says_so(stopped: Stopped) -> None:
    assert re.fullmatch(
        r"stop: the run ends after the step; now epoch [\d,]+, step [\d,]+\n", stopped.answer
    )
    assert stopped.last_line == "ended seen enough"


def test_stop_before_the_least_number_of_steps_says_when_it_ends(tmp_path: Path) -> None:
    with training(tmp_path, "--min-steps", "1000000") as live:
        done = nightbus("send", live.run.path, "stop")

        assert "the run ends when min_epochs and min_steps are reached" in done.stdout
        assert live.process.poll() is None


def test_pause_holds_the_run_and_resume_lets_it_go_on(lasting: Training) -> None:
    paused = nightbus("send", lasting.run.path, "pause")
    held = lasting.step()
    still = lasting.step()
    resumed = nightbus("send", lasting.run.path, "resume")

    assert "pause: the run holds here, until resume or stop; now epoch" in paused.stdout
    assert held == still
    assert "resume: the run goes on; now epoch" in resumed.stdout
    eventually(lambda: lasting.step() > held)


def test_a_run_that_is_paused_can_be_stopped(live: Training) -> None:
    nightbus("send", live.run.path, "pause")

    nightbus("send", live.run.path, "stop")

    assert live.end() == "ended a Stop command"


def test_validate_answers_when_validation_is_done(lasting: Training) -> None:
    done = nightbus("send", lasting.run.path, "validate")

    assert done.stdout.startswith("validate: validated; now epoch")


def test_status_says_where_the_run_is_and_its_latest_metrics(lasting: Training) -> None:
    eventually(lambda: lasting.step() > 10)

    shown = nightbus("send", lasting.run.path, "status").stdout

    assert f"{lasting.run.info.id} attempt 0: fit running (pid {lasting.process.pid})" in shown
    assert re.search(r"epoch [\d,]+, step [\d,]+", shown)
    assert "train_loss = " in shown


def test_status_as_json_has_every_part(lasting: Training) -> None:
    eventually(lambda: lasting.step() > 10)
    send(lasting.run, Request("pause"))
    try:
        shown = json.loads(nightbus("send", lasting.run.path, "status", "--json").stdout)
    finally:
        send(lasting.run, Request("resume"))

    assert shown["kind"] == "done"
    status = shown["status"]
    assert (status["run"], status["attempt"], status["fn"]) == (lasting.run.info.id, 0, "fit")
    assert status["paused"] is True
    assert {"stage", "epoch", "step", "batch_idx", "running_s"} <= status.keys()
    assert "train_loss" in shown["metrics"]
    assert (shown["faults"], shown["number_of_faults"]) == ([], 0)


def test_the_log_says_who_sent_a_command(stopped: Stopped) -> None:
    (taken,) = [event for event in recorded(stopped.run) if isinstance(event, nb.CommandTaken)]
    assert (taken.command, taken.target) == ("Stop", "fit")
    assert taken.source == f"nightbus send (pid {stopped.sender_pid})"
    assert json.loads(taken.arguments) == {"reason": "seen enough"}


def test_a_command_that_waits_for_a_safe_point_is_late_and_still_acted_on(tmp_path: Path) -> None:
    in_validation, told = threading.Event(), threading.Event()

    class Holds(Small):
        def on_validation_epoch_start(self) -> None:
            in_validation.set()
            assert told.wait(DEADLINE_S)

    answers: list[Answer] = []
    run = trainer(tmp_path, max_epochs=5, num_sanity_val_steps=0)

    def steer() -> None:
        in_validation.wait(DEADLINE_S)
        assert run.run_folder is not None
        answers.append(send(run.run_folder, Request("stop", timeout_s=0.01)))
        told.set()

    steering = threading.Thread(target=steer)
    steering.start()
    run.fit(Holds(), loader(), loader(8))
    steering.join()

    assert answers[0].kind == "late"
    assert "it waits for the next safe point" in answers[0].message
    assert run.current_epoch == 1


def test_a_command_that_comes_too_late_is_answered_when_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Answer] = []
    run = trainer(tmp_path)
    posted = threading.Event()

    def steer() -> None:
        assert run.run_folder is not None
        answers.append(send(run.run_folder, Request("pause", timeout_s=3600)))

    steering = threading.Thread(target=steer)

    class IsAtItsEnd(Small):
        def on_train_end(self) -> None:
            assert run.run_folder is not None
            eventually((run.run_folder.path / SOCKET_NAME).exists)
            before = run.bus.post

            def post(*arguments: Any) -> None:
                before(*arguments)
                posted.set()

            monkeypatch.setattr(run.bus, "post", post)
            steering.start()
            assert posted.wait(DEADLINE_S)

    run.fit(IsAtItsEnd(), loader())
    steering.join()

    assert answers[0].kind == "failed"
    assert "the run ended before it was taken" in answers[0].message


def test_a_command_that_ctrl_c_ends_is_answered_and_holds_nothing_up(tmp_path: Path) -> None:
    answers: list[Answer] = []
    run = trainer(tmp_path, max_epochs=-1, num_sanity_val_steps=0, check_val_every_n_epoch=10_000)

    class IsInterrupted(Small):
        def on_validation_start(self) -> None:
            raise KeyboardInterrupt

    def steer() -> None:
        folder = eventually(lambda: run.run_folder)
        eventually((folder.path / SOCKET_NAME).exists)
        answers.append(send(folder, Request("validate", timeout_s=3600)))

    steering = threading.Thread(target=steer)
    steering.start()
    run.fit(IsInterrupted(), loader(), loader(8))
    steering.join()

    assert run.interrupted
    assert (answers[0].kind, answers[0].message) == (
        "failed",
        "fit was interrupted while it handled RunValidation",
    )


def test_a_function_without_safe_points_says_that_it_takes_no_commands(tmp_path: Path) -> None:
    answers: list[Answer] = []
    run = trainer(tmp_path)

    class Asks(Small):
        def on_validation_start(self) -> None:
            folder = run.run_folder
            assert folder is not None
            eventually((folder.path / SOCKET_NAME).exists)
            answers.append(send(folder, Request("stop")))
            answers.append(send(folder, Request("status")))

    run.validate(Asks(), loader())

    stop, status = answers
    assert (stop.kind, status.kind) == ("failed", "done")
    assert "validate takes no commands; Ctrl-C ends it" in stop.message
    assert status.status is not None
    assert status.status.stage == "validate"


# -- runs that cannot be steered -----------------------------------------------------------------


def test_a_run_that_has_ended_is_said_to_have_ended(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(Small(), loader())
    assert run.log_dir is not None

    done = nightbus("send", run.log_dir, "stop")

    assert done.returncode == 1
    assert "is not running: attempt 0 has ended (completed)" in done.stderr


def test_a_run_whose_process_was_killed_is_said_to_be_gone(tmp_path: Path) -> None:
    path = killed_run(tmp_path)

    done = nightbus("send", path, "status")

    assert is_socket(path / SOCKET_NAME)
    assert done.returncode == 1
    assert "is not running: the process of attempt 0 is gone" in done.stderr


def killed_run(root: Path) -> Path:
    """A run that listened at its socket and recorded an event when its process was killed."""
    program = """
import os, sys
from pathlib import Path
import nightbus as nb
from nightbus.bus.control.socket import listen
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.log.place import Place

run = nb.RunFolder.create(Path(sys.argv[1]) / "runs", "killed")
lock = run.begin_attempt()
writer = LogWriter(run.store(0), LogIdentity(run.info.id), Place())
writer.append(writer.event(nb.Put, "loss", 0.5, (), ""))
writer.flush()
listening = listen(run.path)
os.kill(os.getpid(), 9)
"""
    run_program("-c", program, root, timeout=DEADLINE_S)
    (path,) = (root / "runs").iterdir()
    return path


def is_socket(path: Path) -> bool:
    return stat.S_ISSOCK(path.lstat().st_mode)


def test_a_run_without_a_socket_is_told_apart_from_one_that_is_over(tmp_path: Path) -> None:
    run = nb.RunFolder.create(tmp_path, "x")
    lock = run.begin_attempt()

    done = nightbus("send", run.path, "stop")

    lock.release()
    assert done.returncode == 1
    assert "Trainer(control=False)" in done.stderr


def test_the_socket_can_be_turned_off(tmp_path: Path) -> None:
    run = trainer(tmp_path, control=False)
    found: list[bool] = []

    class Looks(Small):
        def on_train_end(self) -> None:
            assert run.log_dir is not None
            found.append((Path(run.log_dir) / SOCKET_NAME).exists())

    run.fit(Looks(), loader())

    assert found == [False]


def test_a_process_that_hangs_is_said_not_to_answer(
    lasting: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightbus.bus.inspection.control_client.GRACE_S", 0.1)
    lasting.freeze()
    try:
        with pytest.raises(ControlError, match="does not answer"):
            send(lasting.run, Request("status", timeout_s=0.1))
    finally:
        lasting.thaw()


def test_a_run_is_found_by_the_beginning_of_its_id_and_as_the_last_one(lasting: Training) -> None:
    root = lasting.run.path.parent.parent
    for name in (lasting.run.info.id, lasting.run.info.id[:-2], "last"):
        assert nightbus("send", name, "status", cwd=root).returncode == 0


def test_the_beginning_of_several_ids_is_refused(tmp_path: Path) -> None:
    for _ in range(2):
        nb.RunFolder.create(tmp_path / "runs", "twin")

    done = nightbus("send", "twin", "status", cwd=tmp_path)

    assert done.returncode == 2
    assert "twin may be any of 2 runs; give more of the id" in done.stderr


def test_importing_nightbus_opens_no_socket() -> None:
    code = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda name, _: opened.append(name) if name.startswith('socket.') and "
        "name != 'socket.gethostname' else None)\n"
        "import nightbus, nightbus.bus.bus, nightbus.bus.control.server\n"
        "import nightbus.bus.inspection.control_client\n"
        "print(opened)"
    )
    done = run_program("-c", code, timeout=DEADLINE_S)

    assert done.stdout.strip() == "[]", done.stderr


# -- who may steer it ----------------------------------------------------------------------------


def test_socket_and_folder_are_their_owners_alone_whatever_the_umask(lasting: Training) -> None:
    # Its umask is 0.
    assert stat.S_IMODE(lasting.socket_path.lstat().st_mode) == 0o600
    assert stat.S_IMODE(lasting.run.path.stat().st_mode) == 0o700


def test_another_user_gets_no_answer_and_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answers: list[bytes] = []
    run = trainer(tmp_path)

    class IsVisited(Small):
        def on_train_start(self) -> None:
            assert run.log_dir is not None
            path = Path(run.log_dir) / SOCKET_NAME
            eventually(path.exists)
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.settimeout(DEADLINE_S)
                with control_socket.reachable(path) as address:
                    stranger.connect(address)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    stranger.sendall(encode_line(Request("stop")))
                    answers.append(stranger.recv(100))

    monkeypatch.setattr(control_socket, "peer_of", lambda _: Peer(os.geteuid() + 1, 1))
    run.fit(IsVisited(), loader())

    assert b"".join(answers) == b""
    assert run.stop_reason == ""
    assert events(run, nb.CommandTaken) == []
    assert "is at the other end of the control socket" in capfd.readouterr().err


def test_a_client_says_nothing_to_another_users_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = nb.RunFolder.create(tmp_path, "x")
    listening = listen(run.path)
    monkeypatch.setattr(control_socket, "peer_of", lambda _: Peer(os.geteuid() + 1, 1))

    with pytest.raises(ControlError, match="only its owner can steer a run"):
        send(run, Request("stop"))

    connection, _ = listening.socket.accept()
    listening.close()
    assert connection.recv(100) == b""
    connection.close()


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = control_socket.peer_of(ours.getsockopt)

    assert peer == Peer(os.geteuid(), os.getpid())


def test_a_client_does_not_follow_a_link_to_another_socket(tmp_path: Path) -> None:
    elsewhere, run = tmp_path / "elsewhere", nb.RunFolder.create(tmp_path, "x")
    elsewhere.mkdir()
    listening = listen(elsewhere)
    (run.path / SOCKET_NAME).symlink_to(listening.path)

    with pytest.raises(ControlError, match="is not a socket"):
        send(run, Request("stop"))

    listening.close()


# -- visitors that make no sense -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "the request cannot be read"),
        (b"\xff\xfe\x00\n", "the request cannot be read"),
        (b"[" * 60_000 + b"\n", "the request cannot be read"),
        (b'{"verb": "explode"}\n', "explode"),
        (b'{"verb": "stop", "run": "rm"}\n', "unknown field"),
        (b'{"verb": "stop", "version": 2}\n', "has version 2"),
        (b'{"verb": "stop", "timeout_s": 1e300}\n', "expected 0 to 3600"),
        (b'{"verb": "stop", "reason": "' + b"x" * 2000 + b'"}\n', "at most 1000"),
    ],
    ids=["http", "bytes", "nesting", "verb", "field", "version", "timeout", "reason"],
)
def test_what_is_no_request_is_answered_with_an_error(
    lasting: Training, data: bytes, message: str
) -> None:
    answer = talk(lasting.socket_path, data)

    assert answer.kind == "refused"
    assert message in answer.message
    assert send(lasting.run, Request("status")).kind == "done"


def test_a_megabyte_without_a_line_end_does_no_harm(lasting: Training) -> None:
    hung_up = contextlib.suppress(BrokenPipeError, ConnectionResetError)
    with connect(lasting.run.path, DEADLINE_S) as connection, hung_up:
        connection.sendall(b"x" * (1 << 20))

    assert send(lasting.run, Request("status")).kind == "done"


def test_a_request_is_read_up_to_its_limit_and_no_further(lasting: Training) -> None:
    answer = talk(lasting.socket_path, b"x" * (MAX_LINE_BYTES + 1))

    assert answer == Answer("refused", f"the request is longer than {MAX_LINE_BYTES} bytes")


def test_a_request_that_is_cut_off_is_answered_with_an_error(lasting: Training) -> None:
    with connect(lasting.run.path, DEADLINE_S) as connection:
        connection.sendall(b'{"verb": ')
        connection.shutdown(socket.SHUT_WR)
        answer = decode_answer(connection.recv(1 << 16))

    assert (answer.kind, answer.message) == ("refused", "the request ends before its line does")


def test_visitors_that_hang_up_at_once_do_no_harm(lasting: Training) -> None:
    before = lasting.step()
    for _ in range(200):
        connect(lasting.run.path, DEADLINE_S).close()

    eventually(lambda: lasting.step() > before)
    assert send(lasting.run, Request("status")).kind == "done"


def test_a_visitor_that_hangs_up_while_it_waits_frees_its_place(tmp_path: Path) -> None:
    answers: list[Answer] = []
    run = trainer(tmp_path)

    class TakesNoCommands(Small):
        def on_train_start(self) -> None:
            folder = run.run_folder
            assert folder is not None
            eventually((folder.path / SOCKET_NAME).exists)
            for _ in range(control.MAX_CONNECTIONS):
                with connect(folder.path, DEADLINE_S) as connection:
                    connection.sendall(encode_line(Request("resume", timeout_s=3600)))
            answers.append(send(folder, Request("status")))

    run.fit(TakesNoCommands(), loader())

    assert answers[0].kind == "done"


def test_a_run_with_no_place_free_is_asked_again_until_there_is_one(
    lasting: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(control.MAX_CONNECTIONS):
            stack.enter_context(connect(lasting.run.path, DEADLINE_S))
        said: list[str] = []

        def leave(_: float) -> None:
            said.append("busy")
            stack.close()

        monkeypatch.setattr("nightbus.bus.inspection.control_client.time.sleep", leave)
        answer = send(lasting.run, Request("status"))

    assert answer.kind == "done"
    assert said


def test_more_visitors_than_there_are_places_are_told_so(lasting: Training) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(control.MAX_CONNECTIONS):
            stack.enter_context(connect(lasting.run.path, DEADLINE_S))

        answer = talk(lasting.socket_path, encode_line(Request("status")))

    assert answer == Answer("busy", f"{control.MAX_CONNECTIONS} others are connected")


def test_silent_visitors_are_sent_away_so_that_others_are_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "REQUEST_TIMEOUT_S", 0.05)
    answers: list[Answer] = []
    run = trainer(tmp_path)

    class IsVisited(Small):
        def on_train_start(self) -> None:
            folder = run.run_folder
            assert folder is not None
            eventually((folder.path / SOCKET_NAME).exists)
            with contextlib.ExitStack() as stack:
                for _ in range(control.MAX_CONNECTIONS):
                    stack.enter_context(connect(folder.path, DEADLINE_S))
                answers.append(send(folder, Request("status")))

    run.fit(IsVisited(), loader())

    assert answers[0].kind == "done"


def test_a_silent_visitor_does_not_keep_the_run_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "REQUEST_TIMEOUT_S", 3600.0)
    visitors: list[socket.socket] = []
    run = trainer(tmp_path)

    class IsVisited(Small):
        def on_train_start(self) -> None:
            assert run.log_dir is not None
            eventually((Path(run.log_dir) / SOCKET_NAME).exists)
            visitors.append(connect(Path(run.log_dir), DEADLINE_S))

    run.fit(IsVisited(), loader())

    assert visitors[0].recv(1) == b""
    visitors[0].close()


# -- the socket's life ---------------------------------------------------------------------------


def test_nothing_is_left_behind_at_the_end(stopped: Stopped) -> None:
    left = sorted(path.name for path in stopped.run.path.iterdir())
    assert left == ["attempt-000", "checkpoints", "run.json", "summary.msgpack"]


def test_the_next_attempt_replaces_the_socket_of_a_killed_run(tmp_path: Path) -> None:
    with training(tmp_path) as first:
        eventually(lambda: (first.run.path / "checkpoints").exists())
        eventually(lambda: any(e for e in recorded(first.run) if type(e) is nb.CheckpointSaved))
        first.kill()
        stale = first.socket_path.lstat().st_ino
        with training(tmp_path, "--resume") as second:
            answer = eventually(lambda: status_or_none(second.run))

            assert second.run.path.samefile(first.run.path)
            assert answer.attempt == 1
            assert second.socket_path.lstat().st_ino != stale
            nightbus("send", second.run.path, "stop")
            second.end()
            assert not second.socket_path.exists()


def status_or_none(run: nb.RunFolder) -> Any:
    try:
        return send(run, Request("status")).status
    except ControlError:
        return None


def test_a_socket_that_somebody_listens_at_is_not_replaced(tmp_path: Path) -> None:
    first = listen(tmp_path)

    with pytest.raises(ControlError, match="another process"):
        listen(tmp_path)

    assert is_listening(first.path)
    first.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / SOCKET_NAME).write_text("mine")

    with pytest.raises(ControlError, match="is not a socket"):
        listen(tmp_path)

    assert (tmp_path / SOCKET_NAME).read_text() == "mine"


def test_a_socket_does_not_take_away_the_one_that_replaced_it(tmp_path: Path) -> None:
    first = listen(tmp_path)
    first.socket.close()  # as if its process were gone
    second = listen(tmp_path)

    first.close()

    assert is_listening(second.path)
    second.close()


def test_a_run_whose_socket_cannot_be_made_trains_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Path) -> Any:
        raise OSError("no sockets here")

    monkeypatch.setattr(control, "listen", fail)
    run = trainer(tmp_path)
    run.fit(Small(), loader())

    assert run.global_step == 6
    assert "the run cannot be steered from outside" in capfd.readouterr().err


def deep_folder(root: Path) -> Path:
    folder = root.joinpath(*["a-folder-with-quite-a-long-name"] * 6)
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("way", ["open folders", "links"])
def test_a_path_too_long_for_a_socket_is_reached_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    temporary = Path(os.environ.get("TMPDIR", "/tmp"))
    if way == "links":
        monkeypatch.setattr(control_socket, "_OPEN_FOLDERS", tmp_path / "nowhere")
    elif not control_socket._OPEN_FOLDERS.is_dir():
        pytest.skip("this system has no /proc")
    folder = deep_folder(tmp_path)
    listening = listen(folder)

    connect(folder, DEADLINE_S).close()

    assert stat.S_ISSOCK((folder / SOCKET_NAME).lstat().st_mode)
    assert is_listening(listening.path)
    listening.close()
    assert list(folder.iterdir()) == []
    assert not list(temporary.glob("nb-*"))


def test_a_forked_child_does_not_keep_the_socket_of_its_parent_open(tmp_path: Path) -> None:
    program = """
import os, sys, time
from pathlib import Path
from nightbus.bus.control.socket import listen

listening = listen(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    time.sleep(600)
os.write(1, f"{child}\\n".encode())
os.kill(os.getpid(), 9)
"""
    with Program(["-c", program, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
    try:
        eventually(lambda: not is_listening(tmp_path / SOCKET_NAME))
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_run_that_records_nothing_can_be_steered_too(tmp_path: Path) -> None:
    run = trainer(tmp_path, recording="off", max_epochs=-1)
    answers: list[Answer] = []

    def steer() -> None:
        folder = eventually(lambda: run.run_folder)
        eventually((folder.path / SOCKET_NAME).exists)
        answers.append(send(folder, Request("stop", "seen enough")))

    steering = threading.Thread(target=steer)
    steering.start()
    run.fit(Small(), loader())
    steering.join()

    assert answers[0].kind == "done"
    assert run.stop_reason == "seen enough"
    assert run.log_dir is not None
    assert not (Path(run.log_dir) / SOCKET_NAME).exists()


def test_a_run_without_a_folder_has_no_socket(tmp_path: Path) -> None:
    run = trainer(tmp_path, recording="off", enable_checkpointing=False)
    run.fit(Small(), loader())

    assert list(tmp_path.iterdir()) == []


def test_a_copy_of_a_run_that_goes_on_is_not_the_run(lasting: Training, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(
        lasting.run.path,
        copied,
        ignore=shutil.ignore_patterns(SOCKET_NAME, "checkpoints", "*.tmp", "*.zst"),
    )

    done = nightbus("send", copied, "stop")

    assert done.returncode == 1
    assert "is not running" in done.stderr


def test_a_run_with_sinks_has_its_socket_however_soon_the_thread_beside_the_step_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = BusThread.ensure_started

    def begin_at_once(thread: BusThread) -> None:
        begin(thread)
        eventually(lambda: thread._token is not None)

    monkeypatch.setattr(BusThread, "ensure_started", begin_at_once)
    seen: list[bool] = []

    class Look(nb.Callback):
        def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
            seen.append(eventually((trainer.run_folder.path / SOCKET_NAME).exists))

    trainer(tmp_path, max_steps=1, sinks=[nb.CSV()], callbacks=[Look()]).fit(Small(), loader())

    assert seen == [True]
