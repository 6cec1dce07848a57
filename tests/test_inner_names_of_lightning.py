"""What packages that are built on Lightning need of its inner names."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer

import nightbus as nb


def _at(path: str, name: str) -> Any:
    return getattr(import_module(f"nightbus.compat.lightning.{path}"), name)


TorchCheckpointIO: Any = _at("fabric.plugins.io.torch_io", "TorchCheckpointIO")
AcceleratorConnector: Any = _at(
    "pytorch.trainer.connectors.accelerator_connector", "_AcceleratorConnector"
)
LRFinder: Any = _at("pytorch.tuner.lr_finder", "_LRFinder")


def test_the_plugin_that_lightning_has_anyway_is_left_out_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Reads(TorchCheckpointIO):  # type: ignore[misc]
        def load_checkpoint(self, path: Any, map_location: Any = None, **given: Any) -> Any:
            raise AssertionError

    run: Any = trainer(tmp_path, max_epochs=1, plugins=Reads())
    run.fit(Small(), loader(4))
    again = trainer(tmp_path, max_epochs=2, plugins=[Reads()])
    again.fit(Small(), loader(4), ckpt_path=run.checkpoint_callback.best_model_path)

    assert again.current_epoch == 2
    assert "is not called" in capsys.readouterr().err


def test_a_plugin_that_writes_checkpoints_in_a_way_of_its_own_is_refused() -> None:
    class Writes(TorchCheckpointIO):  # type: ignore[misc]
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            raise AssertionError

    with pytest.raises(nb.UsageError, match="plugins"):
        nb.Trainer(plugins=[Writes()])  # type: ignore[call-arg]


def test_the_plugin_writes_and_reads_files_and_reads_checkpoints(tmp_path: Path) -> None:
    plugin = TorchCheckpointIO()
    path = tmp_path / "folder" / "file.ckpt"
    plugin.save_checkpoint({"a": torch.ones(2)}, path)
    assert torch.equal(plugin.load_checkpoint(path)["a"], torch.ones(2))
    assert torch.equal(
        _at("fabric.utilities.cloud_io", "_load")(path, weights_only=False)["a"], torch.ones(2)
    )
    plugin.remove_checkpoint(path)
    plugin.remove_checkpoint(path)
    assert not path.exists()

    run = trainer(tmp_path, max_epochs=1)
    run.fit(Small(), loader(4))
    run.save_checkpoint(tmp_path / "saved")
    assert "state_dict" in plugin.load_checkpoint(tmp_path / "saved")
    plugin.remove_checkpoint(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_packages_ask_what_auto_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    of_auto = AcceleratorConnector(accelerator="auto", devices="auto")
    assert (of_auto._accelerator_flag, of_auto._devices_flag) == ("cpu", 1)
    assert isinstance(of_auto.strategy, nb.DDPStrategy)
    two = AcceleratorConnector(accelerator="cpu", devices=2)
    assert two._parallel_devices == [torch.device("cpu")] * 2
    assert two._devices_flag == 2
    assert two.is_distributed


def test_the_result_of_lr_find_is_of_the_class_in_lightnings_place(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1)
    found = nb.Tuner(run).lr_find(Small(), loader(8), num_training=3)
    assert isinstance(found, LRFinder)


def test_a_loop_that_derives_from_lightnings_prints_results_in_its_own_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base: Any = _at("pytorch.loops.evaluation_loop", "_EvaluationLoop")

    class Shows(base):  # type: ignore[misc]
        @staticmethod
        def _print_results(results: list[dict[str, torch.Tensor]], stage: str) -> None:
            print(f"{stage} has {sorted(results[0])} {results[0]['x'].item()}")

    class Own(nb.Trainer):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.test_loop = Shows(self, "test", nb.RunningStage.TESTING, inference_mode=True)

    class Logs(Small):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.log("x", 2.0)

    run = Own(default_root_dir=tmp_path, enable_progress_bar=False)
    results = run.test(Logs(), loader(4))

    assert results == [{"x": 2.0}]
    assert "test has ['x'] 2.0" in capsys.readouterr().out
    with pytest.raises(nb.UsageError, match="inference_mode=False of a loop"):
        Shows(run, "test", "test", inference_mode=False)
    run.test_loop = base(run, "test", "test", verbose=False)
    run.test(Logs(), loader(4))
    assert "2" not in capsys.readouterr().out
