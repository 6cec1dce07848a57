"""Names of Lightning, at the paths where Lightning has them."""

import functools
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer

import nightbus as nb
import nightbus.compat
from nightbus.actors.callbacks.checkpoint import Checkpoint
from nightbus.compat.file_calls import take_checkpoints_for_files
from nightbus.compat.modules import is_here
from nightbus.compat.paths import NAMES_AT
from nightbus.compat.torch_load import look_like_files

HERE = [(path, name) for path, names in NAMES_AT.items() for name in names if is_here(name)]


def module_at(path: str) -> object:
    return import_module(f"nightbus.compat.{path}")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("lightning", "Trainer"),
        ("lightning.pytorch", "LightningModule"),
        ("lightning.pytorch.callbacks", "ModelCheckpoint"),
        ("lightning.pytorch.callbacks.early_stopping", "EarlyStopping"),
        ("lightning.fabric.utilities.seed", "seed_everything"),
        ("lightning_fabric.utilities.seed", "seed_everything"),
        ("pytorch_lightning.core.lightning", "LightningModule"),
        ("pytorch_lightning.loops.epoch", "TrainingEpochLoop"),
        ("pytorch_lightning.trainer.supporters", "CombinedLoader"),
    ],
)
def test_a_name_at_its_path_is_the_one_of_nightbus(path: str, name: str) -> None:
    assert getattr(module_at(path), name) is getattr(nb, name)


def test_a_name_that_is_called_otherwise_in_nightbus_is_the_same_thing() -> None:
    exceptions = module_at("lightning.pytorch.utilities.exceptions")

    assert exceptions.MisconfigurationException is nb.UsageError  # type: ignore[attr-defined]


def test_is_overridden_knows_what_a_class_defines_itself() -> None:
    is_overridden = module_at("lightning.pytorch.utilities.model_helpers").is_overridden  # type: ignore[attr-defined]
    model = module_at("lightning.pytorch.demos.boring_classes").BoringModel()  # type: ignore[attr-defined]

    assert is_overridden("training_step", model)
    assert not is_overridden("predict_step", model)
    assert not is_overridden("training_step", model, parent=type(model))
    assert not is_overridden("training_step", None)
    for name in ("training_step", "predict_step"):  # replaced by what calls them
        setattr(model, name, functools.wraps(getattr(model, name))(lambda *_: None))
    assert is_overridden("training_step", model)
    assert not is_overridden("predict_step", model)
    assert not is_overridden("training_step", model, parent=type(model))
    with pytest.raises(nb.UsageError, match="object is no module, datamodule or callback"):
        is_overridden("training_step", object())


def test_is_param_in_hook_signature_knows_what_a_hook_takes() -> None:
    takes = module_at("lightning.pytorch.utilities.signature_utils").is_param_in_hook_signature  # type: ignore[attr-defined]

    class Steps:
        def named(self, batch: int) -> None: ...

        def rest(self, *args: int) -> None: ...

    assert takes(Steps.named, "batch")
    assert not takes(Steps.named, "batch_idx")
    assert takes(Steps.named, "batch_idx", min_args=1)
    assert takes(Steps.rest, "batch")
    assert not takes(Steps.rest, "batch", explicit=True)


def test_a_progress_bar_is_the_callback_and_not_the_sink() -> None:
    callbacks = module_at("lightning.pytorch.callbacks")

    assert callbacks.ProgressBar is nb.ProgressBarBase  # type: ignore[attr-defined]


def test_messages_of_rank_0_work_before_there_is_a_trainer() -> None:
    with pytest.warns(UserWarning, match="of rank 0"):
        module_at("lightning.pytorch.utilities").rank_zero_warn("of rank 0")  # type: ignore[attr-defined]


def test_every_name_that_is_said_to_be_here_is_here() -> None:
    missing = [f"{path}.{name}" for path, name in HERE if not hasattr(module_at(path), name)]

    assert missing == []


def test_modules_are_reached_as_attributes() -> None:
    lightning = module_at("lightning")

    assert lightning.pytorch.callbacks.Timer is nb.Timer  # type: ignore[attr-defined]


def test_a_star_imports_what_is_here() -> None:
    names: dict[str, object] = {}
    exec("from nightbus.compat.lightning.pytorch import *", names)

    assert names["Trainer"] is nb.Trainer


def test_dir_has_what_is_here() -> None:
    assert "ModelCheckpoint" in dir(module_at("lightning.pytorch.callbacks"))


def test_a_class_that_is_not_here_is_imported_and_says_what_to_do_when_it_is_made() -> None:
    names: dict[str, Any] = {}
    exec("from nightbus.compat.lightning import Fabric", names)

    with pytest.raises(nb.UsageError, match=r"^Fabric\(\): .* use Trainer with a loop"):
        names["Fabric"](accelerator="cpu")
    with pytest.raises(AttributeError, match=r"^Fabric\.seed_everything: .* use Trainer with a"):
        names["Fabric"].seed_everything(1)


def test_so_does_one_derived_from_it() -> None:
    plugins: Any = module_at("lightning.pytorch.plugins")

    class Own(plugins.CheckpointIO):  # type: ignore[misc]
        def save_checkpoint(self, checkpoint: Any, path: str, options: Any = None) -> None: ...

    with pytest.raises(
        nb.UsageError, match=r"^Own\(\): derives from CheckpointIO, .*; leave it out"
    ):
        Own()


def test_a_function_that_is_not_here_cannot_be_imported_so_that_fallbacks_are_taken() -> None:
    line = "from nightbus.compat.lightning.pytorch.utilities.compile import from_compiled"

    with pytest.raises(ImportError, match=r"from_compiled.* names of weights are plain"):
        exec(line, {})


@pytest.mark.parametrize("name", ["TPUAccelerator", "HPUAccelerator", "XLAAccelerator"])
def test_an_accelerator_that_is_not_here_is_not_available(name: str) -> None:
    accelerators: Any = module_at("lightning.pytorch.accelerators")
    absent = getattr(accelerators, name)

    assert absent.is_available() is False
    assert absent.auto_device_count() == 0
    with pytest.raises(nb.UsageError, match="accelerator="):
        nb.Trainer(accelerator=absent)


def test_an_object_is_of_the_class_of_lightning_that_fits_it(tmp_path: Path) -> None:
    strategies: Any = module_at("lightning.pytorch.strategies")
    precision: Any = module_at("lightning.pytorch.plugins.precision")
    alone = trainer(tmp_path, precision="bf16-mixed")

    assert isinstance(alone.strategy, strategies.Strategy)
    assert isinstance(alone.strategy, strategies.SingleDeviceStrategy)
    assert isinstance(nb.DDPStrategy(), strategies.ParallelStrategy)
    assert not isinstance(nb.DDPStrategy(), strategies.SingleDeviceStrategy)
    assert not isinstance(alone.strategy, strategies.FSDPStrategy | strategies.DeepSpeedStrategy)
    assert isinstance(alone.precision_plugin, precision.MixedPrecision)
    assert not isinstance(alone.precision_plugin, precision.HalfPrecision)


def test_a_strategy_and_an_accelerator_of_a_users_own_can_be_registered(tmp_path: Path) -> None:
    strategies: Any = module_at("lightning.pytorch.strategies")
    accelerators: Any = module_at("lightning.pytorch.accelerators")

    class Own(strategies.SingleDeviceStrategy):  # type: ignore[misc]
        strategy_name = "own"

    strategies.StrategyRegistry.register(Own.strategy_name, Own, description="own", device=1)

    assert strategies.StrategyRegistry["own"]["init_params"] == {"device": 1}
    assert "own" in strategies.StrategyRegistry.available_strategies()
    assert "cpu" in accelerators.AcceleratorRegistry.available_accelerators()
    strategies.StrategyRegistry.remove("own")
    assert "own" not in strategies.StrategyRegistry
    with pytest.raises(nb.UsageError, match="strategy='own': expected"):
        trainer(tmp_path, strategy="own")


def test_importing_a_module_that_is_not_here_says_what_to_do() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no module .*launchers'; use .*strategy='ddp'"):
        module_at("lightning.pytorch.strategies.launchers")


def test_other_packages_of_similar_names_are_left_alone() -> None:
    import lightning_utilities

    assert nightbus.compat.__name__ not in str(lightning_utilities.__spec__)


def test_names_are_not_taken_over_after_lightning_was_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_lightning", nightbus)

    with pytest.raises(nb.UsageError, match="pytorch_lightning has been imported already"):
        nightbus.compat.install()


@pytest.fixture
def checkpoints_that_look_like_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where runs are put
    monkeypatch.setattr(Checkpoint, "FILE_EXTENSION", "")
    monkeypatch.setattr(torch, "load", torch.load)
    look_like_files()


@pytest.mark.usefixtures("checkpoints_that_look_like_files")
def test_names_of_checkpoints_end_as_those_of_lightning(tmp_path: Path) -> None:
    saving = nb.ModelCheckpoint(tmp_path, "best", save_last=True, save_on_train_epoch_end=True)
    for _ in range(2):
        trainer = nb.Trainer(
            max_epochs=1, limit_train_batches=1, limit_val_batches=0, callbacks=[saving]
        )
        trainer.fit(module_at("lightning.pytorch.demos.boring_classes").BoringModel())  # type: ignore[attr-defined]
        saving = nb.ModelCheckpoint(tmp_path, "best", save_last=True, save_on_train_epoch_end=True)

    own = trainer.run_folder.path / "checkpoints"  # type: ignore[union-attr]
    assert [path.name for path in own.glob("*.ckpt")] == ["epoch=0-step=1.ckpt"]
    names = {"best.ckpt", "best-v1.ckpt", "last.ckpt", "last-v1.ckpt"}
    assert {path.name for path in tmp_path.glob("*.ckpt")} == names
    assert nb.OnExceptionCheckpoint(tmp_path).ckpt_path == str(tmp_path / "on_exception.ckpt")


@pytest.fixture
def checkpoint_taken_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for module, name in [(os.path, "isfile"), (os, "remove"), (os, "unlink")]:
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(shutil, "copyfile", shutil.copyfile)
    monkeypatch.setattr(torch, "save", torch.save)
    monkeypatch.setattr(torch, "load", torch.load)
    monkeypatch.setattr(Checkpoint, "FILE_EXTENSION", "")
    look_like_files()
    take_checkpoints_for_files()
    run = trainer(tmp_path, max_steps=1)
    run.fit(Small(), loader(4))
    run.save_checkpoint(tmp_path / "saved.ckpt")
    return str(tmp_path / "saved.ckpt")


def test_a_checkpoint_is_copied_and_removed_as_files_are(
    checkpoint_taken_for_a_file: str, tmp_path: Path
) -> None:
    path, copied = checkpoint_taken_for_a_file, tmp_path / "copied.ckpt"
    assert os.path.isfile(path)

    shutil.copy(path, copied)
    shutil.copy2(path, copied)  # again, which replaces it
    os.remove(path)

    assert not os.path.lexists(path)
    assert nb.load_checkpoint(copied)["global_step"] == 1
    copied.unlink()
    assert not copied.exists()
    (tmp_path / "other").mkdir()
    assert not os.path.isfile(tmp_path / "other")
    with pytest.raises(OSError, match="other"):
        os.remove(tmp_path / "other")


def test_a_checkpoint_is_known_where_paths_ask_what_stands_for_isfile(
    checkpoint_taken_for_a_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_file", lambda path: os.path.isfile(path))  # as in Python 3.14

    assert nb.load_checkpoint(checkpoint_taken_for_a_file)["global_step"] == 1
    assert not os.path.isfile(tmp_path)


def test_torch_load_has_the_paths_of_a_model_checkpoint(
    checkpoint_taken_for_a_file: str, tmp_path: Path
) -> None:
    saving = nb.ModelCheckpoint(tmp_path / "kept", monitor="step", save_top_k=2, save_last=True)
    run = trainer(tmp_path, max_epochs=2, limit_train_batches=1, callbacks=[saving])
    run.fit(Small(), loader(4))
    run.save_checkpoint(tmp_path / "after.ckpt")

    (saved,) = torch.load(tmp_path / "after.ckpt")["callbacks"].values()

    names = ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path", "monitor")
    assert {name: saved[name] for name in names} == {name: getattr(saving, name) for name in names}
    assert saved["best_k_models"] == saving.best_k_models


def test_torch_save_to_a_checkpoint_changes_what_is_the_users(
    checkpoint_taken_for_a_file: str, tmp_path: Path
) -> None:
    path = checkpoint_taken_for_a_file
    content = torch.load(path, weights_only=False)
    for weight in content["state_dict"].values():
        weight.zero_()
    content["mine"], content["global_step"] = "added", 99

    torch.save(content, path)

    assert nb.load_checkpoint(path)["mine"] == "added"
    again = trainer(tmp_path, max_epochs=2)
    again.fit(Small(), loader(8), ckpt_path=path)
    assert again.global_step == 3  # it went on where the run was
    module = Small.load_from_checkpoint(path)
    assert not any(weight.any() for weight in module.parameters())


def test_torch_save_of_a_checkpoint_to_another_path_makes_another_one(
    checkpoint_taken_for_a_file: str, tmp_path: Path
) -> None:
    content = torch.load(checkpoint_taken_for_a_file, weights_only=False)
    content["state_dict"] = {k: torch.zeros_like(v) for k, v in content["state_dict"].items()}
    content["mine"] = [1, 2]
    (tmp_path / "edited.ckpt").write_bytes(b"former")

    torch.save(content, tmp_path / "edited.ckpt")
    weights = {name: content[name] for name in ("state_dict", "pytorch-lightning_version")}
    torch.save(weights, str(tmp_path / "weights.ckpt"))

    for name in ("edited.ckpt", "weights.ckpt"):
        module = Small.load_from_checkpoint(tmp_path / name)
        assert not any(weight.any() for weight in module.parameters())
    assert torch.load(tmp_path / "edited.ckpt")["mine"] == [1, 2]
    again = trainer(tmp_path, max_epochs=3)
    again.fit(Small(), loader(8), ckpt_path=tmp_path / "edited.ckpt")
    assert again.current_epoch == 3


def test_torch_save_writes_a_file_of_what_a_checkpoint_cannot_hold(
    checkpoint_taken_for_a_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(checkpoint_taken_for_a_file, weights_only=False)
    content["mine"] = os.getcwd

    torch.save(content, tmp_path / "other.ckpt")

    said = capsys.readouterr().err
    assert "other.ckpt was saved as a file of torch" in said
    assert "mine: " in said
    assert torch.load(tmp_path / "other.ckpt", weights_only=False)["mine"] is os.getcwd


@pytest.mark.parametrize(
    "change",
    [
        {"state_dict": {"w": torch.ones(2), "o": os.getcwd}},
        {"state_dict": {"w": torch.ones(2)}, "optimizer_states": 3},
        {"epoch": "three"},
        {"callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": "a"}}},
    ],
    ids=["an object", "another form", "no number", "paths of files"],
)
def test_torch_save_replaces_a_file_by_all_of_what_it_was_given(
    checkpoint_taken_for_a_file: str, tmp_path: Path, change: dict[str, Any]
) -> None:
    assert os.path.isfile(checkpoint_taken_for_a_file)
    content = {"state_dict": {}, "optimizer_states": [{}], "pytorch-lightning_version": "2.1"}
    (tmp_path / "other.ckpt").write_bytes(b"former")

    torch.save(content | change, tmp_path / "other.ckpt")

    assert (tmp_path / "other.ckpt").is_file()
    loaded = torch.load(tmp_path / "other.ckpt", weights_only=False)
    assert {name: loaded[name] for name in change}.keys() == change.keys()
    assert loaded.keys() == content.keys() | change.keys()


def test_a_file_stays_if_the_checkpoint_that_is_to_replace_it_cannot_be_written(
    checkpoint_taken_for_a_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = torch.load(checkpoint_taken_for_a_file, weights_only=False)
    (tmp_path / "other.ckpt").write_bytes(b"former")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr("safetensors.torch.save_file", fail)
        with pytest.raises(nb.CheckpointError, match="no space"):
            torch.save(content, tmp_path / "other.ckpt")

    assert (tmp_path / "other.ckpt").read_bytes() == b"former"
    torch.save(content, tmp_path / "other.ckpt")
    assert nb.load_checkpoint(tmp_path / "other.ckpt")["global_step"] == 1
    assert not list(tmp_path.glob(".other*"))  # nothing is left of the file


@pytest.mark.parametrize("max_steps", [1, 2], ids=["amid an epoch", "after an epoch"])
def test_a_copy_of_a_copy_of_a_checkpoint_is_at_the_same_epoch(
    checkpoint_taken_for_a_file: str, tmp_path: Path, max_steps: int
) -> None:
    assert os.path.isfile(checkpoint_taken_for_a_file)
    saving = nb.ModelCheckpoint(tmp_path / "kept", "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer(tmp_path, max_steps=max_steps, callbacks=[saving]).fit(Small(), loader(8))
    paths = [saving.best_model_path]
    for name in ("copy.ckpt", "copy of a copy.ckpt"):
        torch.save(torch.load(paths[-1], weights_only=False), tmp_path / name)
        paths.append(str(tmp_path / name))

    assert [torch.load(path, weights_only=False)["epoch"] for path in paths] == [0, 0, 0]
    began = []
    for path in paths:
        began.append(Began())
        trainer(tmp_path, max_epochs=3, callbacks=[began[-1]]).fit(
            Small(), loader(8), ckpt_path=path
        )
    assert [each.at for each in began] == [(max_steps - 1, max_steps)] * 3


class Began(nb.Callback):
    """Notes the epoch and the step at which training began."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.at = (trainer.current_epoch, trainer.global_step)


@pytest.mark.usefixtures("checkpoints_that_look_like_files")
def test_torch_load_reads_a_checkpoint_and_other_files_as_before(tmp_path: Path) -> None:
    saving = nb.ModelCheckpoint(tmp_path / "kept", "best")
    trainer = nb.Trainer(
        max_epochs=1, limit_train_batches=1, limit_val_batches=0, callbacks=[saving]
    )
    model = module_at("lightning.pytorch.demos.boring_classes").BoringModel()  # type: ignore[attr-defined]
    trainer.fit(model)
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pt")

    loaded = torch.load(saving.best_model_path, map_location="cpu", weights_only=True)
    moved = torch.load(Path(saving.best_model_path), torch.device("meta"))
    assert torch.equal(loaded["state_dict"]["layer.weight"], model.layer.weight)
    assert (loaded["epoch"], loaded["global_step"]) == (0, 1)
    options = {"monitor": None, "mode": "min", "every_n_train_steps": 0, "every_n_epochs": 1}
    assert list(loaded["callbacks"]) == [
        f"ModelCheckpoint{options | {'train_time_interval': None}}"
    ]
    assert moved["state_dict"]["layer.weight"].is_meta
    assert torch.load(tmp_path / "other.pt", "meta")["a"].is_meta
    load = module_at("pytorch_lightning.utilities.cloud_io").load  # type: ignore[attr-defined]
    assert load(saving.best_model_path)["state_dict"].keys() == loaded["state_dict"].keys()
    assert load(tmp_path / "other.pt", map_location="meta")["a"].is_meta


SPAWNING = """
import multiprocessing, subprocess, sys
if __name__ == "__main__":
    import nightbus.compat
    nightbus.compat.install()
    nightbus.compat.install()
import lightning.pytorch, pytorch_lightning, torchmetrics
import nightbus

def trainer_of_a_worker(queue):
    queue.put(lightning.Trainer.__module__)

if __name__ == "__main__":
    assert pytorch_lightning.Trainer is lightning.pytorch.Trainer is nightbus.Trainer
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=trainer_of_a_worker, args=(queue,))
    worker.start()
    print(queue.get())
    worker.join()
    asking = "import pytorch_lightning; print(pytorch_lightning.Trainer.__module__)"
    sys.stdout.flush()
    subprocess.run([sys.executable, "-c", asking], check=True)
"""


@pytest.mark.long
def test_installed_names_reach_spawned_workers_and_other_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SPAWNING)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=env, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["nightbus.trainer.trainer"] * 2


@pytest.mark.parametrize(("setting", "shown"), [("off", 0), ("", 1)])
def test_possible_user_warnings_can_be_left_out_for_a_process(setting: str, shown: int) -> None:
    script = (
        "import warnings, nightbus.compat; nightbus.compat.install()\n"
        "from lightning.pytorch.utilities.warnings import PossibleUserWarning\n"
        "warnings.warn('of the user', PossibleUserWarning)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "POSSIBLE_USER_WARNINGS": setting},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr.count("PossibleUserWarning: of the user") == shown
