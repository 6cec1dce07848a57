"""Names of Lightning 1.x: what scripts read off trainers, and what datamodules are given."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest
import torch
from models import QUIET, Small, loader, trainer

import nightbus as nb


def test_an_argument_of_1x_is_read_as_it_was_given() -> None:
    given: dict[str, Any] = {**QUIET, "gpus": 0, "terminate_on_nan": True}
    run: Any = nb.Trainer(max_epochs=1, **given)

    assert (run.gpus, run.terminate_on_nan, run.weights_summary) == (0, True, "top")
    with pytest.raises(AttributeError, match="no attribute 'gpu'"):
        _ = run.gpu


def test_what_is_trained_on_and_how_is_told_under_names_of_1x() -> None:
    run = nb.Trainer(**QUIET, max_epochs=1, precision="bf16-mixed")

    assert (run.num_processes, run.num_gpus, run.root_gpu) == (1, 0, None)
    assert (run.use_amp, run.data_parallel, run.scaler) == (True, False, None)
    assert (run.use_ddp, run.use_tpu, run.tpu_cores) == (False, False, None)
    assert run.distributed_sampler_kwargs == {"num_replicas": 1, "rank": 0}


def test_devices_of_the_machine_are_told() -> None:
    assert nb.Trainer(**QUIET, max_epochs=1, devices=2).device_ids == [0, 1]


def test_readings_of_an_iterable_are_an_action() -> None:
    profiler = nb.SimpleProfiler()

    assert list(profiler.profile_iterable("ab", "read")) == ["a", "b"]
    assert len(profiler.recorded_durations["read"]) == 3  # the last finds the end


def test_a_job_of_slurm_is_told_unless_it_is_interactive(monkeypatch: pytest.MonkeyPatch) -> None:
    run = nb.Trainer(**QUIET, max_epochs=1)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert run.slurm_job_id == 7

    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    assert run.slurm_job_id is None


def test_schedulers_are_dicts_and_the_tested_checkpoint_is_known(tmp_path: Path) -> None:
    class Scheduled(Small):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

        def test_step(self, batch: Any, batch_idx: int) -> None:
            pass

    monitor = nb.LearningRateMonitor()
    run = trainer(tmp_path, callbacks=[nb.ModelCheckpoint(), monitor])
    run.fit(Scheduled(), loader(4))
    run.test(dataloaders=loader(4), ckpt_path="best")

    assert isinstance(run.lr_schedulers[0]["scheduler"], torch.optim.lr_scheduler.StepLR)
    assert monitor.lr_sch_names == ["lr-SGD"]
    best = Path(str(getattr(run.checkpoint_callback, "best_model_path", "")))
    assert Path(str(run.tested_ckpt_path)).samefile(best)
    run.test(Scheduled(), loader(4))
    assert run.tested_ckpt_path is None


def test_frequencies_of_optimizers_are_told(tmp_path: Path) -> None:
    class Turns(Small):
        def training_step(self, *batch_and_numbers: Any) -> Any:
            return self.loss(batch_and_numbers[0])

        def configure_optimizers(self) -> Any:
            made = [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]
            return [{"optimizer": each, "frequency": n} for n, each in enumerate(made, 1)]

    run = trainer(tmp_path)
    assert run.optimizer_frequencies == []

    run.fit(Turns(), loader(4))
    assert run.optimizer_frequencies == [1, 2]


def test_a_hook_is_called_by_its_name(tmp_path: Path) -> None:
    class Calls(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.trainer.call_hook("on_fold_end", batch_idx)
            return self.loss(batch)

        def on_fold_end(self, number: int) -> None:
            called.append(number)

    called: list[int] = []
    trainer(tmp_path).fit(Calls(), loader(2))

    assert called == [0]


class Pictures(nb.LightningDataModule):
    def __init__(self, folder: str, batch_size: int = 32, download: bool = False) -> None:
        super().__init__(train_transforms="flip", dims=(1, 28, 28))
        self.given = folder, batch_size, download


def test_a_datamodule_keeps_transforms_and_the_shape_of_a_sample() -> None:
    data = Pictures("here")

    assert (data.train_transforms, data.val_transforms) == ("flip", None)
    assert (data.size(), data.size(1)) == ((1, 28, 28), 28)


def test_a_datamodule_is_made_of_parsed_arguments() -> None:
    parser = Pictures.add_argparse_args(ArgumentParser())
    parsed = parser.parse_args(["--folder", "7", "--batch_size", "8", "--download"])

    assert Pictures.from_argparse_args(parsed, batch_size=4).given == ("7", 4, True)


def test_a_module_summarizes_itself_and_knows_its_size() -> None:
    module: Any = Small()

    assert module.summarize(max_depth=-1).layer_names == ["net", "net.0", "net.1", "net.2"]
    assert module.model_size == sum(each.nbytes for each in module.parameters()) / 1e6
    assert module.use_amp is False


def test_names_of_1x_give_way_to_what_a_module_calls_so() -> None:
    module: Any = Small()
    module.summarize, module.model_size = torch.nn.Linear(1, 1), "large"

    assert isinstance(module.summarize, torch.nn.Linear)
    assert module.model_size == "large"


@pytest.mark.parametrize("name", ["_device", "_dtype", "summarize", "model_size", "use_amp"])
def test_names_of_1x_can_be_those_of_parts_that_are_registered(name: str) -> None:
    tensor, weight, part = torch.ones(2), torch.nn.Parameter(torch.ones(1)), torch.nn.Linear(1, 1)
    buffers: Any = Small()
    buffers.register_buffer(name, tensor, persistent=False)
    parameters: Any = Small()
    parameters.register_parameter(name, weight)
    modules: Any = Small()
    modules.add_module(name, part)
    assigned: Any = Small()
    setattr(assigned, name, weight)

    assert getattr(buffers, name) is tensor
    assert name not in buffers.state_dict()
    assert getattr(parameters, name) is getattr(assigned, name) is weight
    assert getattr(modules, name) is part


def test_a_name_that_a_module_has_cannot_be_registered() -> None:
    module: Any = Small()
    module._dtype = "own"

    with pytest.raises(KeyError, match="'_dtype' already exists"):
        module.register_buffer("_dtype", torch.ones(1))
    assert module._dtype == "own"
    with pytest.raises(KeyError, match="'training_step' already exists"):
        module.register_buffer("training_step", torch.ones(1))


def test_names_of_1x_give_way_to_those_of_another_base_class() -> None:
    class Part(torch.nn.Module):
        _device = "own"

        def summarize(self) -> str:
            return "own"

    class Mixed(nb.LightningModule, Part):
        pass

    module: Any = Mixed()
    assert (module._device, module.summarize()) == ("own", "own")
