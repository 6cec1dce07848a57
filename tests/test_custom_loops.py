"""Loops that users write are actors: hooks, commands and state of their own."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.bus.errors import UnknownHookError


class Double(nb.Command, frozen=True):
    """Makes the rounds count twice."""


class Rounds(nb.Loop):
    """Trains for some rounds of one epoch each."""

    def __init__(self, rounds: int = 3) -> None:
        self.rounds = rounds
        self.round = 0
        self.doubled_at = -1
        self.fit_loop: nb.Loop = nb.FitLoop(max_epochs=1)

    @property
    def done(self) -> bool:
        return self.round >= self.rounds

    def advance(self) -> None:
        self.hook("on_round_start", self.round)
        self.replace(fit_loop=nb.FitLoop)
        self.fit_loop.run()

    def on_advance_end(self) -> None:
        self.round += 1

    @nb.on(Double)
    def double(self, _: Double) -> str:
        self.doubled_at = self.round
        return "doubled"

    def on_save_checkpoint(self) -> dict[str, Any]:
        return {"round": self.round}

    def on_load_checkpoint(self, state_dict: Any) -> None:
        self.round = state_dict["round"]


class Steps(nb.Loop):
    """A loop from scratch: one optimizer step an iteration."""

    def __init__(self, steps: int = 8) -> None:
        self.steps = steps

    @property
    def done(self) -> bool:
        return self.trainer.global_step >= self.steps

    def advance(self) -> None:
        module: Any = self.trainer.lightning_module
        optimizer = module.optimizers()
        optimizer.zero_grad()
        module.loss(next(iter(self.trainer.train_dataloader))).backward()
        optimizer.step()


def with_loop(folder: Path, loop: nb.Loop, **arguments: Any) -> nb.Trainer:
    run = trainer(folder, **arguments)
    run.fit_loop = loop
    return run


# -- hooks of its own ----------------------------------------------------------------------------


def test_a_loops_own_hook_is_recorded_where_it_arose(tmp_path: Path) -> None:
    run = with_loop(tmp_path, Rounds())

    run.fit(Small(), loader())

    found = [event for event in events(run, nb.Hook) if event.name == "on_round_start"]
    assert [event.step for event in found] == [0, 6, 12]


def test_callbacks_the_module_and_actors_handle_a_loops_own_hook(tmp_path: Path) -> None:
    calls: list[Any] = []

    class Watches(nb.Callback):
        def on_round_start(self, trainer: nb.Trainer, module: Any, number: int) -> None:
            calls.append(("callback", number, type(module).__name__))

    class Told(Small):
        def on_round_start(self, number: int) -> None:
            calls.append(("module", number))

    class InStep(nb.Actor):
        @nb.on("on_round_start")
        def note(self, hook: Any) -> None:
            calls.append(("actor", *hook.values))

    run = with_loop(tmp_path, Rounds(1), callbacks=[Watches()], actors=[InStep()])

    run.fit(Told(), loader())

    assert calls == [("callback", 0, "Told"), ("actor", 0), ("module", 0)]


@pytest.mark.parametrize("recording", ["all", "metrics", "off"])
def test_an_observer_sees_a_loops_own_hook(tmp_path: Path, recording: str) -> None:
    class Beside(nb.Actor):
        def __init__(self) -> None:
            self.steps: list[int] = []

        @nb.on("on_round_start")
        async def note(self, hook: nb.Hook) -> None:
            self.steps.append(hook.step)

    beside = Beside()

    with_loop(tmp_path, Rounds(2), actors=[beside], recording=recording).fit(Small(), loader())

    assert beside.steps == [0, 6]


def test_replay_shows_a_loops_own_hook(tmp_path: Path) -> None:
    class Beside(nb.Actor):
        seen = 0

        @nb.on("on_round_start")
        async def note(self, hook: nb.Hook) -> None:
            self.seen += 1

    run = with_loop(tmp_path, Rounds(2))
    run.fit(Small(), loader())
    beside = Beside()

    assert run.run_folder is not None
    nb.replay(run.run_folder, actors=[beside])

    assert beside.seen == 2


def test_a_loop_may_announce_hooks_that_everybody_knows(tmp_path: Path) -> None:
    class Announces(Steps):
        def advance(self) -> None:
            self.hook("on_train_batch_start", None, self.trainer.global_step)
            super().advance()

    class Watches(nb.Callback):
        def __init__(self) -> None:
            self.batches: list[int] = []

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, idx: int) -> None:
            self.batches.append(idx)

    watches = Watches()

    with_loop(tmp_path, Announces(3), callbacks=[watches]).fit(Small(), loader())

    assert watches.batches == [0, 1, 2]


def test_a_loops_own_hook_must_be_called_on_something(tmp_path: Path) -> None:
    class Announces(Steps):
        def advance(self) -> None:
            self.hook("round_start")

    with pytest.raises(nb.UsageError, match=r"'round_start'; name hooks of its own on_"):
        with_loop(tmp_path, Announces()).fit(Small(), loader())


def test_a_misspelt_hook_is_refused_though_loops_may_have_their_own(tmp_path: Path) -> None:
    class Misspells(nb.Actor):
        @nb.on("on_train_batch_ends")
        def note(self, hook: Any) -> None: ...

    with pytest.raises(UnknownHookError, match="did you mean on_train_batch_end"):
        with_loop(tmp_path, Rounds(), actors=[Misspells()]).fit(Small(), loader())


# -- commands ------------------------------------------------------------------------------------


def test_a_loop_takes_commands_at_its_safe_points(tmp_path: Path) -> None:
    class Asks(nb.Actor):
        reply = None

        @nb.on("on_train_start")
        async def ask_once(self, _: nb.Hook) -> None:
            if self.reply is None:
                self.reply = await self.ask("rounds", Double())

    asks, rounds = Asks(), Rounds(50)

    with_loop(tmp_path, rounds, actors=[asks]).fit(Small(), loader())

    assert asks.reply == "doubled"
    assert 0 <= rounds.doubled_at < 50


def test_a_loops_name_is_its_address(tmp_path: Path) -> None:
    class Named(Steps):
        name = "stepper"

        def on_advance_end(self) -> None:
            self.trainer.tell("stepper", Double())

        @nb.on(Double)
        def double(self, _: Double) -> None:
            self.steps = 2

    run = with_loop(tmp_path, Named())

    run.fit(Small(), loader())

    assert run.global_step == 2
    assert {event.target for event in events(run, nb.CommandTaken)} == {"stepper"}


def test_stop_ends_a_loop_from_scratch_whatever_it_is_called(tmp_path: Path) -> None:
    class Stops(Steps):
        def on_advance_end(self) -> None:
            if self.trainer.global_step == 3:
                self.trainer.tell("fit", nb.Stop(reason="enough"))

    run = with_loop(tmp_path, Stops(1000))

    run.fit(Small(), loader())

    (end,) = events(run, nb.RunEnded)
    assert (run.global_step, end.how, end.reason) == (3, "stopped", "enough")


def test_stop_ends_the_loops_around_the_one_that_took_it(tmp_path: Path) -> None:
    class StopsInSecondRound(nb.Callback):
        def on_train_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
            if trainer.global_step == 8:
                trainer.tell("fit", nb.Stop())

    rounds = Rounds(5)
    run = with_loop(tmp_path, rounds, callbacks=[StopsInSecondRound()])

    run.fit(Small(), loader())

    assert (run.global_step, rounds.round) == (8, 2)


def test_a_loop_within_a_batch_takes_no_commands_before_the_batch_is_done(tmp_path: Path) -> None:
    order: list[str] = []

    class Inner(nb.OptimizerLoop):
        def advance(self, batch: Any, batch_idx: int) -> None:
            self.trainer.tell("inner", Double())
            super().advance(batch, batch_idx)
            order.append("advanced")

        @nb.on(Double)
        def double(self, _: Double) -> None:
            order.append("doubled")

    run = trainer(tmp_path, max_steps=2)
    run.fit_loop.epoch_loop.batch_loop.replace(optimizer_loop=Inner)

    class Watches(nb.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            order.append("batch done")

    run.callbacks.append(Watches())
    run.fit(Small(), loader())

    assert order == ["advanced", "batch done", "doubled"] * 2


def test_ctrl_c_ends_a_loop_from_scratch_at_its_safe_point(tmp_path: Path) -> None:
    class Interrupted(Steps):
        def on_advance_end(self) -> None:
            if self.trainer.global_step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    run = with_loop(tmp_path, Interrupted(1000))

    run.fit(Small(), loader())

    assert run.interrupted
    assert run.global_step == 3


def test_should_stop_ends_a_loop_from_scratch(tmp_path: Path) -> None:
    class Stops(Steps):
        def on_advance_end(self) -> None:
            self.trainer.should_stop = self.trainer.global_step == 4

    run = with_loop(tmp_path, Stops(1000))

    run.fit(Small(), loader())

    assert run.global_step == 4


# -- the tree ------------------------------------------------------------------------------------


def test_loops_of_one_name_have_addresses_of_their_own(tmp_path: Path) -> None:
    class Twice(Rounds):
        def __init__(self) -> None:
            super().__init__(1)
            self.second = nb.FitLoop(max_epochs=1)

        def on_advance_end(self) -> None:
            self.second.run()
            super().on_advance_end()

    twice = Twice()
    with_loop(tmp_path, twice).fit(Small(), loader())

    addresses = [loop._nightbus_address for loop in twice.walk()]
    assert len(set(addresses)) == len(addresses)
    assert {"fit", "fit-2"} < set(addresses)


def test_a_loop_that_replaces_another_in_a_run_takes_its_commands(tmp_path: Path) -> None:
    class Validates(nb.Callback):
        validations = 0

        def on_train_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
            if trainer.is_last_batch:
                trainer.tell("fit", nb.RunValidation())

        def on_validation_end(self, *_: Any) -> None:
            self.validations += 1

    validates = Validates()
    run = with_loop(tmp_path, Rounds(3), callbacks=[validates], check_val_every_n_epoch=100)

    run.fit(Small(), loader(), loader(8))

    assert validates.validations == 1 + 3  # the sanity check, and one a round
    assert events(run, nb.DeadLetter) == []


def test_a_loop_that_is_connected_in_a_run_gets_the_trainer(tmp_path: Path) -> None:
    class Connects(Steps):
        def on_run_start(self) -> None:
            self.connect(child=Steps(3))

        def advance(self) -> None:
            child: Any = vars(self)["child"]
            child.run()
            self.steps = 0

    run = with_loop(tmp_path, Connects())

    run.fit(Small(), loader())

    assert run.global_step == 3


def test_a_loop_that_is_no_ones_child_runs_once_it_is_given_the_trainer(tmp_path: Path) -> None:
    class Several(Steps):
        def on_run_start(self) -> None:
            self.phases = [nb.FitLoop(max_epochs=1), nb.FitLoop(max_epochs=2)]

        def advance(self) -> None:
            for phase in self.phases:
                for loop in phase.walk():
                    loop.trainer = self.trainer
                phase.run()
            self.steps = 0

    several = Several()

    with_loop(tmp_path, several).fit(Small(), loader())

    assert [phase.current_epoch for phase in several.phases] == [1, 2]


def test_a_loop_runs_the_trainers_other_loops(tmp_path: Path) -> None:
    class Tests(Steps):
        results: Any = None

        def on_run_end(self) -> None:
            self.results = self.trainer.test_loop.run()
            assert self.trainer.lightning_module.training
            assert self.trainer.training

    class WithTestData(Small):
        def test_dataloader(self) -> Any:
            return loader(8)

    tests = Tests()
    with_loop(tmp_path, tests).fit(WithTestData(), loader())

    assert set(tests.results[0]) == {"test_loss"}


@pytest.mark.parametrize("function", ["validate", "test"])
@pytest.mark.parametrize(
    ("results", "shown"),
    [
        ([{"accuracy": 0.5}], "{}\n  accuracy  0.5\n"),
        ({"accuracy": 0.5}, "{}: {{'accuracy': 0.5}}\n"),
        ([{"label": "cat"}], "{}: [{{'label': 'cat'}}]\n"),
    ],
)
def test_what_a_loop_in_place_of_an_evaluation_loop_returns_is_printed(
    tmp_path: Path, function: str, results: Any, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    class Mine(nb.Loop):
        done = True

        def advance(self) -> None:
            pass

        def run(self, *_: Any, **__: Any) -> Any:
            return results

    run = trainer(tmp_path)
    setattr(run, "validate_loop" if function == "validate" else "test_loop", Mine())

    assert getattr(run, function)(Small(), loader()) == results
    assert shown.format(function) in capsys.readouterr().out


def test_assigning_no_loop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match=r"fit_loop is int; expected a nightbus\.Loop"):
        trainer(tmp_path).fit_loop = 3  # type: ignore[assignment]
    with pytest.raises(nb.UsageError, match=r"connect\(epoch_loop=.*\) expects a loop, not str"):
        trainer(tmp_path).fit_loop.connect(epoch_loop="mine")
    with pytest.raises(nb.UsageError, match="has 2 child loops"):
        trainer(tmp_path).fit_loop.epoch_loop.connect(Steps(), Steps(), Steps())


# -- state ---------------------------------------------------------------------------------------


def test_the_state_of_loops_is_saved_and_restored_by_name(tmp_path: Path) -> None:
    class Saves(Rounds):
        def on_advance_end(self) -> None:
            super().on_advance_end()
            if self.round == 2:
                self.trainer.save_checkpoint(tmp_path / "second")

    class Outer(nb.Loop):
        def __init__(self, inner: Rounds) -> None:
            self.inner = inner
            self.times = 0

        @property
        def done(self) -> bool:
            return self.times > 0

        def advance(self) -> None:
            self.inner.run()
            self.times += 1

    with_loop(tmp_path, Outer(Saves(3))).fit(Small(), loader())
    resumed = Rounds(3)
    run = with_loop(tmp_path, Outer(resumed))

    rounds: list[int] = []

    class Notes(nb.Callback):
        def on_round_start(self, trainer: nb.Trainer, module: Any, number: int) -> None:
            rounds.append(number)

    run.callbacks.append(Notes())
    run.fit(Small(), loader(), ckpt_path=tmp_path / "second")

    assert rounds == [2]
    assert run.global_step == 18


@pytest.mark.parametrize("name", ["fit_loop", "validate_loop", "test_loop", "predict_loop"])
def test_a_loop_knows_its_trainer_from_when_it_is_assigned(name: str) -> None:
    class Own(nb.Loop):
        done = True

        def advance(self) -> None:
            pass

    loop = Own()
    with pytest.raises(RuntimeError, match="belongs to no trainer yet"):
        _ = loop.trainer

    run = nb.Trainer(max_epochs=1)
    setattr(run, name, loop)

    assert loop.trainer is run
    assert getattr(run, name) is loop


def test_a_loop_of_lightning_1_over_folds_gives_each_its_data_and_optimizers(
    tmp_path: Path,
) -> None:
    class Folds(nb.LightningDataModule):
        fold: int | None = None

        def train_dataloader(self) -> Any:
            assert self.fold is not None  # which the loop sets
            return loader(4 * (self.fold + 1))

        def test_dataloader(self) -> Any:
            return loader(4)

    class Over(nb.Loop):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.fit_loop, self.fold = inner, 0

        @property
        def done(self) -> bool:
            return self.fold >= 2

        def reset(self) -> None: ...

        def advance(self) -> None:
            data.fold = self.fold
            self.trainer.reset_train_dataloader()
            self.trainer.training = True
            self.fit_loop.run()
            self.trainer.testing = True
            self.trainer.test_loop.run()
            seen.append((self.trainer.global_step, id(self.trainer.optimizers[0])))
            self.trainer.strategy.setup_optimizers(self.trainer)
            self.replace(fit_loop=nb.FitLoop)
            self.fold += 1

    data, seen = Folds(), list[tuple[int, int]]()
    run: Any = trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
    run.fit_loop = Over(run.fit_loop)
    run.fit(Small(), datamodule=data)

    assert [step for step, _ in seen] == [1, 3]
    assert seen[0][1] != seen[1][1]
    assert not run.training
