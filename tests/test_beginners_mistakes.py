"""What a beginner gets wrong in the first hour: each is said, with what to do about it."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, dataset, loader, trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

import nightbus as nb

Capture = pytest.CaptureFixture[str]
X = torch.randn(16, 4)


def with_step(step: Callable[[Any, Any], Any]) -> nb.LightningModule:
    class Module(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return step(self, batch)

    return Module()


def detached(module: Any, batch: Any) -> Tensor:
    return module.loss(batch).detach()  # type: ignore[no-any-return]


def without_gradients(module: Any, batch: Any) -> Tensor:
    with torch.no_grad():
        return module.loss(batch)  # type: ignore[no-any-return]


def backward_itself(module: Any, batch: Any) -> Tensor:
    loss = module.loss(batch)
    loss.backward()
    return loss  # type: ignore[no-any-return]


def log_of_a_dict(module: Any, batch: Any) -> None:
    module.log({"loss": 1.0})


STEPS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "detached": (detached, "the loss has no gradient: it was detached"),
    "no_grad": (without_gradients, "the loss has no gradient"),
    "integers": (lambda m, b: m(b[0]).argmax(), "from integers"),
    "not a scalar": (lambda m, b: m(b[0]), "a tensor of several numbers: reduce it to one"),
    "backward": (backward_itself, "leave loss.backward() out"),
    "dtype": (lambda m, b: m(b[0].double()).sum(), "another dtype than the weights"),
    "shape": (lambda m, b: m(b[0][:, :3]).sum(), "another shape than the layers"),
    "device": (lambda m, b: m(b[0].to("meta")).sum(), "another device than the module"),
    "labels": (lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1] + 7), "a class label"),
    "list": (lambda m, b: m(b), "a batch is what the DataLoader collates"),
    "loaders": (lambda m, b: m.trainer.train_dataloader.loaders, "are what was given"),
    "loader of a list": (lambda m, b: m.trainer.train_dataloader[0], "are what was given"),
    "log": (log_of_a_dict, "use log_dict for a dict of them"),
    "batch norm": (
        lambda m, b: nn.BatchNorm1d(4)(b[0][:1]).sum(),
        "batch norm cannot train on a batch of one sample",
    ),
}


def notes_of(run: Callable[[], Any]) -> list[str]:
    """What is added to an error that ends a run."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  of whatever type torch raises
        run()
    assert not isinstance(caught.value, nb.NightbusError)
    return caught.value.__notes__


@pytest.mark.parametrize("mistake", STEPS)
def test_an_error_of_torch_says_where_it_was_raised_and_what_to_do(
    tmp_path: Path, mistake: str
) -> None:
    step, advice = STEPS[mistake]

    where, what = notes_of(lambda: trainer(tmp_path).fit(with_step(step), loader()))

    assert where in {
        f"nightbus: raised in {hook} of epoch 0, batch 0" for hook in ("training_step", "backward")
    }
    assert what.startswith("nightbus: ")
    assert advice in what


def test_so_does_one_of_the_modules_own(tmp_path: Path) -> None:
    class Fails(Small):
        def on_validation_batch_end(self, *given: Any) -> None:
            batch_idx = given[2]
            if batch_idx == 1:
                raise KeyError("mine")

    notes = notes_of(lambda: trainer(tmp_path).fit(Fails(), loader(), loader()))

    assert notes == ["nightbus: raised in on_validation_batch_end of epoch 0, batch 1"]


@pytest.mark.long
def test_the_traceback_shows_it(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "from test_beginners_mistakes import *\n"
        f"trainer(Path({str(tmp_path)!r})).fit(with_step(detached), loader())\n"
    )
    here = Path(__file__).parent

    shown = subprocess.run(
        [sys.executable, script], env={"PYTHONPATH": str(here)}, capture_output=True, text=True
    )

    assert "\nnightbus: the loss has no gradient" in shown.stderr


def test_a_module_whose_layers_are_in_a_list_has_no_parameters(tmp_path: Path) -> None:
    class Listed(Small):
        def __init__(self) -> None:
            super().__init__()
            del self.net
            self.layers = [nn.Linear(4, 2)]

    _, what = notes_of(lambda: trainer(tmp_path).fit(Listed(), loader()))

    assert "nn.ModuleList" in what


def test_predicting_without_forward_says_what_to_define(tmp_path: Path) -> None:
    class Bare(nb.LightningModule): ...

    _, what = notes_of(lambda: trainer(tmp_path).predict(Bare(), loader()))

    assert "define forward() or predict_step()" in what


def test_a_callback_that_forgot_its_parents_init_is_told_so(tmp_path: Path) -> None:
    class Stopping(nb.EarlyStopping):
        def __init__(self) -> None:
            self.mine = 1

    notes = notes_of(lambda: trainer(tmp_path, callbacks=[Stopping()]).fit(Small(), loader()))

    assert "nightbus: Stopping.__init__ does not call super().__init__(); do so first" in notes


def test_a_module_that_forgot_its_parents_init_is_refused(tmp_path: Path) -> None:
    class Forgot(Small):
        def __init__(self) -> None:
            self.lr = 1.0

    with pytest.raises(nb.UsageError, match=r"Forgot.__init__ does not call super\(\)"):
        trainer(tmp_path).fit(Forgot(), loader())


@pytest.mark.parametrize("given", ["data/train", X, X.numpy(), [X, X], {"a": X}, Path("x")])
@pytest.mark.parametrize("argument", ["train_dataloaders", "val_dataloaders"])
def test_data_itself_is_no_dataloader(tmp_path: Path, argument: str, given: Any) -> None:
    loaders = {"train_dataloaders": loader(), argument: given}

    with pytest.raises(nb.UsageError, match=r"data, not a loader of it; return a DataLoader"):
        trainer(tmp_path).fit(Small(), **loaders)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dataset(), r"a dataset; expected a DataLoader: DataLoader\(dataset"),
        (DataLoader, "the class DataLoader; pass an instance of it"),
        (nb.LightningDataModule, "the class LightningDataModule; pass an instance of it"),
    ],
)
def test_nor_is_a_dataset_or_a_class(tmp_path: Path, given: Any, message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        trainer(tmp_path).fit(Small(), given)


@pytest.mark.parametrize(
    ("function", "argument", "instead"),
    [
        ("fit", "train_loaders", "use train_dataloaders="),
        ("fit", "train_loader", "use train_dataloaders="),
        ("fit", "val_dataloader", "use val_dataloaders="),
        ("fit", "dm", "use datamodule="),
        ("fit", "max_epochs", "settings for all runs are arguments of the Trainer"),
        ("validate", "val_loaders", "use dataloaders="),
        ("test", "test_loader", "use dataloaders="),
        ("predict", "loader", "use dataloaders="),
        ("test", "model_", "did you mean model"),
    ],
)
def test_an_argument_that_there_is_not_says_which_there_is(
    tmp_path: Path, function: str, argument: str, instead: str
) -> None:
    with pytest.raises(nb.UsageError, match=f"{function}.. has no argument '{argument}'; .*") as e:
        getattr(trainer(tmp_path), function)(Small(), **{argument: loader()})

    assert instead in str(e.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Small, r"not the class Small; pass an instance of it: Small\(\.\.\.\)"),
        (nn.Linear(4, 2), "not Linear: wrap it in one, whose training_step calls it"),
    ],
)
def test_what_is_no_module_is_refused(tmp_path: Path, model: Any, message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        trainer(tmp_path).fit(model, loader())


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.optim.SGD, r"returned the class SGD; return an instance of it: SGD\("),
        (iter([]), "list_iterator, which can be read only once: return a list"),
    ],
)
def test_an_optimizer_is_an_object(tmp_path: Path, returned: Any, message: str) -> None:
    class Module(Small):
        def configure_optimizers(self) -> Any:
            return returned

    with pytest.raises(nb.UsageError, match=message):
        trainer(tmp_path).fit(Module(), loader())


@pytest.mark.parametrize("loss", [None, 1.0])
def test_manual_backward_takes_a_tensor(tmp_path: Path, loss: Any) -> None:
    class Manual(Small):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(loss)

    with pytest.raises(nb.UsageError, match=f"manual_backward.. got {type(loss).__name__}"):
        trainer(tmp_path).fit(Manual(), loader())


class Unfinished(nb.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 2)

    def train_step(self, batch: Any, batch_idx: int) -> None: ...


def test_a_missing_hook_names_the_method_that_may_have_been_meant(tmp_path: Path) -> None:
    class Data(nb.LightningDataModule):
        def training_dataloader(self) -> Any:
            return loader()

    class HasOptimizer(Unfinished):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    with pytest.raises(nb.UsageError, match=r"did you mean training_step by HasOptimizer.train_s"):
        trainer(tmp_path).fit(HasOptimizer(), loader())
    with pytest.raises(nb.UsageError, match=r"mean train_dataloader by Data.training_dataloader"):
        trainer(tmp_path).fit(Small(), Data())


@pytest.mark.parametrize(
    ("given", "argument"),
    [(nb.ProgressBar(), "sinks"), (nb.CSV(), "sinks"), (nb.BusMonitor(), "actors")],
)
def test_what_is_no_callback_says_which_argument_takes_it(given: Any, argument: str) -> None:
    with pytest.raises(nb.UsageError, match=f"; pass it to {argument}="):
        nb.Trainer(callbacks=[given])


# -- what trains all the same, but not as it was meant -------------------------------------------


class NoValidation(Small):
    validation_step = nb.LightningModule.validation_step


class WithValStep(NoValidation):
    def val_step(self, batch: Any, batch_idx: int) -> None: ...


class ReturnsNothing(nb.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader()

    def val_dataloader(self) -> Any: ...


def said(capsys: Capture, run: Callable[[], Any]) -> str:
    run()
    return capsys.readouterr().err


def test_validation_data_without_a_step_is_said_once(tmp_path: Path, capsys: Capture) -> None:
    told = said(
        capsys, lambda: trainer(tmp_path, max_epochs=3).fit(WithValStep(), loader(), loader())
    )

    assert told.count("there is validation data, but WithValStep has no validation_step()") == 1
    assert "did you mean validation_step by WithValStep.val_step?" in told


def test_a_validation_step_without_data_is_said(tmp_path: Path, capsys: Capture) -> None:
    told = said(capsys, lambda: trainer(tmp_path).fit(Small(), loader()))

    assert "Small has a validation_step(), but there is no validation data" in told


@pytest.mark.parametrize("sanity_steps", [0, 2])
def test_so_is_a_hook_that_returns_no_loader(
    tmp_path: Path, capsys: Capture, sanity_steps: int
) -> None:
    fit = trainer(tmp_path, max_epochs=3, num_sanity_val_steps=sanity_steps).fit

    told = said(capsys, lambda: fit(Small(), ReturnsNothing()))

    assert told.count("ReturnsNothing.val_dataloader() returned no dataloader") == 1


def test_whoever_wants_no_validation_says_so_and_hears_nothing(
    tmp_path: Path, capsys: Capture
) -> None:
    def run() -> None:
        trainer(tmp_path, limit_val_batches=0).fit(Small(), loader())
        trainer(tmp_path, limit_val_batches=0).fit(NoValidation(), loader(), loader())
        trainer(tmp_path).fit(Small(), loader(), loader())
        trainer(tmp_path).fit(NoValidation(), loader())

    assert said(capsys, run) == ""


@pytest.mark.parametrize("function", ["validate", "test"])
def test_evaluating_without_step_or_data_is_refused(tmp_path: Path, function: str) -> None:
    with pytest.raises(nb.UsageError, match=r"must define \w+_step\(\)"):
        getattr(trainer(tmp_path), function)(Unfinished(), loader())
    with pytest.raises(nb.UsageError, match=f"there is no dataloader to {function} with: give"):
        getattr(trainer(tmp_path), function)(Small())


def test_validation_in_random_order_is_said(tmp_path: Path, capsys: Capture) -> None:
    told = said(capsys, lambda: trainer(tmp_path).fit(Small(), loader(), loader(shuffle=True)))

    assert told.count("val_dataloader has a DataLoader that shuffles") == 1


def test_accumulating_more_than_an_epoch_is_said(tmp_path: Path, capsys: Capture) -> None:
    fit = trainer(tmp_path, accumulate_grad_batches=7).fit

    told = said(capsys, lambda: fit(NoValidation(), loader()))

    assert "accumulate_grad_batches=7 is more than the 6 batches of an epoch" in told


def test_step_values_that_no_sink_got_are_said(tmp_path: Path, capsys: Capture) -> None:
    def run(**arguments: Any) -> str:
        fit = trainer(tmp_path, logger=True, **arguments).fit
        return said(capsys, lambda: fit(NoValidation(), loader()))

    assert run() == (
        "nightbus: sinks got no value of train_loss: log_every_n_steps=50, and the run had "
        "only 6 steps; set a smaller log_every_n_steps\n"
    )
    assert run(log_every_n_steps=2) == ""


def test_fit_without_a_module_says_what_it_takes(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match=r"needs the module to train: trainer.fit\(module"):
        trainer(tmp_path).fit()
    with pytest.raises(nb.UsageError, match="needs the module to train"):
        trainer(tmp_path).fit(train_dataloaders=loader())


def test_fit_with_the_data_first_says_the_order(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="the module comes first"):
        trainer(tmp_path).fit(loader(), Small())  # type: ignore[arg-type]


def test_a_trainer_that_is_given_the_module_says_where_it_goes() -> None:
    with pytest.raises(nb.UsageError, match=r"got Small without one; .* go to trainer.fit\("):
        nb.Trainer(Small())  # type: ignore[call-arg, arg-type]


def test_a_module_that_has_no_hash_is_refused_with_what_to_do(tmp_path: Path) -> None:
    @dataclasses.dataclass
    class Fields(nb.LightningModule):
        size: int = 4

        def __post_init__(self) -> None:
            super().__init__()

    with pytest.raises(nb.UsageError, match=r"Fields is a dataclass .* @dataclass\(eq=False\)"):
        trainer(tmp_path).fit(Fields(), loader())


def test_datamodules_and_callbacks_may_be_dataclasses(tmp_path: Path) -> None:
    @dataclasses.dataclass
    class Data(nb.LightningDataModule):
        size: int = 8

        def train_dataloader(self) -> Any:
            return loader(self.size)

    @dataclasses.dataclass
    class Counts(nb.Callback):
        batches: int = 0

        def on_train_batch_end(self, *_: Any) -> None:
            self.batches += 1

        @nb.on(nb.Put, name="train_loss")
        async def see(self, put: nb.Put) -> None: ...

    counts = [Counts(), Counts()]
    run = trainer(tmp_path, callbacks=counts[:1])
    run.fit(Small(), datamodule=Data())
    run = trainer(tmp_path, callbacks=counts[1:])
    run.fit(Small(), datamodule=Data())
    assert counts == [Counts(2), Counts(2)]


def test_an_optimizer_that_is_given_the_method_parameters_says_to_call_it(tmp_path: Path) -> None:
    class Forgets(Small):
        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.net.parameters)  # type: ignore[arg-type]

    with pytest.raises(TypeError) as caught:
        trainer(tmp_path).fit(Forgets(), loader())
    assert "call it, as in self.parameters()" in " ".join(caught.value.__notes__)


class ReadsItself(Small):
    """Reads an iterator of its own in each step, which is exhausted at once."""

    own = iter(())

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return next(self.own)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return next(self.own)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return next(self.own)


class LooksWithin(nb.Callback):
    """Handles what the fast paths leave out."""

    def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
        pass


class ByHand(ReadsItself):
    automatic_optimization = False


@pytest.mark.parametrize(
    ("function", "step", "module", "callbacks"),
    [
        ("fit", "training_step", ReadsItself, []),
        ("fit", "training_step", ReadsItself, [LooksWithin()]),
        ("fit", "training_step", ByHand, []),
        ("validate", "validation_step", ReadsItself, []),
        ("predict", "predict_step", ReadsItself, []),
    ],
)
def test_an_iterator_that_ends_within_a_step_does_not_end_the_epoch_silently(
    function: str, step: str, module: Any, callbacks: Any, tmp_path: Path
) -> None:
    with pytest.raises(nb.UsageError, match=f"{step} raised StopIteration.*give next.. a default"):
        getattr(trainer(tmp_path, callbacks=callbacks), function)(module(), loader())


def test_a_checkpoint_that_is_loaded_into_an_object_is_said_to_leave_it_as_it_is(
    tmp_path: Path, capsys: Capture
) -> None:
    run = trainer(tmp_path)
    run.fit(Small(), loader())
    run.save_checkpoint(tmp_path / "saved")
    capsys.readouterr()

    Small.load_from_checkpoint(tmp_path / "saved")
    assert capsys.readouterr().err == ""

    found = Small().load_from_checkpoint(tmp_path / "saved")
    assert isinstance(found, Small)
    assert "new = Small.load_from_checkpoint(...)" in capsys.readouterr().err
