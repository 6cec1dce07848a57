"""Checkpoints: complete or absent, plain data, and a resumed run is the same run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, dataset, events, loader, trainer, weights
from torch import nn
from torch.utils.data import DataLoader

import nightbus as nb
from nightbus.actors.checkpoints.format import read_checkpoint, write_checkpoint
from nightbus.bus.errors import CheckpointError


class Noisy(Small):
    """Draws random numbers in its step, and has a scheduler."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)]


def make_noisy() -> Noisy:
    nb.seed_everything(5)
    return Noisy()


def shuffled() -> DataLoader[Any]:
    return DataLoader(dataset(), 4, shuffle=True)


def rate_of(run: nb.Trainer) -> float:
    return float(run.optimizers[0].param_groups[0]["lr"])


def last(run: nb.Trainer) -> Path:
    assert run.run_folder is not None
    return run.run_folder.path / "checkpoints" / "last"


def test_a_run_resumed_between_epochs_is_the_same_run(tmp_path: Path) -> None:
    straight, begun, resumed = make_noisy(), make_noisy(), Noisy()
    whole, first = (trainer(tmp_path / name, max_epochs=n) for name, n in (("a", 4), ("b", 2)))
    second = trainer(tmp_path / "b", max_epochs=4)

    nb.seed_everything(7)
    whole.fit(straight, shuffled())
    nb.seed_everything(7)
    first.fit(begun, shuffled())
    nb.seed_everything(99)
    second.fit(resumed, shuffled(), ckpt_path=last(first))

    for mine, other in zip(weights(resumed), weights(straight), strict=True):
        assert torch.equal(mine, other)
    values = [put.value for put in events(first, nb.Put)]
    values += [put.value for put in events(second, nb.Put, attempt=1)]
    assert values == [put.value for put in events(whole, nb.Put)]
    assert second.global_step == whole.global_step
    assert rate_of(second) == rate_of(whole)


@pytest.mark.parametrize("saves_itself", [True, False])
def test_each_save_in_a_hook_holds_the_state_of_its_moment(
    saves_itself: bool, tmp_path: Path
) -> None:
    class Saves(nb.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / f"step {trainer.global_step}")

    run = trainer(tmp_path, callbacks=[Saves()], max_steps=3, enable_checkpointing=saves_itself)
    run.fit(Small(), loader())

    saved = [read_checkpoint(tmp_path / f"step {step}") for step in (1, 2, 3)]
    assert [state["global_step"] for state in saved] == [1, 2, 3]
    first, second = (next(iter(state["state_dict"].values())) for state in saved[:2])
    assert not torch.equal(first, second)


def test_resuming_opens_a_new_attempt_that_names_its_fork(tmp_path: Path) -> None:
    first, second = trainer(tmp_path), trainer(tmp_path, max_epochs=2)
    first.fit(Small(), loader())
    second.fit(Small(), loader(), ckpt_path=last(first))

    assert second.run_folder is not None
    assert second.run_folder.attempts() == [0, 1]
    (started,) = events(second, nb.RunStarted, attempt=1)
    (saved,) = events(first, nb.CheckpointSaved)
    assert started.fork.attempt == 0
    assert started.fork.checkpoint == saved.path
    assert started.fork.seq < saved.seq


def test_a_checkpoint_in_another_runs_folder_is_resumed_in_a_run_of_its_own(
    tmp_path: Path,
) -> None:
    other = trainer(tmp_path / "other")
    other.fit(Small(), loader())
    inside_other = last(other).parent / "of another run"
    first = trainer(tmp_path, callbacks=[nb.ModelCheckpoint(dirpath=inside_other)])
    first.fit(Small(), loader())
    (checkpoint,) = inside_other.iterdir()

    second = trainer(tmp_path, max_epochs=2)
    second.fit(Small(), loader(), ckpt_path=checkpoint)

    assert other.run_folder is not None
    assert other.run_folder.attempts() == [0]
    (started,) = events(second, nb.RunStarted)
    assert started.fork is None
    assert second.global_step == 12


def test_ckpt_path_last_finds_the_newest_run_of_the_name(tmp_path: Path) -> None:
    first, second = trainer(tmp_path), trainer(tmp_path, max_epochs=2)
    first.fit(Small(), loader())
    second.fit(Small(), loader(), ckpt_path="last")

    assert second.log_dir == first.log_dir


def test_the_newest_two_checkpoints_are_kept(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=3)
    run.fit(Small(), loader())

    names = sorted(path.name for path in last(run).parent.iterdir())
    assert names == ["epoch=1-step=12", "epoch=2-step=18", "last"]
    assert last(run).resolve().name == "epoch=2-step=18"


def test_evaluation_takes_weights_from_a_checkpoint(tmp_path: Path) -> None:
    run, trained = trainer(tmp_path, max_epochs=3), Small()
    run.fit(trained, loader())
    fresh = Small()

    trainer(tmp_path / "other").test(fresh, loader(), ckpt_path=last(run), verbose=False)

    assert torch.equal(weights(fresh)[0], weights(trained)[0])


def test_hooks_can_add_to_a_checkpoint_and_take_it_back(tmp_path: Path) -> None:
    class Adds(Small):
        taken: Any = None

        def on_save_checkpoint(self, checkpoint: Any) -> None:
            checkpoint["mine"] = {"words": ["a", "b"], "tensor": torch.arange(3)}

        def on_load_checkpoint(self, checkpoint: Any) -> None:
            self.taken = checkpoint["mine"]

    run, module = trainer(tmp_path), Adds()
    run.fit(Adds(), loader())
    trainer(tmp_path, max_epochs=2).fit(module, loader(), ckpt_path=last(run))

    evaluated = Adds()
    trainer(tmp_path).validate(evaluated, loader(), ckpt_path=last(run), verbose=False)

    for taken in (module.taken, evaluated.taken):
        assert taken["words"] == ["a", "b"]
        assert torch.equal(taken["tensor"], torch.arange(3))


def test_what_a_hook_adds_that_cannot_be_saved_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class AddsAFunction(Small):
        def on_save_checkpoint(self, checkpoint: Any) -> None:
            checkpoint["also mine"] = self.current_epoch
            if self.current_epoch == 1:  # at the end of the second
                checkpoint["mine"] = lambda: 1

    callback = nb.ModelCheckpoint(tmp_path / "kept", save_top_k=-1)
    run = trainer(tmp_path, max_epochs=3, callbacks=[callback])
    run.fit(AddsAFunction(), loader())
    run.save_checkpoint(tmp_path / "asked for")

    (fault,) = events(run, nb.Fault)  # once, for the callback's checkpoints and the run's own
    assert "checkpoints are saved without 'mine'" in fault.message
    assert "checkpoints are saved without 'mine'" in capsys.readouterr().err
    second = read_checkpoint(tmp_path / "kept" / "epoch=1-step=12")
    assert second["left_out"]["mine"].startswith("state.mine is function")
    assert second["also mine"] == 1
    assert "mine" not in read_checkpoint(tmp_path / "asked for")


def test_a_run_that_ends_within_an_epoch_is_saved_as_it_is_after_a_callback_saved_it_before(
    tmp_path: Path,
) -> None:
    callback = nb.ModelCheckpoint(every_n_train_steps=3, filename="{step}")
    run = trainer(tmp_path, max_steps=4, callbacks=[callback])
    run.fit(Small(), loader())

    assert read_checkpoint(Path(last(run)))["global_step"] == 4
    assert callback.best_model_path.endswith("step=3")


def test_actors_and_callbacks_keep_their_state(tmp_path: Path) -> None:
    class Counts(nb.Callback):
        count = 0

        def on_train_batch_end(self, *_: Any) -> None:
            self.count += 1

        def state_dict(self) -> dict[str, Any]:
            return {"count": self.count}

        def load_state_dict(self, state_dict: Any) -> None:
            self.count = state_dict["count"]

    first, counts = trainer(tmp_path, callbacks=[Counts()]), Counts()
    first.fit(Small(), loader())
    trainer(tmp_path, max_epochs=2, callbacks=[counts]).fit(
        Small(), loader(), ckpt_path=last(first)
    )

    assert counts.count == 12


@pytest.mark.parametrize(
    ("state", "path"),
    [
        ({"a": {"b": [1, object()]}}, r"state\.a\.b\[1\] is object"),
        ({"f": print}, r"state\.f is builtin_function"),
        ({"d": {(1, print): 3}}, r"state\.d's key \(1, .*\)\[1\] is builtin_function"),
    ],
)
def test_state_that_cannot_be_carried_is_refused_with_its_path(
    tmp_path: Path, state: Any, path: str
) -> None:
    with pytest.raises(CheckpointError, match=path):
        write_checkpoint(tmp_path / "x", state)

    assert list(tmp_path.iterdir()) == []


def test_plain_data_and_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    tied = torch.randn(3)
    state = {
        "numbers": [1, 2.5, True, None, float("inf")],
        "tuple": (1, (2, torch.ones(2))),
        "ints": {0: "zero", 1: b"one"},
        "tied": [tied, tied],
        "views": [tied[:2], tied.view(3, 1)],
        "scalar": torch.tensor(3),
        "empty": torch.empty(0),
    }

    write_checkpoint(tmp_path / "x", state)
    back = read_checkpoint(tmp_path / "x")

    assert back["numbers"] == state["numbers"]
    assert back["tuple"][0] == 1
    assert isinstance(back["tuple"][1], tuple)
    assert back["ints"] == state["ints"]
    assert back["tied"][0] is back["tied"][1]
    assert torch.equal(back["views"][1], tied.view(3, 1))
    assert back["scalar"].shape == ()
    assert back["empty"].shape == (0,)


@pytest.mark.parametrize("name", ["state.msgpack", "tensors.safetensors"])
def test_a_damaged_checkpoint_is_refused_and_never_executed(tmp_path: Path, name: str) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    write_checkpoint(tmp_path / "x", {"t": torch.ones(2)})
    (tmp_path / "x" / name).write_bytes(pickle.dumps(Bomb()))

    with pytest.raises(CheckpointError, match="is damaged"):
        read_checkpoint(tmp_path / "x")
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(Small(), loader())

    for path in last(run).resolve().iterdir():
        assert not path.read_bytes().startswith((b"\x80\x04", b"\x80\x05", b"PK"))


def test_resuming_with_other_optimizers_is_refused(tmp_path: Path) -> None:
    class Without(Small):
        def configure_optimizers(self) -> Any:
            return None

    run = trainer(tmp_path)
    run.fit(Small(), loader())

    with pytest.raises(CheckpointError, match="1 optimizers, configure_optimizers gave 0"):
        trainer(tmp_path, max_epochs=2).fit(Without(), loader(), ckpt_path=last(run))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    class Other(Small):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 3))

    run = trainer(tmp_path)
    run.fit(Small(), loader())

    with pytest.raises(CheckpointError, match="does not fit the module"):
        trainer(tmp_path, max_epochs=2).fit(Other(), loader(), ckpt_path=last(run))


def test_a_missing_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        trainer(tmp_path).fit(Small(), loader(), ckpt_path=tmp_path / "nowhere")


def test_a_missing_checkpoint_is_a_missing_file_too(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        trainer(tmp_path).fit(Small(), loader(), ckpt_path=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        nb.load_checkpoint(tmp_path / "nowhere")


def test_weights_alone_cannot_be_resumed_from(tmp_path: Path) -> None:
    class Saves(Small):
        def on_train_end(self) -> None:
            self.trainer.save_checkpoint(tmp_path / "weights", weights_only=True)

    trainer(tmp_path).fit(Saves(), loader())

    with pytest.raises(CheckpointError, match="only weights"):
        trainer(tmp_path, max_epochs=2).fit(Small(), loader(), ckpt_path=tmp_path / "weights")


def test_a_checkpoint_replaces_nothing(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x", {"a": 1})

    with pytest.raises(CheckpointError, match="x exists already and is not overwritten"):
        write_checkpoint(tmp_path / "x", {"a": 2})
    assert read_checkpoint(tmp_path / "x") == {"a": 1}


def test_who_gives_a_runs_folder_is_told_its_newest_checkpoint(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(Small(), loader())

    with pytest.raises(CheckpointError, match="checkpoints/last is the newest of this run"):
        Small.load_from_checkpoint(str(run.log_dir))


def test_a_checkpoint_that_lies_elsewhere_is_gone_on_from_in_its_run(tmp_path: Path) -> None:
    callback = nb.ModelCheckpoint(dirpath=tmp_path / "mine")
    first, second = trainer(tmp_path, callbacks=[callback]), trainer(tmp_path, max_epochs=2)
    first.fit(Small(), loader())

    second.fit(Small(), loader(), ckpt_path=callback.best_model_path)

    assert second.log_dir == first.log_dir
    (started,) = events(second, nb.RunStarted, attempt=1)
    assert started.fork.checkpoint == callback.best_model_path
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_resuming_with_another_class_of_optimizer_is_refused(tmp_path: Path) -> None:
    class WithAdam(Small):
        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters())

    run = trainer(tmp_path)
    run.fit(Small(), loader())

    with pytest.raises(CheckpointError, match="the optimizers SGD, configure_optimizers gave Adam"):
        trainer(tmp_path, max_epochs=2).fit(WithAdam(), loader(), ckpt_path=last(run))


def test_resuming_with_other_groups_of_parameters_is_refused(tmp_path: Path) -> None:
    class TwoGroups(Small):
        def configure_optimizers(self) -> Any:
            first, *rest = self.parameters()
            return torch.optim.SGD([{"params": [first]}, {"params": rest}], lr=0.1, momentum=0.9)

    run = trainer(tmp_path)
    run.fit(Small(), loader())

    with pytest.raises(CheckpointError, match="the checkpoint's SGD does not fit"):
        trainer(tmp_path, max_epochs=2).fit(TwoGroups(), loader(), ckpt_path=last(run))


def test_a_state_whose_callback_is_gone_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = trainer(tmp_path, callbacks=[nb.ModelCheckpoint()])
    first.fit(Small(), loader())

    trainer(tmp_path, max_epochs=2).fit(Small(), loader(), ckpt_path=last(first))

    assert "that are not in this run" in capsys.readouterr().err


def test_a_layer_that_is_thawed_for_a_resumed_run_is_trained_in_it(tmp_path: Path) -> None:
    begun, thawed = Small(), Small()
    begun.net.get_submodule("0").requires_grad_(False)
    first, second = trainer(tmp_path), trainer(tmp_path, max_epochs=2)

    first.fit(begun, loader())
    second.fit(thawed, loader(), ckpt_path=last(first))

    assert not torch.equal(weights(thawed)[0], weights(begun)[0])
