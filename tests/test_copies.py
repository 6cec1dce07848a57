"""Modules, datamodules, callbacks and trainers are ordinary objects: what copies of them have."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from models import Small, dataset, loader, trainer
from programs import run_program
from torch import nn
from torch.utils.data import DataLoader, Dataset

import nightbus as nb


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def saved_by_torch(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS: list[Callable[[Any], Any]] = [pickled, saved_by_torch, copy.deepcopy, copy.copy]


class Data(nb.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader()

    def val_dataloader(self) -> Any:
        return loader(8)


class Twice(nb.LightningModule):
    """Has two optimizers with schedulers, keeps them, logs in every way, and holds a metric."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.nets = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 2)])
        self.accuracy = torchmetrics.MeanMetric()
        self.kept: Any = None

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
        self.kept = self.optimizers()
        loss = nn.functional.cross_entropy(self.nets[optimizer_idx](batch[0]), batch[1])
        self.log("loss", loss, on_epoch=True, prog_bar=True)
        self.accuracy(loss.detach())
        self.log("accuracy", self.accuracy)
        self.put("raw", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("v", self.nets[0](batch[0]).mean())

    def configure_optimizers(self) -> Any:
        first = torch.optim.SGD(self.nets[0].parameters(), lr=0.1, momentum=0.9)
        second = torch.optim.Adam(self.nets[1].parameters())
        schedulers = [
            torch.optim.lr_scheduler.LambdaLR(first, lambda epoch: 0.9**epoch),
            torch.optim.lr_scheduler.OneCycleLR(second, 0.1, 100),
        ]
        return [first, second], schedulers


class Copies(nb.Callback):
    """Copies everything in each hook, once, and keeps the trainer as many callbacks do."""

    def __init__(self) -> None:
        self.copied: dict[str, int] = {}
        self.mine: Any = None

    def copy_all(self, hook: str, trainer: nb.Trainer, module: Any) -> None:
        if hook in self.copied:
            return
        self.copied[hook] = 0  # before copies of this callback are made
        self.mine = trainer
        things = [module, trainer.datamodule, self, trainer, trainer.fit_loop, module.kept]
        for way in WAYS:
            self.copied[hook] += [type(way(thing)) is type(thing) for thing in things].count(True)


def copying_hook(name: str, like: Callable[..., Any]) -> Callable[..., Any]:
    def hook(self: Copies, trainer: Any, module: Any, *values: Any) -> None:
        self.copy_all(name, trainer, module)

    return hook


HOOKS_OF_FIT = [
    *("setup", "on_fit_start", "on_sanity_check_start", "on_train_start", "on_train_epoch_start"),
    *("on_train_batch_start", "on_before_backward", "on_after_backward", "on_before_zero_grad"),
    *("on_train_batch_end", "on_validation_start", "on_validation_epoch_end", "on_validation_end"),
    *("on_train_epoch_end", "on_save_checkpoint", "on_train_end", "on_fit_end", "teardown"),
]
for name in HOOKS_OF_FIT:
    setattr(Copies, name, copying_hook(name, getattr(nb.Callback, name)))


class Watches(nb.Actor):
    @nb.on(nb.Put)
    async def seen(self, put: Any) -> None: ...


@pytest.mark.long
def test_everything_is_copied_in_every_hook_and_training_goes_on(tmp_path: Path) -> None:
    copies = Copies()
    run = trainer(
        tmp_path,
        enable_progress_bar=True,
        callbacks=[
            *(copies, nb.ModelCheckpoint(monitor="v"), nb.EarlyStopping("v", patience=9)),
            *(nb.EMA(), nb.LearningRateMonitor(), nb.Timer(), nb.ModelSummary()),
        ],
        actors=[Watches()],
        sinks=[nb.CSV(), nb.JSONLines(), nb.SQLite()],
    )
    run.fit(Twice(), datamodule=Data())

    assert set(copies.copied) == set(HOOKS_OF_FIT)
    assert set(copies.copied.values()) == {24}
    assert run.global_step == 12


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_of_a_module_that_was_made_in_a_run_belongs_to_none_and_can_be_trained(
    tmp_path: Path, way: Callable[[Any], Any]
) -> None:
    found: list[Any] = []

    class Takes(nb.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            found.append(way(module))

    module = Twice()
    trainer(tmp_path / "a", callbacks=[Takes()]).fit(module, datamodule=Data())

    twin = found[0]
    with pytest.raises(nb.UsageError, match="not attached to a `Trainer`"):
        twin.trainer  # noqa: B018
    with pytest.raises(nb.UsageError, match="outside a run"):
        twin.put("x", 1.0)
    again = trainer(tmp_path / "b")
    again.fit(twin, datamodule=Data())
    assert again.global_step == 12


def test_a_kept_optimizer_that_is_copied_steps_the_copied_weights() -> None:
    weight = nn.Parameter(torch.ones(2))
    module: Any = nn.Module()
    module.weight = weight
    from nightbus.actors.optimization.lightning_optimizer import LightningOptimizer, OptimizerToggle

    optimizer = torch.optim.SGD([weight], lr=1.0)
    wrapped = LightningOptimizer(optimizer, 0, print, OptimizerToggle([optimizer]))
    module.__dict__["kept"] = wrapped
    twin = copy.deepcopy(module)
    twin.weight.grad = torch.ones(2)
    twin.kept.step()

    assert twin.weight.tolist() == [0.0, 0.0]
    assert weight.tolist() == [1.0, 1.0]
    with pytest.raises(nb.UsageError, match="belongs to no run"), twin.kept.toggle_model():
        pass


@pytest.mark.parametrize("way", [pickled, copy.deepcopy, copy.copy])
def test_a_copy_of_a_trainer_has_what_it_did_and_goes_on_for_itself(
    tmp_path: Path, way: Callable[[Any], Any]
) -> None:
    run = trainer(tmp_path, max_epochs=2, sinks=[nb.CSV()])
    run.fit(Small(), datamodule=Data())
    twin = way(run)

    assert (twin.global_step, twin.current_epoch) == (12, 2)
    assert twin.callback_metrics == run.callback_metrics
    assert twin.log_dir == run.log_dir
    twin.fit_loop.max_epochs = 3
    twin.fit(twin.model, datamodule=Data())
    assert (twin.global_step, run.global_step) == (18, 12)


def test_a_trainer_that_is_copied_in_a_hook_begins_a_run_of_its_own(tmp_path: Path) -> None:
    found: list[nb.Trainer] = []

    class Takes(nb.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            if not found:
                found.append(copy.deepcopy(trainer))

    run = trainer(tmp_path, callbacks=[Takes()])
    run.fit(Small(), loader())
    (twin,) = found

    assert twin.function is None
    assert twin.log_dir is None
    twin.fit(twin.model, loader())
    assert twin.log_dir != run.log_dir


def test_everything_can_be_pickled_after_an_exception(tmp_path: Path) -> None:
    class Fails(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ZeroDivisionError

    module, data = Fails(), Data()
    run = trainer(tmp_path)
    with pytest.raises(ZeroDivisionError):
        run.fit(module, datamodule=data)

    for thing in (module, data, run):
        state = copy.deepcopy(thing)
        assert type(state) is type(thing)


class OwnState(Small):
    """Says itself what is pickled of it, and how it is deep-copied."""

    def __getstate__(self) -> Any:
        return self.__dict__.copy()


class OwnDeepcopy(Small):
    def __deepcopy__(self, memo: Any) -> Any:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin


@pytest.mark.parametrize("kind", [OwnState, OwnDeepcopy])
def test_a_module_that_says_itself_what_its_copies_have_can_be_copied_in_a_run(
    tmp_path: Path, kind: Any
) -> None:
    found: list[Any] = []

    class Takes(nb.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            found.append((copy.deepcopy(module), pickled(module)))

    trainer(tmp_path, callbacks=[Takes()]).fit(kind(), loader())

    assert len(found) == 6


class Pairs(Dataset[Any]):
    """Holds the module, and so sends it to each worker."""

    def __init__(self, module: nb.LightningModule) -> None:
        self.module, self.data = module, dataset(8)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, idx: int) -> Any:
        assert self.module._trainer is None
        return self.data[idx]


class Holds(Small):
    """Its loader's workers get it."""

    def train_dataloader(self) -> Any:
        return DataLoader(Pairs(self), 4, num_workers=1, multiprocessing_context="spawn")


@pytest.mark.long
@pytest.mark.usefixtures("spawns")
def test_a_module_in_a_run_goes_to_workers_that_are_spawned(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(Holds())

    assert run.global_step == 2


def test_a_sink_that_is_a_lambda_goes_on_in_copies_of_its_trainer(tmp_path: Path) -> None:
    seen: list[int] = []
    run = trainer(tmp_path, log_every_n_steps=1, sinks=[lambda put: seen.append(put.step)])
    run.fit(Small(), loader())
    first = len(seen)
    for way in (copy.copy, copy.deepcopy):
        seen.clear()
        twin = way(run)
        twin.fit_loop.max_epochs = 2
        twin.fit(Small(), loader())

        assert len(seen) == first > 0


NOTEBOOK = """
import cloudpickle, torch
import nightbus as nb

def batches():
    data = torch.utils.data.TensorDataset(torch.randn(24, 4), torch.randint(0, 2, (24,)))
    return torch.utils.data.DataLoader(data, 4)

class Net(nb.LightningModule):
    def __init__(self, hidden=3):
        super().__init__()
        self.save_hyperparameters()
        self.net, self.shaped = torch.nn.Linear(4, 2), lambda x: x

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self.shaped(self.net(batch[0])), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

class Data(nb.LightningDataModule):
    def train_dataloader(self):
        return batches()

class Keeps(nb.Callback):
    def on_train_epoch_end(self, trainer, module):
        if trainer.current_epoch == 0:
            with open("kept.pkl", "wb") as file:
                cloudpickle.dump((trainer, module), file)

trainer = nb.Trainer(
    max_epochs=1, callbacks=[Keeps()], sinks=[lambda put: None], enable_progress_bar=False
)
trainer.fit(Net(), datamodule=Data())
"""

ELSEWHERE = """
import pickle
with open("kept.pkl", "rb") as file:
    trainer, module = pickle.load(file)
assert module._trainer is None
assert module.hparams.hidden == 3
trainer.fit(module, datamodule=trainer.datamodule)
print("steps", trainer.global_step)
"""


@pytest.mark.long
def test_classes_of_a_notebook_are_pickled_by_value_in_a_run_and_trained_elsewhere(
    tmp_path: Path,
) -> None:
    pytest.importorskip("cloudpickle")
    for program in (NOTEBOOK, ELSEWHERE):
        done = run_program("-c", program, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    assert "steps 12" in done.stdout
