"""Which checkpoint ckpt_path means, and what happens when one is damaged."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer, weights

import nightbus as nb
from nightbus.__main__ import main
from nightbus.actors.checkpoints.format import (
    DIGEST,
    STATE,
    TENSORS,
    read_checkpoint,
    write_checkpoint,
)
from nightbus.actors.ranks.world import World
from nightbus.bus.errors import CheckpointError


def checkpoints(run: nb.Trainer) -> Path:
    assert run.run_folder is not None
    return run.run_folder.path / "checkpoints"


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", [STATE, TENSORS, DIGEST])
def test_one_flipped_bit_is_found(tmp_path: Path, name: str) -> None:
    run = trainer(tmp_path)
    run.fit(Small(), loader())
    flip_a_bit(checkpoints(run) / "last" / name)

    with pytest.raises(CheckpointError, match="is damaged: its digest"):
        trainer(tmp_path, max_epochs=2).fit(Small(), loader(), ckpt_path=checkpoints(run) / "last")


def test_of_a_damaged_checkpoint_it_is_said_which_one_to_take_instead(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=2)
    run.fit(Small(), loader())
    folder = checkpoints(run)
    flip_a_bit(folder / "last" / TENSORS)

    with pytest.raises(CheckpointError, match="the newest of its run that is intact is") as refused:
        trainer(tmp_path, max_epochs=3).fit(Small(), loader(), ckpt_path=folder / "last")

    assert str(refused.value).endswith(str(folder / "epoch=0-step=6"))


def test_the_digest_is_the_one_that_the_log_names(tmp_path: Path) -> None:
    from models import events

    run = trainer(tmp_path)
    run.fit(Small(), loader())

    (saved,) = events(run, nb.CheckpointSaved)
    assert (checkpoints(run) / "last" / DIGEST).read_text().strip() == saved.digest


def test_last_passes_over_a_damaged_checkpoint_for_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = trainer(tmp_path, max_epochs=3), trainer(tmp_path, max_epochs=3)
    straight, resumed = Small(), Small()
    first.fit(straight, loader())
    flip_a_bit(checkpoints(first) / "last" / TENSORS)

    second.fit(resumed, loader(), ckpt_path="last")

    assert "skipped for the one before" in capsys.readouterr().err
    assert all(map(torch.equal, weights(resumed), weights(straight)))


def test_if_all_are_damaged_last_says_so(tmp_path: Path) -> None:
    first = trainer(tmp_path, max_epochs=2)
    first.fit(Small(), loader())
    for path in checkpoints(first).glob("*/tensors.safetensors"):
        if not path.parent.is_symlink():
            flip_a_bit(path)

    with pytest.raises(CheckpointError, match="is damaged"):
        trainer(tmp_path).fit(Small(), loader(), ckpt_path="last")


def test_last_of_a_name_that_has_no_checkpoint_trains_anew_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path)
    run.fit(Small(), loader(), ckpt_path="last")
    assert run.ckpt_path is None

    assert run.global_step == 6
    assert "training begins from scratch" in capsys.readouterr().err


def test_last_is_no_answer_for_testing_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no run called 'Small'"):
        trainer(tmp_path).test(Small(), loader(), ckpt_path="last")


def test_last_says_which_newer_run_has_no_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, killed = trainer(tmp_path), trainer(tmp_path, enable_checkpointing=False)
    first.fit(Small(), loader())
    killed.fit(Small(), loader())
    assert first.run_folder is not None
    assert killed.run_folder is not None

    trainer(tmp_path, max_epochs=2).fit(Small(), loader(), ckpt_path="last")

    lines = capsys.readouterr().err.splitlines()
    (said,) = [line for line in lines if "are skipped" in line]
    assert "skipped: they have no checkpoint to resume from" in said
    assert f"passed_over={killed.run_folder.info.id}" in said
    assert f"taken={first.run_folder.info.id}" in said


def test_last_is_the_run_that_was_started_or_resumed_last(tmp_path: Path) -> None:
    first, second = trainer(tmp_path), trainer(tmp_path)
    first.fit(Small(), loader())
    second.fit(Small(), loader())
    resumed = trainer(tmp_path, max_epochs=2)
    resumed.fit(Small(), loader(), ckpt_path=checkpoints(first) / "last")

    run = trainer(tmp_path, max_epochs=3)
    run.fit(Small(), loader(), ckpt_path="last")

    assert run.run_folder is not None
    assert first.run_folder is not None
    assert run.run_folder.path == first.run_folder.path
    assert run.global_step == 18


class Scores(Small):
    def on_train_epoch_end(self) -> None:
        self.log("score", float([1, 3, 2][self.current_epoch]))


def test_best_is_what_the_trainers_callback_holds_to_be_best(tmp_path: Path) -> None:
    callback = nb.ModelCheckpoint(monitor="score", mode="max")
    run = trainer(tmp_path, max_epochs=3, callbacks=[callback])
    run.fit(Scores(), loader())
    tested = Scores()

    run.test(tested, loader(), ckpt_path="best", verbose=False)

    saved = read_checkpoint(Path(callback.best_model_path))
    assert saved["epoch"] == 2
    assert torch.equal(saved["state_dict"]["net.0.weight"], tested.net[0].weight)  # type: ignore[index]


def test_best_is_found_by_another_process_too(tmp_path: Path) -> None:
    callback = nb.ModelCheckpoint(monitor="score", mode="max")
    run = trainer(tmp_path, max_epochs=3, callbacks=[callback])
    run.fit(Scores(), loader())
    tested, other = Scores(), trainer(tmp_path)

    other.test(tested, loader(), ckpt_path="best", verbose=False)

    saved = read_checkpoint(Path(callback.best_model_path))
    assert torch.equal(saved["state_dict"]["net.0.weight"], tested.net[0].weight)  # type: ignore[index]


def test_best_without_any_is_said(tmp_path: Path) -> None:
    run = trainer(tmp_path, enable_checkpointing=False)
    run.fit(Small(), loader())

    with pytest.raises(CheckpointError, match=r"add ModelCheckpoint\(monitor=...\)"):
        run.test(Small(), loader(), ckpt_path="best")


class NotesWeight(Scores):
    """Gets worse from epoch to epoch, and says with which epoch's weights it is evaluated."""

    net: Any

    def on_train_epoch_end(self) -> None:
        with torch.no_grad():
            self.net[0].weight.fill_(self.current_epoch + 1.0)
        super().on_train_epoch_end()

    @property
    def epoch_of_weights(self) -> float:
        return float(self.net[0].weight[0, 0])

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("weights_of", self.epoch_of_weights)

    test_step = validation_step

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self.epoch_of_weights

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def evaluated(run: nb.Trainer, function: str, **arguments: Any) -> float:
    if function == "predict":
        return float(run.predict(dataloaders=loader(4), **arguments)[0])
    evaluate = getattr(run, function)
    return float(evaluate(dataloaders=loader(4), verbose=False, **arguments)[0]["weights_of"])


@pytest.mark.parametrize("function", ["validate", "test", "predict"])
def test_without_a_model_the_best_of_training_is_taken_and_said(
    tmp_path: Path, function: str, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = nb.ModelCheckpoint(monitor="score", mode="max", save_last=True)
    run, module = trainer(tmp_path, max_epochs=3, callbacks=[callback]), NotesWeight()
    run.fit(module, loader())

    assert evaluated(run, function) == 2.0
    said = capsys.readouterr().err
    assert f"{function}() was called without a model: it uses the best checkpoint" in said
    assert callback.best_model_path in said
    assert evaluated(run, function, ckpt_path="last") == 3.0
    assert evaluated(run, function, ckpt_path="best") == 2.0
    module.net[0].weight.data.fill_(7.0)
    assert evaluated(run, function, model=module) == 7.0
    assert capsys.readouterr().err == ""


def test_without_a_model_or_a_checkpoint_the_weights_stay_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, max_epochs=3, enable_checkpointing=False)
    run.fit(NotesWeight(), loader())
    assert evaluated(run, "test") == 3.0
    assert "because no checkpoint was saved" in capsys.readouterr().err

    callback = nb.ModelCheckpoint(monitor="score")
    run = trainer(tmp_path, fast_dev_run=True, callbacks=[callback])
    run.fit(NotesWeight(), loader())
    assert evaluated(run, "test") == 1.0
    assert "because fast_dev_run saves no checkpoint" in capsys.readouterr().err


def test_without_a_model_checkpoint_the_best_is_the_runs_newest(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=3)
    best = run.checkpoint_callback
    assert isinstance(best, nb.ModelCheckpoint)
    assert (run.callbacks, run.checkpoint_callbacks) == ([best], [best])
    assert best.best_model_path == ""

    run.fit(NotesWeight(), loader())

    assert run.run_folder is not None
    folder = run.run_folder.path / "checkpoints"
    assert best.best_model_path == str((folder / "last").resolve())
    assert sorted(each.name for each in folder.iterdir()) == [
        "epoch=1-step=12",
        "epoch=2-step=18",
        "last",
    ]
    assert evaluated(run, "test", ckpt_path="best") == 3.0
    assert evaluated(run, "test") == 3.0


def test_the_runs_newest_is_known_in_a_resumed_run(tmp_path: Path) -> None:
    trainer(tmp_path).fit(NotesWeight(), loader())

    class Asks(NotesWeight):
        def on_train_start(self) -> None:
            self.found = self.trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]

    module = Asks()
    trainer(tmp_path, max_epochs=2, run_name="NotesWeight").fit(module, loader(), ckpt_path="last")

    assert module.found.endswith("epoch=0-step=6")


@pytest.mark.parametrize(
    "arguments",
    [{"callbacks": nb.OnExceptionCheckpoint(".")}, {"enable_checkpointing": False}],
    ids=["another", "none"],
)
def test_there_is_no_default_model_checkpoint_beside_another_or_if_nothing_is_saved(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    found = trainer(tmp_path, **arguments).checkpoint_callbacks

    assert not any(isinstance(each, nb.ModelCheckpoint) for each in found)


def test_a_model_checkpoint_of_the_module_takes_the_place_of_the_default(tmp_path: Path) -> None:
    own = nb.ModelCheckpoint(filename="mine")

    class Configures(NotesWeight):
        def configure_callbacks(self) -> Any:
            return own

    run = trainer(tmp_path)
    run.fit(Configures(), loader())

    assert run.checkpoint_callback is own


def test_without_a_model_a_model_checkpoint_that_saved_none_is_an_error(tmp_path: Path) -> None:
    callback = nb.ModelCheckpoint(monitor="score", every_n_epochs=10)
    run = trainer(tmp_path, max_epochs=3, callbacks=[callback])
    run.fit(NotesWeight(), loader())
    with pytest.raises(CheckpointError, match="ModelCheckpoint has saved none; to choose"):
        evaluated(run, "test")


def test_of_several_model_checkpoints_the_first_is_taken_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = nb.ModelCheckpoint(monitor="score", mode="max", filename="a-{epoch}")
    worst = nb.ModelCheckpoint(monitor="score", mode="min", filename="b-{epoch}")
    run = trainer(tmp_path, max_epochs=3, callbacks=[best, worst])
    run.fit(NotesWeight(), loader())
    assert evaluated(run, "test") == 2.0
    assert "the best checkpoint of the first of several" in capsys.readouterr().err
    assert evaluated(run, "test", ckpt_path="best") == 2.0
    assert "there are several ModelCheckpoints" in capsys.readouterr().err


def test_what_was_only_validated_is_tested_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, callbacks=[nb.ModelCheckpoint(monitor="score")])
    module = NotesWeight()
    module.net[0].weight.data.fill_(7.0)
    run.validate(module, loader(4), verbose=False)
    assert evaluated(run, "test") == 7.0
    assert capsys.readouterr().err == ""


@pytest.mark.long
def test_a_file_of_torch_is_refused_with_the_verb_that_converts_it(tmp_path: Path) -> None:
    torch.save(Small().state_dict(), tmp_path / "model.pt")

    with pytest.raises(CheckpointError) as refused:
        trainer(tmp_path).fit(Small(), loader(), ckpt_path=tmp_path / "model.pt")

    message = str(refused.value)
    assert "if you know where it comes from" in message
    command = message[message.index("import-ckpt") :].replace("OUT", str(tmp_path / "imported"))
    assert main(shlex.split(command)) == 0
    assert read_checkpoint(tmp_path / "imported")


def free(number: int) -> Any:
    class Usage:
        free = number

    return lambda _: Usage


def test_a_disk_without_room_for_the_weights_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", free(100))
    run = trainer(tmp_path)

    with pytest.raises(CheckpointError, match="no room for a checkpoint: the weights take"):
        run.fit(Small(), loader())
    assert run.global_step == 0


def test_a_rank_that_writes_no_checkpoints_needs_no_room_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(tmp_path)
    run.fit(Small(), loader())
    run.group.world = World(1, 2, 1, 2)
    monkeypatch.setattr("shutil.disk_usage", free(100))

    run.checkpointer.check_space()


def test_a_disk_with_little_room_is_said_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", free(1000))
    trainer(tmp_path).fit(Small(), loader())

    assert "checkpoints may find no room" in capsys.readouterr().err


def test_a_disk_that_fails_costs_a_checkpoint_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models import events

    real, calls = write_checkpoint, []

    def fails_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise CheckpointError("no space left on device")
        return real(*arguments)

    monkeypatch.setattr("nightbus.actors.saving.writing.write_checkpoint", fails_once)
    run = trainer(tmp_path, max_epochs=3)
    run.fit(Small(), loader())

    (fault,) = events(run, nb.Fault)
    assert fault.source == "checkpointer"
    assert "no space left" in fault.message
    assert len(events(run, nb.CheckpointSaved)) == 2
    assert run.global_step == 18


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.fit(Small(), loader())
    half = checkpoints(first) / ".epoch=9-step=9.999999999.tmp"
    half.mkdir()
    (half / TENSORS).write_bytes(b"half")

    trainer(tmp_path, max_epochs=2).fit(Small(), loader(), ckpt_path="last")

    assert not half.exists()


def test_checkpoints_do_not_pile_up_over_attempts(tmp_path: Path) -> None:
    for epochs in (1, 2, 3, 4):
        run = trainer(tmp_path, max_epochs=epochs)
        run.fit(Small(), loader(), ckpt_path="last")

    names = sorted(path.name for path in checkpoints(run).iterdir())
    assert names == ["epoch=2-step=18", "epoch=3-step=24", "last"]


def test_a_checkpoint_cannot_name_folders_elsewhere_to_be_removed(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.fit(Small(), loader())
    precious = tmp_path / "precious"
    write_checkpoint(precious, {})
    state = read_checkpoint(checkpoints(first) / "last")
    state["kept"] = ["../../../precious", str(precious), "..", "epoch=0-step=6"]
    forged = checkpoints(first) / "forged"
    write_checkpoint(forged, state)

    trainer(tmp_path, max_epochs=5).fit(Small(), loader(), ckpt_path=forged)

    assert precious.exists()


def test_a_last_that_leads_out_of_its_run_by_another_link_is_refused(tmp_path: Path) -> None:
    run, elsewhere = trainer(tmp_path / "a"), trainer(tmp_path / "b")
    for each in (run, elsewhere):
        each.fit(Small(), loader())
    folder = Path(f"{run.log_dir}/checkpoints")
    (folder / "between").symlink_to(Path(f"{elsewhere.log_dir}/checkpoints/last").resolve())
    (folder / "last").unlink()
    (folder / "last").symlink_to("between")

    with pytest.raises(CheckpointError, match="leads out of its run"):
        trainer(tmp_path / "a").fit(Small(), loader(), ckpt_path="last")
