"""Lightning's small helpers, under its paths."""

import inspect
import random
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from models import Small, loader, trainer
from torch import nn

import nightbus as nb

tools: Any = import_module("nightbus.compat.lightning.pytorch.utilities")
progress: Any = import_module("nightbus.compat.lightning.pytorch.callbacks.progress")
saving: Any = import_module("nightbus.compat.lightning.pytorch.core.saving")


class Tied(nb.LightningModule):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.rate = 0.5


def test_norms_of_gradients_by_name_and_of_all() -> None:
    module = nn.Linear(2, 1)
    module.weight.grad, module.bias.grad = torch.tensor([[3.0, 4.0]]), torch.tensor([12.0])

    assert tools.grad_norm(module, 2) == {
        "grad_2.0_norm/weight": 5.0,
        "grad_2.0_norm/bias": 12.0,
        "grad_2.0_norm_total": 13.0,
    }
    with pytest.raises(ValueError, match="positive"):
        tools.grad_norm(module, 0)


def test_operations_of_a_forward_pass_are_counted() -> None:
    module = nn.Linear(2, 3)
    assert tools.measure_flops(module, lambda: module(torch.ones(5, 2))) == 2 * 5 * 2 * 3


def test_shared_parameters_are_found_and_set() -> None:
    module, other = Tied(), Tied()
    assert tools.find_shared_parameters(module) == [["first.weight", "second.weight"]]

    other.second.weight = nn.Parameter(torch.ones(2, 2))
    tools.set_shared_parameters(other, [["first.weight", "second.weight"]])
    assert other.second.weight is other.first.weight


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0  "),
        (123, "123  "),
        (1234, "1.2 K"),
        (2e6, "2.0 M"),
        (3e11, "300 B"),
        (5e15, "5,000 T"),
    ],
)
def test_counts_as_people_read_them(count: int, shown: str) -> None:
    assert tools.get_human_readable_count(int(count)) == shown


def test_attributes_of_a_datamodule_are_those_of_any_object_with_its_trainer() -> None:
    data = SimpleNamespace(batch_size=8)
    owner = SimpleNamespace(trainer=SimpleNamespace(datamodule=data))

    tools.parsing.lightning_setattr(owner, "batch_size", 16)

    assert tools.parsing.lightning_getattr(owner, "batch_size") == data.batch_size == 16


def test_attributes_of_a_module_or_its_hyperparameters() -> None:
    module = Tied()
    assert tools.parsing.lightning_getattr(module, "width") == 3
    tools.parsing.lightning_setattr(module, "rate", 1.0)
    assert module.rate == 1.0
    assert not tools.parsing.lightning_hasattr(module, "depth")
    with pytest.raises(AttributeError, match="there is no depth in the module"):
        tools.parsing.lightning_setattr(module, "depth", 1)


def test_arguments_of_init_methods_that_run() -> None:
    class Parent:
        def __init__(self, a: int, **more: int) -> None:
            super().__init__()
            frame = inspect.currentframe()
            assert frame is not None
            self.found = tools.parsing.collect_init_args(frame, [])

    class Child(Parent):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(a, c=3)

    assert Child(1, 2).found == [{"a": 1, "c": 3}, {"a": 1, "b": 2}]


def test_random_numbers_are_drawn_again_after_an_isolated_block() -> None:
    with tools.seed.isolate_rng():
        inside = (torch.rand(2).tolist(), random.random())
    assert (torch.rand(2).tolist(), random.random()) == inside


def test_an_error_of_memory_is_known() -> None:
    assert tools.memory.is_oom_error(RuntimeError("CUDA error: out of memory"))
    assert not tools.memory.is_oom_error(RuntimeError("other"))


def test_sizes_of_batches() -> None:
    assert tools.data.extract_batch_size({"x": torch.zeros(7, 2)}) == 7
    assert tools.data.extract_batch_size([torch.tensor(1.0), torch.tensor(2.0)]) == 1
    with pytest.warns(UserWarning, match="the tensors of the batch differ in size"):
        assert tools.data.extract_batch_size([torch.zeros(7, 2), torch.zeros(6)]) == 7
    with pytest.raises(nb.UsageError, match="no tensors to tell the batch_size"):
        tools.data.extract_batch_size("text")


def test_hyperparameters_are_saved_and_loaded(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    files: Any = saving
    files.save_hparams_to_yaml(str(tmp_path / "h.yaml"), {"rate": 0.1})
    assert files.load_hparams_from_yaml(str(tmp_path / "h.yaml")) == {"rate": 0.1}
    found = files.load_hparams_from_yaml(tmp_path / "h.yaml", use_omegaconf=False)
    assert type(found) is dict


def test_a_hyperparameter_that_yaml_does_not_have_is_warned_of(tmp_path: Path) -> None:
    files: Any = saving
    with pytest.warns(UserWarning, match="'kind' is written as text.*YAML has no dtype"):
        files.save_hparams_to_yaml(tmp_path / "h.yaml", {"rate": 0.1, "kind": torch.float32})
    assert (tmp_path / "h.yaml").read_text() == 'rate: 0.1\nkind: "torch.float32"\n'


def test_hyperparameters_are_saved_and_loaded_as_tags(tmp_path: Path) -> None:
    files: Any = saving
    files.save_hparams_to_tags_csv(tmp_path / "tags.csv", Namespace(rate=0.1, name="a,b"))

    found = files.load_hparams_from_tags_csv(tmp_path / "tags.csv")

    assert found == {"rate": 0.1, "name": "a,b"}


def test_the_state_of_an_optimizer_moves_to_a_device() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.ones(2)
    optimizer.step()

    tools.optimizer.optimizers_to_device([optimizer], "meta")

    assert optimizer.state[parameter]["exp_avg"].is_meta


def test_rank_zero_only_has_the_rank() -> None:
    assert tools.rank_zero_only.rank == 0
    assert tools.enums.GradClipAlgorithmType.supported_types() == ["value", "norm"]


@pytest.mark.parametrize(
    ("text", "said"), [("Yes", True), ("off", False), ("1", True), ("7", 7), ("auto", "auto")]
)
def test_texts_of_a_command_line_say_bools_and_numbers(text: str, said: object) -> None:
    parsing: Any = import_module("nightbus.compat.lightning.pytorch.utilities.parsing")

    assert parsing.str_to_bool_or_int(text) is said or parsing.str_to_bool_or_int(text) == said
    if not isinstance(said, bool):
        with pytest.raises(ValueError, match="neither true nor false"):
            parsing.str_to_bool(text)


def test_numbers_become_tensors_and_tensors_numbers() -> None:
    apply: Any = import_module("nightbus.compat.lightning.fabric.utilities.apply_func")
    tensors = apply.convert_to_tensors({"a": 1.5, "b": [np.ones(1), "text"]}, "cpu")

    assert apply.convert_tensors_to_scalars(tensors) == {"a": 1.5, "b": [1.0, "text"]}
    with pytest.raises(ValueError, match=r"shape \(2,\) is not a single number"):
        apply.convert_tensors_to_scalars(torch.ones(2))


def test_intervals_have_names() -> None:
    callbacks: Any = import_module("nightbus.compat.lightning.pytorch.callbacks")
    timer = callbacks.Timer(interval=callbacks.timer.Interval.epoch)

    assert isinstance(timer, nb.Timer)
    assert callbacks.prediction_writer.WriteInterval.BATCH == "batch"


def test_accelerators_are_taken_for_their_names_and_asked_for_devices() -> None:
    accelerators: Any = import_module("nightbus.compat.lightning.pytorch.accelerators")

    assert nb.Trainer(max_epochs=1, accelerator=accelerators.CPUAccelerator()).device.device == (
        torch.device("cpu")
    )
    assert accelerators.CUDAAccelerator.is_available() == torch.cuda.is_available()
    assert accelerators.cuda.find_usable_cuda_devices(0) == []
    with pytest.raises(ValueError, match="this machine has"):
        accelerators.cuda.find_usable_cuda_devices(1000)
    with pytest.raises(nb.UsageError, match=r"accelerator=Own\(\): an Accelerator of"):
        nb.Trainer(max_epochs=1, accelerator=type("Own", (accelerators.Accelerator,), {})())


def test_the_category_of_a_warning_of_rank_0_may_stand_second() -> None:
    utilities: Any = import_module("nightbus.compat.lightning.pytorch.utilities")

    with pytest.warns(FutureWarning, match="of 1.x"):
        utilities.rank_zero_warn("of 1.x", FutureWarning)
    with pytest.warns(UserWarning, match="of 2.x"):
        utilities.rank_zero_warn("of 2.x", category=UserWarning, stacklevel=3)


def test_file_systems_are_those_of_fsspec(tmp_path: Path) -> None:
    saving: Any = import_module("nightbus.compat.lightning.pytorch.core.saving")
    (tmp_path / "here").write_text("text")

    files = saving.get_filesystem(tmp_path)
    assert files.exists(str(tmp_path / "here"))
    with files.open(tmp_path / "here", "r") as file:
        assert file.read() == "text"


def test_a_checkpoint_that_is_opened_is_read_as_its_folder(tmp_path: Path) -> None:
    saving: Any = import_module("nightbus.compat.lightning.pytorch.core.saving")
    run = trainer(tmp_path)
    run.fit(Small(), loader(4))
    run.save_checkpoint(tmp_path / "saved")

    with saving.get_filesystem(tmp_path).open(str(tmp_path / "saved"), "rb") as opened:
        assert nb.load_checkpoint(opened)["epoch"] == 1


@pytest.mark.parametrize(
    ("path", "name", "advice"),
    [
        ("strategies", "FSDPStrategy", "a copy of the module on each device"),
        ("strategies", "DDPSpawnStrategy", "starts the script again"),
        ("strategies", "SingleDeviceStrategy", "leave it out"),
        ("accelerators", "TPUAccelerator", r"accelerator='cpu'\), 'gpu' or 'mps'"),
        ("plugins", "MixedPrecision", "'bf16-mixed'"),
        ("plugins.environments", "SLURMEnvironment", "srun and mpirun are recognised"),
        ("plugins", "AsyncCheckpointIO", "written while training goes on"),
        ("callbacks.progress.rich_progress", "CustomProgress", "override get_metrics"),
    ],
)
def test_what_is_not_there_says_what_fits_it(path: str, name: str, advice: str) -> None:
    absent = getattr(import_module(f"nightbus.compat.lightning.pytorch.{path}"), name)
    with pytest.raises(nb.UsageError, match=f"{name}.*{advice}"):
        absent()


def test_the_bar_of_tqdm_is_that_of_its_package() -> None:
    tqdm = pytest.importorskip("tqdm")

    assert progress.tqdm_progress.Tqdm is tqdm.tqdm


def test_test_tubes_logger_writes_event_files_where_it_did(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    loggers: Any = import_module("nightbus.compat.pytorch_lightning.loggers")

    class Shows(Small):
        def on_train_epoch_end(self) -> None:
            self.logger.experiment.add_image("samples", torch.rand(3, 4, 4), self.global_step)

    with pytest.warns(UserWarning, match="description, create_git_tag without effect"):
        logger = loggers.TestTubeLogger(
            tmp_path, "testtube", description="a trial", create_git_tag=True
        )
    run = trainer(tmp_path, logger=logger, max_epochs=1, log_every_n_steps=1)
    run.fit(Shows(), loader())

    folder = tmp_path / "testtube" / "version_0"
    assert run.logger.log_dir == str(folder / "tf")
    assert [path.name[:20] for path in (folder / "tf").glob("events*")] == ["events.out.tfevents."]
    assert isinstance(logger, nb.TensorBoardLogger)


def test_data_is_moved_to_the_device_of_a_module_by_a_decorator() -> None:
    decorators: Any = import_module("nightbus.compat.pytorch_lightning.core.decorators")

    class Predicts(Small):
        @decorators.auto_move_data  # type: ignore[untyped-decorator]
        def forward(self, x: Any, also: Any = None) -> Any:
            return x["x"].device, also.device

    meta = torch.device("meta")

    assert Predicts().to(meta)({"x": torch.ones(1)}, also=torch.ones(1)) == (meta, meta)


@pytest.mark.parametrize(
    ("path", "name", "advice"),
    [
        ("overrides.data_parallel", "LightningDataParallel", "use the module itself"),
        ("plugins", "DeepSpeedPlugin", "a copy of the module on each device"),
        ("plugins.environments", "MPIEnvironment", "srun and mpirun are recognised"),
        ("strategies", "ColossalAIStrategy", "a copy of the module on each device"),
    ],
)
def test_what_former_versions_had_says_what_fits_it(path: str, name: str, advice: str) -> None:
    module = import_module(f"nightbus.compat.pytorch_lightning.{path}")

    with pytest.raises(nb.UsageError, match=rf"{name}\(\).*{advice}"):
        getattr(module, name)()


def test_what_a_script_falls_back_from_when_it_cannot_import_it_cannot_be_imported() -> None:
    name = "convert_zero_checkpoint_to_fp32_state_dict"
    line = f"from nightbus.compat.pytorch_lightning.utilities.deepspeed import {name}"

    with pytest.raises(ImportError, match=f"{name}.*whole weights"):
        exec(line, {})


def test_the_rank_and_the_log_have_names_that_code_imports() -> None:
    rank_zero: Any = import_module("nightbus.compat.lightning.pytorch.utilities.rank_zero")
    package: Any = import_module("nightbus.compat.pytorch_lightning")

    assert rank_zero._get_rank() == 0
    assert package._logger.name == "pytorch_lightning"
