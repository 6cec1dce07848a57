"""A crash, a hang and SIGQUIT leave files that say what happened last and where everyone was."""

import faulthandler
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from helpers import DEADLINE_S, eventually
from models import Small, loader, trainer
from programs import Program
from torch.utils.data import DataLoader, Dataset

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.crash import black_box, quit_signal
from nightbus.bus.crash.watchdog import Watchdog
from nightbus.bus.log.reader import LogReader
from nightbus.bus.runs.flight_file import open_run

SCRIPT = Path(__file__).parent / "signalled_process.py"
Recording = Literal["all", "metrics", "off"]


def left(folder: Path, occasion: str = "*", what: str = "*") -> list[Path]:
    """What runs in a folder left behind, in their own folders or without one."""
    names = f"{occasion}-????????-??????*-{what}"
    return sorted([*folder.glob(f"nightbus-{names}"), *folder.glob(f"runs/*/{names}")])


def hangs_told(folder: Path, where: str) -> list[Path]:
    """The stacks of hangs in a function. There may be hangs elsewhere, on a machine that is busy
    with something else.
    """
    found = left(folder, "hang", "stacks.txt")
    return [path for path in found if f"in {where}\n" in path.read_text()]


def events_beside(stacks: Path) -> Path:
    return stacks.with_name(stacks.name.replace("-stacks.txt", "-events.nlog"))


def last_events(path: Path) -> list[nb.Event]:
    return list(LogReader(open_run(path).store(0)).events())  # type: ignore[arg-type]


def unkept(folder: Path, **arguments: Any) -> nb.Trainer:
    """A trainer whose run has no folder."""
    return trainer(folder, recording="off", enable_checkpointing=False, **arguments)


class Boom(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 3:
            raise ValueError("boom")
        return super().training_step(batch, batch_idx)


# -- a crash --------------------------------------------------------------------------------------


def test_a_crash_of_an_unrecorded_run_leaves_its_last_events(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boom"):
        unkept(tmp_path).fit(Boom(), loader())

    (path,) = left(tmp_path, "crash", "events.nlog")
    events = last_events(path)
    hooks = [event.name for event in events if isinstance(event, nb.Hook)]
    assert path.parent == tmp_path
    assert isinstance(events[0], nb.RunStarted)
    assert [event.step for event in events if isinstance(event, nb.Put)] == [0, 1, 2]
    assert hooks.count("on_train_batch_start") == 4
    assert hooks.count("on_train_batch_end") == 3
    assert isinstance(events[-1], nb.Fault)
    assert (events[-1].message, events[-1].hook, events[-1].step) == ("boom", "training_step", 3)


def test_a_crash_with_metrics_recorded_leaves_the_hooks_in_the_runs_folder(tmp_path: Path) -> None:
    run = trainer(tmp_path, recording="metrics")
    with pytest.raises(ValueError, match="boom"):
        run.fit(Boom(), loader())

    (path,) = left(tmp_path, "crash", "events.nlog")
    events = last_events(path)
    assert run.run_folder is not None
    assert path.parent == run.run_folder.path
    assert sum(isinstance(event, nb.Hook) for event in events) > 20
    assert [event.step for event in events if isinstance(event, nb.Put)] == [0, 1, 2]


class Beside(nb.Actor):
    @nb.on(nb.Put)
    async def put_arrived(self, put: nb.Put) -> None: ...

    @nb.on("on_train_batch_start")
    async def batch_began(self, hook: nb.Hook) -> None: ...


class InStep(nb.Actor):
    @nb.on(nb.Put)
    def put_made(self, put: nb.Put) -> None: ...

    @nb.on("on_train_batch_start")
    def batch_begins(self, hook: nb.Hook) -> None: ...


@pytest.mark.parametrize("recording", ["off", "metrics"])
@pytest.mark.parametrize("actors", [[Beside], [InStep], [Beside, InStep]])
def test_each_event_is_kept_once_whoever_handles_it(
    tmp_path: Path, recording: Recording, actors: list[type[nb.Actor]]
) -> None:
    run = trainer(tmp_path, recording=recording, actors=[actor() for actor in actors])
    with pytest.raises(ValueError, match="boom"):
        run.fit(Boom(), loader())

    (path,) = left(tmp_path, "crash", "events.nlog")
    events = last_events(path)
    hooks = [(event.name, event.step) for event in events if isinstance(event, nb.Hook)]
    assert [event.step for event in events if isinstance(event, nb.Put)] == [0, 1, 2]
    assert [step for name, step in hooks if name == "on_train_batch_start"] == [0, 1, 2, 3]
    assert [step for name, step in hooks if name == "training_step"] == [0, 1, 2]


class FailsAtItsBegin(Small):
    def on_fit_start(self) -> None:
        raise RuntimeError("not like this")


def test_what_a_crash_before_the_first_batch_leaves_names_no_batch(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not like this"):
        trainer(tmp_path).fit(FailsAtItsBegin(), loader())

    (path,) = left(tmp_path, "crash", "stacks.txt")
    assert "epoch 0, step 0, in the hook on_fit_start\n" in path.read_text()


class Where(nb.Actor):
    """Where training was in a hook that is recorded for this actor alone."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int]] = []

    @nb.on("on_train_batch_start")
    async def batch_began(self, hook: nb.Hook) -> None:
        self.found.append((hook.epoch, hook.batch_idx))


def test_that_last_events_are_kept_does_not_hide_where_training_was_from_actors(
    tmp_path: Path,
) -> None:
    where = Where()

    trainer(tmp_path, recording="metrics", actors=[where], max_epochs=2).fit(Small(), loader(12))

    assert where.found == [(epoch, batch) for epoch in range(2) for batch in range(3)]


def test_with_all_recorded_a_crash_leaves_only_the_stacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boom"):
        trainer(tmp_path, recording="all").fit(Boom(), loader())

    (path,) = left(tmp_path)
    text = path.read_text()
    assert path.name.startswith("crash-")
    assert path.name.endswith("-stacks.txt")
    assert "ValueError: boom" in text
    assert "thread nightbus\n" in text  # the bus thread
    assert "Housekeeping" in text  # a trio task


def test_the_stacks_say_where_the_exception_arose_and_where_training_was(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boom"):
        unkept(tmp_path).fit(Boom(), loader())

    (path,) = left(tmp_path, "crash", "stacks.txt")
    text = path.read_text()
    assert "the run crashed: ValueError: boom" in text
    assert "train, epoch 0, step 3, batch 3, in the hook training_step" in text
    assert 'raise ValueError("boom")' in text


def test_what_is_said_of_a_crash_leaves_its_reason_to_the_exception(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="boom"):
        unkept(tmp_path).fit(Boom(), loader())

    (said,) = (line for line in capfd.readouterr().err.splitlines() if "the run crashed" in line)
    assert said.startswith("nightbus: the run crashed; where everyone was: ")


def test_both_files_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with pytest.raises(ValueError, match="boom"):
            unkept(tmp_path).fit(Boom(), loader())
    finally:
        os.umask(before)

    assert [stat.S_IMODE(path.stat().st_mode) for path in left(tmp_path)] == [0o600, 0o600]


def test_show_summarises_the_last_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="boom"):
        unkept(tmp_path).fit(Boom(), loader())
    (path,) = left(tmp_path, "crash", "events.nlog")

    code = main(["show", str(path)])

    text = capsys.readouterr().out
    assert code == 0
    assert "only its last events were kept" in text
    assert "train_loss" in text
    assert "fault: module in training_step at step 3: ValueError: boom" in text


def test_show_names_what_a_run_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="boom"):
        trainer(tmp_path, recording="off").fit(Boom(), loader())
    events, stacks = left(tmp_path)

    assert main(["show", str(events.parent)]) == 0

    text = capsys.readouterr().out
    assert f"left behind: {events}\nleft behind: {stacks}\n" in text


@pytest.mark.parametrize(
    "verb", [["doctor"], ["recover", "-o", "out"], ["send", "status"], ["attach", "--csv", "out"]]
)
def test_what_needs_a_whole_run_refuses_last_events_with_what_to_do(
    tmp_path: Path, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="boom"):
        unkept(tmp_path).fit(Boom(), loader())
    (path,) = left(tmp_path, "crash", "events.nlog")

    code = main([verb[0], str(path), *verb[1:]])

    assert code == 2
    assert "holds the last events of a run, not a run; look at them with show" in (
        capsys.readouterr().err
    )


def test_tail_shows_what_happened_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="boom"):
        unkept(tmp_path).fit(Boom(), loader())
    (path,) = left(tmp_path, "crash", "events.nlog")

    assert main(["tail", str(path), "-n", "1"]) == 0

    assert "module in training_step: ValueError: boom" in capsys.readouterr().out


def test_replay_hands_the_last_events_to_actors_and_callbacks(tmp_path: Path) -> None:
    class Follows(nb.Callback):
        def __init__(self) -> None:
            self.batches = 0
            self.steps: list[int] = []

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            self.batches += 1

        @nb.on(nb.Put, name="train_loss")
        async def loss(self, put: nb.Put) -> None:
            self.steps.append(put.step)

    with pytest.raises(ValueError, match="boom"):
        unkept(tmp_path).fit(Boom(), loader())
    (path,) = left(tmp_path, "crash", "events.nlog")
    follows = Follows()

    replayed = nb.replay(path, actors=[follows])

    assert (follows.batches, follows.steps) == (3, [0, 1, 2])
    assert replayed.unclean == "only its last events were kept, and they end here"


def test_the_file_can_be_given_another_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boom"):
        unkept(tmp_path).fit(Boom(), loader())
    (path,) = left(tmp_path, "crash", "events.nlog")

    renamed = path.rename(tmp_path / "for-a-colleague.nlog")

    assert isinstance(last_events(renamed)[-1], nb.Fault)


def test_what_the_user_did_wrong_is_no_crash(tmp_path: Path) -> None:
    class NoOptimizer(Small):
        def configure_optimizers(self) -> Any:
            return 3

    with pytest.raises(nb.UsageError):
        unkept(tmp_path).fit(NoOptimizer(), loader())

    assert left(tmp_path) == []


def test_a_checkpoint_of_no_use_is_no_crash(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(Small(), loader())
    run.save_checkpoint(tmp_path / "weights", weights_only=True)

    with pytest.raises(nb.CheckpointError, match="only weights"):
        run.fit(Small(), loader(), ckpt_path=tmp_path / "weights")

    assert left(tmp_path) == []


def test_where_nothing_can_be_written_the_runs_own_error_is_what_is_raised(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "a file"
    blocked.touch()
    with pytest.raises(ValueError, match="boom"):
        unkept(blocked).fit(Boom(), loader())

    assert "cannot write where everyone was: FileExistsError" in capfd.readouterr().err


@pytest.mark.parametrize("recording", ["all", "metrics", "off"])
def test_a_run_that_goes_well_leaves_nothing(tmp_path: Path, recording: Recording) -> None:
    threads = set(threading.enumerate())

    trainer(tmp_path, recording=recording, hang_timeout=600).fit(Small(), loader(), loader())

    assert left(tmp_path) == []
    assert set(threading.enumerate()) <= threads
    assert signal.getsignal(signal.SIGQUIT) is signal.SIG_DFL


# -- a hang ---------------------------------------------------------------------------------------


class Hangs(Small):
    """Stands still in one hook until the files that tell of it are there."""

    def __init__(self, folder: Path, where: str) -> None:
        super().__init__()
        self.folder = folder
        self.where = where
        self.times = 0

    def hang_in(self, where: str) -> None:
        if where == self.where:
            self.times += 1
            if self.times == 2 or where == "setup":
                self.wait_in_vain()

    def wait_in_vain(self) -> None:
        eventually(lambda: hangs_told(self.folder, "wait_in_vain"))

    def setup(self, stage: str) -> None:
        self.hang_in("setup")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.hang_in("training_step")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.hang_in("validation_step")


@pytest.mark.parametrize("where", ["setup", "training_step", "validation_step"])
def test_a_hang_is_reported_where_it_is_and_the_run_goes_on(tmp_path: Path, where: str) -> None:
    run = unkept(tmp_path, hang_timeout=0.3)
    run.fit(Hangs(tmp_path, where), loader(), loader())

    (path,) = hangs_told(tmp_path, "wait_in_vain")
    text = path.read_text()
    assert "no progress for " in text
    assert f"in the hook {where}" in text
    assert run.global_step == 6


def test_the_last_events_of_a_hang_name_it(tmp_path: Path) -> None:
    unkept(tmp_path, hang_timeout=0.3).fit(Hangs(tmp_path, "training_step"), loader())

    (path,) = hangs_told(tmp_path, "wait_in_vain")
    # The run goes on once the stacks are there, and may do so before its events are listed.
    events = last_events(events_beside(path))
    fault = [event for event in events if isinstance(event, nb.Fault)][-1]
    assert (fault.error, fault.hook, fault.source) == ("Hang", "training_step", "watchdog")
    assert "wait_in_vain" in fault.traceback


class Watched:
    """What the watchdog is given to look at.

    Attributes:
        progress: differs once there is progress.
        is_waiting: whether the run stands still because it was asked to.
    """

    progress: Callable[[], object]
    is_waiting: Callable[[], bool]

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def watch(timeout_s: float, progress: Any, on_hang: Any, is_waiting: Any = bool) -> Any:
            self.progress, self.is_waiting = progress, is_waiting
            return Watchdog(timeout_s, progress, on_hang, is_waiting)

        monkeypatch.setattr(black_box, "Watchdog", watch)


def test_a_loop_of_ones_own_that_iterates_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)

    class Search(nb.Loop):
        def __init__(self) -> None:
            self.seen: list[object] = []

        @property
        def done(self) -> bool:
            return len(self.seen) == 3

        def advance(self) -> None:
            self.seen.append(watched.progress())

    run = unkept(tmp_path, hang_timeout=DEADLINE_S)
    run.fit_loop = search = Search()
    run.fit(Small(), loader())

    assert len(set(search.seen)) == 3


def test_a_run_that_is_paused_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    found: list[bool] = []

    class Pauses(nb.Actor):
        supervision = nb.Supervision(restarts=0, then="stop_run")

        @nb.on("on_train_start")
        async def begins(self, hook: nb.Hook) -> None:
            await self.ask("fit", nb.Pause(), timeout_s=DEADLINE_S)
            found.append(watched.is_waiting())
            await self.ask("fit", nb.Resume(), timeout_s=DEADLINE_S)
            found.append(watched.is_waiting())
            await self.ask("fit", nb.Stop(reason="seen"), timeout_s=DEADLINE_S)

    run = unkept(tmp_path, hang_timeout=DEADLINE_S, actors=[Pauses()], max_epochs=1_000_000)
    run.fit(Small(), loader())

    assert found == [True, False]


def test_a_dataloader_that_hangs_is_found(tmp_path: Path) -> None:
    class Slow(Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            if index == 5:
                eventually(lambda: hangs_told(tmp_path, "__getitem__"))
            return loader().dataset[index]

    unkept(tmp_path, hang_timeout=0.3).fit(Small(), DataLoader(Slow(), 2))

    (path,) = hangs_told(tmp_path, "__getitem__")
    assert (
        "step 2, batch 1\n" in path.read_text()
    )  # between hooks, behind the last batch that was trained on


def test_a_recorded_run_that_hangs_lists_what_its_log_lacks_and_records_the_hang(
    tmp_path: Path,
) -> None:
    run = trainer(tmp_path, hang_timeout=0.3)
    run.fit(Hangs(tmp_path, "training_step"), loader())

    (path,) = hangs_told(tmp_path, "wait_in_vain")
    assert run.run_folder is not None
    recorded = list(LogReader(run.run_folder.store(0)).events("none"))
    faults = [event for event in recorded if isinstance(event, nb.Fault)]
    (fault,) = [fault for fault in faults if fault.hook == "training_step"]
    assert "since the log was written last\n  " in path.read_text()
    assert "  on_train_batch_start\n" in path.read_text()
    assert not events_beside(path).exists()
    assert fault.error == "Hang"


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "10", True])
def test_a_hang_timeout_that_is_no_time_is_refused(tmp_path: Path, seconds: Any) -> None:
    with pytest.raises(nb.UsageError, match=r"hang_timeout=.*a positive number of seconds"):
        trainer(tmp_path, hang_timeout=seconds)


# -- SIGQUIT --------------------------------------------------------------------------------------


class Asks(Small):
    """Sends SIGQUIT to itself in the second batch, and waits until it was answered."""

    def __init__(self, folder: Path, occasion: str = "sigquit") -> None:
        super().__init__()
        self.folder = folder
        self.occasion = occasion

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 1:
            signal.raise_signal(signal.SIGQUIT)
            self.wait_for_the_answer()
        return super().training_step(batch, batch_idx)

    def wait_for_the_answer(self) -> None:
        eventually(lambda: left(self.folder, self.occasion, "events.nlog"))


def test_sigquit_tells_where_the_run_is_and_it_goes_on(tmp_path: Path) -> None:
    run = unkept(tmp_path)
    run.fit(Asks(tmp_path), loader())

    (path,) = left(tmp_path, "sigquit", "stacks.txt")
    text = path.read_text()
    assert run.global_step == 6
    assert "SIGQUIT arrived; the run goes on" in text
    assert "train, epoch 0, step 1, batch 1, in the hook training_step" in text
    assert "in training_step\n" in text


def test_each_sigquit_has_files_of_its_own(tmp_path: Path) -> None:
    class AsksThrice(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx < 3:
                signal.raise_signal(signal.SIGQUIT)
                eventually(lambda: len(left(tmp_path, "sigquit", "events.nlog")) > batch_idx)
            return super().training_step(batch, batch_idx)

    unkept(tmp_path).fit(AsksThrice(), loader())

    assert len(left(tmp_path, "sigquit", "stacks.txt")) == 3


@contextmanager
def handler_of_sigquit(handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGQUIT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGQUIT, before)


def test_a_users_own_handler_is_called_too_and_is_back_afterwards(tmp_path: Path) -> None:
    numbers = list[int]()

    def own(number: int, frame: Any) -> None:
        numbers.append(number)

    with handler_of_sigquit(own):
        unkept(tmp_path).fit(Asks(tmp_path), loader())
        back = signal.getsignal(signal.SIGQUIT)

    assert numbers == [signal.SIGQUIT]
    assert back is own
    assert len(left(tmp_path, "sigquit")) == 2


def test_a_handler_of_faulthandler_stays_in_charge(tmp_path: Path) -> None:
    class Asked(Asks):
        def wait_for_the_answer(self) -> None:
            """It came already: this handler is called within the signal."""

    with open(tmp_path / "traces", "w") as traces:
        faulthandler.register(signal.SIGQUIT, traces)
        try:
            unkept(tmp_path).fit(Asked(tmp_path), loader())
            signal.raise_signal(signal.SIGQUIT)
        finally:
            faulthandler.unregister(signal.SIGQUIT)

    assert (tmp_path / "traces").read_text().count("Current thread") == 2
    assert left(tmp_path) == []


def test_whoever_else_is_woken_by_signals_still_is(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    before = signal.set_wakeup_fd(write_fd)
    try:
        unkept(tmp_path).fit(Asks(tmp_path), loader())
        back = signal.set_wakeup_fd(before)
        os.close(write_fd)
        woken = os.read(read_fd, 100)
    finally:
        os.close(read_fd)

    assert woken == bytes([signal.SIGQUIT])
    assert back == write_fd


@pytest.mark.parametrize("moment", ["leave_when_forked", "keep_when_forked"])
def test_ctrl_c_twice_as_its_handling_begins_or_ends_leaves_nothing_of_it(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set(threading.enumerate())
    change = getattr(quit_signal, moment)

    def change_and_press(owner: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        change(owner)

    monkeypatch.setattr(quit_signal, moment, change_and_press)
    with suppress(KeyboardInterrupt):
        unkept(tmp_path).fit(Small(), loader())

    assert signal.getsignal(signal.SIGQUIT) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
    assert set(threading.enumerate()) <= threads


def test_code_that_closes_descriptors_that_are_not_its_own_does_not_end_the_run(
    tmp_path: Path,
) -> None:
    class ClosesOne(Small):
        def on_train_end(self) -> None:
            os.close(signal.getsignal(signal.SIGQUIT).__self__._write_fd)  # type: ignore[union-attr]

    threads = set(threading.enumerate())
    run = unkept(tmp_path)
    run.fit(ClosesOne(), loader())

    assert run.state.finished
    assert signal.getsignal(signal.SIGQUIT) is signal.SIG_DFL
    assert set(threading.enumerate()) <= threads


def test_an_event_loop_that_takes_the_signals_over_does_not_silence_sigquit(tmp_path: Path) -> None:
    class TakesOver(Asks):
        def on_train_start(self) -> None:
            signal.set_wakeup_fd(-1)

    unkept(tmp_path).fit(TakesOver(tmp_path), loader())

    assert len(left(tmp_path, "sigquit")) == 2


# -- another thread than the main one -------------------------------------------------------------


def in_a_thread(action: Callable[[], object]) -> list[Exception]:
    raised: list[Exception] = []

    def target() -> None:
        try:
            action()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=target, name="trains")
    thread.start()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    return raised


def test_a_crash_in_another_thread_leaves_the_same_files(tmp_path: Path) -> None:
    (error,) = in_a_thread(lambda: unkept(tmp_path).fit(Boom(), loader()))

    stacks = left(tmp_path, "crash", "stacks.txt")[0].read_text()
    assert str(error) == "boom"
    assert isinstance(last_events(left(tmp_path, "crash", "events.nlog")[0])[-1], nb.Fault)
    assert "thread trains (training)\n" in stacks
    assert "thread MainThread\n" in stacks


def test_a_hang_in_another_thread_is_found_there(tmp_path: Path) -> None:
    model = Hangs(tmp_path, "training_step")
    assert in_a_thread(lambda: unkept(tmp_path, hang_timeout=0.3).fit(model, loader())) == []

    text = hangs_told(tmp_path, "wait_in_vain")[0].read_text()
    training = text[text.index("thread trains (training)") : text.index("thread MainThread")]
    assert "wait_in_vain" in training


# -- another process ------------------------------------------------------------------------------


@contextmanager
def training(folder: Path, how: str) -> Iterator[Program]:
    """A process that trains, once it has begun its fourth batch; with children it leads a group."""
    process = Program(
        [str(SCRIPT), str(folder), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("batch 3"), process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate()


def test_ctrl_backslash_in_a_terminal_asks_the_run_once_and_harms_no_worker(tmp_path: Path) -> None:
    with training(tmp_path, "workers") as process:
        os.killpg(process.pid, signal.SIGQUIT)  # as a terminal does: to everyone in the group
        eventually(lambda: left(tmp_path, "sigquit", "events.nlog"))
        (tmp_path / "enough").touch()
        out, err = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 0, err
    assert out.strip() == "ended 6"
    assert len(left(tmp_path, "sigquit")) == 2
    assert err.count("SIGQUIT arrived; the run goes on; where everyone was:") == 1


def test_a_run_stuck_in_a_call_that_never_returns_answers_sigquit(tmp_path: Path) -> None:
    def where_it_says_it_is() -> str:
        before = left(tmp_path, "sigquit", "events.nlog")
        process.send_signal(signal.SIGQUIT)
        eventually(lambda: left(tmp_path, "sigquit", "events.nlog") != before)
        (new,) = set(left(tmp_path, "sigquit", "events.nlog")) - set(before)
        return new.with_name(new.name.replace("-events.nlog", "-stacks.txt")).read_text()

    with training(tmp_path, "stuck") as process:
        # The first answers may come from the way there.
        eventually(lambda: "in stuck_in_a_call\n" in where_it_says_it_is())
        assert "in stuck_in_a_call\n" in where_it_says_it_is()
