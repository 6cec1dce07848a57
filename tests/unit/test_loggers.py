"""Loggers by Lightning's names: what they write, and what a run records of calls on them."""

import csv
import threading
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer

import nightbus as nb
from nightbus.bus.media import decoded
from nightbus.loggers.experiment_writer import ExperimentWriter
from nightbus.loggers.hyperparameter_yaml import write_hyperparameters


class Calls(Small):
    """Calls its loggers as code for Lightning does."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("loss", loss)
        for logger in self.loggers:
            logger.log_metrics({"called": batch_idx}, self.global_step)
        return loss

    def on_train_epoch_end(self) -> None:
        self.logger.experiment.add_scalar("added", 1.5, 7)
        self.logger.experiment.add_image("picture", torch.rand(3, 4, 5), 7)
        self.logger.experiment.add_histogram("weights", torch.rand(9), 7)
        self.logger.experiment.add_text("said", "hello", 7)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def tags_of(folder: Path) -> Any:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = events.EventAccumulator(str(folder))
    found.Reload()
    return found


def test_a_run_writes_where_lightning_does_and_what_was_called_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    loggers = [nb.TensorBoardLogger(tmp_path / "tb"), nb.CSVLogger(tmp_path / "csv", name="mine")]
    run = trainer(tmp_path, logger=loggers, max_epochs=1, log_every_n_steps=1)
    run.fit(Calls(), loader(12))

    folder = tmp_path / "tb/lightning_logs/version_0"
    assert run.log_dir == str(folder)
    assert run.logger is loggers[0]
    assert run.loggers == loggers
    tags = tags_of(folder)
    assert [(entry.step, entry.value) for entry in tags.Scalars("called")] == [
        (0, 0.0),
        (1, 1.0),
        (2, 2.0),
    ]
    assert [(entry.step, entry.value) for entry in tags.Scalars("added")] == [(7, 1.5)]
    assert tags.Tags()["images"] == ["picture"]
    assert tags.Tags()["histograms"] == ["weights"]
    rows = rows_of(tmp_path / "csv/mine/version_0/metrics.csv")
    assert [row["called"] for row in rows if row["called"]] == ["0", "1", "2"]
    assert [row["added"] for row in rows if row["added"]] == ["1.5"]
    assert (folder / "hparams.yaml").read_text() == "rate: 0.1\n"
    assert run.run_folder is not None
    assert (folder / "checkpoints").resolve() == run.run_folder.path / "checkpoints"


def test_what_an_experiment_is_called_with_is_in_the_log(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    seen: list[Any] = []
    sink = nb.FunctionSink(seen.append, events=[nb.Media, nb.Put])
    run = trainer(
        tmp_path, logger=nb.TensorBoardLogger(tmp_path / "tb"), sinks=[sink], max_epochs=1
    )
    run.fit(Calls(), loader())

    media = {event.name: event for event in seen if isinstance(event, nb.Media)}
    assert {name: event.kind for name, event in media.items()} == {
        "picture": "image",
        "weights": "histogram",
        "said": "text",
    }
    assert decoded(media["said"]) == "hello"
    assert all(event.step == 7 for event in media.values())


class Remembers(nb.CSVLogger):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: list[str] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.seen += metrics
        super().log_metrics({f"own_{name}": value for name, value in metrics.items()}, step)


class CallsOnce(Small):
    def on_train_start(self) -> None:
        self.logger.log_metrics({"by_hand": 1.0}, 0)

    def on_train_epoch_end(self) -> None:
        self.log("by_log", 2.0)


def test_an_overridden_log_metrics_sees_each_value_once(tmp_path: Path) -> None:
    logger = Remembers(tmp_path / "csv")
    trainer(tmp_path, logger=logger, max_epochs=1).fit(CallsOnce(), loader())

    assert sorted(set(logger.seen)) == ["by_hand", "by_log", "epoch"]
    (path,) = tmp_path.glob("csv/lightning_logs/version_0/metrics.csv")
    names = {name for row in rows_of(path) for name, value in row.items() if value}
    assert names == {"own_by_hand", "own_by_log", "own_epoch", "step"}


class Custom(nb.Logger):
    """A logger as users write it."""

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {}
        self.hyperparameters_seen: Any = None
        self.saved: list[Any] = []
        self.status = ""

    @property
    def name(self) -> str:
        return "custom"

    @property
    def version(self) -> int:
        return 3

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics |= metrics

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.hyperparameters_seen = params

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        self.saved.append(checkpoint_callback.best_model_path)

    def finalize(self, status: str) -> None:
        self.status = status


class Logs(Small):
    def __init__(self, net: dict[str, int] | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()

    def on_train_epoch_end(self) -> None:
        self.log("by_log", 2.0)


def test_a_users_logger_gets_values_structure_checkpoints_and_the_end(tmp_path: Path) -> None:
    logger = Custom()
    checkpoint = nb.ModelCheckpoint()
    run = trainer(tmp_path, logger=logger, max_epochs=1, callbacks=[checkpoint])
    run.fit(Logs({"width": 3}), loader())

    assert logger.metrics["by_log"] == 2.0
    assert logger.hyperparameters_seen == {"net": {"width": 3}}
    assert logger.saved == [checkpoint.best_model_path]
    assert logger.status == "success"


def test_it_gets_the_runs_own_checkpoints_too(tmp_path: Path) -> None:
    logger = Custom()
    run = trainer(tmp_path, logger=logger, max_epochs=1)
    run.fit(Logs(), loader())

    saving: Any = run.checkpoint_callback
    assert logger.saved[-1] == saving.best_model_path


def test_threads_that_use_an_experiment_first_at_the_same_time_get_the_same(tmp_path: Path) -> None:
    logger = nb.TensorBoardLogger(tmp_path)
    at_once = threading.Barrier(8)

    def use(_: int) -> int:
        at_once.wait()
        return id(logger.experiment)

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(use, range(8)))

    assert found == {id(logger.experiment)}


def test_versions_count_on_and_may_be_named(tmp_path: Path) -> None:
    for name in ("version_0", "version_4", "version_x", "other"):
        (tmp_path / "mine" / name).mkdir(parents=True)

    assert nb.CSVLogger(tmp_path, "mine").version == 5
    assert nb.CSVLogger(tmp_path, "mine", "today").log_dir == str(tmp_path / "mine/today")
    assert nb.TensorBoardLogger(tmp_path, None).log_dir == str(tmp_path / "version_0")


def test_outside_a_run_a_logger_writes_at_once(tmp_path: Path) -> None:
    logger = nb.CSVLogger(tmp_path, prefix="a")
    logger.log_metrics({"loss": torch.tensor(0.5)})
    logger.log_hyperparams(Namespace(rate=0.1))
    logger.save()
    logger.log_metrics({"loss": 0.25, "late": 1}, 4)
    logger.save()

    assert rows_of(Path(logger.log_dir, "metrics.csv")) == [
        {"a-loss": "0.5", "step": "0", "a-late": ""},
        {"a-loss": "0.25", "step": "4", "a-late": "1"},
    ]
    assert Path(logger.log_dir, "hparams.yaml").read_text() == "rate: 0.1\n"


def test_metrics_of_an_earlier_version_are_replaced_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step\n")
    with pytest.warns(UserWarning, match="is not empty, and its metrics.csv is replaced"):
        ExperimentWriter(tmp_path)
    assert not (tmp_path / "metrics.csv").exists()


def test_hyperparameters_come_back_from_yaml_and_secrets_do_not(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    known = {
        "rate": 1e-5,
        "none": None,
        "no": "no",
        "net": {"sizes": [1, 2.5], "bias": True},
        "text": 'a "b": c',
        "kind": torch.nn.ReLU,
        "api_key": "abcdefgh",
    }
    write_hyperparameters(tmp_path / "hparams.yaml", known)
    found = yaml.safe_load((tmp_path / "hparams.yaml").read_text())
    assert found.pop("kind") == "ReLU"
    assert found.pop("api_key") != "abcdefgh"
    assert found == {k: v for k, v in known.items() if k not in ("kind", "api_key")}


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")  # which torch's writer calls
def test_the_graph_of_a_module_that_was_not_trained_leaves_the_modes_of_its_parts(
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorboard")
    module: Any = Small()
    module.net[0].eval()

    logger = nb.TensorBoardLogger(tmp_path, log_graph=True)
    logger.log_graph(module, torch.rand(2, 4))
    logger.finalize("success")

    assert (module.training, module.net[0].training, module.net[2].training) == (True, False, True)
    assert any(file.stat().st_size > 500 for file in tmp_path.rglob("events.*"))


def test_hyperparameters_of_one_name_with_two_values_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Data(nb.LightningDataModule):
        def __init__(self, rate: float) -> None:
            super().__init__()
            self.save_hyperparameters()

        def train_dataloader(self) -> Any:
            return loader(4)

    class Tuned(Small):
        def __init__(self, rate: float) -> None:
            super().__init__()
            self.save_hyperparameters()

    trainer(tmp_path).fit(Tuned(rate=0.1), datamodule=Data(rate=0.5))

    said = capsys.readouterr().err
    assert "the log has those of the module" in said
    assert "names=rate" in said


def test_a_logger_may_call_something_else_hyperparameters(tmp_path: Path) -> None:
    class Own(nb.Logger):
        name, version = "own", 0

        def hyperparameters(self) -> None: ...

        def log_metrics(self, metrics: Any, step: int | None = None) -> None: ...

        def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None: ...

    run = trainer(tmp_path, logger=Own())
    run.fit(Small(), loader(4))

    assert run.global_step == 1


def test_hyperparameters_with_metrics_are_shown_together_also_in_a_run(tmp_path: Path) -> None:
    plugin = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")

    class Compares(Small):
        def on_train_start(self) -> None:
            self.logger.log_hyperparams({"rate": 0.1}, {"hp/best": 0.0})

        def on_train_end(self) -> None:
            self.logger.log_hyperparams({"rate": 0.1}, {"hp_metric": 0.25})

    logger = nb.TensorBoardLogger(tmp_path / "logs", default_hp_metric=False)
    trainer(tmp_path, logger=logger, max_steps=2).fit(Compares(), loader(8))

    found = tags_of(Path(logger.log_dir))
    values = {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.scalars.Keys()}
    assert values["hp/best"] == [(0, 0.0)]
    assert values["hp_metric"] == [(0, 0.25)]
    content = found.PluginTagToContent("hparams")
    started = plugin.HParamsPluginData.FromString(content["_hparams_/session_start_info"])
    assert started.session_start_info.hparams["rate"].number_value == 0.1
    assert "_hparams_/experiment" in content
