"""In replay, what was not recorded says so by its name, whatever is done with it."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, events, loader, trainer
from recorded_runs import RecordedRun

import nightbus as nb


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run."""
    trained = trainer(tmp_path_factory.mktemp("trained"))
    trained.fit(Small(), loader(8), loader(4))
    assert trained.run_folder is not None
    return trained.run_folder.path


def replay_with(run: Path, use: Callable[[Any], Any], argument: str) -> None:
    """Do something with an argument of on_train_batch_end in replay."""

    class Uses(nb.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            use({"module": module, "outputs": outputs, "batch": batch}[argument])

    nb.replay(run, actors=[Uses()])


def assign(value: Any) -> None:
    value.attribute = 1


USES: dict[str, Callable[[Any], Any]] = {
    "an attribute": lambda value: value.shape,
    "setting an attribute": assign,
    "a call": lambda value: value(),
    "an index": lambda value: value[0],
    "a length": len,
    "a loop": list,
    "taking apart": lambda value: (lambda x, y: x)(*value),
    "membership": lambda value: "loss" in value,
    "truth": bool,
    "a number": float,
    "a whole number": int,
    "a function of math": math.isnan,
    "arithmetic": lambda value: value * 2,
    "arithmetic from the right": lambda value: 2 - value,
    "a comparison": lambda value: value > 1,
    "equality": lambda value: value == 1,
    "a tensor's function": torch.mean,
    "a tensor's function with several": lambda value: torch.stack([torch.ones(()), value]),
    "a tensor's operator": lambda value: torch.ones(()) + value,
}


@pytest.mark.parametrize("argument", ["module", "outputs", "batch"])
@pytest.mark.parametrize("use", USES, ids=lambda use: use.replace(" ", "_"))
def test_a_live_object_that_is_used_is_named(run: Path, use: str, argument: str) -> None:
    with pytest.raises(nb.NotRecorded) as raised:
        replay_with(run, USES[use], argument)

    assert raised.value.name == argument
    assert f"'{argument}' of the hook on_train_batch_end was not recorded" in str(raised.value)


def test_a_live_object_can_be_shown_for_what_it_is_not(run: Path) -> None:
    shown: list[str] = []

    replay_with(run, lambda value: shown.append(f"{value}"), "batch")

    assert set(shown) == {"<'batch' of the hook on_train_batch_end: not recorded>"}


@pytest.mark.parametrize(
    "attribute",
    ["model", "optimizers", "lightning_module", "train_dataloader", "strategy", "save_checkpoint"],
)
def test_what_belongs_to_the_trainer_is_named(run: Path, attribute: str) -> None:
    class Uses(nb.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            getattr(trainer, attribute)

    with pytest.raises(nb.NotRecorded, match=f"'{attribute}' of the trainer") as raised:
        nb.replay(run, actors=[Uses()])

    assert raised.value.name == attribute


@pytest.mark.parametrize("attribute", ["batch", "outputs", "module", "optimizer", "trainer"])
def test_what_an_actor_in_the_step_had_at_hand_is_named(run: Path, attribute: str) -> None:
    class InStep(nb.Actor):
        @nb.on("on_train_batch_end")
        def take(self, hook: Any) -> None:
            getattr(hook, attribute)

    with pytest.raises(nb.NotRecorded, match=f"'{attribute}' of the hook on_train_batch_end"):
        nb.replay(run, actors=[InStep()])


def test_a_metric_that_was_not_recorded_is_named_with_those_that_were(run: Path) -> None:
    class Reads(nb.Callback):
        def on_validation_end(self, trainer: nb.Trainer, module: Any) -> None:
            if not trainer.sanity_checking:
                trainer.callback_metrics["acc"]

    with pytest.raises(nb.NotRecorded, match="'acc' of the metrics") as raised:
        nb.replay(run, actors=[Reads()])

    assert str(raised.value) == (
        "'acc' of the metrics up to here was not recorded; recorded are: train_loss, val_loss"
    )


def test_a_callback_that_does_without_a_metric_does_so_in_replay(run: Path) -> None:
    class Copes(nb.Callback):
        def __init__(self) -> None:
            self.without = 0

        def on_validation_end(self, trainer: nb.Trainer, module: Any) -> None:
            assert trainer.callback_metrics.get("acc") is None
            assert "acc" not in trainer.callback_metrics
            try:
                trainer.callback_metrics["acc"]
            except KeyError:
                self.without += 1

    copes = Copes()
    nb.replay(run, actors=[copes])

    assert copes.without == 2  # the sanity check's, and the epoch's


class WantsHook(nb.Actor):
    """Handles one hook, in the step."""

    @nb.on("on_train_batch_end")
    def take(self, hook: Any) -> None:
        pass


class WantsHookBeside(nb.Actor):
    """Handles one hook, beside the step."""

    @nb.on("on_train_batch_end")
    async def take(self, hook: Any) -> None:
        pass


class WantsHookByMethod(nb.Callback):
    """Handles one hook, as callbacks do."""

    def on_train_batch_end(self, *arguments: Any) -> None:
        pass


@pytest.mark.parametrize("actor", [WantsHook, WantsHookBeside, WantsHookByMethod])
@pytest.mark.parametrize("recording", ["metrics", "off"])
def test_a_hook_that_was_left_out_of_the_recording_is_named(
    tmp_path: Path, actor: type[nb.Actor], recording: Any
) -> None:
    trained = trainer(tmp_path, recording=recording)
    trained.fit(Small(), loader(8))
    assert trained.run_folder is not None

    message = f"'on_train_batch_end' of a run with recording='{recording}' was not recorded"
    with pytest.raises(nb.NotRecorded, match=message):
        nb.replay(trained.run_folder, actors=[actor()])


def test_a_hook_that_an_observer_had_recorded_is_there(tmp_path: Path) -> None:
    class Counts(WantsHookBeside):
        def __init__(self) -> None:
            self.count = 0

        @nb.on("on_train_batch_end")
        async def take(self, hook: Any) -> None:
            self.count += 1

    trained = trainer(tmp_path, recording="metrics", actors=[Counts()])
    trained.fit(Small(), loader(8))
    assert trained.run_folder is not None
    again = Counts()

    nb.replay(trained.run_folder, actors=[again])

    assert again.count == 2


def test_a_hook_that_never_ran_is_not_missed(tmp_path: Path) -> None:
    class WantsTest(nb.Actor):
        @nb.on("on_test_end")
        def take(self, hook: Any) -> None:
            raise AssertionError("there was no test")

    assert nb.replay(RecordedRun(tmp_path).steps(3), actors=[WantsTest()]).unclean == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (nb.ModelCheckpoint, "ModelCheckpoint cannot be replayed: it saves the model's state"),
        (nb.ThroughputMonitor, "ThroughputMonitor cannot be replayed: it counts the samples of li"),
        (nb.DeviceStatsMonitor, "DeviceStatsMonitor cannot be replayed: it reads the device"),
        (nb.LearningRateMonitor, "LearningRateMonitor cannot be replayed: it reads the optimizers"),
        (nb.ModelSummary, "ModelSummary cannot be replayed: it describes the model"),
        (nb.EMA, "EMA cannot be replayed: it averages the model's weights"),
        (
            lambda: nb.StochasticWeightAveraging(0.1),
            "StochasticWeightAveraging cannot be replayed: it averages the model's weights",
        ),
        (
            lambda: nb.GradientAccumulationScheduler({1: 2}),
            "GradientAccumulationScheduler cannot be replayed: it changes how training steps",
        ),
        (
            lambda: nb.BackboneFinetuning(1),
            "BackboneFinetuning cannot be replayed: it freezes and unfreezes the model",
        ),
    ],
)
def test_a_callback_that_is_nothing_without_live_objects_says_why_it_cannot_be_replayed(
    tmp_path: Path, make: Callable[[], nb.Callback], message: str
) -> None:
    with pytest.raises(nb.UsageError, match=message):
        nb.replay(RecordedRun(tmp_path).steps(1), actors=[make()])


LOOKED_FOR = (
    "AttributeError: 'Hook' object has no attribute 'outputs': a coroutine gets the recorded "
    "event; a plain method \\(def\\) gets live objects such as batch and outputs, on the "
    "training thread"
)


class LooksBeside(nb.Actor):
    """Looks for a live object in the recorded event."""

    supervision = nb.Supervision(restarts=0)

    @nb.on("on_train_batch_end")
    async def look(self, hook: Any) -> None:
        hook.outputs.mean()


def test_a_coroutine_that_looks_for_a_live_object_is_told_where_there_are_some(
    tmp_path: Path,
) -> None:
    with pytest.raises(nb.NightbusError, match=LOOKED_FOR):
        nb.replay(RecordedRun(tmp_path).steps(1), actors=[LooksBeside()])


def test_a_coroutine_is_told_so_while_the_run_goes_on_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trained = trainer(tmp_path, actors=[LooksBeside()])

    trained.fit(Small(), loader(8))

    (fault,) = events(trained, nb.Fault)
    assert fault.message == LOOKED_FOR.replace("\\", "").removeprefix("AttributeError: ")
    assert LOOKED_FOR.replace("\\", "") in capfd.readouterr().err
