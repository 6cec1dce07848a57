"""nightbus export-ckpt: checkpoints that Lightning loads, and what comes back from it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer, weights

import nightbus as nb
from nightbus.__main__ import main
from nightbus.actors.checkpoints.export_checkpoint import export
from nightbus.actors.checkpoints.format import write_checkpoint
from nightbus.actors.checkpoints.import_checkpoint import convert
from nightbus.actors.checkpoints.lightning_format import to_lightning

pytestmark = pytest.mark.long


class Model(Small):
    """With hyperparameters, a scheduler, and an entry of its own in checkpoints."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        self.save_hyperparameters()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["labels"] = ["no", "yes"]


class Counts(nb.Callback):
    """Counts the batches of a training, and keeps the number in checkpoints."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(self, *args: Any) -> None:
        self.batches += 1

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state_dict: Any) -> None:
        self.batches = state_dict["batches"]


def trained(folder: Path, **arguments: Any) -> tuple[nb.Trainer, Model, Path]:
    """A run of two epochs of 6 batches, or of what is given, and its checkpoint."""
    callbacks = [Counts(), nb.EarlyStopping("val_loss", patience=7)]
    run, module = trainer(folder, **{"max_epochs": 2, "callbacks": callbacks, **arguments}), Model()
    run.fit(module, loader(), loader())
    run.save_checkpoint(folder / "mine")
    return run, module, folder / "mine"


def test_the_file_holds_what_lightning_saves_under_its_names(tmp_path: Path) -> None:
    _, module, saved = trained(tmp_path)

    assert export(saved, tmp_path / "model.ckpt") == [
        "rng: random numbers: Lightning draws others after resuming"
    ]

    content = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert all(map(torch.equal, content["state_dict"].values(), weights(module)))
    assert (content["epoch"], content["global_step"]) == (2, 12)
    assert content["hyper_parameters"] == {"lr": 0.1}
    assert content["labels"] == ["no", "yes"]
    assert content["lr_schedulers"][0]["last_epoch"] == 2
    assert content["callbacks"]["Counts"] == {"batches": 12}
    stopping = content["callbacks"]["EarlyStopping{'monitor': 'val_loss', 'mode': 'min'}"]
    assert stopping["patience"] == 7
    assert not content.keys() & {"rng", "actors", "run", "kept", "loaders"}
    batches = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert batches["total"] == {"ready": 12, "started": 12, "processed": 12, "completed": 12}
    assert batches["is_last_batch"]


def test_a_checkpoint_of_the_middle_of_an_epoch_says_that_lightning_reads_the_data_anew(
    tmp_path: Path,
) -> None:
    _, _, saved = trained(tmp_path, max_steps=8)

    left_out = export(saved, tmp_path / "model.ckpt")

    assert any("the place in the data" in line for line in left_out)
    batches = torch.load(tmp_path / "model.ckpt")["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert batches["current"]["completed"] == 2
    assert not batches["is_last_batch"]


def test_a_checkpoint_of_weights_is_one_of_weights_there_too(tmp_path: Path) -> None:
    run, _, _ = trained(tmp_path)
    run.save_checkpoint(tmp_path / "weights", weights_only=True)

    export(tmp_path / "weights", tmp_path / "model.ckpt")

    content = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert content.keys() >= {"state_dict", "hyper_parameters", "labels"}
    assert not content.keys() & {"optimizer_states", "loops", "callbacks"}


def test_what_comes_back_goes_on_where_it_was(tmp_path: Path) -> None:
    run, module, saved = trained(tmp_path)
    export(saved, tmp_path / "model.ckpt")
    left_out = convert(tmp_path / "model.ckpt", tmp_path / "back")
    counts, stopping = Counts(), nb.EarlyStopping("val_loss", patience=7)

    again = trainer(tmp_path, max_epochs=3, callbacks=[counts, stopping])
    again.fit(Model(), loader(), loader(), ckpt_path=tmp_path / "back")
    longer = trainer(tmp_path, max_epochs=3)
    longer.fit(module, loader(), loader(), ckpt_path=saved)

    assert left_out == []
    assert counts.batches == 18
    assert again.global_step == longer.global_step == 18
    assert again.lr_scheduler_configs[0].scheduler.last_epoch == 3
    assert nb.load_checkpoint(tmp_path / "back")["labels"] == ["no", "yes"]
    assert run.global_step == 12


def test_the_verb_says_what_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, saved = trained(tmp_path)

    assert main(["export-ckpt", str(saved), "-o", str(tmp_path / "model.ckpt")]) == 0

    shown = capsys.readouterr()
    assert "left out: rng" in shown.err
    assert "is now the file" in shown.out
    assert main(["export-ckpt", str(saved), "-o", str(tmp_path / "model.ckpt")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_folder_that_is_no_checkpoint_gives_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export-ckpt", str(tmp_path), "-o", str(tmp_path / "model.ckpt")]) == 2
    assert "is not a checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "model.ckpt").exists()


def test_a_callback_of_an_earlier_version_whose_class_is_unknown_is_left_out(
    tmp_path: Path,
) -> None:
    _, _, saved = trained(tmp_path)
    state = nb.load_checkpoint(saved)
    del state["actor_classes"]

    content, left_out = to_lightning(state)

    assert "actors.counts: the checkpoint does not have its class's name" in left_out
    assert list(content["callbacks"]) == ["EarlyStopping{'monitor': 'val_loss', 'mode': 'min'}"]


@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_lightning_itself_loads_it_and_trains_on(tmp_path: Path) -> None:
    lightning: Any = pytest.importorskip("lightning")
    base: Any = lightning.LightningModule

    class Theirs(base):  # type: ignore[misc]
        def __init__(self, lr: float = 0.5) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net, self.labels = Small().net, None

        def on_load_checkpoint(self, checkpoint: Any) -> None:
            self.labels = checkpoint["labels"]

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            return torch.nn.functional.cross_entropy(self.net(x), y)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", self.training_step(batch, batch_idx))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]

    run, module, saved = trained(tmp_path)
    export(saved, tmp_path / "model.ckpt")
    found = Theirs.load_from_checkpoint(tmp_path / "model.ckpt")
    assert found.hparams.lr == 0.1
    assert found.labels == ["no", "yes"]
    assert all(map(torch.equal, weights(found), weights(module)))

    stopping = lightning.pytorch.callbacks.EarlyStopping("val_loss", patience=3)
    theirs = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[stopping],
    )
    on = Theirs(lr=0.1)
    theirs.fit(on, loader(), loader(), ckpt_path=tmp_path / "model.ckpt", weights_only=False)
    mine = Model()
    trainer(tmp_path, max_epochs=3).fit(mine, loader(), loader(), ckpt_path=saved)

    assert (theirs.current_epoch, theirs.global_step) == (3, 18)
    assert stopping.patience == 7
    assert all(map(torch.equal, weights(on), weights(mine)))
    assert run.global_step == 12


# -- paths ----------------------------------------------------------------------------------------


def test_a_path_with_lightnings_ending_means_the_folder(tmp_path: Path) -> None:
    run, _, saved = trained(tmp_path, callbacks=[nb.ModelCheckpoint(filename="best")])
    named = Path(f"{run.log_dir}/checkpoints/best.ckpt")

    assert Model.load_from_checkpoint(named).lr == 0.1
    assert nb.load_checkpoint(f"{saved}.ckpt")["global_step"] == 12
    again = trainer(tmp_path, max_epochs=3)
    again.fit(Model(), loader(), ckpt_path=named)
    assert again.global_step == 18


def test_a_folder_whose_name_has_lightnings_ending_is_meant_itself(tmp_path: Path) -> None:
    run, _, _ = trained(tmp_path)
    write_checkpoint(tmp_path / "x", {"state_dict": {}, "epoch": 0})
    run.save_checkpoint(tmp_path / "x.ckpt")

    assert nb.load_checkpoint(tmp_path / "x.ckpt")["epoch"] == 2


def test_a_checkpoint_has_a_note_on_how_to_read_it(tmp_path: Path) -> None:
    _, _, saved = trained(tmp_path)

    note = (saved / "README.txt").read_text()

    assert "Instead of torch.load(path)" in note
    assert "nightbus.load_checkpoint(path)" in note


def test_states_of_callbacks_with_keys_of_their_own_keep_these(tmp_path: Path) -> None:
    class Counter(nb.Callback):
        def __init__(self, what: str) -> None:
            self.what = what

        @property
        def state_key(self) -> str:
            return self._generate_state_key(what=self.what)

        def state_dict(self) -> dict[str, Any]:
            return {"what": self.what}

    run = trainer(tmp_path, callbacks=[Counter("a"), Counter("b")])
    run.fit(Small(), loader())
    run.save_checkpoint(tmp_path / "saved")

    found = to_lightning(nb.load_checkpoint(tmp_path / "saved")).content["callbacks"]
    assert [state["what"] for state in found.values()] == ["a", "b"]
    assert all(key.endswith(f"{{'what': '{state['what']}'}}") for key, state in found.items())
