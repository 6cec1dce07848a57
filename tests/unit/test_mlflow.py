"""MLflow: what its own client reads back from a local store."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer

import nightbus as nb
from nightbus.sinks.testing import SinkContract


@pytest.fixture(autouse=True)
def file_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client alone has no database; files do for a test."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def store(folder: Path) -> str:
    return (folder / "mlruns").as_uri()


def client_of(folder: Path) -> Any:
    import mlflow  # takes seconds, so not while tests are collected

    return mlflow.MlflowClient(store(folder))


def runs(folder: Path) -> list[Any]:
    client = client_of(folder)
    experiment = client.get_experiment_by_name("nightbus")
    found: list[Any] = client.search_runs([experiment.experiment_id]) if experiment else []
    return found


def history(folder: Path, name: str) -> list[tuple[int, float]]:
    (run,) = runs(folder)
    client = client_of(folder)
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


class TestMLflow(SinkContract):
    # A store of files takes a minute for it.
    test_a_sink_takes_many_names = None  # type: ignore[assignment]

    def make(self, folder: Path) -> nb.MLflow:
        return nb.MLflow(tracking_uri=store(folder))

    def read(self, folder: Path) -> Any:
        names = sorted(name for run in runs(folder) for name in run.data.metrics)
        return {name: repr(history(folder, name)) for name in names}


class Shows(Small):
    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"rate": 0.1, "layers": 3})

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.put("loss, smoothed", loss)
        return loss

    def on_train_epoch_end(self) -> None:
        self.put("nan", math.nan)
        self.put_image("image", [[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]])
        self.put_text("text", "hello")
        self.put_table("table", ["word"], [["a"]])


def fit(tmp_path: Path, **arguments: Any) -> nb.Trainer:
    sink = nb.MLflow(tracking_uri=store(tmp_path), tags={"team": "night"})
    run = trainer(tmp_path, sinks=[sink], **arguments)
    run.fit(Shows(), loader(), loader(8))
    return run


def test_metrics_parameters_and_tags_are_there(tmp_path: Path) -> None:
    run = fit(tmp_path)
    (found,) = runs(tmp_path)

    assert [step for step, _ in history(tmp_path, "loss_ smoothed")] == [0, 1, 2, 3, 4, 5]
    assert history(tmp_path, "val_loss") == [(5, float(run.logged_metrics["val_loss"]))]
    assert math.isnan(history(tmp_path, "nan")[0][1])
    assert found.data.params == {"rate": "0.1", "layers": "3"}
    assert found.data.tags["team"] == "night"
    assert run.log_dir is not None
    assert found.data.tags["nightbus.run"] == found.info.run_name == Path(run.log_dir).name
    assert found.info.status == "FINISHED"


def test_media_are_artifacts(tmp_path: Path) -> None:
    fit(tmp_path)
    (found,) = runs(tmp_path)
    folder = Path(found.info.artifact_uri.removeprefix("file://"))

    assert (folder / "text" / "5.txt").read_text() == "hello"
    assert (folder / "image" / "5.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "table" / "5.json").read_text())["rows"] == [["a"]]


def test_a_failed_run_is_failed_there(tmp_path: Path) -> None:
    class Fails(Shows):
        def on_train_epoch_end(self) -> None:
            raise RuntimeError("on purpose")

    run = trainer(tmp_path, sinks=[nb.MLflow(tracking_uri=store(tmp_path))])
    with pytest.raises(RuntimeError):
        run.fit(Fails(), loader(), loader(8))

    assert runs(tmp_path)[0].info.status == "FAILED"


def test_a_resumed_run_goes_on_with_the_same_run_there(tmp_path: Path) -> None:
    first = fit(tmp_path, max_epochs=1)
    assert first.log_dir is not None
    second = trainer(
        tmp_path, sinks=[nb.MLflow(tracking_uri=store(tmp_path))], max_epochs=2, run_name="shows"
    )
    second.fit(
        Shows(),
        loader(),
        loader(8),
        ckpt_path=Path(first.log_dir) / "checkpoints" / "last",
    )

    assert len(runs(tmp_path)) == 1
    assert [step for step, _ in history(tmp_path, "loss_ smoothed")] == list(range(12))


class LogsByHand(Shows):
    def on_train_epoch_end(self) -> None:
        client = self.logger.experiment
        client.log_metric(self.logger.run_id, "by_hand", 0.5, step=4)
        client.log_text(self.logger.run_id, "hello", "note.txt")


@pytest.mark.filterwarnings("ignore:MLflow does not take the special characters")
@pytest.mark.parametrize("log_model", [False, True, "all"])
def test_the_logger_of_lightnings_name_keeps_metrics_parameters_and_checkpoints(
    tmp_path: Path, log_model: Any
) -> None:
    logger = nb.MLFlowLogger(
        "nightbus", run_name="first", tracking_uri=store(tmp_path), log_model=log_model
    )
    run = trainer(tmp_path, logger=logger, max_epochs=1, log_every_n_steps=1)
    run.fit(LogsByHand(), loader(), loader(8))

    (found,) = runs(tmp_path)
    assert found.info.run_name == "first"
    assert found.info.status == "FINISHED"
    assert found.data.params == {"rate": "0.1", "layers": "3"}
    assert history(tmp_path, "by_hand") == [(4, 0.5)]
    assert [step for step, _ in history(tmp_path, "loss smoothed")] == [0, 1, 2, 3, 4, 5]
    folder = Path(found.info.artifact_uri.removeprefix("file://"))
    saved = [path.name for path in (folder / "model" / "checkpoints").glob("*")]
    assert saved == (["epoch=0-step=6"] if log_model else [])
