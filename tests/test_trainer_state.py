"""What a trainer says of what it does, of its data, and of the ranks, by Lightning's names."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer
from torch import nn

import nightbus as nb
from nightbus import RunningStage, TrainerFn, TrainerStatus

Seen = list[tuple[str, TrainerFn | None, RunningStage | None, TrainerStatus]]


class Notes(nb.Callback):
    """Notes the trainer's state in hooks."""

    def __init__(self) -> None:
        self.seen: Seen = []

    def note(self, hook: str, trainer: nb.Trainer) -> None:
        state = trainer.state
        self.seen.append((hook, state.fn, state.stage, state.status))

    def setup(self, trainer: nb.Trainer, module: Any, stage: str) -> None:
        self.note("setup", trainer)

    def on_validation_start(self, trainer: nb.Trainer, module: Any) -> None:
        self.note("validation", trainer)

    def on_train_start(self, trainer: nb.Trainer, module: Any) -> None:
        self.note("train", trainer)

    def on_test_start(self, trainer: nb.Trainer, module: Any) -> None:
        self.note("test", trainer)

    def on_predict_start(self, trainer: nb.Trainer, module: Any) -> None:
        self.note("predict", trainer)


def test_the_state_says_which_function_runs_in_which_stage(tmp_path: Path) -> None:
    notes = Notes()
    run = trainer(tmp_path, callbacks=[notes])
    running, fit = TrainerStatus.RUNNING, TrainerFn.FITTING

    run.fit(Small(), loader(8), loader(8))

    assert notes.seen == [
        ("setup", fit, RunningStage.TRAINING, running),
        ("validation", fit, RunningStage.SANITY_CHECKING, running),
        ("train", fit, RunningStage.TRAINING, running),
        ("validation", fit, RunningStage.VALIDATING, running),
    ]
    notes.seen.clear()
    run.test(dataloaders=loader(8), verbose=False)
    run.predict(dataloaders=loader(8))
    assert [entry[:3] for entry in notes.seen if entry[0] != "setup"] == [
        ("test", TrainerFn.TESTING, RunningStage.TESTING),
        ("predict", TrainerFn.PREDICTING, RunningStage.PREDICTING),
    ]


def test_the_state_says_how_a_function_ended(tmp_path: Path) -> None:
    class Fails(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ValueError("on purpose")

    run = trainer(tmp_path)
    state = run.state
    assert (state.status, state.fn, state.stage) == (TrainerStatus.INITIALIZING, None, None)

    run.fit(Small(), loader(8))
    assert (state.finished, state.stopped, state.stage) == (True, True, None)
    assert state.fn == "fit"

    with pytest.raises(ValueError, match="on purpose"):
        trainer(tmp_path, max_epochs=1).fit(Fails(), loader(8))
    failed = trainer(tmp_path)
    with pytest.raises(ValueError, match="on purpose"):
        failed.fit(Fails(), loader(8))
    assert failed.state.status is TrainerStatus.INTERRUPTED
    assert failed.state.stopped
    assert not failed.state.finished


def test_a_copy_of_a_trainer_has_run_nothing(tmp_path: Path) -> None:
    import copy

    run = trainer(tmp_path)
    run.fit(Small(), loader(4))

    assert copy.deepcopy(run).state.status is TrainerStatus.INITIALIZING


def test_stages_name_their_dataloaders() -> None:
    named = {stage: stage.dataloader_prefix for stage in RunningStage}
    assert RunningStage.TUNING == TrainerFn.TUNING == "tune"  # of Lightning 1.x, to compare with

    assert list(named.values()) == ["train", "val", "val", "test", "predict"]
    assert [stage for stage in RunningStage if not stage.evaluating] == ["train", "predict"]


def test_it_is_known_that_sigterm_came(tmp_path: Path) -> None:
    class Terminated(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            signal.raise_signal(signal.SIGTERM)
            self.found = self.trainer.received_sigterm
            return self.loss(batch)

    module, run = Terminated(), trainer(tmp_path)
    assert not run.received_sigterm

    with pytest.raises(SystemExit):
        run.fit(module, loader(8))

    assert module.found


@pytest.mark.parametrize(
    ("given", "several"),
    [
        (loader(4), lambda found: [found]),
        ([loader(4), loader(8)], list),
        ({"a": loader(4), "b": loader(8)}, lambda found: list(found.values())),
        (nb.CombinedLoader([loader(4), loader(8)], "sequential"), list),
    ],
    ids=["one", "list", "dict", "combined"],
)
def test_loaders_are_had_in_the_collection_in_which_they_were_given(
    tmp_path: Path, given: Any, several: Any
) -> None:
    class Takes(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.found = self.trainer.train_dataloader
            return self.net[0].weight.sum()  # type: ignore[index]

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            pass

    module, run = Takes(), trainer(tmp_path)
    assert (run.train_dataloader, run.val_dataloaders, run.test_dataloaders) == (None, None, None)

    run.fit(module, given, given)

    expected = given.loaders if isinstance(given, nb.CombinedLoader) else given
    assert type(run.val_dataloaders) is type(module.found) is type(expected)
    assert several(run.val_dataloaders) == several(module.found) == several(expected)
    assert run.num_val_batches == [len(each) for each in several(expected)]


def test_loaders_of_a_run_are_known_after_other_runs(tmp_path: Path) -> None:
    run, module, data = trainer(tmp_path, limit_val_batches=1), Small(), loader(8)

    run.fit(module, data, data)
    run.test(module, loader(12), verbose=False)

    assert run.val_dataloaders is run.train_dataloader is data
    assert (run.num_val_batches, run.num_sanity_val_batches) == ([1], [1])
    assert (run.num_test_batches, run.num_predict_batches) == ([3], [])
    assert run.predict_dataloaders is None


def test_a_loader_without_a_length_has_infinitely_many_batches(tmp_path: Path) -> None:
    class Stream:
        def __iter__(self) -> Any:
            return iter(loader(8))

    class Asks(Small):
        def configure_optimizers(self) -> Any:
            run = self.trainer
            self.found = run.num_training_batches, run.num_val_batches, run.enable_validation
            return super().configure_optimizers()

    module = Asks()

    trainer(tmp_path).fit(module, Stream(), Stream())

    assert module.found == (float("inf"), [float("inf")], True)


def test_the_strategy_says_where_this_process_is(tmp_path: Path) -> None:
    strategy = trainer(tmp_path).strategy

    assert strategy.root_device == torch.device("cpu")
    assert (strategy.world_size, strategy.global_rank, strategy.local_rank) == (1, 0, 0)
    assert (strategy.node_rank, strategy.num_nodes, strategy.is_global_zero) == (0, 1, True)
    strategy.barrier("here")
    assert strategy.broadcast({"a": 1}) == {"a": 1}
    assert strategy.reduce(torch.tensor(2.0)) == 2.0
    assert strategy.reduce_boolean_decision(True)
    assert not strategy.reduce_boolean_decision(False, all=False)


def test_a_module_is_made_in_the_precision_of_the_run(tmp_path: Path) -> None:
    run = trainer(tmp_path, precision="64-true")

    with run.init_module():
        made = nn.Linear(2, 2)

    assert made.weight.dtype == torch.float64
    assert torch.zeros(1).dtype == torch.float32


def test_a_module_can_be_made_without_drawing_its_weights(tmp_path: Path) -> None:
    before = torch.get_rng_state()

    with trainer(tmp_path).init_module(empty_init=True):
        made = nn.Linear(2, 2)

    assert torch.equal(torch.get_rng_state(), before)
    assert made.weight.requires_grad


@pytest.mark.parametrize(
    ("interval", "batches"), [(1.0, 4), (0.5, 2), (3, 3), ("00:00:01:00", None)]
)
def test_a_trainer_knows_how_many_batches_are_between_two_validations(
    interval: Any, batches: int | None, tmp_path: Path
) -> None:
    run = trainer(tmp_path, max_steps=1, val_check_interval=interval, num_sanity_val_steps=0)
    assert run.val_check_batch is None

    run.fit(Small(), loader(16), loader(4))

    assert run.val_check_batch == batches


def test_the_sanity_check_knows_its_number_of_batches(tmp_path: Path) -> None:
    seen = []

    class Sees(Small):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if self.trainer.sanity_checking:
                seen.append(self.trainer.num_sanity_val_batches)

    trainer(tmp_path, num_sanity_val_steps=1).fit(Sees(), loader(8), loader(8))

    assert seen == [[1]]
