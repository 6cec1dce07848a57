"""What the Trainer's arguments and entry points promise."""

import random
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import DEADLINE_S
from models import QUIET, Small, dataset, events, loader, trainer, weights
from programs import run_program
from torch.utils.data import DataLoader

import nightbus as nb
from nightbus.bus.errors import RunFolderError, UnknownHookError, UnsupportedArgumentError


class Steps(nb.Callback):
    """Notes what runs."""

    def __init__(self) -> None:
        self.train: list[tuple[int, int]] = []
        self.validation: list[int] = []

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, idx: int
    ) -> None:
        self.train.append((trainer.current_epoch, idx))

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        if not trainer.sanity_checking:
            self.validation.append(trainer.global_step)


def fit(folder: Path, *data: Any, module: Small | None = None, **arguments: Any) -> Steps:
    steps = Steps()
    run = trainer(folder, callbacks=[steps], **arguments)
    run.fit(module or Small(), *(data or (loader(),)))
    return steps


def test_max_epochs_limits_epochs(tmp_path: Path) -> None:
    assert len(fit(tmp_path, max_epochs=3).train) == 18


def test_max_steps_limits_optimizer_steps(tmp_path: Path) -> None:
    steps = fit(tmp_path, max_epochs=None, max_steps=8)

    assert steps.train[-1] == (1, 1)


def test_max_time_ends_the_run(tmp_path: Path) -> None:
    class Waits(Small):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            (timer,) = [each for each in self.trainer.callbacks if isinstance(each, nb.Timer)]
            while batch_idx == 1 and (timer.time_remaining() or 0) > 0:
                pass

    steps = fit(tmp_path, module=Waits(), max_epochs=-1, max_time={"milliseconds": 50})

    # None on a busy machine, where it is over before the first one.
    assert steps.train in ([], [(0, 0)], [(0, 0), (0, 1)])


def test_a_stop_waits_for_min_epochs(tmp_path: Path) -> None:
    class Stops(Small):
        def on_train_start(self) -> None:
            self.trainer.should_stop = True

    assert len(fit(tmp_path, module=Stops(), max_epochs=5, min_epochs=2).train) == 12


def test_a_stop_waits_for_min_steps(tmp_path: Path) -> None:
    class Stops(Small):
        def on_train_start(self) -> None:
            self.trainer.should_stop = True

    assert len(fit(tmp_path, module=Stops(), max_epochs=5, min_steps=8).train) == 8


@pytest.mark.parametrize(("limit", "expected"), [(2, 2), (0.5, 3), (1.0, 6), (100, 6)])
def test_limit_train_batches_is_a_number_or_a_share(
    tmp_path: Path, limit: float, expected: int
) -> None:
    assert len(fit(tmp_path, limit_train_batches=limit).train) == expected


def test_a_share_of_less_than_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match=r"limit_train_batches=0\.01 of 6 batches is less than"):
        fit(tmp_path, limit_train_batches=0.01)


def test_data_without_a_batch_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(tmp_path).fit(Small(), loader(0))

    assert "the training dataloader is empty" in capsys.readouterr().err


def test_no_training_batches_is_no_training(tmp_path: Path) -> None:
    assert fit(tmp_path, limit_train_batches=0).train == []


def test_fast_dev_run_does_one_batch_of_each_and_writes_no_checkpoint(tmp_path: Path) -> None:
    steps = Steps()
    run = nb.Trainer(
        fast_dev_run=True,
        callbacks=[steps],
        default_root_dir=tmp_path,
        **{**QUIET, "logger": True},
    )

    run.fit(Small(), loader(), loader(8))

    assert (steps.train, steps.validation) == ([(0, 0)], [1])
    assert list(tmp_path.rglob("checkpoints")) == []
    assert list(tmp_path.rglob("*.csv")) == []


def test_overfit_batches_sees_the_same_batches_in_each_epoch(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    class Sees(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append(batch[0])
            return super().training_step(batch, batch_idx)

    fit(tmp_path, loader(shuffle=True), module=Sees(), overfit_batches=2, max_epochs=2)

    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])


def test_overfit_batches_starts_workers_as_the_loader_says(tmp_path: Path) -> None:
    data = DataLoader(
        dataset(), 4, shuffle=True, num_workers=1, prefetch_factor=3, multiprocessing_context="fork"
    )

    run = trainer(tmp_path, overfit_batches=1)
    run.fit(Small(), data)

    assert run.train_dataloader.prefetch_factor == 3
    assert run.train_dataloader.multiprocessing_context.get_start_method() == "fork"


def test_validate_and_test_return_their_metrics(tmp_path: Path) -> None:
    run, module = trainer(tmp_path), Small()

    assert set(run.validate(module, loader(), verbose=False)[0]) == {"val_loss"}
    assert set(run.test(module, loader(), verbose=False)[0]) == {"test_loss"}


# -- actors and commands -------------------------------------------------------------------------


def test_a_stop_command_from_beside_the_step_ends_the_run(tmp_path: Path) -> None:
    class Watch(nb.Actor):
        @nb.on(nb.Put, name="train_loss")
        async def stop(self, put: nb.Put) -> None:
            await self.tell("fit", nb.Stop(reason="seen enough"))

    run = trainer(tmp_path, max_epochs=-1, actors=[Watch()])
    run.fit(Small(), loader())

    (ended,) = events(run, nb.RunEnded)
    assert (ended.how, ended.reason) == ("stopped", "seen enough")


def test_an_actor_in_the_step_sees_live_objects(tmp_path: Path) -> None:
    norms: list[float] = []

    class Norms(nb.Actor):
        @nb.on("on_before_optimizer_step")
        def note(self, hook: Any) -> None:
            assert hook.optimizer is hook.trainer.optimizers[0]
            norms.append(float(hook.module.net[0].weight.grad.norm()))

    trainer(tmp_path, actors=[Norms()]).fit(Small(), loader())

    assert len(norms) == 6
    assert min(norms) > 0


def test_an_actor_in_the_step_gets_each_put_at_once(tmp_path: Path) -> None:
    values: list[tuple[int, float]] = []

    class Watch(nb.Actor):
        @nb.on(nb.Put, name="train_loss")
        def note(self, put: nb.Put) -> None:
            values.append((put.step, put.value))

    run = trainer(tmp_path, actors=[Watch()])
    run.fit(Small(), loader())

    assert values == [(put.step, put.value) for put in events(run, nb.Put)]


def test_an_actor_attached_in_mid_run_acts_from_then_on(tmp_path: Path) -> None:
    class Late(nb.Actor):
        def __init__(self) -> None:
            self.batches: list[int] = []

        @nb.on("on_train_batch_start")
        def note(self, hook: Any) -> None:
            self.batches.append(hook.batch_idx)

    late = Late()

    class Attaches(Small):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                self.trainer.attach(late)

    trainer(tmp_path).fit(Attaches(), loader())

    assert late.batches == [3, 4, 5]


def test_a_detached_actor_acts_no_more_and_the_log_says_so(tmp_path: Path) -> None:
    class Counts(nb.Actor):
        in_step = 0

        @nb.on("on_train_batch_start")
        def note(self, hook: Any) -> None:
            self.in_step += 1

        @nb.on(nb.Put)
        async def see(self, put: nb.Put) -> None: ...

    counts = Counts()

    class Detaches(Small):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                self.trainer.detach(counts)

    run = trainer(tmp_path, actors=[counts])
    run.fit(Detaches(), loader())

    (stopped,) = events(run, nb.ActorStopped)
    assert counts.in_step == 3
    assert (stopped.source, stopped.reason) == ("counts", "detached")
    assert run.actors == []


def test_detaching_what_is_not_attached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="is not attached"):
        trainer(tmp_path).detach(nb.Actor())


def test_torch_settings_hold_during_a_run_and_not_after(tmp_path: Path) -> None:
    seen: list[tuple[bool, bool]] = []

    def settings() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.is_anomaly_enabled()

    class Sees(Small):
        def on_train_start(self) -> None:
            seen.append(settings())

    before = settings()
    with warnings.catch_warnings():  # torch warns of anomaly detection, once in a process
        warnings.simplefilter("ignore")
        fit(tmp_path, module=Sees(), deterministic=True, detect_anomaly=True)

    assert seen == [(True, True)]
    assert settings() == before


def test_run_validation_runs_validation(tmp_path: Path) -> None:
    class Asks(Small):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 1:
                self.tell("fit", nb.RunValidation())

    assert fit(tmp_path, loader(), loader(8), module=Asks()).validation == [2, 6]


def test_pause_holds_the_run_until_resume(tmp_path: Path) -> None:
    class Holds(nb.Actor):
        def __init__(self) -> None:
            self.replies: list[str] = []

        @nb.on(nb.Put, name="go")
        async def hold(self, put: nb.Put) -> None:
            self.replies.append(await self.ask("fit", nb.Pause(), timeout_s=DEADLINE_S))
            self.replies.append(await self.ask("fit", nb.Resume(), timeout_s=DEADLINE_S))
            self.replies.append(await self.ask("fit", nb.Stop(), timeout_s=DEADLINE_S))

    class Goes(Small):
        def on_train_start(self) -> None:
            self.put("go", 1)

    holds = Holds()
    run = trainer(tmp_path, max_epochs=-1, actors=[holds])
    run.fit(Goes(), loader())

    assert holds.replies == ["paused", "running", "stopping"]


def test_a_command_to_nobody_is_a_dead_letter(tmp_path: Path) -> None:
    class Tells(Small):
        def on_train_start(self) -> None:
            self.tell("nobody", nb.Stop())

    run = trainer(tmp_path)
    run.fit(Tells(), loader())

    (letter,) = events(run, nb.DeadLetter)
    assert (letter.target, letter.command, letter.source) == ("nobody", "Stop", "module")


def test_an_address_that_nobody_has_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Tells(Small):
        def on_train_batch_start(self, *_: Any) -> None:
            self.tell("fitt", nb.Stop())

    trainer(tmp_path).fit(Tells(), loader())

    said = capsys.readouterr().err
    assert said.count("Stop of module to 'fitt': there is no actor of that name in this run") == 1


def test_put_from_another_thread_is_recorded(tmp_path: Path) -> None:
    import threading

    class Threads(Small):
        def on_train_start(self) -> None:
            thread = threading.Thread(target=lambda: self.put("from afar", 7))
            thread.start()
            thread.join()

    run = trainer(tmp_path)
    run.fit(Threads(), loader())

    assert [put.value for put in events(run, nb.Put) if put.name == "from afar"] == [7]


def test_a_command_taken_is_recorded_with_its_sender(tmp_path: Path) -> None:
    class Tells(Small):
        def on_train_start(self) -> None:
            self.tell("fit", nb.Stop(reason="enough"))

    run = trainer(tmp_path)
    run.fit(Tells(), loader())

    (taken,) = events(run, nb.CommandTaken)
    assert (taken.target, taken.command, taken.source) == ("fit", "Stop", "module")


# -- recording -----------------------------------------------------------------------------------


def test_recording_all_keeps_hooks_and_puts(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(Small(), loader())

    names = {event.name for event in events(run, nb.Hook)}
    assert {"on_train_batch_start", "training_step", "backward", "optimizer_step"} <= names
    assert len(events(run, nb.Put)) == 6


def test_recording_metrics_leaves_hooks_out(tmp_path: Path) -> None:
    run = trainer(tmp_path, recording="metrics")
    run.fit(Small(), loader())

    assert events(run, nb.Hook) == []
    assert len(events(run, nb.Put)) == 6


def test_recording_metrics_keeps_the_hooks_that_a_live_observer_wants(tmp_path: Path) -> None:
    class Wants(nb.Actor):
        seen = 0

        @nb.on("on_train_batch_end")
        async def count(self, hook: nb.Hook) -> None:
            self.seen += 1

    wants = Wants()
    run = trainer(tmp_path, recording="metrics", actors=[wants])
    run.fit(Small(), loader())

    assert {hook.name for hook in events(run, nb.Hook)} == {"on_train_batch_end"}
    assert wants.seen == 6


def test_recording_off_keeps_nothing_but_live_observers_see_all(tmp_path: Path) -> None:
    class Counts(nb.Actor):
        seen = 0

        @nb.on(nb.Put)
        async def count(self, put: nb.Put) -> None:
            self.seen += 1

    counts = Counts()
    run = trainer(tmp_path, recording="off", enable_checkpointing=False, actors=[counts])
    run.fit(Small(), loader())

    assert counts.seen == 6
    assert list(tmp_path.iterdir()) == []


def test_sequence_numbers_have_no_gap_and_time_runs_forward(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=2)
    run.fit(Small(), loader(), loader(8))

    recorded = events(run)
    assert [event.seq for event in recorded] == list(range(len(recorded)))
    for kind in (nb.Hook, nb.Put):
        times = [event.time_ns for event in recorded if isinstance(event, kind)]
        assert times == sorted(times)


def test_events_say_where_they_arose(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=2)
    run.fit(Small(), loader(8))

    places = [
        (hook.stage, hook.epoch, hook.step, hook.batch_idx)
        for hook in events(run, nb.Hook)
        if hook.name in ("on_train_batch_start", "on_train_batch_end")
    ]
    assert places == [
        ("train", 0, 0, 0),
        ("train", 0, 1, 0),
        ("train", 0, 1, 1),
        ("train", 0, 2, 1),
        ("train", 1, 2, 0),
        ("train", 1, 3, 0),
        ("train", 1, 3, 1),
        ("train", 1, 4, 1),
    ]


def test_the_end_of_a_run_counts_the_epochs_completed(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=2)
    run.fit(Small(), loader())

    (ended,) = events(run, nb.RunEnded)
    assert (ended.epoch, ended.step) == (2, 12)


def test_an_exception_is_a_fault_in_the_log_and_the_run_has_failed(tmp_path: Path) -> None:
    class Fails(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ValueError("boom")

    run = trainer(tmp_path)
    with pytest.raises(ValueError, match="boom"):
        run.fit(Fails(), loader())

    (fault,) = events(run, nb.Fault)
    (ended,) = events(run, nb.RunEnded)
    assert (fault.error, fault.message, fault.hook) == ("ValueError", "boom", "training_step")
    assert "training_step" in fault.traceback
    assert ended.how == "failed"


def test_callbacks_of_the_module_that_work_beside_the_step_are_there_in_each_run(
    tmp_path: Path,
) -> None:
    heard: list[tuple[int, str]] = []

    class Hears(nb.Callback):
        def __init__(self, number: int) -> None:
            self.number = number

        @nb.on(nb.RunStarted)
        async def note(self, started: nb.RunStarted) -> None:
            heard.append((self.number, started.fn))

    class Brings(Small):
        def configure_callbacks(self) -> list[nb.Callback]:
            return [Hears(number=len(heard) + 1)]

    run = trainer(tmp_path)
    run.fit(Brings(), loader())
    run.validate(dataloaders=loader(8), verbose=False)

    assert heard == [(1, "fit"), (2, "validate")]


def test_a_trainer_can_run_again_after_a_failure(tmp_path: Path) -> None:
    class FailsOnce(Small):
        failed = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if not self.failed:
                self.failed = True
                raise ValueError("boom")
            return super().training_step(batch, batch_idx)

    run, module = trainer(tmp_path), FailsOnce()
    with pytest.raises(ValueError, match="boom"):
        run.fit(module, loader())
    run.fit(module, loader())

    assert run.global_step == 6
    assert [event.how for event in events(run, nb.RunEnded, attempt=1)] == ["completed"]


def test_a_fit_for_which_no_epoch_is_left_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path)
    run.fit(Small(), loader(4))
    assert "is not trained" not in capsys.readouterr().err

    second = Small()
    before = weights(second)
    run.fit(second, loader(4))

    said = capsys.readouterr().err
    assert "Small is not trained" in said
    assert "already completed 1 epochs and 1 steps of max_epochs=1" in said
    assert "make a new Trainer for another module" in said
    assert all(map(torch.equal, before, weights(second)))


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"auto_select_gpus": True}, "CUDA_VISIBLE_DEVICES"),
        ({"strategy": "ddp_spawn"}, "use 'ddp', whose processes are started as scripts"),
        ({"strategy": "fsdp"}, "use 'ddp', which keeps a copy of the module on each device"),
        ({"plugins": [object()]}, "precision= and accelerator="),
        ({"weights_save_path": "w"}, r"ModelCheckpoint\(dirpath=\.\.\.\) among callbacks"),
        ({"early_stop_callback": True}, "EarlyStopping among callbacks"),
    ],
)
def test_an_argument_of_lightning_is_refused_with_what_to_use_instead(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedArgumentError, match=message):
        nb.Trainer(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_epoch": 1}, "did you mean max_epochs"),
        ({"limit_train_batches": 1.5}, "for 1.5 batches use an int"),
        ({"limit_val_batches": -1}, "limit_val_batches=-1"),
        ({"precision": "8"}, "expected one of '64-true', '32-true'"),
        ({"precision": ["32"]}, "expected one of '64-true', '32-true'"),
        ({"precision": "transformer-engine"}, r"Transformer Engine.* give precision='bf16-mixed'"),
        ({"devices": 0}, r"devices=0: expected a number, -1 for all, 'auto', or a list"),
        ({"devices": []}, r"devices=\[\]: expected a number, -1 for all, 'auto', or a list"),
        ({"num_nodes": 0}, "num_nodes=0: expected an int of at least 1"),
        ({"num_nodes": 2}, "start the script on each machine with torchrun"),
        ({"strategy": "dpp"}, "strategy='dpp': expected 'auto', 'ddp'"),
        (
            {"devices": [3], "accelerator": "cpu"},
            r"devices=\[3\]: this machine has 1 for 'cpu'",
        ),
        ({"deterministic": "sometimes"}, "expected one of True, False, 'warn'"),
        ({"accelerator": "tpu"}, "expected 'auto', 'cpu', 'gpu' or 'mps'"),
        ({"accumulate_grad_batches": 0}, "at least 1"),
        ({"gradient_clip_algorithm": "L1"}, "expected one of 'norm', 'value'"),
        ({"multiple_trainloader_mode": "longest"}, r"multiple_trainloader_mode.*min_size"),
        ({"recording": "some"}, "expected one of 'all', 'metrics', 'off'"),
        ({"max_time": "soon"}, "DD:HH:MM:SS"),
        ({"logger": object()}, r"log_metrics\(metrics, step\)"),
        ({"sinks": [nb.Actor()]}, "expected a nightbus.Sink"),
        ({"callbacks": ["early"]}, "callbacks: expected a nightbus.Callback, not str"),
        ({"callbacks": "early"}, "callbacks: expected a nightbus.Callback, not str"),
        ({"callbacks": [nb.EarlyStopping]}, r"pass an instance: EarlyStopping\(\)"),
        ({"actors": nb.Actor}, r"pass an instance: Actor\(\)"),
        ({"actors": [print]}, "actors: expected a nightbus.Actor"),
        ({"log_every_n_steps": -1}, "log_every_n_steps=-1: expected an int of at least 0"),
        ({"gradient_clip_val": -1.0}, "gradient_clip_val=-1.0: expected a number of at least 0"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(nb.UsageError, match=message):
        nb.Trainer(**arguments)


@pytest.mark.parametrize(("argument", "made"), [("actors", nb.Actor), ("sinks", nb.JSONLines)])
def test_one_object_stands_for_a_list_of_one(argument: str, made: type[nb.Actor]) -> None:
    given: Any = made()

    assert given in getattr(nb.Trainer(**{argument: given}), argument)


def test_what_is_lightnings_is_refused_with_what_takes_its_place(tmp_path: Path) -> None:
    lightning = type("LightningModule", (), {"__module__": "lightning.pytorch.core"})
    stopping = type("EarlyStopping", (), {"__module__": "lightning.pytorch.callbacks"})

    class Theirs(lightning):  # type: ignore[misc, valid-type]
        pass

    with pytest.raises(nb.UsageError, match="EarlyStopping, which is that of lightning; import"):
        nb.Trainer(callbacks=[stopping()])
    with pytest.raises(nb.UsageError, match="Theirs, whose LightningModule is that of lightning"):
        trainer(tmp_path).fit(Theirs(), loader())


def test_a_handler_for_an_unknown_hook_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    class Misspelt(nb.Actor):
        @nb.on("on_train_bach_end")
        def note(self, hook: Any) -> None: ...

    with pytest.raises(UnknownHookError, match=r"Misspelt\.note.*did you mean on_train_batch_end"):
        trainer(tmp_path, actors=[Misspelt()]).fit(Small(), loader())


def test_a_run_folder_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    steps = Steps()

    with pytest.raises(RunFolderError, match="choose a writable folder"):
        trainer(tmp_path, callbacks=[steps]).fit(Small(), loader())

    assert steps.train == []


@pytest.mark.parametrize(
    ("returned", "message"),
    [("adam", "expected a loss tensor"), ({"los": 1}, "without 'loss'"), (1.0, "returned float")],
)
def test_a_training_step_that_returns_no_loss_is_refused(
    tmp_path: Path, returned: Any, message: str
) -> None:
    class Returns(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return returned

    with pytest.raises(nb.UsageError, match=message):
        trainer(tmp_path).fit(Returns(), loader())


def test_training_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="no training data"):
        trainer(tmp_path).fit(Small())


def test_two_actors_of_one_name_are_refused(tmp_path: Path) -> None:
    class Named(nb.Actor):
        name = "watch"

    with pytest.raises(nb.UsageError, match="two actors are called 'watch'"):
        trainer(tmp_path, actors=[Named(), Named()]).fit(Small(), loader())


def test_the_learned_weights_stay_with_the_module(tmp_path: Path) -> None:
    module = Small()
    before = weights(module)

    trainer(tmp_path).fit(module, loader())

    assert not torch.equal(before[0], weights(module)[0])
    assert module.current_epoch == 1  # still attached to its trainer


@pytest.mark.long
def test_showing_a_bar_or_a_message_draws_no_random_numbers_of_the_users(tmp_path: Path) -> None:
    """In processes of their own: libraries draw when they are loaded, which is once."""
    program = f"""
import os, random, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from models import Small, loader, trainer

for shows in ("a bar", "a message"):
    if os.fork() == 0:
        run = trainer({str(tmp_path)!r} + "/" + shows, enable_progress_bar=shows == "a bar")
        path = "last" if shows == "a message" else None  # there is none, which is said
        random.seed(1)
        run.fit(Small(), loader(), ckpt_path=path)
        print(shows, random.random(), flush=True)
        print(shows, file=sys.stderr, flush=True)
        os._exit(0)
    os.wait()
"""
    done = run_program("-c", program)

    drawn = random.Random(1).random()
    assert done.stdout.splitlines() == [f"a bar {drawn}", f"a message {drawn}"], done.stderr
    of_the_bar, of_the_message, _ = re.split(r"^a .*\n", done.stderr, flags=re.MULTILINE)
    assert of_the_bar
    assert of_the_message


@pytest.mark.parametrize("function", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("given", [None, object()])
def test_what_is_no_dataloader_is_a_type_error_too(
    function: str, given: object, tmp_path: Path
) -> None:
    class Bare(Small):
        def validation_step(self, batch: Any, batch_idx: int) -> None: ...

        def test_step(self, batch: Any, batch_idx: int) -> None: ...

    for kind in (nb.UsageError, TypeError):
        with pytest.raises(kind, match="dataloader"):
            getattr(trainer(tmp_path), function)(Bare(), given)
