"""What a module has without a trainer, and how it is exported for use without its code."""

import copy
import io
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer
from torch import nn

import nightbus as nb


class Sized(Small):
    """A module with hyperparameters and an example of its input."""

    def __init__(self, hidden: int = 3, sizes: Any = (1, 2)) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.Dropout(0.5), nn.Linear(hidden, 2))
        self.example_input_array = torch.zeros(1, 4)


@pytest.fixture
def no_deprecations() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, by torch
        yield


def test_a_module_without_a_trainer_has_no_loggers() -> None:
    assert Small().logger is None
    assert Small().loggers == []


def test_it_says_where_it_is() -> None:
    module = Small()

    assert not module.on_gpu
    assert module.device_mesh is None
    assert module.fabric is None


def test_freezing_and_unfreezing_return_the_module() -> None:
    module = Small()

    assert module.freeze() is module
    assert not module.net.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert module.unfreeze() is module
    assert module.net.training
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_initial_hyperparameters_stay_as_they_were_saved() -> None:
    module = Sized(sizes=[1, {"a": 2}])
    module.hparams["hidden"] = 9
    module.hparams["sizes"][1]["a"] = 9
    module.hparams_initial["hidden"] = 9

    assert module.hparams_initial == {"hidden": 3, "sizes": [1, {"a": 2}]}
    assert module.hparams_initial.hidden == 3


def test_ignored_hyperparameters_are_in_neither() -> None:
    module = Sized()
    module.remove_ignored_hparams(["sizes", "unknown"])

    assert module.hparams == module.hparams_initial == {"hidden": 3}


def test_any_class_can_keep_its_arguments() -> None:
    class Config(nb.HyperparametersMixin):
        def __init__(self, width: int) -> None:
            self.save_hyperparameters()

    assert Config(4).hparams.width == 4


@pytest.mark.usefixtures("no_deprecations")
@pytest.mark.parametrize("method", ["script", "trace"])
def test_torchscript_computes_what_the_module_does_in_eval_mode(
    tmp_path: Path, method: str
) -> None:
    module = Sized()
    module.get_submodule("net.0").eval()
    path = tmp_path / "module.pt"

    module.to_torchscript(path, method=method)

    x = torch.randn(5, 4)
    scripted = torch.jit.load(path)
    assert module.training
    assert not module.get_submodule("net.0").training
    torch.testing.assert_close(scripted(x), module.eval()(x))


@pytest.mark.usefixtures("no_deprecations")
def test_torchscript_leaves_out_what_belongs_to_the_run(tmp_path: Path) -> None:
    module = Sized()
    trainer(tmp_path).fit(module, loader(4))

    scripted = module.to_torchscript()

    assert not set(nb.LightningModule.__jit_unused_properties__) & set(dir(scripted))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "compile"}, "expected 'script' or 'trace'"),
        ({"method": "trace"}, r"needs an input of forward\(\): pass example_inputs="),
    ],
)
def test_torchscript_says_what_it_needs(given: dict[str, Any], said: str) -> None:
    with pytest.raises(nb.UsageError, match=said):
        Small().to_torchscript(**given)


@pytest.mark.usefixtures("no_deprecations")
def test_onnx_is_written_to_an_open_file() -> None:
    import onnx

    file = io.BytesIO()
    Sized().to_onnx(file, dynamo=False)

    model = onnx.load_model_from_string(file.getvalue())
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Gemm"]  # without dropout


def test_onnx_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)

    with pytest.raises(nb.UsageError, match=r"to_onnx needs .* onnxscript; .*nightbus\[onnx\]"):
        Sized().to_onnx("module.onnx")


def test_tensorrt_is_left_to_its_own_compiler() -> None:
    with pytest.raises(nb.UsageError, match=r"torch_tensorrt\.compile"):
        Small().to_tensorrt("module.ts")


def test_a_step_may_toggle_an_optimizer_for_a_while(tmp_path: Path) -> None:
    class ByHand(Small):
        required: list[bool]

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.required = []

        def configure_optimizers(self) -> Any:
            parts = (self.get_submodule("net.0"), self.get_submodule("net.2"))
            return [torch.optim.SGD(part.parameters(), 0.1) for part in parts]

        def training_step(self, batch: Any, batch_idx: int) -> None:
            first, _ = self.optimizers()
            with self.toggled_optimizer(first):
                self.required = [p.requires_grad for p in self.parameters()]

    module = ByHand()
    trainer(tmp_path).fit(module, loader(4))

    assert module.required == [True, True, False, False]
    assert all(p.requires_grad for p in module.parameters())


def test_gradients_before_validation_are_cleared_as_the_module_says(tmp_path: Path) -> None:
    class Keeps(Small):
        kept: Any = None

        def on_validation_model_zero_grad(self) -> None: ...

        def on_validation_start(self) -> None:
            self.kept = self.get_parameter("net.0.weight").grad

    class Clears(Keeps):
        on_validation_model_zero_grad = nb.LightningModule.on_validation_model_zero_grad

    keeps, clears = Keeps(), Clears()
    for module in (keeps, clears):
        trainer(tmp_path).fit(module, loader(4), loader(4))

    assert keeps.kept is not None
    assert clears.kept is None


def test_a_datamodule_learns_of_the_exception_that_ends_the_run(tmp_path: Path) -> None:
    class Data(nb.LightningDataModule):
        seen: BaseException | None = None

        def train_dataloader(self) -> Any:
            return loader(4)

        def on_exception(self, exception: BaseException) -> None:
            self.seen = exception

    class Fails(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ArithmeticError

    data = Data()
    with pytest.raises(ArithmeticError) as raised:
        trainer(tmp_path).fit(Fails(), datamodule=data)

    assert data.seen is raised.value


def test_a_module_without_a_trainer_says_so_with_a_runtime_error_too() -> None:
    with pytest.raises(RuntimeError, match="Small is not attached to a `Trainer`") as raised:
        _ = Small().trainer

    assert isinstance(raised.value, nb.UsageError)


def test_a_module_stays_attached_to_the_trainer_of_its_last_run(tmp_path: Path) -> None:
    module, run = Small(), trainer(tmp_path / "fit", sinks=[nb.CSV()])
    run.fit(module, loader(4))

    assert module.trainer is run
    assert module.logger is run.logger
    assert (module.current_epoch, module.global_step) == (1, 1)
    assert module.optimizers().optimizer is run.optimizers[0]
    assert copy.deepcopy(module)._trainer is None
    other = trainer(tmp_path / "test")
    other.test(module, loader(4))
    assert module.trainer is other


@pytest.mark.parametrize("verb", ["log", "put"])
def test_nothing_is_recorded_for_it_once_the_run_has_ended(tmp_path: Path, verb: str) -> None:
    module = Small()
    trainer(tmp_path).fit(module, loader(4))

    with pytest.raises(nb.UsageError, match=rf"{verb}\('late'\) was called after the run's end"):
        getattr(module, verb)("late", 1.0)


def test_a_datamodule_shows_the_sizes_of_its_data() -> None:
    class Data(nb.LightningDataModule):
        def setup(self, stage: str) -> None:
            self.size = 8

        def train_dataloader(self) -> Any:
            return loader(self.size)

        def val_dataloader(self) -> Any:
            return [loader(self.size), iter(())]

    data = Data()
    before = str(data)
    data.setup("fit")

    assert before == str(nb.LightningDataModule())
    assert str(data).splitlines() == [
        "{Train dataloader: size=8}",
        "{Validation dataloader: 1. size=8 ; 2. size=NA}",
        "{Test dataloader: None}",
        "{Predict dataloader: None}",
    ]


def test_two_values_to_clip_gradients_at_contradict_each_other(tmp_path: Path) -> None:
    class Clips(Small):
        def configure_gradient_clipping(  # type: ignore[override]  # the form of Lightning 2
            self, optimizer: Any, gradient_clip_val: Any, gradient_clip_algorithm: Any
        ) -> None:
            self.clip_gradients(optimizer, gradient_clip_val=0.01)

    with pytest.raises(nb.UsageError, match=r"Trainer\(gradient_clip_val=0.5\) were given"):
        trainer(tmp_path, gradient_clip_val=0.5).fit(Clips(), loader(4))


def test_gradients_are_clipped_by_hand_as_the_trainer_says(tmp_path: Path) -> None:
    class Clips(Small):
        largest: Any = None

        def configure_gradient_clipping(self, optimizer: Any, *_: Any) -> None:
            self.clip_gradients(optimizer)
            self.largest = max(float(p.grad.abs().max()) for p in self.parameters())  # type: ignore[union-attr]

    module = Clips()
    options: dict[str, Any] = {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"}
    trainer(tmp_path, **options).fit(module, loader(4))

    assert module.largest == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("args", "named", "expected"),
    [
        ((), {}, (None, None)),
        ((0, 0.5, "norm"), {}, (0.5, "norm")),
        ((1, "norm"), {}, (1, "norm")),
        ((0.5,), {}, (0.5, None)),
        ((1, None), {}, (1, None)),
        ((1,), {"gradient_clip_algorithm": "norm"}, (1, "norm")),
        ((0, 1), {"gradient_clip_algorithm": "norm"}, (1, "norm")),
        ((0,), {"gradient_clip_val": 0.5}, (0.5, None)),
        ((), {"optimizer_idx": 0, "gradient_clip_val": None}, (None, None)),
        ((), {"optimizer_idx": 1, "gradient_clip_val": None}, (None, None)),
    ],
)
def test_an_index_of_the_optimizer_is_never_taken_for_what_to_clip_at(
    args: tuple[Any, ...], named: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    clipped: list[tuple[Any, ...]] = []

    class Clips(Small):
        def clip_gradients(self, optimizer: Any, *given: Any) -> None:
            clipped.append(given)

    module = Clips()
    module.configure_gradient_clipping(module.configure_optimizers(), *args, **named)

    assert clipped == [expected]
