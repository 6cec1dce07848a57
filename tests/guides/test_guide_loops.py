"""The loops guide, block by block: its loops train as written by hand."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from guides.guide_data import MNIST
from models import Small, loader, make_net, trainer, weights
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

import nightbus as nb
from nightbus.loops import (
    EvaluationEpochLoop,
    EvaluationLoop,
    FitLoop,
    Loop,
    ManualOptimization,
    OptimizerLoop,
    PredictionLoop,
    Progress,
    TrainingBatchLoop,
    TrainingEpochLoop,
)


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def by_hand() -> tuple[nn.Module, torch.optim.Optimizer]:
    """The net and the optimizer that ``Small`` has."""
    model = make_net()
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


loss_function = F.cross_entropy


# -- the standard loop -----------------------------------------------------------------------------


def scale_gradients(model: nn.Module, factor: Tensor) -> None:
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad *= factor.detach()


@pytest.mark.parametrize("base", [Loop, TrainingEpochLoop])
def test_my_gradient_descent_loop_scales_gradients_by_a_validation_loss(
    tmp_path: Path, base: Any
) -> None:
    train_dataloader, val_dataloader = loader(), loader(8)
    model, optimizer = by_hand()
    for _, batch in enumerate(train_dataloader):
        x, y = batch
        y_hat = model(x)
        loss = loss_function(y_hat, y)
        optimizer.zero_grad()
        loss.backward()

        val_loss: Any = 0
        for _, val_batch in enumerate(val_dataloader):
            x, y = val_batch
            y_hat = model(x)
            val_loss += loss_function(y_hat, y)

        scale_gradients(model, 1 / val_loss)
        optimizer.step()

    class MyGradientDescentLoop(base):  # type: ignore[misc]
        def on_run_start(self) -> None:
            self.batches = iter(self.trainer.train_dataloader)

        @property
        def done(self) -> bool:
            return False

        def advance(self) -> None:
            model, optimizer = self.trainer.lightning_module, self.trainer.optimizers[0]
            x, y = next(self.batches)  # StopIteration ends the loop
            loss = loss_function(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            val_loss: Any = 0
            for x, y in val_dataloader:
                val_loss += loss_function(model(x), y)
            scale_gradients(model, 1 / val_loss)
            optimizer.step()

    module = Small()
    run = trainer(tmp_path)
    run.fit_loop.epoch_loop = MyGradientDescentLoop()
    run.fit(module, train_dataloader, val_dataloader)

    assert same(weights(module), weights(model))
    assert run.current_epoch == 1


def test_default_loop_of_the_guide_gives_the_same_weights_as_fit(tmp_path: Path) -> None:
    dataloader, lightning_module = loader(), Small()
    lightning_module.log = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer = lightning_module.configure_optimizers()

    class DefaultLoop(Loop):
        def advance(self, batch: Any, i: int) -> None:
            loss = lightning_module.training_step(batch, i)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        def run(self, dataloader: Any) -> None:
            for i, batch in enumerate(dataloader):
                self.advance(batch, i)

    DefaultLoop().run(dataloader)

    module = Small()
    trainer(tmp_path).fit(module, dataloader)

    assert same(weights(module), weights(lightning_module))


# -- what the class interface is good for ----------------------------------------------------------


def test_loops_can_be_added_and_nested(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    class Counts(Loop):
        """Counts to a number; advances its child each time."""

        def __init__(self, limit: int, child: "Counts | None" = None) -> None:
            self.limit = limit
            self.count = 0
            self.child = child

        @property
        def done(self) -> bool:
            return self.count >= self.limit

        def reset(self) -> None:
            self.count = 0

        def advance(self, outer: int = -1) -> None:
            if self.child is not None:
                self.child.run(self.count)
            else:
                calls.append((outer, self.count))
            self.count += 1

    run = trainer(tmp_path, enable_checkpointing=False)
    run.fit_loop = Counts(2, Counts(3))
    run.fit(Small(), loader())

    assert calls == list(itertools.product(range(2), range(3)))


class Remembers(FitLoop):
    """Keeps a state of its own."""

    def __init__(self, max_epochs: int) -> None:
        super().__init__(max_epochs=max_epochs)
        self.seen: list[int] = []
        self.rounds = Progress()

    def advance(self) -> None:
        super().advance()
        self.seen.append(self.current_epoch)
        self.rounds.total.completed += 1

    def on_save_checkpoint(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def on_load_checkpoint(self, state_dict: Mapping[str, Any]) -> None:
        self.seen = list(state_dict["seen"])


def test_a_loops_state_is_saved_and_resumed(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.fit_loop = Remembers(max_epochs=2)
    first.fit(Small(), loader())

    second = trainer(tmp_path)
    second.fit_loop = loop = Remembers(max_epochs=3)
    second.fit(Small(), loader(), ckpt_path="last")

    assert loop.seen == [0, 1, 2]
    assert loop.rounds.total.completed == 3


# -- overriding the default loops ------------------------------------------------------------------


def test_my_loop_overrides_methods_of_the_fit_loop(tmp_path: Path) -> None:
    calls: list[str] = []

    class MyLoop(FitLoop):
        def advance(self) -> None:
            """Advance from one iteration to the next."""
            calls.append("advance")
            super().advance()

        def on_advance_end(self) -> None:
            """Do something at the end of an iteration."""
            calls.append("on_advance_end")
            super().on_advance_end()

        def on_run_end(self) -> None:
            """Do something when the loop ends."""
            calls.append("on_run_end")
            super().on_run_end()

    run = trainer(tmp_path)
    run.fit_loop = MyLoop(max_epochs=2)
    run.fit(Small(), loader())

    assert calls == ["advance", "on_advance_end"] * 2 + ["on_run_end"]
    assert run.global_step == 12


def test_a_fit_loop_can_replace_what_an_epoch_is(tmp_path: Path) -> None:
    custom: list[int] = []

    class CustomFitLoop(FitLoop):
        def advance(self) -> None:
            """Put your custom logic here."""
            custom.append(self.current_epoch)

    module = Small()
    before = weights(module)
    run = trainer(tmp_path)
    run.fit_loop = CustomFitLoop(max_epochs=3)
    run.fit(module, loader())

    assert custom == [0, 1, 2]
    assert same(weights(module), before)


def test_a_fit_loop_made_without_limits_keeps_to_the_trainers(tmp_path: Path) -> None:
    class CustomFitLoop(FitLoop):
        def advance(self) -> None:
            super().advance()
            assert self.current_epoch < 5, "max_epochs of the Trainer is not kept"

    run = trainer(tmp_path, max_epochs=3)
    run.fit_loop = CustomFitLoop()
    # fit() now uses the new FitLoop!
    run.fit(Small(), loader())

    assert run.current_epoch == 3


@pytest.mark.parametrize(("stage", "metric"), [("validate", "val_loss"), ("test", "test_loss")])
def test_a_custom_evaluation_loop_is_used(tmp_path: Path, stage: Any, metric: str) -> None:
    runs: list[str] = []

    class CustomLoop(EvaluationLoop):
        def on_run_start(self) -> None:
            runs.append(self.stage)
            super().on_run_start()

    run = trainer(tmp_path)
    setattr(run, f"{stage}_loop", CustomLoop() if stage == "validate" else CustomLoop(stage))
    (metrics,) = getattr(run, stage)(Small(), loader(), verbose=False)

    assert runs == [stage]
    assert metric in metrics


def test_a_custom_prediction_loop_is_used_by_predict(tmp_path: Path) -> None:
    class CustomPredictionLoop(PredictionLoop):
        def on_run_end(self) -> Any:
            return torch.cat(super().on_run_end())

    run = trainer(tmp_path)
    run.predict_loop = CustomPredictionLoop()

    assert run.predict(Small(), loader(10)).shape == (10,)


# -- a loop from scratch ---------------------------------------------------------------------------


class MyFancyLoop(Loop):
    """Three passes over the data, with nothing but ``done`` and ``advance``."""

    passes = 0

    @property
    def done(self) -> bool:
        """Provide a condition to stop the loop."""
        return self.passes >= 3

    def advance(self) -> None:
        """Do fancy optimization things."""
        module: Any = self.trainer.lightning_module
        optimizer = self.trainer.optimizers[0]
        for batch in self.trainer.train_dataloader:
            loss = module.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.passes += 1


@pytest.mark.parametrize("with_validation", [False, True])
def test_my_fancy_loop_needs_only_done_and_advance(tmp_path: Path, with_validation: bool) -> None:
    fancy, plain = Small(), Small()
    trainer(tmp_path, max_epochs=3).fit(plain, loader())

    run = trainer(tmp_path)
    run.fit_loop = MyFancyLoop()
    # fit() now uses your fancy loop!
    run.fit(fancy, loader(), loader(8) if with_validation else None)

    assert same(weights(fancy), weights(plain))


# -- the Loop API ----------------------------------------------------------------------------------


class Repeated:
    """Batches that nobody knows the number of."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)


@pytest.mark.parametrize("data", ["as long as it says", "shorter", "of unknown length"])
def test_done_of_the_example_ends_at_max_steps(data: str, tmp_path: Path) -> None:
    class Shorter(Repeated):
        def __len__(self) -> int:
            return len(self.batches) + 2

    class MyEpochLoop(TrainingEpochLoop):
        @property
        def done(self) -> bool:
            return self.trainer.global_step >= self.trainer.max_steps

    run = trainer(tmp_path, max_epochs=4, max_steps=8)
    run.fit_loop.epoch_loop = MyEpochLoop()
    batches = list(loader())
    given = {
        "as long as it says": loader(),
        "shorter": Shorter(batches),
        "of unknown length": Repeated(batches),
    }
    run.fit(Small(), given[data])

    assert run.global_step == 8


def test_done_of_the_example_works_in_a_loop_from_scratch(tmp_path: Path) -> None:
    class Steps(Loop):
        @property
        def done(self) -> bool:
            return self.trainer.global_step >= self.trainer.max_steps

        def reset(self) -> None:
            self.left = 20

        def advance(self) -> None:
            self.left -= 1
            assert self.left, "global_step does not count"
            module: Any = self.trainer.lightning_module
            optimizer = module.optimizers()
            loss = module.loss(next(iter(self.trainer.train_dataloader)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    run = trainer(tmp_path, max_epochs=4, max_steps=8)
    run.fit_loop = Steps()
    run.fit(Small(), loader())

    assert run.global_step == 8


class Traced(Loop):
    """Notes its calls; runs three times unless it is skipped."""

    skipped = False

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.count = 0

    @property
    def skip(self) -> bool:
        return self.skipped

    @property
    def done(self) -> bool:
        return self.count >= 3

    def on_skip(self) -> Any:
        return "skipped"

    def reset(self) -> None:
        self.calls.append("reset")
        self.count = 0

    def on_run_start(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("on_run_start", args, kwargs))

    def advance(self, *args: Any, **kwargs: Any) -> None:
        self.count += 1
        self.calls.append(("advance", args, kwargs))

    def on_run_end(self) -> Any:
        self.calls.append("on_run_end")
        return "output"


class RunAsWritten(Traced):
    """``run`` as the guide writes the default implementation down."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        if self.skip:
            return self.on_skip()

        self.reset()

        self.on_run_start(*args, **kwargs)

        while not self.done:
            self.advance(*args, **kwargs)

        return self.on_run_end()


class RunsTwo(Loop):
    """Runs two traced loops in place of training."""

    def __init__(self, skipped: bool) -> None:
        self.default, self.written = Traced(), RunAsWritten()
        self.default.skipped = self.written.skipped = skipped
        self.outputs: list[Any] = []

    @property
    def done(self) -> bool:
        return bool(self.outputs)

    def advance(self) -> None:
        self.outputs = [loop.run(1, two=2) for loop in (self.default, self.written)]


@pytest.mark.parametrize("skipped", [False, True])
def test_run_does_what_the_guide_writes_down(tmp_path: Path, skipped: bool) -> None:
    run = trainer(tmp_path, enable_checkpointing=False)
    run.fit_loop = both = RunsTwo(skipped)
    run.fit(Small(), loader())

    assert both.default.calls == both.written.calls
    assert both.outputs == (["skipped"] * 2 if skipped else ["output"] * 2)
    assert len(both.default.calls) == (0 if skipped else 6)


# -- subloops --------------------------------------------------------------------------------------


class MyEpochLoop(TrainingEpochLoop):
    """Counts its batches."""

    batches = 0

    def advance(self) -> None:
        super().advance()
        self.batches += 1


def test_replace_builds_the_new_loop_and_sets_all_references(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_steps=4, min_steps=2, max_epochs=4)
    before = run.fit_loop.epoch_loop
    batch_loop, val_loop = before.batch_loop, before.val_loop

    run.fit_loop.replace(epoch_loop=MyEpochLoop)
    # Trainer runs the fit loop with your new epoch loop!
    run.fit(Small(), loader())

    loop = run.fit_loop.epoch_loop
    assert type(loop) is MyEpochLoop
    assert (loop.min_steps, loop.max_steps) == (2, 4)
    assert loop.batch_loop is batch_loop
    assert loop.val_loop is val_loop
    assert loop.batches == run.global_step == 4


def test_connect_stitches_loops_together_by_hand(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_steps=4, max_epochs=4)
    old = run.fit_loop.epoch_loop

    # Optional: stitch back the trainer arguments
    epoch_loop = MyEpochLoop(run.fit_loop.epoch_loop.min_steps, run.fit_loop.epoch_loop.max_steps)
    # Optional: connect children loops as they might have existing state
    epoch_loop.connect(run.fit_loop.epoch_loop.batch_loop, run.fit_loop.epoch_loop.val_loop)
    # Instantiate and connect the loop.
    run.fit_loop.connect(epoch_loop=epoch_loop)
    run.fit(Small(), loader(), loader(8))

    assert run.fit_loop.epoch_loop is epoch_loop
    assert (epoch_loop.batch_loop, epoch_loop.val_loop) == (old.batch_loop, old.val_loop)
    assert epoch_loop.batches == run.global_step == 4


# -- built-in loops --------------------------------------------------------------------------------


class Recurrent(nb.LightningModule):
    """Two nets that take turns on splits of sequences, and validation; notes each step."""

    truncated_bptt_steps = 2

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList([nn.RNN(1, 2, batch_first=True) for _ in range(2)])
        self.calls: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int, hiddens: Any) -> Any:
        (x,) = batch
        split = int(x[0, 0, 0]) // 2
        self.calls.append(("train", self.current_epoch, batch_idx, split, optimizer_idx))
        out, hiddens = self.nets[optimizer_idx](x, hiddens)
        return {"loss": out.square().mean(), "hiddens": hiddens}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.calls.append(("validate", self.current_epoch, batch_idx))

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(net.parameters(), lr=0.1) for net in self.nets]


def test_the_built_in_loops_nest_as_in_plain_python(tmp_path: Path) -> None:
    times = torch.arange(6.0).reshape(1, 6, 1).expand(4, 6, 1)
    dataloader: DataLoader[Any] = DataLoader(TensorDataset(times), batch_size=2)
    module = Recurrent()

    run = trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0)
    run.fit(module, dataloader, dataloader)

    calls: list[Any] = []
    # FitLoop
    for epoch in range(2):
        # TrainingEpochLoop
        for batch_idx, _ in enumerate(dataloader):
            # TrainingBatchLoop
            for split_batch in range(3):
                # OptimizerLoop
                for optimizer_idx in range(2):
                    calls.append(("train", epoch, batch_idx, split_batch, optimizer_idx))
        # ValidationEpochLoop
        for batch_idx, _ in enumerate(dataloader):
            calls.append(("validate", epoch, batch_idx))
    assert module.calls == calls
    assert run.global_step == 2 * 2 * 3 * 2


def test_each_for_loop_of_the_structure_is_a_loop(tmp_path: Path) -> None:
    fit_loop = trainer(tmp_path).fit_loop
    epoch_loop = fit_loop.epoch_loop

    assert type(fit_loop) is FitLoop
    assert type(epoch_loop) is TrainingEpochLoop
    assert type(epoch_loop.batch_loop) is TrainingBatchLoop
    assert type(epoch_loop.batch_loop.optimizer_loop) is OptimizerLoop
    assert type(epoch_loop.batch_loop.manual_loop) is ManualOptimization
    assert type(epoch_loop.val_loop) is EvaluationLoop
    assert type(epoch_loop.val_loop.epoch_loop) is EvaluationEpochLoop
    assert all(isinstance(loop, Loop) for loop in fit_loop.walk())


# -- active learning -------------------------------------------------------------------------------


class ActiveLearningDataModule(nb.LightningDataModule):
    """Pictures of which few have labels; the rest get theirs when they are asked for."""

    def __init__(self, initial_num_labels: int) -> None:
        self.data = MNIST()
        self.labelled = list(range(initial_num_labels))
        self.unlabelled = list(range(initial_num_labels, len(self.data)))

    def train_dataloader(self) -> Any:
        return DataLoader(Subset(self.data, self.labelled), batch_size=2)

    def predict_dataloader(self) -> Any:
        return DataLoader(Subset(self.data, self.unlabelled), batch_size=2)

    def label(self, probabilities: Tensor, number: int) -> None:
        """Label those that the model is least sure of."""
        least_sure = probabilities.max(dim=1).values.argsort()[:number]
        for index in [self.unlabelled[int(position)] for position in least_sure]:
            self.unlabelled.remove(index)
            self.labelled.append(index)


class ActiveLearningLoop(Loop):
    """Rounds of some epochs of training, after each of which more data are labelled."""

    def __init__(self, label_epoch_frequency: int) -> None:
        self.label_epoch_frequency = label_epoch_frequency
        self.progress = Progress()
        self.rounds = 0

    def connect(self, fit_loop: FitLoop) -> None:  # type: ignore[override]
        self.fit_loop = fit_loop
        self.rounds = fit_loop.max_epochs or 0
        fit_loop.max_epochs = self.label_epoch_frequency

    @property
    def done(self) -> bool:
        return self.progress.current.completed >= self.rounds

    def reset(self) -> None:
        self.progress.begin()

    def advance(self) -> None:
        self.fit_loop.run()
        datamodule: Any = self.trainer.datamodule
        if not datamodule.unlabelled:
            raise StopIteration
        predictions = self.trainer.predict_loop.run()
        datamodule.label(torch.cat(predictions), number=3)

    def on_advance_end(self) -> None:
        self.progress.total.completed += 1
        assert self.fit_loop.max_epochs is not None
        self.fit_loop.max_epochs += self.label_epoch_frequency


class NotesSizes(Small):
    """Notes how many examples each epoch has."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def on_train_epoch_start(self) -> None:
        self.sizes.append(0)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        assert self.training
        self.sizes[-1] += len(batch[0])
        return super().training_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self(batch[0]).softmax(dim=1)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("frequency", "sizes"), [(1, [5, 8, 11]), (2, [5, 5, 8, 8, 11, 11])])
def test_an_active_learning_loop_labels_more_data_each_round(
    tmp_path: Path, frequency: int, sizes: list[int]
) -> None:
    # 1. Create the DataModule
    datamodule = ActiveLearningDataModule(initial_num_labels=5)
    # 2. Build the task
    model = NotesSizes()
    # 3.1 Create the trainer
    run = trainer(tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1)
    # 3.2 Create the active learning loop and connect it to the trainer
    active_learning_loop = ActiveLearningLoop(label_epoch_frequency=frequency)
    active_learning_loop.connect(run.fit_loop)
    run.fit_loop = active_learning_loop
    # 3.3 Train
    run.fit(model, datamodule=datamodule)

    assert model.sizes == sizes
    # 5 labels and three rounds of up to 3
    assert sorted(datamodule.labelled) == list(range(12))
    # 4. Predict what's on a few images!
    assert run.predict(model, loader(4))[0].shape == (4, 2)
    # 5. Save the model!
    run.save_checkpoint(tmp_path / "image_classification_model.pt")
    assert (tmp_path / "image_classification_model.pt").exists()
