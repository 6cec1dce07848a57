"""ModelCheckpoint: when it saves, what it keeps, and what it calls it."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import Small, events, loader, trainer, weights
from test_callbacks_early_stopping import Scripted
from test_checkpoints import last, make_noisy, shuffled

import nightbus as nb
from nightbus.actors.callbacks import ModelCheckpoint, model_checkpoint
from nightbus.actors.checkpoints.format import read_checkpoint


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.is_symlink())


def run_scripted(
    tmp_path: Path, values: list[float], callback: ModelCheckpoint, **how: Any
) -> nb.Trainer:
    run = trainer(tmp_path, **{"max_epochs": len(values), **how}, callbacks=[callback])
    run.fit(Scripted(values), loader(8), loader(4))
    return run


def checkpoints(tmp_path: Path, **arguments: Any) -> ModelCheckpoint:
    return ModelCheckpoint(tmp_path / "kept", **{"filename": "{epoch}", **arguments})


# -- which -----------------------------------------------------------------------------------


def test_without_a_metric_the_newest_is_kept(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path)
    run_scripted(tmp_path, [1, 2, 3], callback)

    assert names(tmp_path / "kept") == ["epoch=2"]
    assert callback.best_model_path == str(tmp_path / "kept" / "epoch=2")
    assert callback.best_model_score is None


def test_the_best_are_kept(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, monitor="val", save_top_k=2)
    run_scripted(tmp_path, [5, 3, 4, 1, 2], callback)

    folder = tmp_path / "kept"
    assert names(folder) == ["epoch=3", "epoch=4"]
    assert {k: v.item() for k, v in callback.best_k_models.items()} == {
        str(folder / "epoch=3"): 1,
        str(folder / "epoch=4"): 2,
    }
    assert callback.best_model_path == str(folder / "epoch=3")
    assert callback.best_model_score is not None
    assert callback.best_model_score.item() == 1
    assert callback.kth_best_model_path == str(folder / "epoch=4")
    assert callback.kth_value.item() == 2


def test_more_may_be_better(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, monitor="val", mode="max")
    run_scripted(tmp_path, [1, 3, 2], callback)

    assert names(tmp_path / "kept") == ["epoch=1"]


def test_nan_is_worse_than_anything(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, monitor="val")
    run_scripted(tmp_path, [float("nan"), 5.0, float("nan")], callback)

    assert names(tmp_path / "kept") == ["epoch=1"]


@given(
    values=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    k=st.integers(1, 4),
    mode=st.sampled_from(["min", "max"]),
)
def test_the_selection_is_that_of_sorting(values: list[int], k: int, mode: Any) -> None:
    callback = ModelCheckpoint(monitor="val", save_top_k=k, mode=mode)
    for idx, value in enumerate(values):
        score = torch.tensor(float(value))
        if callback.check_monitor_top_k(None, score):  # type: ignore[arg-type]
            callback._choose(str(idx), score)

    kept = sorted(score.item() for score in callback.best_k_models.values())
    assert kept == sorted(sorted(values, reverse=mode == "max")[:k])
    best = min(values) if mode == "min" else max(values)
    assert callback.best_model_path == str(values.index(best))


def test_all_are_kept_with_minus_one(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, monitor="val", save_top_k=-1)
    run_scripted(tmp_path, [1, 2, 3], callback)

    assert names(tmp_path / "kept") == ["epoch=0", "epoch=1", "epoch=2"]
    assert callback.best_model_path == str(tmp_path / "kept" / "epoch=0")
    assert callback.kth_best_model_path == str(tmp_path / "kept" / "epoch=2")
    assert callback.kth_value.item() == 3


def test_none_is_kept_with_zero(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, save_top_k=0)
    run_scripted(tmp_path, [1, 2], callback)

    assert not (tmp_path / "kept").exists()
    assert callback.best_model_path == ""


def test_the_newest_is_kept_besides_the_best_with_save_last(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, monitor="val", save_last=True)
    run_scripted(tmp_path, [2, 1, 3, 4], callback)

    folder = tmp_path / "kept"
    assert names(folder) == ["epoch=1", "epoch=3"]
    assert callback.last_model_path == str(folder / "last")
    assert (folder / "last").resolve() == (folder / "epoch=3").resolve()


def test_save_last_keeps_no_second_copy_of_the_best(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, monitor="val", save_last=True)
    run_scripted(tmp_path, [3, 2, 1], callback)

    assert names(tmp_path / "kept") == ["epoch=2"]
    assert (tmp_path / "kept" / "last").resolve().name == "epoch=2"


def test_another_runs_last_is_left_alone(tmp_path: Path) -> None:
    run_scripted(tmp_path, [1], checkpoints(tmp_path, save_last=True))
    callback = checkpoints(tmp_path, save_last=True)
    run_scripted(tmp_path, [1, 2], callback)

    folder = tmp_path / "kept"
    assert (folder / "last").resolve().name == "epoch=0"
    assert callback.last_model_path == str(folder / "last-v1")
    assert (folder / "last-v1").resolve().name == "epoch=1"


def test_what_others_wrote_is_not_removed(tmp_path: Path) -> None:
    run_scripted(tmp_path, [1], checkpoints(tmp_path))
    (tmp_path / "kept" / "notes").mkdir()
    run_scripted(tmp_path, [1, 2], checkpoints(tmp_path))

    assert names(tmp_path / "kept") == ["epoch=0", "epoch=1", "notes"]


def test_a_metric_that_was_not_recorded_is_an_error_that_lists_what_was(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match=r"monitor='loss'.* recorded: train, train_loss, val;"):
        run_scripted(tmp_path, [1], checkpoints(tmp_path, monitor="loss"))


def test_a_misspelt_metric_does_not_cost_the_epoch_after_which_it_is_missed(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="monitor='val_los'"):
        trainer(tmp_path, callbacks=[ModelCheckpoint(monitor="val_los")]).fit(
            Small(), loader(), loader(8)
        )

    run = trainer(tmp_path, callbacks=[ModelCheckpoint(monitor="val_loss")], max_epochs=2)
    run.fit(Small(), loader(), loader(8), ckpt_path="last")

    steps = [e.epoch for e in events(run, nb.Hook, attempt=1) if e.name == "on_train_batch_end"]
    assert steps == [1] * 6
    assert run.checkpoint_callback.best_model_path.endswith("epoch=1-step=12")  # type: ignore[union-attr]


# -- when ------------------------------------------------------------------------------------


def test_every_n_epochs(tmp_path: Path) -> None:
    run_scripted(tmp_path, [1] * 5, checkpoints(tmp_path, save_top_k=-1, every_n_epochs=2))

    assert names(tmp_path / "kept") == ["epoch=1", "epoch=3"]


def test_every_n_train_steps(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, save_top_k=-1, every_n_train_steps=4, filename="{step}")
    run = trainer(tmp_path, max_epochs=2, callbacks=[callback])
    run.fit(Small(), loader())  # 6 batches an epoch

    assert names(tmp_path / "kept") == ["step=12", "step=4", "step=8"]


def test_every_n_train_steps_counts_steps_and_not_batches(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, save_top_k=-1, every_n_train_steps=1, filename="{step}")
    run = trainer(tmp_path, accumulate_grad_batches=4, callbacks=[callback])
    run.fit(Small(), loader())

    assert names(tmp_path / "kept") == ["step=1", "step=2"]


def test_train_time_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 10))  # each look at the clock is 10 s later
    monkeypatch.setattr(model_checkpoint, "monotonic", lambda: float(next(now)))
    callback = checkpoints(
        tmp_path, save_top_k=-1, train_time_interval=timedelta(seconds=20), filename="{step}"
    )
    trainer(tmp_path, callbacks=[callback]).fit(Small(), loader())

    assert names(tmp_path / "kept") == ["step=2", "step=4", "step=6"]


def test_validation_in_the_middle_of_an_epoch_saves(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, save_top_k=-1, monitor="val_loss", filename="{step}")
    run = trainer(tmp_path, val_check_interval=0.5, callbacks=[callback])
    run.fit(Small(), loader(), loader(8))

    assert names(tmp_path / "kept") == ["step=3", "step=6"]


@pytest.mark.parametrize(
    "when", [{"every_n_train_steps": 1}, {"train_time_interval": timedelta(0)}]
)
def test_a_checkpoint_of_a_step_waits_for_the_validation_that_records_its_metric(
    tmp_path: Path, when: dict[str, Any]
) -> None:
    callback = checkpoints(tmp_path, monitor="val", mode="max", filename="{step}", **when)
    run = trainer(tmp_path, val_check_interval=2, num_sanity_val_steps=0, callbacks=[callback])
    run.fit(Scripted([1, 2]), loader(16), loader(4))  # 4 steps

    assert names(tmp_path / "kept") == ["step=2"]
    assert callback.best_model_score == 1


def test_epochs_without_validation_do_not_save(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, save_top_k=-1, monitor="val")
    run_scripted(tmp_path, [1] * 5, callback, check_val_every_n_epoch=2)

    assert names(tmp_path / "kept") == ["epoch=1", "epoch=3"]


def test_save_on_train_epoch_end_saves_in_every_epoch(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, save_top_k=-1, save_on_train_epoch_end=True)
    run_scripted(tmp_path, [1] * 3, callback, check_val_every_n_epoch=2)

    assert names(tmp_path / "kept") == ["epoch=0", "epoch=1", "epoch=2"]


def test_what_the_module_logs_at_the_end_of_an_epoch_can_be_monitored(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, monitor="train")
    run_scripted(tmp_path, [3, 1, 2], callback)

    assert names(tmp_path / "kept") == ["epoch=1"]


def test_a_fast_dev_run_saves_nothing(tmp_path: Path) -> None:
    run_scripted(tmp_path, [1], checkpoints(tmp_path), fast_dev_run=True)

    assert not (tmp_path / "kept").exists()


def test_evaluation_saves_nothing(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path)
    trainer(tmp_path, callbacks=[callback]).validate(Small(), loader(8), verbose=False)

    assert not (tmp_path / "kept").exists()


# -- names -----------------------------------------------------------------------------------

METRICS = {"epoch": 3, "step": 20, "val_loss": 0.256, "val/acc": 0.5}


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        (None, "epoch=3-step=20"),
        ("{epoch}-{val_loss:.2f}", "epoch=3-val_loss=0.26"),
        ("{epoch:03d}", "epoch=003"),
        ("best", "best"),
        ("a_{epoch}_b", "a_epoch=3_b"),
        ("{missing:.1f}", "missing=0.0"),
        ("{val/acc:.1f}", "val_acc=0.5"),
    ],
)
def test_names_are_made_of_metrics(filename: str | None, expected: str) -> None:
    assert ModelCheckpoint(filename=filename).format_checkpoint_name(METRICS) == expected


def test_names_may_leave_out_what_the_metric_is_called() -> None:
    callback = ModelCheckpoint(filename="e{epoch}-{val/acc:.2f}", auto_insert_metric_name=False)

    assert callback.format_checkpoint_name(METRICS) == "e3-0.50"


def test_names_may_have_a_version_and_lie_in_dirpath(tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, "{epoch}")

    assert callback.format_checkpoint_name(METRICS, ver=2) == str(tmp_path / "epoch=3-v2")


def test_a_name_that_is_taken_gets_a_version(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, filename="same", save_top_k=-1)
    run_scripted(tmp_path, [1, 2, 3], callback)

    assert names(tmp_path / "kept") == ["same", "same-v1", "same-v2"]


def test_the_metric_of_the_epoch_is_in_the_name(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, filename="{epoch}-{val:.2f}", save_top_k=-1)
    run_scripted(tmp_path, [0.5, 0.25], callback)

    assert names(tmp_path / "kept") == ["epoch=0-val=0.50", "epoch=1-val=0.25"]


def test_a_name_that_no_metric_has_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_scripted(tmp_path, [1, 2], checkpoints(tmp_path, filename="{epoch}-{vall:.2f}"))

    said = capsys.readouterr().err
    assert said.count("vall was not recorded and counts as 0; recorded: epoch, step, train") == 1


def test_names_of_metrics_that_there_are_give_no_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_scripted(tmp_path, [1], checkpoints(tmp_path, filename="{epoch}-{val:.2f}"))

    assert "was not recorded" not in capsys.readouterr().err


def test_a_value_that_does_not_fit_its_format_is_said() -> None:
    callback = ModelCheckpoint(filename="{val_loss:d}")

    with pytest.raises(nb.UsageError, match=r"val_loss=0\.256 cannot be shown as 'd'"):
        callback.format_checkpoint_name(METRICS)


def test_checkpoints_lie_in_the_runs_folder_by_default(tmp_path: Path) -> None:
    callback = ModelCheckpoint(filename="{epoch}")
    run = run_scripted(tmp_path, [1], callback)

    assert run.run_folder is not None
    assert callback.best_model_path == str(run.run_folder.path / "checkpoints" / "epoch=0")


def test_save_last_in_the_runs_folder_is_what_ckpt_path_last_resumes(tmp_path: Path) -> None:
    callback = ModelCheckpoint(filename="{epoch}", save_last=True)
    run_scripted(tmp_path, [1, 2], callback, run_name="x")
    again = trainer(tmp_path, max_epochs=3, run_name="x")
    again.fit(Scripted([1, 2, 3]), loader(8), loader(4), ckpt_path="last")

    assert again.global_step == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "less"}, "mode='less'"),
        ({"save_top_k": -2, "monitor": "val"}, "save_top_k=-2: expected an int of at least -1"),
        ({"save_top_k": 3}, "save_top_k=3 without monitor"),
        ({"every_n_epochs": -1}, "every_n_epochs=-1"),
        ({"every_n_epochs": 1, "every_n_train_steps": 5}, "every_n_train_steps=5 and every_n_ep"),
        ({"train_time_interval": timedelta(-1)}, "expected a timedelta of at least 0"),
        ({"train_time_interval": 5}, "train_time_interval=5: expected a timedelta"),
        ({"filename": "{epoch"}, "filename='{epoch'"),
        ({"filename": "{}"}, "expected names of metrics"),
        ({"filename": ""}, "filename=''"),
        ({"save_last": "copy"}, "save_last='copy'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        ModelCheckpoint(**arguments)


def test_a_trainer_that_must_not_save_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="enable_checkpointing=False"):
        trainer(tmp_path, callbacks=[nb.ModelCheckpoint()], enable_checkpointing=False)


def test_the_modules_own_callback_saves_whatever_the_trainer_was_given(tmp_path: Path) -> None:
    class Saves(Small):
        def configure_callbacks(self) -> Any:
            return [nb.ModelCheckpoint(tmp_path / "own")]

    trainer(tmp_path, max_steps=1, enable_checkpointing=False).fit(Saves(), loader(4))

    assert len(list((tmp_path / "own").iterdir())) == 1


def test_without_validation_the_end_of_training_epochs_counts(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, save_on_train_epoch_end=False, save_last=True)
    trainer(tmp_path, max_epochs=2, callbacks=[callback]).fit(Small(), loader(8))

    assert names(tmp_path / "kept") == ["epoch=1"]


def test_without_versions_the_link_to_the_newest_is_replaced_too(tmp_path: Path) -> None:
    for _ in range(2):
        callback = checkpoints(tmp_path, save_last=True, enable_version_counter=False)
        run_scripted(tmp_path, [1], callback)

    assert names(tmp_path / "kept") == ["epoch=0"]
    assert callback.last_model_path == str(tmp_path / "kept" / "last")


def test_the_list_of_no_checkpoints_is_an_empty_mapping(tmp_path: Path) -> None:
    ModelCheckpoint(tmp_path).to_yaml()

    assert (tmp_path / "best_k_models.yaml").read_text() == "{}\n"


# -- what is in it ---------------------------------------------------------------------------


def test_a_checkpoint_has_the_weights_that_were_validated(tmp_path: Path) -> None:
    module = Small()
    callback = checkpoints(tmp_path, monitor="val_loss")
    run = trainer(tmp_path, max_epochs=3, callbacks=[callback])
    run.fit(module, loader(), loader(8))

    (again,) = run.validate(module, loader(8), callback.best_model_path, verbose=False)
    assert callback.best_model_score is not None
    assert again["val_loss"] == callback.best_model_score.item()


def test_weights_only(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, save_weights_only=True)
    run_scripted(tmp_path, [1], callback)

    assert "optimizer_states" not in read_checkpoint(Path(callback.best_model_path))


def test_a_run_resumed_from_the_best_checkpoint_is_the_same_run(tmp_path: Path) -> None:
    straight, begun, resumed = make_noisy(), make_noisy(), make_noisy()
    callback = checkpoints(tmp_path)
    nb.seed_everything(7)
    trainer(tmp_path / "a", max_epochs=4).fit(straight, shuffled(), loader(8))
    nb.seed_everything(7)
    first = trainer(tmp_path / "b", max_epochs=2, callbacks=[callback])
    first.fit(begun, shuffled(), loader(8))
    second = trainer(tmp_path / "b", max_epochs=4)
    second.fit(resumed, shuffled(), loader(8), ckpt_path=callback.best_model_path)

    assert second.current_epoch == 4
    for mine, other in zip(weights(resumed), weights(straight), strict=True):
        assert torch.equal(mine, other)


def test_a_resumed_run_goes_on_choosing(tmp_path: Path) -> None:
    values = [4.0, 2.0, 3.0, 5.0, 1.0]
    first = checkpoints(tmp_path, monitor="val", save_top_k=2)
    run = run_scripted(tmp_path, values, first, max_epochs=3)
    newest = Path(max(first.best_k_models, key=lambda path: path))
    second = checkpoints(tmp_path, monitor="val", save_top_k=2)
    again = trainer(tmp_path, max_epochs=5, callbacks=[second])
    again.fit(Scripted(values), loader(8), loader(4), ckpt_path=newest)

    assert run.current_epoch == 3
    assert names(tmp_path / "kept") == ["epoch=1", "epoch=2", "epoch=4"]  # 2 is the beginning
    assert second.best_model_path == str(tmp_path / "kept" / "epoch=4")


def test_the_choice_begins_anew_when_the_checkpoints_are_elsewhere(tmp_path: Path) -> None:
    first = checkpoints(tmp_path, monitor="val")
    run = run_scripted(tmp_path, [1, 2], first)
    second = ModelCheckpoint(tmp_path / "other", "{epoch}", "val", save_top_k=-1)
    again = trainer(tmp_path, max_epochs=3, callbacks=[second])
    again.fit(Scripted([1, 2, 3]), loader(8), loader(4), ckpt_path=last(run))

    assert names(tmp_path / "kept") == ["epoch=0"]
    assert "epoch=2" in names(tmp_path / "other")


def test_a_folder_of_ones_own_does_not_keep_the_run_from_having_its_newest(tmp_path: Path) -> None:
    callback = nb.ModelCheckpoint(dirpath=tmp_path / "mine")
    run = trainer(tmp_path, max_epochs=2, callbacks=[callback])
    run.fit(Small(), loader())

    assert run.run_folder is not None
    last = run.run_folder.path / "checkpoints" / "last"
    newest = Path(callback.best_model_path)
    assert (last / "tensors.safetensors").samefile(newest / "tensors.safetensors")


class Scored(Small):
    """Has these values of the metric, epoch by epoch."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = scores

    def on_train_epoch_end(self) -> None:
        self.log("score", self.scores[self.current_epoch])


def fail_at(monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """Have the disk refuse one of the checkpoints."""
    from nightbus.actors.checkpoints import format as checkpoint_format

    real, calls = checkpoint_format.write_checkpoint, []

    def write(path: Path, *rest: Any) -> Any:
        calls.append(path)
        if len(calls) == failing:
            raise nb.CheckpointError(f"no room for {path.name}")
        return real(path, *rest)

    monkeypatch.setattr("nightbus.actors.saving.writing.write_checkpoint", write)


def test_a_save_that_fails_leaves_the_choice_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, 2)
    callback = nb.ModelCheckpoint(monitor="score", filename="{epoch}")
    run = trainer(tmp_path, max_epochs=4, callbacks=[callback])
    run.fit(Scored([0.1, 0.05, 0.5, 0.6]), loader())

    assert Path(callback.best_model_path).name == "epoch=0"
    assert callback.best_model_score == pytest.approx(0.1)
    assert (Path(callback.best_model_path) / "digest").exists()


def test_if_the_last_save_fails_the_best_is_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, 2)
    callback = nb.ModelCheckpoint(monitor="score", filename="{epoch}")
    run = trainer(tmp_path, max_epochs=2, callbacks=[callback])
    run.fit(Scored([0.1, 0.05]), loader())

    assert Path(callback.best_model_path).name == "epoch=0"
    run.validate(Small(), loader(8), ckpt_path="best", verbose=False)


def test_a_save_that_fails_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, 1)

    class Waits(nb.Callback):
        """Gives the disk the time that it takes."""

        def on_train_batch_start(self, trainer: nb.Trainer, *_: Any) -> None:
            for thread in threading.enumerate():
                if thread.name == "nightbus-checkpoint":
                    thread.join()

    every = nb.ModelCheckpoint(every_n_train_steps=3)
    run = trainer(tmp_path, max_epochs=2, callbacks=[Waits(), every])
    run.fit(Small(), loader())

    (fault,) = events(run, nb.Fault)
    assert (fault.source, fault.step) == ("checkpointer", 4)


def test_verbose_prints_what_is_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_scripted(tmp_path, [3, 4], checkpoints(tmp_path, monitor="val", save_top_k=2, verbose=True))

    folder = tmp_path / "kept"
    assert capsys.readouterr().err.splitlines() == [
        f"ModelCheckpoint: saved {folder}/epoch=0, val 3, best: {folder}/epoch=0",
        f"ModelCheckpoint: saved {folder}/epoch=1, val 4, best: {folder}/epoch=0",
    ]


@pytest.mark.parametrize(
    "when",
    [
        {"every_n_epochs": 10},
        {"every_n_train_steps": 100},
        {"train_time_interval": timedelta(days=1)},
        {"every_n_epochs": 10, "save_on_train_epoch_end": True},
        {"save_top_k": 0},
    ],
    ids=str,
)
def test_last_is_saved_at_each_epochs_end_whatever_else_is_due(tmp_path: Path, when: Any) -> None:
    callback = nb.ModelCheckpoint(tmp_path / "kept", save_last=True, **when)
    run = trainer(tmp_path, max_epochs=2, callbacks=[callback])
    run.fit(Small(), loader(), loader(8))

    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"last", "epoch=1-step=12"}
    assert Path(callback.last_model_path).resolve().name == "epoch=1-step=12"
    assert callback.best_model_path == ""


def test_what_is_due_at_an_epochs_last_step_is_chosen_although_last_is_due_too(
    tmp_path: Path,
) -> None:
    callback = nb.ModelCheckpoint(
        tmp_path / "kept", save_last=True, every_n_train_steps=6, save_top_k=-1
    )
    run = trainer(tmp_path, max_epochs=2, callbacks=[callback])
    run.fit(Small(), loader(), loader(8))

    assert Path(callback.best_model_path).name == "epoch=1-step=12"
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_a_val_dataloader_that_returns_none_is_no_validation_to_wait_for(tmp_path: Path) -> None:
    class Unvalidated(Small):
        def val_dataloader(self) -> None:
            return None

    saving = nb.ModelCheckpoint(tmp_path / "kept")
    trainer(tmp_path, callbacks=[saving], max_epochs=1).fit(Unvalidated(), loader(4))

    assert Path(saving.best_model_path).parent == tmp_path / "kept"


def test_the_score_of_steps_is_an_int(tmp_path: Path) -> None:
    callback = nb.ModelCheckpoint(monitor="step", mode="max")
    trainer(tmp_path, max_steps=1, callbacks=[callback]).fit(Small(), loader(4))

    assert callback.best_model_score is not None
    assert type(callback.best_model_score.item()) is int
    assert [type(score.item()) for score in callback.best_k_models.values()] == [int]


def test_what_is_assigned_to_the_worst_of_the_best_holds_until_the_next_is_chosen(
    tmp_path: Path,
) -> None:
    callback = nb.ModelCheckpoint(monitor="step", mode="max")
    callback.kth_best_model_path, callback.kth_value = "elsewhere", 7.0
    assert (callback.kth_best_model_path, callback.kth_value) == ("elsewhere", torch.tensor(7.0))

    trainer(tmp_path, max_steps=1, callbacks=[callback]).fit(Small(), loader(4))

    assert callback.kth_best_model_path == callback.best_model_path
    assert callback.kth_value == 1


def test_a_checkpoint_can_be_asked_of_the_callback(tmp_path: Path) -> None:
    callback = nb.ModelCheckpoint(tmp_path / "kept", every_n_epochs=0, save_top_k=-1)

    class Asks(Small):
        def on_train_batch_end(self, *_: Any) -> None:
            if self.global_step == 2:
                callback.save_checkpoint(self.trainer)

    trainer(tmp_path, max_steps=3, callbacks=[callback]).fit(Asks(), loader())

    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["epoch=0-step=2"]


@pytest.mark.parametrize(
    ("monitor", "best", "last"), [(None, "epoch=0-step=2", "last"), ("val_loss", "", "last")]
)
def test_where_max_steps_ends_an_epoch_before_its_validation_the_run_is_saved(
    monitor: str | None, best: str, last: str, tmp_path: Path
) -> None:
    callback = nb.ModelCheckpoint(tmp_path / "kept", monitor=monitor, save_last=True)
    run = trainer(tmp_path, max_epochs=3, max_steps=2, callbacks=[callback])

    run.fit(Small(), loader(), loader())

    assert Path(callback.best_model_path).name == best
    assert Path(callback.last_model_path).name == last
    assert read_checkpoint(Path(callback.last_model_path))["global_step"] == 2


def test_a_run_that_fails_when_training_is_over_is_saved(tmp_path: Path) -> None:
    class Fails(Small):
        def on_fit_end(self) -> None:
            raise RuntimeError("too late")

    callback = nb.ModelCheckpoint(tmp_path / "kept", "failed", save_on_exception=True, save_top_k=0)
    run = trainer(tmp_path, max_steps=1, callbacks=[callback])

    with pytest.raises(RuntimeError, match="too late"):
        run.fit(Fails(), loader(4))

    assert read_checkpoint(tmp_path / "kept" / "failed")["global_step"] == 1


def test_the_checkpoint_that_a_run_begins_with_is_not_removed(tmp_path: Path) -> None:
    def saves() -> nb.ModelCheckpoint:
        return nb.ModelCheckpoint(tmp_path / "kept", monitor="step", mode="max", save_top_k=1)

    first = saves()
    trainer(tmp_path, callbacks=[first], enable_checkpointing=True).fit(Small(), loader())
    start = first.best_model_path
    second = saves()
    run = trainer(tmp_path, max_epochs=3, callbacks=[second], enable_checkpointing=True)
    run.fit(Small(), loader(), ckpt_path=start)

    assert Path(start).is_dir()
    kept = {path for path in (tmp_path / "kept").iterdir() if path.is_dir()}
    assert kept == {Path(start), Path(second.best_model_path)}


def test_a_home_folder_in_dirpath_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    callback = nb.ModelCheckpoint("~/of-a-test")

    assert f"~/of-a-test is {callback.dirpath}" in capsys.readouterr().err


@pytest.mark.parametrize("monitor", ["epoch", "step"])
def test_counts_choose_a_checkpoint_where_max_steps_ends_an_epoch(
    monitor: str, tmp_path: Path
) -> None:
    callback = nb.ModelCheckpoint(tmp_path / "kept", monitor=monitor)
    run = trainer(tmp_path, max_epochs=None, max_steps=1, callbacks=[callback])
    run.fit(Small(), loader(), loader(8))

    assert Path(callback.best_model_path).is_dir()


def test_an_override_of_how_to_save_finds_the_checkpoint_on_disk(tmp_path: Path) -> None:
    found: list[tuple[int, int]] = []
    removed: list[str] = []

    class Adds(ModelCheckpoint):
        def _save_checkpoint(self, trainer: Any, filepath: str) -> None:
            super()._save_checkpoint(trainer, filepath)
            found.append((trainer.current_epoch, nb.load_checkpoint(filepath)["epoch"]))

        def _remove_checkpoint(self, trainer: Any, filepath: str) -> None:
            super()._remove_checkpoint(trainer, filepath)
            removed.append(Path(filepath).name)

    callback = Adds(tmp_path / "kept", "{epoch}")
    trainer(tmp_path, max_epochs=3, callbacks=[callback]).fit(Small(), loader(8))

    assert found == [(0, 1), (1, 2), (2, 3)]  # as in Lightning; and the epochs completed
    assert removed == ["epoch=0", "epoch=1"]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["epoch=2"]
    assert Path(callback.best_model_path).name == "epoch=2"


def test_an_override_may_save_in_a_form_of_its_own(tmp_path: Path) -> None:
    class Exports(ModelCheckpoint):
        def _save_checkpoint(self, trainer: Any, filepath: str) -> None:
            is_folder = trainer.current_epoch == 0
            (Path(filepath) if is_folder else Path(filepath).parent).mkdir(
                parents=True, exist_ok=True
            )
            to = Path(filepath) / "weights.pt" if is_folder else filepath
            torch.save(trainer.lightning_module.state_dict(), to)

    kept = tmp_path / "kept"
    callback = Exports(kept, "{epoch}", monitor="epoch", mode="max", save_top_k=1)
    trainer(tmp_path, max_epochs=2, callbacks=[callback]).fit(Small(), loader(8))

    assert [path.name for path in kept.iterdir()] == ["epoch=1"]
    assert "net.0.weight" in torch.load(callback.best_model_path)


def test_what_an_override_did_not_save_is_not_one_of_the_best(tmp_path: Path) -> None:
    class Fails(ModelCheckpoint):
        def _save_checkpoint(self, trainer: Any, filepath: str) -> None:
            if trainer.current_epoch == 1:
                raise OSError("no space")
            super()._save_checkpoint(trainer, filepath)

    callback = Fails(tmp_path / "kept", "{epoch}", save_last=True)
    run = trainer(tmp_path, max_epochs=3, callbacks=[callback])
    with pytest.raises(OSError, match="no space"):
        run.fit(Small(), loader(8))

    assert Path(callback.best_model_path).name == "epoch=0"
    assert Path(callback.best_model_path).exists()
    assert Path(callback.last_model_path).exists()


def test_the_method_that_saves_may_be_called_by_users(tmp_path: Path) -> None:
    class Saves(nb.Callback):
        def on_train_end(self, trainer: Any, module: Any) -> None:
            trainer.checkpoint_callback._save_checkpoint(trainer, str(tmp_path / "extra"))

    run = trainer(tmp_path, max_steps=1, callbacks=[ModelCheckpoint(tmp_path / "kept"), Saves()])
    run.fit(Small(), loader(4))

    assert nb.load_checkpoint(tmp_path / "extra")["global_step"] == 1


def test_an_override_of_what_is_the_best_names_it_otherwise(tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    class Exports(ModelCheckpoint):
        """Saves a file instead, as packages do that have a format of their own."""

        def _update_best_and_save(self, current: Any, trainer: Any, candidates: Any) -> None:
            assert isinstance(current, torch.Tensor)
            assert candidates["val"] == current
            name = self.format_checkpoint_name(self._monitor_candidates(trainer))
            super()._update_best_and_save(current, trainer, candidates)
            assert name == self.best_model_path
            self.best_model_path += ".pt"
            torch.save(nb.load_checkpoint(name)["state_dict"], self.best_model_path)

        def _remove_checkpoint(self, trainer: Any, filepath: str) -> None:
            super()._remove_checkpoint(trainer, filepath)
            Path(f"{filepath}.pt").unlink()

    callback = Exports(kept, "{epoch}-{val}", monitor="val")
    run_scripted(tmp_path, [3, 2, 4, 1], callback)

    assert callback.best_model_path == str(kept / "epoch=3-val=1.0.pt")
    assert names(kept) == ["epoch=3-val=1.0", "epoch=3-val=1.0.pt"]
    assert "net.0.weight" in torch.load(callback.best_model_path)


def test_a_metric_that_is_not_there_is_not_warned_of_if_no_best_checkpoints_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = checkpoints(tmp_path, monitor="val_loss", save_top_k=0, save_last=True)
    run = trainer(tmp_path, max_epochs=1, callbacks=[callback])
    run.fit(Small(), loader(8))

    assert "no such metric" not in capsys.readouterr().err
    assert Path(callback.last_model_path).exists()


def test_without_validation_a_metric_that_is_not_there_is_warned_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = checkpoints(tmp_path, monitor="val_loss", save_last=True)
    run = trainer(tmp_path, max_epochs=2, callbacks=[callback])
    run.fit(Small(), loader(8))

    assert capsys.readouterr().err.count("no checkpoint is one of the best") == 1
    assert callback.best_model_path == ""
    assert nb.load_checkpoint(callback.last_model_path)["epoch"] == 2
