"""What ends a run or has it saved from outside: signals and commands."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import DEADLINE_S
from models import Small, events, loader, trainer
from programs import Program

import nightbus as nb
from nightbus.actors.checkpoints.format import read_checkpoint, write_checkpoint
from nightbus.actors.process.stop_signals import PREEMPTED_EXIT_CODE, StopSignals
from nightbus.actors.saving import checkpointer, writing
from nightbus.bus.errors import CheckpointError
from nightbus.trainer import safe_points


class At(nb.Callback):
    """Does something in a hook of a step."""

    def __init__(self, hook: str, step: int, action: Callable[[nb.Trainer], None]) -> None:
        self.hook, self.step, self.action = hook, step, action

    def _do(self, hook: str, trainer: nb.Trainer) -> None:
        if hook == self.hook and trainer.global_step == self.step and not trainer.sanity_checking:
            self.step = -1
            self.action(trainer)

    def setup(self, trainer: nb.Trainer, *_: Any) -> None:
        self._do("setup", trainer)

    def on_train_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
        self._do("on_train_batch_end", trainer)

    def on_validation_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
        self._do("on_validation_batch_end", trainer)

    def on_test_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
        self._do("on_test_batch_end", trainer)

    def on_fit_end(self, trainer: nb.Trainer, *_: Any) -> None:
        self._do("on_fit_end", trainer)


def send(number: signal.Signals) -> Callable[[nb.Trainer], None]:
    return lambda _: os.kill(os.getpid(), number)


def last(run: nb.Trainer) -> Path:
    assert run.run_folder is not None
    return run.run_folder.path / "checkpoints" / "last"


def ending(run: nb.Trainer, attempt: int = 0) -> str:
    return str(events(run, nb.RunEnded, attempt=attempt)[-1].how)


# -- SIGTERM -------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_batch_end"])
def test_sigterm_saves_the_run_and_exits_as_schedulers_expect(tmp_path: Path, hook: str) -> None:
    run = trainer(tmp_path, callbacks=[At(hook, 4, send(signal.SIGTERM))], val_check_interval=2)

    with pytest.raises(SystemExit) as exit_:
        run.fit(Small(), loader(), loader(8))

    assert exit_.value.code == PREEMPTED_EXIT_CODE == 143
    assert run.global_step == 4
    assert ending(run) == "preempted"
    assert read_checkpoint(last(run))["global_step"] == 4
    assert events(run, nb.Fault) == []


def test_sigterm_before_training_ends_the_process_at_once(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[At("setup", 0, send(signal.SIGTERM))])

    with pytest.raises(SystemExit) as exit_:
        run.fit(Small(), loader())

    assert exit_.value.code == PREEMPTED_EXIT_CODE
    assert run.global_step == 0
    assert ending(run) == "preempted"


def test_sigterm_after_the_last_step_lets_the_run_complete_and_then_exits(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[At("on_fit_end", 6, send(signal.SIGTERM))])

    with pytest.raises(SystemExit) as exit_:
        run.fit(Small(), loader())

    assert exit_.value.code == PREEMPTED_EXIT_CODE
    assert read_checkpoint(last(run))["epoch"] == 1


def test_sigterm_ends_testing_after_the_batch(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[At("on_test_batch_end", 0, send(signal.SIGTERM))])

    with pytest.raises(SystemExit) as exit_:
        run.test(Small(), loader(), verbose=False)

    assert exit_.value.code == PREEMPTED_EXIT_CODE


def test_a_second_sigterm_does_not_wait(tmp_path: Path) -> None:
    def twice(_: nb.Trainer) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    run = trainer(tmp_path, callbacks=[At("on_train_batch_end", 2, twice)])

    with pytest.raises(SystemExit):
        run.fit(Small(), loader())
    assert ending(run) == "preempted"


def test_a_handler_of_the_users_own_is_left_alone(tmp_path: Path) -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        run = trainer(tmp_path, callbacks=[At("on_train_batch_end", 2, send(signal.SIGTERM))])
        run.fit(Small(), loader())
    finally:
        signal.signal(signal.SIGTERM, before)

    assert heard == [1]
    assert run.global_step == 6


def test_handlers_are_gone_when_the_run_is_over(tmp_path: Path) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    trainer(tmp_path).fit(Small(), loader())

    assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]


class GetsWhatCannotBeCarried(nb.Callback):
    """Has a state, from the first batch on, that no checkpoint can carry."""

    state: object = None

    def on_train_batch_start(self, *_: Any) -> None:
        self.state = object()

    def state_dict(self) -> dict[str, Any]:
        return {"bad": self.state}


def test_a_checkpoint_that_cannot_be_saved_does_not_keep_a_run_from_ending(tmp_path: Path) -> None:
    stop = At("on_train_batch_end", 2, send(signal.SIGTERM))
    run = trainer(tmp_path, callbacks=[GetsWhatCannotBeCarried(), stop])

    with pytest.raises(SystemExit):
        run.fit(Small(), loader())

    (fault,) = events(run, nb.Fault)
    assert fault.source == "checkpointer"
    assert "getswhatcannotbecarried" in fault.message.lower()
    assert ending(run) == "preempted"


# -- SIGHUP --------------------------------------------------------------------------------------


def test_a_closed_terminal_saves_the_run_and_ends_it(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[At("on_train_batch_end", 4, send(signal.SIGHUP))])

    with pytest.raises(SystemExit) as exit_:
        run.fit(Small(), loader())

    assert exit_.value.code == 129
    assert read_checkpoint(last(run))["global_step"] == 4
    assert [(e.how, e.reason) for e in events(run, nb.RunEnded)] == [("preempted", "SIGHUP")]


def test_one_that_is_closed_as_the_run_ends_is_answered_when_it_is(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[At("on_fit_end", 6, send(signal.SIGHUP))])

    with pytest.raises(SystemExit) as exit_:
        run.fit(Small(), loader())

    assert exit_.value.code == 129


def test_whoever_has_sighup_ignored_as_nohup_does_trains_on(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = trainer(tmp_path, callbacks=[At("on_train_batch_end", 2, send(signal.SIGHUP))])
        run.fit(Small(), loader())
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

    assert ending(run) == "completed"


# -- SIGUSR1 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_batch_end"])
def test_sigusr1_saves_the_run_and_it_goes_on(tmp_path: Path, hook: str) -> None:
    run = trainer(tmp_path, callbacks=[At(hook, 4, send(signal.SIGUSR1))], val_check_interval=2)
    run.fit(Small(), loader(), loader(8))

    first, _ = events(run, nb.CheckpointSaved)
    assert first.path == "checkpoints/epoch=0-step=4"
    assert run.global_step == 6
    assert ending(run) == "completed"


class WhileOpened(Small):
    """Sends a signal while the run is opened: its hyperparameters are asked for then."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number: signal.Signals | None = number

    @property
    def hparams(self) -> Any:
        number, self.number = self.number, None
        if number is not None:
            os.kill(os.getpid(), number)
        return super().hparams


class WhileClosed(nb.Sink):
    """Sends a signal while the run is closed: it is drained then; and takes long for the rest."""

    stop_timeout_s = 3600.0

    def __init__(self, number: signal.Signals) -> None:
        self.number = number
        self.may_end = threading.Event()
        self.was_waited_for = False

    def write(self, batch: list[Any]) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        os.kill(os.getpid(), self.number)
        self.was_waited_for = not self.may_end.wait(DEADLINE_S)


def test_sigterm_while_the_run_is_opened_ends_it_in_good_order(tmp_path: Path) -> None:
    run = trainer(tmp_path)

    with pytest.raises(SystemExit) as exit_:
        run.fit(WhileOpened(signal.SIGTERM), loader())

    assert exit_.value.code == PREEMPTED_EXIT_CODE
    assert ending(run) == "preempted"
    assert not (last(run).parent.parent / "control.sock").exists()


def test_ctrl_c_while_the_run_is_opened_ends_it_in_good_order(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(WhileOpened(signal.SIGINT), loader())

    assert run.interrupted
    assert ending(run) == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_run_is_opened_does_not_keep_its_begin_out_of_the_log(
    tmp_path: Path, number: signal.Signals
) -> None:
    run = trainer(tmp_path)

    with contextlib.suppress(SystemExit):
        run.fit(WhileOpened(number), loader())

    assert len(events(run, nb.RunStarted)) == 1


def test_after_a_signal_has_ended_the_run_at_once_the_next_does_not_until_it_may() -> None:
    with StopSignals(on_request=lambda: None, has_safe_points=lambda: False) as signals:
        signals.is_held = False

        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signals.rearm()
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)


def test_sigusr1_while_the_run_is_opened_saves_it_as_soon_as_it_trains(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(WhileOpened(signal.SIGUSR1), loader())

    assert run.global_step == 6
    assert events(run, nb.CheckpointSaved)[0].path.endswith("step=1")


def test_sigterm_while_the_run_is_closed_is_answered_when_it_is(tmp_path: Path) -> None:
    sink = WhileClosed(signal.SIGTERM)
    sink.may_end.set()
    run = trainer(tmp_path, sinks=[sink])

    with pytest.raises(SystemExit) as exit_:
        run.fit(Small(), loader())

    assert exit_.value.code == PREEMPTED_EXIT_CODE
    assert run.global_step == 6
    assert ending(run) == "completed"


def test_ctrl_c_while_the_run_is_closed_waits_for_sinks_no_longer(tmp_path: Path) -> None:
    sink = WhileClosed(signal.SIGINT)
    run = trainer(tmp_path, sinks=[sink])
    run.fit(Small(), loader())
    sink.may_end.set()

    assert not sink.was_waited_for
    assert run.interrupted
    assert ending(run) == "completed"


def test_sigusr1_while_the_run_is_closed_does_no_harm(tmp_path: Path) -> None:
    sink = WhileClosed(signal.SIGUSR1)
    sink.may_end.set()
    run = trainer(tmp_path, sinks=[sink])
    run.fit(Small(), loader())

    assert ending(run) == "completed"


def fake_scontrol(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scontrol that writes down what it was asked."""
    folder.mkdir(exist_ok=True)
    program = folder / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder / "asked"}\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "asked"


def test_slurm_requeues_the_job_after_the_run_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fake_scontrol(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    save = At("on_train_batch_end", 4, send(signal.SIGUSR1))
    run = trainer(tmp_path, callbacks=[save], slurm_requeue=True)
    run.fit(Small(), loader())

    assert asked.read_text() == "requeue 77\n"
    assert events(run, nb.CheckpointSaved)[0].path == "checkpoints/epoch=0-step=4"


def test_slurm_is_asked_once_the_checkpoint_is_complete_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    wait, write = writing.WritingThread.wait, write_checkpoint
    done: list[str] = []

    def wait_for_it(thread: Any) -> None:
        may_write.set()
        wait(thread)

    def write_late(*arguments: Any) -> Any:
        may_write.wait(DEADLINE_S)
        written = write(*arguments)
        done.append("written")
        return written

    monkeypatch.setattr(writing.WritingThread, "wait", wait_for_it)
    monkeypatch.setattr(writing, "write_checkpoint", write_late)
    monkeypatch.setattr(safe_points, "requeue_job", lambda: done.append("requeued"))
    fake_scontrol(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    save = At("on_train_batch_end", 4, send(signal.SIGUSR1))
    trainer(tmp_path, callbacks=[save], slurm_requeue=True).fit(Small(), loader())

    assert done[:2] == ["written", "requeued"]


def test_slurm_requeues_one_task_of_an_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fake_scontrol(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "79")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "77")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    save = At("on_train_batch_end", 4, send(signal.SIGUSR1))
    trainer(tmp_path, callbacks=[save], slurm_requeue=True).fit(Small(), loader())

    assert asked.read_text() == "requeue 77_2\n"


def test_requeueing_outside_slurm_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    with pytest.raises(nb.UsageError, match="slurm_requeue=True: this process is not a SLURM job"):
        trainer(tmp_path, slurm_requeue=True)


def test_requeueing_without_scontrol_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(nb.UsageError, match="scontrol is missing"):
        trainer(tmp_path, slurm_requeue=True)


# -- Ctrl-C and commands -------------------------------------------------------------------------


def test_ctrl_c_saves_the_run(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[At("on_train_batch_end", 4, send(signal.SIGINT))])
    run.fit(Small(), loader())

    assert run.interrupted
    assert read_checkpoint(last(run))["global_step"] == 4


def send_twice(trainer: nb.Trainer) -> None:
    send(signal.SIGINT)(trainer)
    send(signal.SIGINT)(trainer)


@pytest.mark.parametrize(
    ("step", "then"),
    [
        (4, "it has no checkpoint"),
        (8, 'ckpt_path="last" resumes from epoch=0-step=6; later steps are not saved'),
    ],
)
def test_who_presses_ctrl_c_twice_is_told_that_the_run_was_not_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], step: int, then: str
) -> None:
    run = trainer(tmp_path, max_epochs=2, callbacks=[At("on_train_batch_end", step, send_twice)])

    with pytest.raises(KeyboardInterrupt):
        run.fit(Small(), loader())

    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"nightbus: the run ended at once: {then}"


class InterruptsTwice(Small):
    """The second Ctrl-C comes when the first one has saved the run, while it is torn down."""

    def on_train_batch_end(self, *_: Any) -> None:
        if self.global_step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    def teardown(self, stage: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_when_the_run_is_saved_does_not_say_that_it_was_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path)

    with pytest.raises(KeyboardInterrupt):
        run.fit(InterruptsTwice(), loader())

    assert read_checkpoint(last(run))["global_step"] == 4
    assert "not saved" not in capsys.readouterr().err


def test_a_second_ctrl_c_while_the_run_is_saved_leaves_a_whole_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(tmp_path, callbacks=[At("on_train_batch_end", 4, send(signal.SIGINT))])
    closing = threading.Event()

    def write_when_the_run_ends(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        closing.wait(60)
        return write_checkpoint(*arguments)

    def close(*arguments: Any) -> None:
        closing.set()
        close_checkpointer(*arguments)

    close_checkpointer = checkpointer.Checkpointer.close
    monkeypatch.setattr(checkpointer.Checkpointer, "close", close)
    monkeypatch.setattr("nightbus.actors.saving.writing.write_checkpoint", write_when_the_run_ends)

    with pytest.raises(KeyboardInterrupt):
        run.fit(Small(), loader())

    assert read_checkpoint(last(run))["global_step"] == 4
    assert "resumes from epoch=0-step=4; later steps" in capsys.readouterr().err


def test_who_presses_ctrl_c_is_told_where_the_run_was_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stop = At("on_train_batch_end", 4, send(signal.SIGINT))
    run = trainer(tmp_path, callbacks=[stop], enable_progress_bar=True)
    run.fit(Small(), loader())

    assert run.run_folder is not None
    folder = f"runs/{run.run_folder.info.id}"
    said = capsys.readouterr().err.splitlines()
    assert said[-2:] == [f"run: {folder}", f"saved last: {folder}/checkpoints/epoch=0-step=4"]


def test_a_run_that_is_complete_does_not_speak_of_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path, enable_progress_bar=True).fit(Small(), loader())

    said = capsys.readouterr().err
    assert "fit completed" in said
    assert "saved last" not in said


def test_a_resumed_run_says_at_which_batch_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"limit_val_batches": 0}
    trainer(tmp_path, max_steps=4, **options).fit(Small(), loader())
    more = trainer(tmp_path, max_epochs=1, enable_progress_bar=True, **options)
    more.fit(Small(), loader(), ckpt_path="last")

    said = capsys.readouterr().err.splitlines()
    assert more.run_folder is not None
    assert said[0] == f"run: {more.run_folder.path}"
    assert said[1] == (
        f"resumed {more.run_folder.info.id} from checkpoints/epoch=0-step=4: "
        "epoch 0/1, after 4 batches"
    )
    assert said[2].startswith("epoch 0/1: 2 batches in ")


def test_a_stop_in_the_middle_of_an_epoch_saves_the_run_there(tmp_path: Path) -> None:
    class Stops(nb.Actor):
        @nb.on("on_train_batch_end")
        def stop(self, hook: Any) -> None:
            if hook.batch_idx == 3:
                self.tell("fit", nb.Stop(reason="enough"))

    run = trainer(tmp_path, actors=[Stops()])
    run.fit(Small(), loader())

    state = read_checkpoint(last(run))
    assert state["global_step"] == 4
    assert state["loops"]["fit_loop"]["epoch_loop"]["state"]["batches"] == 4


def test_what_is_saved_after_an_early_end_is_resumed_in_the_middle_of_the_epoch(
    tmp_path: Path,
) -> None:
    run = trainer(tmp_path, max_steps=4)
    run.fit(Small(), loader())
    run.save_checkpoint(tmp_path / "mine")

    more = trainer(tmp_path)
    more.fit(Small(), loader(), ckpt_path=tmp_path / "mine")

    assert more.global_step == 6
    assert more.current_epoch == 1


def test_an_actor_can_have_the_run_saved(tmp_path: Path) -> None:
    class Saves(nb.Actor):
        @nb.on("on_train_batch_end")
        def save(self, hook: Any) -> None:
            if hook.batch_idx == 2:
                self.tell("fit", nb.SaveCheckpoint())

    run = trainer(tmp_path, actors=[Saves()])
    run.fit(Small(), loader())

    assert [e.path for e in events(run, nb.CheckpointSaved)] == [
        "checkpoints/epoch=0-step=3",
        "checkpoints/epoch=0-step=6",
    ]


def test_another_process_can_have_the_run_saved_and_is_told_where(tmp_path: Path) -> None:
    done: list[Any] = []

    class Asks(nb.Callback):
        """Starts the other process and lets the run go on until that has its answer."""

        process: Any = None

        def on_train_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
            if self.process is None:
                asks = ["-m", "nightbus", "send", str(trainer.log_dir), "checkpoint"]
                self.process = Program(asks, stdout=subprocess.PIPE)
            elif self.process.poll() is not None:
                done.append(self.process.communicate()[0])
                trainer.should_stop = True

    run = trainer(tmp_path, max_epochs=-1, callbacks=[Asks()])
    run.fit(Small(), loader())

    (out,) = done
    assert out.startswith("checkpoint: saved in ")
    (step,) = {e.path for e in events(run, nb.CheckpointSaved) if e.path in out}
    assert step.startswith("checkpoints/epoch=")


# -- exceptions ----------------------------------------------------------------------------------


class Broken(Small):
    """Fails in one batch."""

    fails = True

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.fails and self.trainer.global_step == 4:
            raise ValueError("out of luck")
        return super().training_step(batch, batch_idx)


def test_an_exception_is_saved_under_its_own_name_when_the_user_asks(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[nb.OnExceptionCheckpoint()])

    with pytest.raises(ValueError, match="out of luck"):
        run.fit(Broken(), loader())

    (saved,) = events(run, nb.CheckpointSaved)
    assert saved.path == "checkpoints/on_exception"
    assert last(run).resolve().name == "on_exception"
    (fault,) = events(run, nb.Fault)
    assert "out of luck" in fault.message
    assert "training_step" in fault.traceback
    assert ending(run) == "failed"


def test_a_run_that_failed_is_resumed_with_the_batch_that_failed(tmp_path: Path) -> None:
    first = trainer(tmp_path, callbacks=[nb.OnExceptionCheckpoint()])
    with pytest.raises(ValueError, match="out of luck"):
        first.fit(Broken(), loader())

    module, run = Broken(), trainer(tmp_path)
    module.fails = False
    run.fit(module, loader(), ckpt_path="last")

    steps = [e for e in events(run, nb.Hook, attempt=1) if e.name == "on_train_batch_end"]
    assert [e.batch_idx for e in steps] == [4, 5]
    assert run.global_step == 6


def test_what_was_saved_when_a_run_failed_is_there_when_it_is_complete(tmp_path: Path) -> None:
    module = Broken()
    for ckpt_path in (None, "last"):
        run = trainer(tmp_path, callbacks=[nb.OnExceptionCheckpoint()])
        with pytest.raises(ValueError, match="out of luck"):
            run.fit(module, loader(), ckpt_path=ckpt_path)
    module.fails = False

    run = trainer(tmp_path, max_epochs=4)
    run.fit(module, loader(), ckpt_path="last")

    saved = {path.name for path in last(run).parent.iterdir()}
    assert saved > {"on_exception", "on_exception-v1"}


def test_an_exception_alone_saves_nothing(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    with pytest.raises(ValueError, match="out of luck"):
        run.fit(Broken(), loader())

    assert events(run, nb.CheckpointSaved) == []


def test_what_hides_an_exception_is_not_what_the_user_sees(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[GetsWhatCannotBeCarried(), nb.OnExceptionCheckpoint()])

    with pytest.raises(ValueError, match="out of luck"):
        run.fit(Broken(), loader())
    assert {e.error for e in events(run, nb.Fault)} == {"ValueError", "CheckpointError"}


def test_saving_by_hand_raises_what_is_wrong(tmp_path: Path) -> None:
    class SavesBadly(Small):
        def on_train_end(self) -> None:
            self.trainer.save_checkpoint(Path("/proc/nowhere/x"))

    with pytest.raises(CheckpointError, match="cannot write the checkpoint /proc/nowhere/x"):
        trainer(tmp_path).fit(SavesBadly(), loader())
