"""nightbus import-ckpt: checkpoints of PyTorch and Lightning, taken over when asked for."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from models import Small, loader, trainer, weights

import nightbus as nb
from nightbus.__main__ import main
from nightbus.actors.checkpoints.format import read_checkpoint, write_checkpoint
from nightbus.actors.checkpoints.import_checkpoint import convert

pytestmark = pytest.mark.long


def of_lightning(folder: Path, **more: Any) -> tuple[Path, Small]:
    """A file as Lightning writes it, after one epoch of 6 steps."""
    module = Small()
    torch.nn.init.normal_(module.net[0].weight)  # type: ignore[index]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module.loss(next(iter(loader()))).backward()
    optimizer.step()
    content = {
        "epoch": 0,
        "global_step": 6,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": module.state_dict(),
        "loops": {"fit_loop": {"epoch_progress": {"total": {"processed": 1, "completed": 0}}}},
        "callbacks": {"ModelCheckpoint{}": {"best_model_path": "x"}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "hyper_parameters": {"lr": 0.1},
        **more,
    }
    torch.save(content, folder / "model.ckpt")
    return folder / "model.ckpt", module


def test_weights_and_hyperparameters_are_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class WithLR(Small):
        def __init__(self, lr: float) -> None:
            super().__init__(lr)
            self.save_hyperparameters()

    path, module = of_lightning(tmp_path)

    assert main(["import-ckpt", str(path), "-o", str(tmp_path / "mine"), "--trust"]) == 0

    found = WithLR.load_from_checkpoint(tmp_path / "mine")
    assert all(map(torch.equal, weights(found), weights(module)))
    assert found.hparams.lr == 0.1
    assert "left out: callbacks" in capsys.readouterr().err


def test_training_goes_on_with_the_optimizers_and_counters(tmp_path: Path) -> None:
    path, _ = of_lightning(tmp_path)
    convert(path, tmp_path / "mine")
    momentum = []

    class Looks(nb.Callback):
        def on_train_start(self, trainer: nb.Trainer, module: Any) -> None:
            momentum.append(len(trainer.optimizers[0].state))

    run = trainer(tmp_path, max_epochs=3, callbacks=[Looks()])
    run.fit(Small(), loader(), ckpt_path=tmp_path / "mine")

    assert momentum == [4]
    assert run.current_epoch == 3
    assert run.global_step == 6 + 2 * 6


def test_a_state_dict_is_taken_over_as_weights(tmp_path: Path) -> None:
    module = Small()
    torch.save(module.state_dict(), tmp_path / "model.pt")

    convert(tmp_path / "model.pt", tmp_path / "mine")

    assert read_checkpoint(tmp_path / "mine").keys() == {"state_dict", "hyper_parameters"}
    with pytest.raises(nb.CheckpointError, match="only weights"):
        trainer(tmp_path).fit(Small(), loader(), ckpt_path=tmp_path / "mine")


def test_a_file_that_is_not_there_is_said_before_trust_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import-ckpt", str(tmp_path / "no.ckpt"), "-o", str(tmp_path / "out")]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_nothing_is_read_without_trust(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = of_lightning(tmp_path)

    assert main(["import-ckpt", str(path), "-o", str(tmp_path / "mine")]) == 5
    assert "add --trust" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


def test_a_file_that_names_code_is_refused_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    path = tmp_path / "bomb.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": Bomb()}))

    assert main(["import-ckpt", str(path), "-o", str(tmp_path / "mine"), "--trust"]) == 1
    assert "cannot be read without running code that it names" in capsys.readouterr().err
    assert not (tmp_path / "exploded").exists()
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("version", ["2.9.1+cpu", "1.13.0"])
def test_a_torch_whose_reading_of_pickles_can_be_got_around_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    path, _ = of_lightning(tmp_path)
    monkeypatch.setattr(torch, "__version__", version)

    with pytest.raises(nb.CheckpointError, match=r"use 2\.10 or newer"):
        convert(path, tmp_path / "mine")

    assert not (tmp_path / "mine").exists()


def test_what_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    torch.save({"a": 1}, tmp_path / "x.pt")

    with pytest.raises(nb.CheckpointError, match="neither a state dict nor a checkpoint of Light"):
        convert(tmp_path / "x.pt", tmp_path / "y")


@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_a_checkpoint_that_lightning_itself_wrote_is_taken_over(tmp_path: Path) -> None:
    lightning: Any = pytest.importorskip("lightning")
    base: Any = lightning.LightningModule

    class Theirs(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = Small().net

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            return torch.nn.functional.cross_entropy(self.net(x), y)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    theirs = lightning.Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, **options
    )
    module = Theirs()
    theirs.fit(module, loader())
    theirs.save_checkpoint(tmp_path / "theirs.ckpt")

    code = main(
        ["import-ckpt", str(tmp_path / "theirs.ckpt"), "-o", str(tmp_path / "mine"), "--trust"]
    )
    assert code == 0
    run, mine = trainer(tmp_path, max_epochs=3), Small()
    run.fit(mine, loader(), ckpt_path=tmp_path / "mine")

    assert run.global_step == 18
    assert not torch.equal(weights(mine)[0], weights(module)[0])


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5])
def test_a_file_that_is_cut_short_is_said_to_be_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_zip: bool, kept: float
) -> None:
    torch.save(Small().state_dict(), tmp_path / "model.pt", _use_new_zipfile_serialization=is_zip)
    data = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(data[: int(len(data) * kept)])

    assert main(["import-ckpt", str(tmp_path / "model.pt"), "-o", str(tmp_path / "m"), "--trust"])

    said = capsys.readouterr().err
    assert "is damaged or cut short" in said
    assert "code" not in said


# -- what is none --------------------------------------------------------------------------------

NO_CHECKPOINTS = {
    "a text file": b"epoch 3, loss 0.1\n",
    "a web page": b"<!DOCTYPE html><html>403</html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid x\n",
    "a file of HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "compressed by gzip": b"\x1f\x8b" + bytes(100),
    "a file of another kind": b"\x00\x01\x02\xff" * 10,
    "a file of safetensors": safetensors.torch.save({"a": torch.ones(2)}),
    "it is empty": b"",
}


@pytest.mark.parametrize("trust", [[], ["--trust"]])
@pytest.mark.parametrize("what", NO_CHECKPOINTS)
def test_import_says_what_a_file_is_that_is_no_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, trust: list[str]
) -> None:
    (tmp_path / "file.ckpt").write_bytes(NO_CHECKPOINTS[what])

    code = main(["import-ckpt", str(tmp_path / "file.ckpt"), "-o", str(tmp_path / "m"), *trust])

    said = capsys.readouterr().err
    assert code == 2
    assert what in said
    assert "--trust" not in said


@pytest.mark.parametrize("what", NO_CHECKPOINTS)
def test_load_from_checkpoint_says_what_a_file_is(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_bytes(NO_CHECKPOINTS[what])

    with pytest.raises(nb.CheckpointError, match=what):
        Small.load_from_checkpoint(tmp_path / "file")


def test_load_from_checkpoint_of_lightnings_file_says_how_it_is_converted(tmp_path: Path) -> None:
    path, _ = of_lightning(tmp_path)

    with pytest.raises(nb.CheckpointError, match=r"nightbus import-ckpt .* --trust"):
        Small.load_from_checkpoint(path)


def test_load_from_checkpoint_of_a_path_that_is_not_there_names_those_that_are(
    tmp_path: Path,
) -> None:
    write_checkpoint(tmp_path / "epoch=1", {"state_dict": {}})

    with pytest.raises(
        nb.CheckpointError, match=r"there is no checkpoint .*; checkpoints in .*h=1"
    ):
        Small.load_from_checkpoint(tmp_path / "epoch=2")
    with pytest.raises(nb.CheckpointError, match="there is no folder"):
        Small.load_from_checkpoint(tmp_path / "nowhere" / "epoch=2")


def test_load_from_checkpoint_of_a_folder_that_is_none_says_what_one_holds(tmp_path: Path) -> None:
    with pytest.raises(nb.CheckpointError, match="a nightbus checkpoint is a folder with"):
        Small.load_from_checkpoint(tmp_path)


def test_import_of_a_folder_says_that_it_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "mine", {"state_dict": {}})

    assert main(["import-ckpt", str(tmp_path / "mine"), "-o", str(tmp_path / "m")]) == 2
    assert "a checkpoint of nightbus already" in capsys.readouterr().err
