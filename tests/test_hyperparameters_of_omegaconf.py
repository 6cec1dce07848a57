"""Configurations of OmegaConf and Hydra as hyperparameters and as arguments."""

import sys
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer
from omegaconf import DictConfig, OmegaConf

import nightbus as nb

TEXT = "{net: {width: 4, sizes: [1, 2]}, lr: 0.1, twice: '${.lr}', rest: '???'}"


class Whole(Small):
    def __init__(self, cfg: Any, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.cfg = cfg


class Items(Small):
    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.save_hyperparameters(cfg)
        self.cfg = cfg


def saved_by(saving: nb.Trainer) -> str:
    callback: Any = saving.checkpoint_callback
    return str(callback.best_model_path)


def restored(kind: type[Any], cfg: Any, folder: Path) -> Any:
    saving = trainer(folder, max_steps=1, limit_val_batches=0)
    saving.fit(kind(cfg), loader())
    return kind.load_from_checkpoint(saved_by(saving))


@pytest.mark.parametrize("kind", [Whole, Items])
def test_a_configuration_comes_back_from_a_checkpoint(kind: type[Any], tmp_path: Path) -> None:
    cfg = restored(kind, OmegaConf.create(TEXT), tmp_path).cfg

    assert isinstance(cfg, DictConfig)
    assert (cfg.net.width, cfg.net.sizes, cfg.twice) == (4, [1, 2], 0.1)
    assert OmegaConf.is_missing(cfg, "rest")


def test_its_items_are_hyperparameters_with_attributes() -> None:
    module = Items(OmegaConf.create(TEXT))

    assert module.hparams.net.width == 4
    assert module.hparams.twice == 0.1


def test_one_configuration_is_the_hyperparameters_itself(tmp_path: Path) -> None:
    cfg = OmegaConf.create(TEXT)
    module: Any = Items(cfg)

    restored_module = restored(Items, cfg, tmp_path)

    assert module.hparams is cfg
    assert isinstance(module.hparams_initial, DictConfig)
    assert isinstance(restored_module.hparams, DictConfig)
    assert restored_module.hparams.net == cfg.net


def test_what_is_set_on_it_is_saved(tmp_path: Path) -> None:
    module = Items(OmegaConf.create({"lr": 0.1}))
    module.hparams.lr = 0.5
    saving = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    saving.fit(module, loader())

    assert Items.load_from_checkpoint(saved_by(saving)).hparams.lr == 0.5
    assert module.hparams_initial.lr == 0.1


def test_with_further_arguments_it_is_among_the_hyperparameters() -> None:
    class Both(Small):
        def __init__(self, cfg: Any, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters(cfg)
            self.save_hyperparameters("lr")

    module = Both(OmegaConf.create({"width": 4}))

    assert module.hparams == {"width": 4, "lr": 0.1}
    assert isinstance(module.hparams, dict)


def test_a_reference_that_leads_nowhere_stays_one(tmp_path: Path) -> None:
    cfg = restored(Whole, OmegaConf.create({"size": "${data.size}"}), tmp_path).cfg

    assert OmegaConf.to_container(cfg) == {"size": "${data.size}"}


def test_without_omegaconf_it_is_a_mapping_with_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    saving.fit(Whole(OmegaConf.create(TEXT)), loader())
    monkeypatch.setitem(sys.modules, "omegaconf", None)

    cfg = Whole.load_from_checkpoint(saved_by(saving)).cfg

    assert cfg.net.width == 4
    assert isinstance(cfg, dict)


def test_what_hydra_composes_makes_a_trainer(tmp_path: Path) -> None:
    from hydra import compose, initialize_config_dir  # a second, in each process that collects

    (tmp_path / "config.yaml").write_text("trainer: {max_epochs: 3, limit_train_batches: 2}\n")
    with initialize_config_dir(str(tmp_path), version_base=None):
        cfg = compose("config", overrides=["trainer.max_epochs=5"])

    made = nb.Trainer(**cfg.trainer, enable_progress_bar=False, default_root_dir=tmp_path)

    assert (made.max_epochs, made.limit_train_batches) == (5, 2)
