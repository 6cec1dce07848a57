"""Hyperparameters of modules and datamodules."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.actors.checkpoints.format import read_checkpoint


class Configured(Small):
    def __init__(self, width: int = 8, *, depth: int = 2, **others: Any) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_all_arguments_of_init_are_kept() -> None:
    module = Configured(16, depth=3, dropout=0.1)

    assert module.hparams == {"width": 16, "depth": 3, "dropout": 0.1}
    assert module.hparams.depth == 3


def test_arguments_of_a_subclass_are_kept_too_and_win() -> None:
    class Special(Configured):
        def __init__(self, width: int, kind: str) -> None:
            super().__init__(width=2 * width)

    assert Special(4, "wide").hparams == {"width": 4, "depth": 2, "kind": "wide"}


def test_only_named_arguments_are_kept() -> None:
    class Picks(Small):
        def __init__(self, a: int, b: int, c: int) -> None:
            super().__init__()
            self.save_hyperparameters("a", "c")

    assert Picks(1, 2, 3).hparams == {"a": 1, "c": 3}


def test_ignored_arguments_are_not_kept() -> None:
    class Ignores(Small):
        def __init__(self, a: int, net: Any) -> None:
            super().__init__()
            self.save_hyperparameters(ignore="net")

    assert Ignores(1, object()).hparams == {"a": 1}


@pytest.mark.parametrize("given", [{"a": 1}, Namespace(a=1)])
def test_a_mapping_or_namespace_is_kept_by_its_items(given: Any) -> None:
    class Takes(Small):
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.save_hyperparameters(config)

    assert Takes(given).hparams == {"a": 1}


def test_an_unknown_argument_is_refused_with_those_there_are() -> None:
    class Misspells(Small):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.save_hyperparameters("widht")

    with pytest.raises(nb.UsageError, match=r"'widht'.*it has width"):
        Misspells(1)


def test_a_missing_hyperparameter_is_named_with_those_there_are() -> None:
    with pytest.raises(AttributeError, match=r"'lr'; expected one of: width, depth"):
        Configured().hparams.lr  # noqa: B018


def test_the_log_begins_with_the_hyperparameters_of_module_and_datamodule(tmp_path: Path) -> None:
    class Data(nb.LightningDataModule):
        def __init__(self, batch_size: int) -> None:
            self.save_hyperparameters()

        def train_dataloader(self) -> Any:
            return loader()

    run = trainer(tmp_path)

    run.fit(Configured(layers=[3, 4]), datamodule=Data(4))

    (started,) = events(run, nb.RunStarted)
    assert started.hparams == {"batch_size": 4, "width": 8, "depth": 2, "layers": "3, 4"}


def test_an_array_is_a_hyperparameter_like_any_other(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(Configured(weights=np.arange(3)), loader())

    state = read_checkpoint(Path(str(run.log_dir)) / "checkpoints" / "last")

    assert state["hyper_parameters"]["weights"].tolist() == [0, 1, 2]


def test_hyperparameters_may_be_kept_from_the_log(tmp_path: Path) -> None:
    class Secret(Small):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.save_hyperparameters(logger=False)

    run = trainer(tmp_path)

    run.fit(Secret(3), loader())

    (started,) = events(run, nb.RunStarted)
    assert started.hparams == {}


def test_a_trainer_may_keep_all_hyperparameters_from_the_log(tmp_path: Path) -> None:
    run = trainer(tmp_path, enable_autolog_hparams=False)

    run.fit(Configured(weights=np.arange(3)), loader())

    (started,) = events(run, nb.RunStarted)
    assert started.hparams == {}
    state = read_checkpoint(Path(str(run.log_dir)) / "checkpoints" / "last")
    assert state["hyper_parameters"]["weights"].tolist() == [0, 1, 2]


def test_hyperparameters_that_are_assigned_are_kept_and_given_back(tmp_path: Path) -> None:
    class Assigns(Small):
        def __init__(self, hparams: Any) -> None:
            super().__init__()
            self.hparams = hparams  # type: ignore[misc]
            assert self.hparams.width == 3

    run = trainer(tmp_path, max_steps=1)
    run.fit(Assigns(Namespace(width=3, rate=0.5)), loader(4))
    run.save_checkpoint(tmp_path / "saved")

    loaded = Assigns.load_from_checkpoint(tmp_path / "saved")
    assert dict(loaded.hparams) == {"width": 3, "rate": 0.5}
    assert Assigns({"width": 3}).hparams == {"width": 3}


def test_what_has_no_names_cannot_be_assigned_as_hyperparameters() -> None:
    with pytest.raises(nb.UsageError, match="save_hyperparameters got int"):
        Small().hparams = 3  # type: ignore[misc, assignment]


def test_what_only_tensorboard_uses_is_said_once_where_it_is_set_on_the_default_logger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = nb.Trainer(default_root_dir=tmp_path, max_epochs=1).logger
    capsys.readouterr()

    logger._log_graph = True
    logger._log_graph = True
    logger._default_hp_metric = None

    said = "".join(capsys.readouterr())
    assert said.count("TensorBoardLogger('logs', log_graph=True)") == 1
    assert said.count("TensorBoardLogger('logs', default_hp_metric=None)") == 1
    assert logger._log_graph
