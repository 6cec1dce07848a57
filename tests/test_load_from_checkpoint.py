"""load_from_checkpoint: a module or datamodule as it was, without the code that made it."""

import pickle
import sys
import threading
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer, weights
from torch import nn

import nightbus as nb
from nightbus.actors.checkpoints.format import write_checkpoint
from nightbus.bus.errors import CheckpointError


class Sized(Small):
    def __init__(self, hidden: int, act: Any = None, *, depth: int = 1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 2))


def saved(folder: Path, module: Any, **options: Any) -> Path:
    run = trainer(folder, **options)
    run.fit(module, loader())
    assert run.run_folder is not None
    return run.run_folder.path / "checkpoints" / "last"


def test_a_module_is_made_with_its_hyperparameters_and_weights(tmp_path: Path) -> None:
    module = Sized(5, depth=3)
    found = Sized.load_from_checkpoint(saved(tmp_path, module))

    assert found.hparams == {"hidden": 5, "act": None, "depth": 3}
    assert all(map(torch.equal, weights(found), weights(module)))


def test_arguments_given_win_over_the_checkpoints(tmp_path: Path) -> None:
    found = Sized.load_from_checkpoint(saved(tmp_path, Sized(5, depth=3)), depth=9)

    assert found.hparams.depth == 9


def test_a_hyperparameter_that_cannot_be_carried_has_to_be_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Needs(Small):
        def __init__(self, act: Any) -> None:
            super().__init__()
            self.save_hyperparameters()

    path = saved(tmp_path, Needs(torch.tanh))

    assert "hyperparameters are not in the checkpoint" in capsys.readouterr().err
    with pytest.raises(nb.UsageError, match="does not contain these arguments of Needs: act"):
        Needs.load_from_checkpoint(path)
    assert Needs.load_from_checkpoint(path, act=torch.tanh).hparams.act is torch.tanh


def test_hyperparameters_given_as_one_object_come_back_as_one(tmp_path: Path) -> None:
    class FromArgs(Small):
        def __init__(self, args: Any) -> None:
            super().__init__(lr=args.lr)
            self.save_hyperparameters(args)

    found = FromArgs.load_from_checkpoint(saved(tmp_path, FromArgs(Namespace(lr=0.2, n=3))))

    assert found.lr == 0.2
    assert found.hparams == {"lr": 0.2, "n": 3}


def test_weights_that_do_not_fit_are_refused_unless_not_strict(tmp_path: Path) -> None:
    class More(Sized):
        def __init__(self, hidden: int, act: Any = None, *, depth: int = 1) -> None:
            super().__init__(hidden, act, depth=depth)
            self.extra = nn.Linear(1, 1)

    path = saved(tmp_path, Sized(5))

    with pytest.raises(CheckpointError, match="do not fit More"):
        More.load_from_checkpoint(path)
    assert More.load_from_checkpoint(path, strict=False).hparams.hidden == 5


def test_the_module_takes_back_what_it_added(tmp_path: Path) -> None:
    class Adds(Small):
        words: Any = None

        def on_save_checkpoint(self, checkpoint: Any) -> None:
            checkpoint["words"] = ["a"]

        def on_load_checkpoint(self, checkpoint: Any) -> None:
            self.words = checkpoint["words"]

    assert Adds.load_from_checkpoint(saved(tmp_path, Adds())).words == ["a"]


def test_a_datamodule_is_made_with_its_hyperparameters_and_state(tmp_path: Path) -> None:
    class Data(nb.LightningDataModule):
        def __init__(self, size: int) -> None:
            self.save_hyperparameters()
            self.seen = 0

        def train_dataloader(self) -> Any:
            self.seen += 1
            return loader(self.hparams.size)

        def state_dict(self) -> dict[str, Any]:
            return {"seen": self.seen}

        def load_state_dict(self, state_dict: Any) -> None:
            self.seen = state_dict["seen"]

    run = trainer(tmp_path)
    run.fit(Small(), datamodule=Data(16))
    assert run.run_folder is not None

    found = Data.load_from_checkpoint(run.run_folder.path / "checkpoints" / "last")

    assert found.hparams == {"size": 16}
    assert found.seen == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hparams.yaml", "hidden: 7\nact: gelu\n"),
        ("hparams.csv", "key,value\nhidden,7\nact,gelu\n"),
    ],
)
def test_hyperparameters_of_a_file_replace_the_checkpoints(
    tmp_path: Path, name: str, text: str
) -> None:
    path = saved(tmp_path, Sized(7, depth=3))
    (tmp_path / name).write_text(text)

    found = Sized.load_from_checkpoint(path, hparams_file=tmp_path / name)

    assert found.hparams == {"hidden": 7, "act": "gelu", "depth": 1}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent.yaml", None, "cannot be read"),
        ("hparams.txt", "", r"expected a \.yaml, \.yml or \.csv file"),
        ("hparams.yaml", "- 1", "expected a mapping of names to values; it has list"),
        ("hparams.yaml", "{", "is not YAML"),
        ("hparams.csv", "a,b\n1,2\n", "expected a first line 'key,value'"),
    ],
)
def test_a_file_that_has_no_hyperparameters_is_refused(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    path = saved(tmp_path, Sized(5))
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(nb.UsageError, match=said):
        Sized.load_from_checkpoint(path, hparams_file=tmp_path / name)


def test_a_file_of_hyperparameters_may_be_missing_where_not_all_has_to_match(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, Sized(5))

    found = Sized.load_from_checkpoint(path, hparams_file=tmp_path / "absent.yaml", strict=False)

    assert found.hparams["hidden"] == 5
    assert "those of the checkpoint are used" in capsys.readouterr().err


def test_yaml_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, Sized(5))
    (tmp_path / "hparams.yaml").write_text("hidden: 5")
    monkeypatch.setitem(sys.modules, "yaml", None)

    with pytest.raises(nb.UsageError, match=r"needs the package pyyaml; .*nightbus\[yaml\]"):
        Sized.load_from_checkpoint(path, hparams_file=tmp_path / "hparams.yaml")


@pytest.mark.parametrize(
    ("given", "device"),
    [
        ("meta", "meta"),
        ({"cuda:1": "cuda:0"}, "cpu"),
        ({"cpu": "meta"}, "meta"),
        (lambda storage, _: storage, "cpu"),
        (lambda storage, _: None, "cpu"),
    ],
)
def test_tensors_go_where_map_location_says(tmp_path: Path, given: Any, device: str) -> None:
    found = Sized.load_from_checkpoint(saved(tmp_path, Sized(5)), map_location=given)

    assert found.device.type == device


def test_a_module_may_say_itself_that_weights_may_match_in_part(tmp_path: Path) -> None:
    class Part(Sized):
        def __init__(self, hidden: int, act: Any = None, *, depth: int = 1) -> None:
            super().__init__(hidden, act, depth=depth)
            self.extra = nn.Linear(1, 1)
            self.strict_loading = False

    path = saved(tmp_path, Sized(5))

    Part.load_from_checkpoint(path)
    with pytest.raises(CheckpointError, match="do not fit Part"):
        Part.load_from_checkpoint(path, strict=True)
    trainer(tmp_path).validate(Part(5), loader(), ckpt_path=path, verbose=False)


def test_parts_that_configure_model_makes_get_their_weights(tmp_path: Path) -> None:
    class Later(Small):
        head: nn.Module | None = None

        def configure_model(self) -> None:
            if self.head is None:
                self.head = nn.Linear(2, 2)

    module = Later()
    found = Later.load_from_checkpoint(saved(tmp_path, module))

    assert all(map(torch.equal, weights(found), weights(module)))


def test_a_module_is_configured_before_it_is_given_the_checkpoint(tmp_path: Path) -> None:
    class Grows(Small):
        head: nn.Module

        def configure_model(self) -> None:
            self.head = nn.Linear(2, 2)

        def on_load_checkpoint(self, checkpoint: Any) -> None:
            self.head.requires_grad_(requires_grad=False)

    path = saved(tmp_path, Grows())
    module = Grows()
    trainer(tmp_path, max_epochs=2).fit(module, loader(), ckpt_path=path)

    for each in (module, Grows.load_from_checkpoint(path)):
        assert not any(weight.requires_grad for weight in each.head.parameters())


def test_a_datamodule_takes_hyperparameters_of_a_file(tmp_path: Path) -> None:
    class Data(nb.LightningDataModule):
        def __init__(self, size: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()

        def train_dataloader(self) -> Any:
            return loader(self.hparams.size)

    run = trainer(tmp_path)
    run.fit(Small(), datamodule=Data())
    run.save_checkpoint(tmp_path / "saved")
    (tmp_path / "hparams.csv").write_text("key,value\nsize,8\n")

    found = Data.load_from_checkpoint(
        tmp_path / "saved", map_location="cpu", hparams_file=tmp_path / "hparams.csv"
    )

    assert found.hparams == {"size": 8}


def test_a_hook_that_misses_what_was_left_out_says_why(tmp_path: Path) -> None:
    class Keeps(Small):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["mine"] = threading.Lock()

        def on_load_checkpoint(self, checkpoint: Any) -> None:
            checkpoint["mine"]

    with pytest.raises(KeyError) as caught:
        Keeps.load_from_checkpoint(saved(tmp_path, Keeps()))

    assert "the checkpoint was saved without 'mine': " in caught.value.__notes__[0]


def test_a_hyperparameter_that_was_left_out_says_why_where_it_is_looked_for(tmp_path: Path) -> None:
    class Locks(Small):
        def __init__(self, lock: Any, size: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()

    path = saved(tmp_path, Locks(threading.Lock()))
    found = nb.load_checkpoint(path)["hyper_parameters"]

    with pytest.raises(KeyError, match="lock") as caught:
        found["lock"]

    assert found == {"size": 4}
    assert "was saved without the hyperparameter 'lock': " in caught.value.__notes__[0]
    assert str(path) in caught.value.__notes__[0]
    assert pickle.loads(pickle.dumps(found)) == found


def test_an_argument_that_the_module_does_not_have_is_left_out_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, Sized(5))

    assert Sized.load_from_checkpoint(path, dropout=0.1).hparams["hidden"] == 5
    assert "they are left out names=dropout" in capsys.readouterr().err


def test_a_checkpoint_without_weights_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "empty", {"state_dict": {}, "epoch": 0})

    Small.load_from_checkpoint(tmp_path / "empty", strict=False)

    assert "the checkpoint contains no parameters" in capsys.readouterr().err
