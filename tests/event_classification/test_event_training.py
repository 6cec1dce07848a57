"""The module in training: its memory, its KPIs in the log, exact resume, and what replay finds."""

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import DEADLINE_S

import nightbus as nb
from examples.event_classification.data_module import ClassificationDataModule
from examples.event_classification.errors import ClassListError
from examples.event_classification.forgetful import ForgetfulModel, Forgets
from examples.event_classification.from_the_log import RightSoonEnough, TimesFromTheLog
from examples.event_classification.lightning_model import ClassificationModel

Settings = Callable[..., Namespace]
LAST_ROWS = "head.4.weight"


class Undrawn(ClassificationModel):
    """Puts no figures, which take longer than the rest of these trainings."""

    def figures(self, results: Any) -> dict[str, Any]:
        return {}


class DrawnAtTheEnd(ClassificationModel):
    """Draws the test alone."""

    def figures(self, results: Any) -> dict[str, Any]:
        return super().figures(results) if self.trainer.testing else {}


class WithoutMemory(Undrawn):
    """Leaves what it remembers of the streams out of checkpoints."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        pass


def trainer_of(folder: Path, name: str = "events", **options: Any) -> nb.Trainer:
    defaults: dict[str, Any] = {"max_epochs": 2, "num_sanity_val_steps": 0}
    return nb.Trainer(
        default_root_dir=str(folder),
        run_name=name,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        **{**defaults, **options},
    )


@pytest.fixture(scope="module")
def fitted(
    recordings: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[nb.Trainer, RightSoonEnough, dict[str, float], Any]:
    """A run of two epochs, an actor that watched it, and the metrics of fit and test."""
    from examples.event_classification.hyperparameters import hyperparameters

    folder = tmp_path_factory.mktemp("fitted")
    hparams = hyperparameters(
        dataset_path=str(recordings), base=2, cout=8, batch_size=3, num_tbins=25, epochs=2
    )
    nb.seed_everything(1)
    actor = RightSoonEnough(0.0)
    trainer = trainer_of(folder, actors=[actor])
    data = ClassificationDataModule(hparams)
    model = DrawnAtTheEnd(hparams)
    trainer.fit(model, data)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    (tested,) = trainer.test(model, datamodule=data, verbose=False)
    return trainer, actor, metrics, tested


class Kept(nb.Sink):
    """Keeps the media of a run."""

    events = (nb.Media,)

    def __init__(self) -> None:
        self.media: list[nb.Media] = []

    def write(self, batch: list[nb.Media]) -> None:
        self.media.extend(batch)


def test_kpis_of_bins_and_showings_are_recorded(fitted: Any) -> None:
    _, _, metrics, tested = fitted

    names = {"loss", "acc", "showings_acc", "never_right"}
    names |= {"time_to_prediction_ms", "median_time_to_prediction_ms"}
    assert {f"val_{name}" for name in names} <= set(metrics)
    assert {f"test_{name}" for name in names} <= set(tested)
    assert any(name.startswith("val_recall/") for name in metrics)
    assert 0 <= metrics["train_acc"] <= 1
    assert metrics["train_loss"] > 0


def test_figures_and_the_table_of_predictions_are_in_the_log(fitted: Any) -> None:
    sink = Kept()

    nb.replay(fitted[0].log_dir, sinks=[sink])

    drawn = ["confusion", "roc", "precision_recall", "time_to_prediction", "slowest_1"]
    by_name = {media.name: media for media in sink.media}
    assert {f"test_{name}" for name in drawn} <= set(by_name)
    table = json.loads(by_name["val_predictions"].data)
    assert table["columns"] == ["recording", "showing", "true", "predicted", "bin_us"]
    assert len(table["rows"]) == 5
    name, _, true, predicted, bin_us = table["rows"][0]
    assert (name, bin_us) == ("0000_td.dat", 20_000)
    assert 0 <= true < 10
    assert set(map(int, predicted.split())) <= set(range(10))


def test_replay_finds_the_times_to_prediction_without_model_or_data(fitted: Any) -> None:
    trainer, actor, *_ = fitted
    sink = TimesFromTheLog()

    nb.replay(trainer.log_dir, sinks=[sink])

    found = [(each.step, each.mean_ms, each.never_right) for each in sink.times()]
    assert len(found) == len(actor.seen) == 2
    for mine, live in zip(found, actor.seen, strict=True):
        assert mine == pytest.approx(live)


def test_replay_says_where_another_limit_would_have_stopped_the_run(fitted: Any) -> None:
    trainer, actor, *_ = fitted
    generous, strict = RightSoonEnough(1e9, never_right=1.0), RightSoonEnough(0.0)

    stopped = nb.replay(trainer.log_dir, actors=[generous]).commands
    not_stopped = nb.replay(trainer.log_dir, actors=[strict]).commands

    assert [type(told.command) for told in stopped] == [nb.Stop, nb.Stop]
    assert stopped[0].step == actor.seen[0][0]
    assert not_stopped == []
    assert generous.seen == strict.seen == actor.seen


@pytest.mark.parametrize(("never_right", "epochs"), [(1.0, 1), (-1.0, 2)])
def test_the_actor_stops_training_once_showings_are_right_soon_and_often_enough(
    settings: Settings, tmp_path: Path, never_right: float, epochs: int
) -> None:
    hparams = settings()
    trainer = trainer_of(tmp_path, actors=[RightSoonEnough(1e9, never_right)], max_epochs=2)

    trainer.fit(Undrawn(hparams), ClassificationDataModule(hparams))

    assert trainer.current_epoch >= epochs
    assert trainer.global_step == epochs * trainer.num_training_batches or epochs == 1


def test_hyperparameters_are_a_namespace_that_comes_back_and_can_be_changed(
    fitted: Any, settings: Settings
) -> None:
    folder = Path(fitted[0].log_dir) / "checkpoints" / "last"

    loaded = ClassificationModel.load_from_checkpoint(folder)
    changed = ClassificationModel.load_from_checkpoint(folder, hparams=settings(lr=1e-4))

    assert dict(loaded.hparams) == dict(fitted[0].model.hparams)
    assert changed.hparams.lr == 1e-4
    name = "memory.x2h.weight"
    assert torch.equal(loaded.model.state_dict()[name], changed.model.state_dict()[name])


def test_a_class_list_of_another_length_is_refused(settings: Settings) -> None:
    with pytest.raises(ClassListError, match="num_classes=10, and 1 classes are named"):
        ClassificationModel(settings(classes=["rock"]))


class WatchesMemory(Undrawn):
    """Notes the memory of training before and after each validation, and within."""

    def __init__(self, hparams: Namespace) -> None:
        super().__init__(hparams)
        self.noted: list[tuple[Any, Any, Any]] = []

    def on_validation_start(self) -> None:
        before = self.model.memory_state()
        super().on_validation_start()
        self.noted.append((before, self.model.memory_state(), None))

    def on_validation_end(self) -> None:
        super().on_validation_end()
        before, within, _ = self.noted.pop()
        self.noted.append((before, within, self.model.memory_state()))


def test_validation_within_an_epoch_leaves_the_streams_of_training_alone(
    settings: Settings, tmp_path: Path
) -> None:
    hparams = settings()
    model = WatchesMemory(hparams)

    trainer_of(tmp_path, max_steps=6, val_check_interval=3).fit(
        model, ClassificationDataModule(hparams)
    )

    assert len(model.noted) == 2
    for before, within, after in model.noted:
        assert within == [None]
        assert before[0] is not None
        assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))


def run_of(
    kind: type[ClassificationModel], folder: Path, hparams: Namespace, parts: list[int]
) -> nb.Trainer:
    """Train two epochs, stopped and resumed at each of some steps, within recordings."""
    nb.seed_everything(1, workers=True)
    options: dict[str, Any] = {"name": "whole" if not parts else "parts", "val_check_interval": 4}
    for number, steps in enumerate(parts):
        resumed = "last" if number else None
        trainer_of(folder, max_steps=steps, **options).fit(
            kind(hparams), ClassificationDataModule(hparams), ckpt_path=resumed
        )
    trainer = trainer_of(folder, **options)
    data = ClassificationDataModule(hparams)
    trainer.fit(kind(hparams), data, ckpt_path="last" if parts else None)
    return trainer


def differing(one: nb.Trainer, other: nb.Trainer) -> list[str]:
    """Names of the weights and metrics that are not equal to the bit."""
    pairs = [(t.model.state_dict(), t.callback_metrics) for t in (one, other)]
    return [
        name
        for mine, theirs in zip(*pairs, strict=True)
        for name in mine
        if not torch.equal(torch.as_tensor(mine[name]), torch.as_tensor(theirs[name]))
    ]


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_stopped_within_recordings_and_resumed_is_the_same_run(
    settings: Settings, tmp_path: Path, workers: int
) -> None:
    hparams = settings(num_workers=workers)

    whole = run_of(Undrawn, tmp_path, hparams, [])
    parts = run_of(Undrawn, tmp_path, hparams, [2, 11])

    assert differing(whole, parts) == []
    compared = subprocess.run(
        [sys.executable, "-m", "nightbus", "diff", str(whole.log_dir), str(parts.log_dir)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert compared.returncode == 0, compared.stdout
    assert compared.stdout.startswith("equal: ")


@pytest.mark.long
def test_a_run_resumed_without_the_memory_of_its_streams_is_another(
    settings: Settings, tmp_path: Path
) -> None:
    whole = run_of(WithoutMemory, tmp_path, settings(), [])
    parts = run_of(WithoutMemory, tmp_path, settings(), [2])

    assert "model.memory.h2h.weight" in differing(whole, parts)


def saved(model: ClassificationModel, folder: Path) -> Path:
    """A checkpoint of a model that was not trained."""
    trainer = trainer_of(folder, max_steps=0)
    trainer.fit(model, ClassificationDataModule(Namespace(**dict(model.hparams))))
    trainer.save_checkpoint(folder / "saved")
    return folder / "saved"


def test_pretrained_classes_are_moved_by_name(settings: Settings, tmp_path: Path) -> None:
    torch.manual_seed(0)
    old = Undrawn(settings(classes=["4", "7", "1"], num_classes=3))
    checkpoint = saved(old, tmp_path)
    new = Undrawn(settings(classes=["0", "7", "4", "9"], num_classes=4))
    fresh = new.model.get_parameter(LAST_ROWS).detach().clone()

    common = new.load_pretrained(checkpoint)

    rows, of_old = (each.model.get_parameter(LAST_ROWS) for each in (new, old))
    assert common == ["7", "4"]
    assert torch.equal(rows[[1, 2]], of_old[[1, 0]])
    assert torch.equal(rows[[0, 3]], fresh[[0, 3]])
    x = torch.rand(2, 1, 2, 32, 32)
    old.eval(), new.eval()
    old.model.load_memory_state(None)
    with torch.no_grad():
        of_both = old.model(x)[..., [1, 0]], new.model(x)[..., [1, 2]]
    assert of_both[0] == pytest.approx(of_both[1], abs=1e-6)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"base": 4}, "make the new one with the same cin, base and cout"),
        ({"models": "LeNetClassifier"}, "they are different models"),
        ({"classes": ["2"], "num_classes": 1}, "no class is in both models"),
    ]
    for changes, said in refused:
        with pytest.raises(ClassListError, match=said):
            Undrawn(settings(**changes)).load_pretrained(checkpoint)


@pytest.mark.parametrize(("at", "is_same"), [("batch", [True, True]), ("bin", [True, False])])
def test_a_forgetful_model_says_what_it_would_of_a_stream_that_begins_there(
    settings: Settings, at: Forgets, is_same: list[bool]
) -> None:
    torch.manual_seed(0)
    model = ForgetfulModel(settings(), at).eval()
    batch = {"inputs": torch.rand(2, 1, 2, 32, 32), "mask_keep_memory": torch.ones(1, 1, 1, 1)}

    with torch.no_grad():
        model(batch)
        said = model(batch)
        model.model.reset(torch.zeros(1))
        whole = model.model(batch["inputs"])

    assert [torch.allclose(a, b) for a, b in zip(said, whole, strict=True)] == is_same
