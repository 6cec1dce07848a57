"""Arguments of Lightning's that mean what is done anyway are taken."""

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch
from models import QUIET, Small, dataset, loader, trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

import nightbus as nb
from nightbus.actors.data.rng import reset_seed
from nightbus.actors.data.worker_seeds import seed_workers

STRATEGY: Any = nb.DDPStrategy  # with arguments of Lightning's, which its types do not have
HAVE_DEFAULTS = [
    "accelerator",
    "accumulate_grad_batches",
    "benchmark",
    "default_root_dir",
    "detect_anomaly",
    "deterministic",
    "devices",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_predict_batches",
    "limit_test_batches",
    "limit_train_batches",
    "limit_val_batches",
    "log_every_n_steps",
    "logger",
    "max_time",
    "min_epochs",
    "min_steps",
    "multiple_trainloader_mode",
    "num_sanity_val_steps",
    "overfit_batches",
    "precision",
    "prepare_data_per_node",
    "reload_dataloaders_every_n_epochs",
    "val_check_interval",
]
TAKEN: list[dict[str, Any]] = [
    {"strategy": "auto"},
    {"strategy": None},
    {"num_nodes": 1},
    {"num_processes": 1},
    {"replace_sampler_ddp": True},
    {"plugins": None},
    {"plugins": []},
    {"profiler": None},
    {"inference_mode": True},
    {"inference_mode": False},
    {"barebones": False},
    {"enable_autolog_hparams": True},
    {"model_registry": None},
    {"gpus": None},
    {"gpus": 0},
    {"auto_select_gpus": False},
    {"tpu_cores": None},
    {"ipus": None},
    {"amp_backend": "native"},
    {"amp_level": None},
    {"auto_lr_find": False},
    {"auto_scale_batch_size": False},
    {"track_grad_norm": -1},
    {"terminate_on_nan": None},
    {"stochastic_weight_avg": False},
    {"resume_from_checkpoint": None},
    {"weights_summary": "top"},
    {"weights_summary": None},
    {"weights_save_path": None},
    {"progress_bar_refresh_rate": 20},
    {"process_position": 3},
    {"checkpoint_callback": True},
    {"flush_logs_every_n_steps": 100},
    {"log_gpu_memory": None},
    {"move_metrics_to_cpu": False},
    {"reload_dataloaders_every_epoch": False},
    {"distributed_backend": None},
    {"devices": 1},
    {"devices": "1"},
    {"devices": [0]},
    {"devices": "0,"},
    {"devices": -1},
    {"devices": "auto"},
    {"deterministic": "warn"},
    {"fast_dev_run": None},
    {"max_steps": None},
    {"callbacks": None},
    {"actors": None},
    {"sinks": None},
    *({name: None} for name in HAVE_DEFAULTS),
]


@pytest.mark.parametrize("given", TAKEN, ids=str)
def test_a_value_that_means_what_is_done_anyway_is_taken(given: dict[str, Any]) -> None:
    nb.Trainer(**{**QUIET, "max_epochs": 1, **given})


@pytest.mark.parametrize(
    ("given", "argument", "value"),
    [
        ({"weights_summary": None}, "enable_model_summary", False),
        ({"progress_bar_refresh_rate": 0}, "enable_progress_bar", False),
        ({"checkpoint_callback": False}, "enable_checkpointing", False),
        ({"reload_dataloaders_every_epoch": True}, "reload_dataloaders_every_n_epochs", 1),
        ({"gpus": 0}, "accelerator", "cpu"),
        ({"num_sanity_val_steps": None}, "num_sanity_val_steps", 2),
        ({"log_every_n_steps": None}, "log_every_n_steps", 50),
        ({"max_steps": None}, "max_steps", -1),
        ({"distributed_backend": "ddp"}, "strategy", "ddp"),
        ({"accelerator": "ddp"}, "strategy", "ddp"),
        ({"accelerator": "ddp_cpu"}, "accelerator", "cpu"),
        ({"plugins": "ddp"}, "strategy", "ddp"),
        ({"replace_sampler_ddp": False}, "use_distributed_sampler", False),
        ({"row_log_interval": 3}, "log_every_n_steps", 3),
        ({"num_processes": 1}, "devices", "auto"),
    ],
)
def test_what_a_value_means_in_the_trainers_own_arguments(
    given: dict[str, Any], argument: str, value: Any
) -> None:
    assert nb.Trainer(max_epochs=1, **given).config[argument] == value


def test_a_strategy_among_plugins_is_the_strategy() -> None:
    given = nb.DDPStrategy(find_unused_parameters=True)

    assert nb.Trainer(plugins=[given], max_epochs=1).ddp is given  # type: ignore[call-arg]


@pytest.mark.parametrize("former", [{"accelerator": "ddp_spawn"}, {"plugins": "ddp_spawn"}])
def test_a_strategy_that_is_not_there_is_refused_where_1x_takes_one(former: Any) -> None:
    with pytest.raises(nb.UsageError, match="is not supported; use 'ddp'"):
        nb.Trainer(max_epochs=1, **former)


def test_arguments_of_1x_that_show_something_add_callbacks() -> None:
    given: dict[str, Any] = {"weights_summary": "full", "log_gpu_memory": "all"}
    run = nb.Trainer(max_epochs=1, **given)

    depths = [each.max_depth for each in run.callbacks if isinstance(each, nb.ModelSummary)]
    assert depths == [-1]
    assert any(isinstance(each, nb.DeviceStatsMonitor) for each in run.callbacks)


def test_an_argument_of_1x_says_what_to_write_instead(capsys: pytest.CaptureFixture[str]) -> None:
    given: dict[str, Any] = {**QUIET, "row_log_interval": 3}
    nb.Trainer(max_epochs=1, **given)

    said = "Trainer(row_log_interval=3) means log_every_n_steps=3; write that instead"
    assert said in capsys.readouterr().err


def test_gpus_means_an_accelerator_and_devices() -> None:
    given: dict[str, Any] = {"gpus": 1}
    if torch.cuda.is_available():
        assert nb.Trainer(max_epochs=1, **given).config["devices"] == 1
        return
    with pytest.raises(nb.UsageError, match="accelerator='gpu': this machine has none"):
        nb.Trainer(max_epochs=1, **given)


def test_resume_from_checkpoint_is_the_checkpoint_of_fit(tmp_path: Path) -> None:
    trainer(tmp_path, run_name="r").fit(Small(), loader())
    run = trainer(tmp_path, run_name="r", max_epochs=2, resume_from_checkpoint="last")

    run.fit(Small(), loader())

    assert run.global_step == 12
    assert Path(str(run.ckpt_path)).is_dir()


@pytest.mark.parametrize(
    ("function", "former", "now"),
    [
        ("fit", "train_dataloader", "train_dataloaders"),
        ("validate", "val_dataloaders", "dataloaders"),
        ("test", "test_dataloaders", "dataloaders"),
    ],
)
def test_loaders_may_have_the_names_that_they_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], function: str, former: str, now: str
) -> None:
    run = trainer(tmp_path, max_epochs=1)

    getattr(run, function)(Small(), **{former: loader()})

    assert run.callback_metrics
    said = f"nightbus: {function}({former}=...) means {now}=...; write that instead"
    assert said in capsys.readouterr().err
    with pytest.raises(nb.UsageError, match=f"no argument '{former}'"):
        getattr(run, function)(Small(), **{former: loader(), now: loader()})


def test_norms_of_gradients_are_tracked_before_they_are_clipped(tmp_path: Path) -> None:
    run = trainer(tmp_path, track_grad_norm="2", gradient_clip_val=1e-6)

    run.fit(Small(), loader(4))

    metrics = run.callback_metrics
    norms = [metrics[f"grad_2.0_norm/{name}"] for name, _ in Small().named_parameters()]
    assert float(metrics["grad_2.0_norm_total"]) > 1e-3
    torch.testing.assert_close(metrics["grad_2.0_norm_total"], torch.stack(norms).norm())


@pytest.mark.parametrize("norm_type", [0, "most", True, torch.tensor(1)])
def test_what_is_no_norm_is_refused(norm_type: Any) -> None:
    with pytest.raises(nb.UsageError, match="expected the p of a norm"):
        nb.Trainer(track_grad_norm=norm_type)  # type: ignore[call-arg]


def test_a_loss_that_is_nan_ends_training_where_that_is_asked_for(tmp_path: Path) -> None:
    class Diverges(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss(batch) * (float("nan") if batch_idx == 1 else 1.0)

    run = trainer(tmp_path, terminate_on_nan=True)
    with pytest.raises(ValueError, match="the loss returned in training_step is nan in step 1"):
        run.fit(Diverges(), loader())

    assert run.global_step == 1


def test_whether_nan_ends_training_is_true_or_false() -> None:
    with pytest.raises(TypeError, match="terminate_on_nan='no': expected True or False"):
        nb.Trainer(terminate_on_nan="no")  # type: ignore[call-arg]


def test_a_weight_that_is_infinite_ends_training_where_that_is_asked_for(tmp_path: Path) -> None:
    class Jumps(Small):
        def on_before_optimizer_step(self, optimizer: Any, *_: Any) -> None:
            self.get_parameter("net.0.bias").grad = torch.full((8,), float("inf"))

    with pytest.raises(ValueError, match=r"net\.0\.bias has values that are NaN or inf"):
        trainer(tmp_path, terminate_on_nan=True).fit(Jumps(), loader())


def test_evaluation_is_in_inference_mode_unless_it_is_switched_off_or_within_fit(
    tmp_path: Path,
) -> None:
    found: list[tuple[bool, bool]] = []

    class Asks(Small):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            found.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

        test_step = validation_step

        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            self.validation_step(batch, batch_idx)

    module = Asks()
    for inference_mode in (True, False):
        found.clear()
        run = trainer(tmp_path, inference_mode=inference_mode, num_sanity_val_steps=0)
        run.fit(module, loader(4), loader(4))
        run.validate(module, loader(4), verbose=False)
        run.test(module, loader(4), verbose=False)
        run.predict(module, loader(4))
        run.fit(module, loader(4))
        assert found == [(False, False), *([(inference_mode, False)] * 3)]


def test_averaged_weights_train_on_after_a_test_in_inference_mode(tmp_path: Path) -> None:
    run, module = trainer(tmp_path, callbacks=[nb.EMA(decay=0.5)]), Small()

    run.fit(module, loader(8), loader(4))
    run.test(module, loader(4), verbose=False)
    run.fit_loop.max_epochs = 2
    run.fit(module, loader(8), loader(4))

    assert run.global_step == 4


def test_barebones_has_nothing_that_takes_time(tmp_path: Path) -> None:
    run = nb.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, barebones=True)

    run.fit(Small(), loader(8), loader(4))

    assert run.barebones
    assert (run.loggers, run.callbacks, run.progress_bar) == ([], [], None)
    assert (run.recording, run.num_sanity_val_steps) == ("off", 0)
    assert list(tmp_path.iterdir()) == []


def test_barebones_says_that_nothing_is_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Logs(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.log("mine", loss)
            self.log_dict({"also": loss})
            return loss

    run = nb.Trainer(max_steps=2, accelerator="cpu", default_root_dir=tmp_path, barebones=True)
    run.fit(Logs(), loader(8))

    assert capsys.readouterr().err.count("log() and log_dict() record nothing") == 1
    assert run.callback_metrics == {}


@pytest.mark.parametrize(
    "given",
    [
        {"logger": True},
        {"enable_checkpointing": True},
        {"enable_progress_bar": True},
        {"enable_model_summary": True},
        {"num_sanity_val_steps": 2},
        {"fast_dev_run": True},
        {"detect_anomaly": True},
        {"profiler": "simple"},
        {"log_every_n_steps": 5},
    ],
    ids=str,
)
def test_barebones_refuses_what_takes_time(given: dict[str, Any]) -> None:
    with pytest.raises(nb.UsageError, match="barebones measures speed alone"):
        nb.Trainer(barebones=True, **given)
    absent: dict[str, Any] = dict.fromkeys(given)
    nb.Trainer(barebones=True, max_epochs=1, **absent)


def test_arguments_can_be_read_off_the_trainer_as_they_hold() -> None:
    defaults: dict[str, Any] = {"limit_val_batches": None, "precision": None}
    run = nb.Trainer(**QUIET, max_epochs=1, limit_train_batches=3, min_epochs=1, **defaults)
    quick = nb.Trainer(**QUIET, fast_dev_run=2)

    assert (run.limit_train_batches, run.limit_val_batches) == (3, 1.0)
    assert run.check_val_every_n_epoch == 1
    assert run.precision == "32-true"
    assert (run.min_epochs, run.min_steps) == (1, None)
    assert (run.num_devices, run.device_ids) == (1, [0])
    assert quick.limit_test_batches == 2
    assert quick.num_sanity_val_steps == 0
    assert not hasattr(run, "limit_batches")
    with pytest.raises(AttributeError, match="no attribute 'limit_train_batch'; did you mean limi"):
        _ = run.limit_train_batch  # type: ignore[attr-defined]


def test_loaders_of_all_stages_can_be_read_off_the_trainer(tmp_path: Path) -> None:
    run = trainer(tmp_path)

    run.test(Small(), loader(8), verbose=False)
    assert run.num_test_batches == [2]
    assert len(run.test_dataloaders) == 2

    run.predict(Small(), loader(4))
    assert run.num_predict_batches == [1]
    assert len(run.predict_dataloaders) == 1
    assert run.ckpt_path is None


def test_weights_only_false_is_answered_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightbus.actors.checkpoints.weights_only._said", [])
    run, module = trainer(tmp_path), Small()
    run.fit(module, loader(4), weights_only=True)
    run.save_checkpoint(tmp_path / "saved")
    assert "weights_only" not in capsys.readouterr().err

    run.validate(module, loader(4), verbose=False, weights_only=False)
    Small.load_from_checkpoint(tmp_path / "saved", weights_only=False)

    said = capsys.readouterr().err
    assert said.count("weights_only=False") == 1
    assert "none of it is run" in said


@pytest.mark.parametrize("function", ["fit", "validate", "test", "predict"])
def test_weights_only_is_none_or_true_or_false(tmp_path: Path, function: str) -> None:
    with pytest.raises(nb.UsageError, match=r"weights_only='yes'.*expected True, False or None"):
        getattr(trainer(tmp_path), function)(Small(), loader(4), weights_only="yes")
    with pytest.raises(nb.UsageError, match="weights_only=1"):
        Small.load_from_checkpoint(tmp_path, weights_only=1)  # type: ignore[arg-type]


def test_functions_take_what_lightning_needs_to_read_files_safely(tmp_path: Path) -> None:
    run, module = trainer(tmp_path), Small()
    run.fit(module, loader(4), weights_only=True)
    run.save_checkpoint(tmp_path / "saved")

    run.validate(module, loader(4), verbose=False, weights_only=False)
    run.test(module, loader(4), verbose=False, weights_only=True)
    assert run.predict(module, loader(4), return_predictions=None, weights_only=True)
    loaded = Small.load_from_checkpoint(
        tmp_path / "saved", hparams_file=None, strict=None, weights_only=True, map_location="cpu"
    )

    assert torch.equal(*(next(entry.parameters()) for entry in (loaded, module)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"map_location": ["cpu"]}, "expected the device of the module"),
        ({"map_location": 1.5}, "expected the device of the module"),
    ],
)
def test_what_load_from_checkpoint_cannot_do_is_refused(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(nb.UsageError, match=message):
        Small.load_from_checkpoint("nowhere", **given)


def test_log_takes_all_that_lightnings_takes(tmp_path: Path) -> None:
    class Logs(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", 1.0, logger=None, enable_graph=True, sync_dist=True, rank_zero_only=True)
            self.log_dict({"y": 2.0}, True, logger=None)
            return self.loss(batch)

    run = trainer(tmp_path, log_every_n_steps=1)

    run.fit(Logs(), loader(4))

    assert run.logged_metrics == {"x": 1.0, "y": 2.0}
    assert run.progress_bar_metrics == {"y": 2.0}


def test_optimizers_are_had_by_lightnings_name_of_the_argument(tmp_path: Path) -> None:
    class ByHand(Small):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            assert isinstance(self.optimizers(use_pl_optimizer=True), nb.LightningOptimizer)
            assert isinstance(self.optimizers(use_pl_optimizer=False), torch.optim.SGD)

    trainer(tmp_path).fit(ByHand(), loader(4))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nb.EarlyStopping("x", log_rank_zero_only=True),
        lambda: nb.ModelCheckpoint(save_on_exception=False, enable_version_counter=True),
        lambda: nb.ThroughputMonitor(len, length_fn=None, world_size=1),
        lambda: nb.StochasticWeightAveraging(0.1, avg_fn=None),
        lambda: nb.ModelSummary(max_depth=2),
        lambda: STRATEGY(accelerator=None, static_graph=True),
    ],
)
def test_callbacks_and_strategies_take_what_means_what_they_do_anyway(make: Any) -> None:
    make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nb.ModelCheckpoint(prefix="x"), "filename=, with the prefix in it"),
        (lambda: nb.ModelCheckpoint(filenames="x"), "did you mean filename"),
        (lambda: nb.EarlyStopping("x", patients=3), "did you mean patience"),
        (lambda: nb.ThroughputMonitor(len, lengths_fn=len), "did you mean length_fn"),
        (lambda: STRATEGY(parallel_devices=["cpu"]), "use instead: Trainer.accelerator="),
        (lambda: STRATEGY(ddp_comm_hook=len), "gradients are averaged as they are"),
    ],
)
def test_callbacks_and_strategies_refuse_the_rest_with_what_to_use_instead(
    make: Any, message: str
) -> None:
    with pytest.raises(nb.UsageError, match=message):
        make()


@pytest.mark.parametrize(
    ("depth", "parts"),
    [(0, []), (1, ["net"]), (2, ["net", "net.0", "net.1", "net.2"]), (-1, None)],
)
def test_a_summary_goes_as_deep_as_it_is_told(depth: int, parts: Any, tmp_path: Path) -> None:
    said = io.StringIO()
    with redirect_stderr(said):
        trainer(tmp_path, callbacks=[nb.ModelSummary(depth)], enable_model_summary=True).fit(
            Small(), loader(4)
        )

    shown = [line.split()[0] for line in said.getvalue().splitlines() if line.startswith("  ")]
    every = ["net", "net.0", "net.1", "net.2"]
    assert shown[:-1] == (["Name", *(every if parts is None else parts)] if depth else [])


def test_seed_everything_takes_no_seed_as_lightning_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert nb.seed_everything(None, verbose=False) == 0

    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert nb.seed_everything() == 7

    monkeypatch.setenv("PL_GLOBAL_SEED", "seven")
    with pytest.raises(ValueError, match="PL_GLOBAL_SEED='seven'"):
        nb.seed_everything()


def test_the_last_seed_is_that_of_processes_that_are_started_and_can_be_set_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {})
    reset_seed()  # no seed was set: nothing happens
    nb.seed_everything(3, workers=True)
    drawn = torch.rand(2)

    reset_seed()

    assert torch.equal(torch.rand(2), drawn)
    assert os.environ == {"PL_GLOBAL_SEED": "3", "PL_SEED_WORKERS": "1"}
    seed_workers(None)


class Doubles(Small):
    """Checks what its steps work with."""

    dtype_of_steps = torch.float64

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.check(batch)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.check(batch)
        super().validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        self.check(batch)
        return super().predict_step(batch, batch_idx)

    def check(self, batch: Any) -> None:
        assert batch[0].dtype == self.dtype_of_steps
        assert batch[1].dtype == torch.int64
        assert next(self.parameters()).dtype == self.dtype_of_steps
        assert torch.zeros(1).dtype == self.dtype_of_steps


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("64-true", torch.float64), (64, torch.float64), ("bf16-true", torch.bfloat16)],
)
def test_a_true_precision_is_that_of_weights_batches_and_what_steps_make(
    tmp_path: Path, precision: Any, dtype: torch.dtype
) -> None:
    module = Doubles()
    module.dtype_of_steps = dtype
    run = trainer(tmp_path, precision=precision)

    run.fit(module, loader(8), loader(4))
    run.predict(module, loader(4))

    assert torch.zeros(1).dtype == torch.float32
    assert run.global_step == 2


def test_float16_on_a_cpu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    nb.Trainer(**QUIET, max_epochs=1, precision=16)

    assert "precision=16 on a CPU: float16 is slow there" in capsys.readouterr().err


class Stream(IterableDataset[Tensor]):
    """Numbers without an order of their own."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.arange(4.0))


def test_a_datamodule_is_made_of_datasets(tmp_path: Path) -> None:
    data = nb.LightningDataModule.from_datasets(
        dataset(8), [dataset(4), dataset(4)], predict_dataset=dataset(4), batch_size=2
    )

    train, val = data.train_dataloader(), data.val_dataloader()

    assert isinstance(train.sampler, torch.utils.data.RandomSampler)
    assert (train.batch_size, len(val)) == (2, 2)
    assert isinstance(val[0].sampler, torch.utils.data.SequentialSampler)
    assert data.test_dataloader() is None
    run = trainer(tmp_path)
    run.fit(Small(), datamodule=nb.LightningDataModule.from_datasets(dataset(8), dataset(4)))
    assert run.global_step == 8


def test_a_datamodule_of_datasets_takes_streams_and_arguments_of_its_own() -> None:
    class Data(nb.LightningDataModule):
        def __init__(self, batch_size: int, name: str) -> None:
            self.batch_size, self.name = batch_size, name

    data = Data.from_datasets(Stream(), {"a": dataset(4)}, batch_size=2, name="mine")

    assert (data.batch_size, data.name) == (2, "mine")
    assert len(list(data.train_dataloader())) == 2
    assert isinstance(data.val_dataloader()["a"], DataLoader)


def test_callbacks_that_had_arguments_of_their_own_are_among_the_others(
    capfd: pytest.CaptureFixture[str],
) -> None:
    saving, stopping, rate = (
        nb.ModelCheckpoint(),
        nb.EarlyStopping("loss"),
        nb.LearningRateMonitor(),
    )

    former: Any = nb.Trainer

    run = former(
        max_epochs=1, callbacks=rate, checkpoint_callback=saving, early_stop_callback=stopping
    )

    assert [each for each in run.callbacks if each in (saving, stopping, rate)] == [
        rate,
        stopping,
        saving,
    ]
    assert run.checkpoint_callback is saving
    said = (
        "Trainer(checkpoint_callback=ModelCheckpoint(...)) means callbacks=[ModelCheckpoint(...)]"
    )
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "argument", "value"),
    [
        ({"max_nb_epochs": 3}, "max_epochs", 3),
        ({"train_percent_check": 0.5}, "limit_train_batches", 0.5),
        ({"val_percent_check": 0.5}, "limit_val_batches", 0.5),
        ({"nb_sanity_val_steps": 0}, "num_sanity_val_steps", 0),
    ],
)
def test_an_argument_that_is_called_otherwise_now_means_that(
    given: dict[str, Any], argument: str, value: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert getattr(nb.Trainer(**given), argument) == value
    assert f"means {argument}={value!r}; write that instead" in capfd.readouterr().err


def test_the_filepath_of_a_checkpoint_is_a_folder_that_exists_or_a_name(tmp_path: Path) -> None:
    former: Any = nb.ModelCheckpoint

    named = former(filepath=str(tmp_path / "kept" / "{epoch:d}"), period=2)
    within = former(filepath=str(tmp_path))

    assert (named.dirpath, named.filename) == (str(tmp_path / "kept"), "{epoch:d}")
    assert named.every_n_epochs == 2
    assert (within.dirpath, within.filename) == (str(tmp_path), None)


@pytest.mark.parametrize(
    "both",
    [
        {"filepath": "a", "dirpath": "b"},
        {"filepath": "a", "filename": "b"},
        {"filepath": "a", "dirpath": "a"},  # the former is that of a file, in no such folder
        {"period": 2, "every_n_epochs": 3},
    ],
)
def test_a_former_argument_of_a_checkpoint_and_what_it_is_called_now_contradict_each_other(
    both: dict[str, Any],
) -> None:
    former, now = both

    with pytest.raises(nb.UsageError, match=rf"{former}=.*{now}=.*contradict each other"):
        nb.ModelCheckpoint(**both)


def test_a_former_argument_of_a_checkpoint_may_stand_beside_one_that_says_the_same(
    tmp_path: Path,
) -> None:
    former: Any = nb.ModelCheckpoint
    both = former(filepath=str(tmp_path), dirpath=str(tmp_path), period=2, every_n_epochs=2)

    assert (both.dirpath, both.every_n_epochs) == (str(tmp_path), 2)


def test_an_empty_filepath_of_a_checkpoint_is_none(tmp_path: Path) -> None:
    former: Any = nb.ModelCheckpoint

    assert former(filepath="", dirpath=tmp_path).dirpath == str(tmp_path)
    assert (former(filepath="").dirpath, former(filepath="").filename) == (None, None)


@pytest.mark.parametrize("filepath", [5, b"checkpoints", ["a"]])
def test_a_filepath_of_a_checkpoint_that_is_no_path_is_refused(filepath: Any) -> None:
    former: Any = nb.ModelCheckpoint

    with pytest.raises(nb.UsageError, match=r"filepath=.*dirpath= and filename="):
        former(filepath=filepath)


def test_a_profiler_that_is_true_is_the_simple_one() -> None:
    former: Any = nb.Trainer

    assert isinstance(former(profiler=True, max_epochs=1).profiler, nb.SimpleProfiler)


@pytest.mark.parametrize(
    ("monitor", "mode"), [("val_acc", "max"), ("fmeasure", "max"), ("val_loss", "min")]
)
def test_the_mode_auto_is_that_of_the_metrics_name(
    monitor: str, mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    former: Any = nb

    assert former.EarlyStopping(monitor, mode="auto").mode == mode
    assert former.ModelCheckpoint(monitor=monitor, mode="auto").mode == mode
    assert f"EarlyStopping(mode='auto') means mode='{mode}'" in capfd.readouterr().err
    with pytest.raises(nb.UsageError, match="mode='best': expected one of 'min', 'max'"):
        former.EarlyStopping(monitor, mode="best")
