"""In which modes the parts of a module are trained and evaluated."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer
from torch import Tensor, nn


class Normed(Small):
    """Has a layer whose statistics depend on its mode, and notes in which mode it is."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.modes: list[tuple[str, bool, bool]] = []

    def forward(self, x: Tensor) -> Any:
        self.modes.append((str(self.trainer.state.stage), self.training, self.norm.training))
        return super().forward(self.norm(x))


def test_parts_in_eval_mode_stay_in_it_while_the_module_is_trained(tmp_path: Path) -> None:
    module = Normed()
    module.norm.eval()

    trainer(tmp_path, max_epochs=1).fit(module, loader(4), loader(4))

    assert {entry for entry in module.modes if entry[0] == "train"} == {("train", True, False)}
    assert ("validate", False, False) in module.modes
    assert (module.training, module.norm.training) == (True, False)
    assert module.norm.running_mean is not None
    assert torch.equal(module.norm.running_mean, torch.zeros(4))


def test_fit_says_that_parts_are_in_eval_mode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = Normed()
    trainer(tmp_path / "a", max_steps=1).fit(module, loader(4))
    assert "eval mode" not in capsys.readouterr().err

    module.eval()
    trainer(tmp_path / "b", max_steps=1).fit(module, loader(4))

    parts = len(list(module.modules()))
    said = capsys.readouterr().err
    assert f"{parts} of {parts} parts of Normed are in eval mode" in said
    assert "module.train()" in said


def test_a_resumed_run_trains_parts_in_the_modes_that_they_had(tmp_path: Path) -> None:
    def frozen() -> Normed:
        module = Normed()
        module.norm.eval()
        return module

    whole, first, rest = frozen(), frozen(), frozen()
    trainer(tmp_path / "whole", max_steps=4).fit(whole, loader(12))
    trainer(tmp_path / "cut", max_steps=2).fit(first, loader(12))
    trainer(tmp_path / "cut", max_steps=4).fit(rest, loader(12), ckpt_path="last")

    assert rest.modes == whole.modes[2:]
    assert all(map(torch.equal, rest.state_dict().values(), whole.state_dict().values()))


def test_the_module_may_choose_what_is_in_eval_mode_during_validation(tmp_path: Path) -> None:
    class Samples(Normed):
        def on_validation_model_eval(self) -> None:
            self.norm.eval()

    module = Samples()
    trainer(tmp_path).validate(module, loader(4))

    assert module.modes == [("validate", True, False)]
    assert module.norm.training


def test_an_override_may_switch_to_eval_mode_and_further(tmp_path: Path) -> None:
    class Samples(Normed):
        def on_predict_model_eval(self) -> None:
            super().on_predict_model_eval()
            self.norm.train()

        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return self(batch[0])

    module = Samples()
    trainer(tmp_path).predict(module, loader(4))

    assert module.modes == [("predict", False, True)]


def test_a_validation_that_fails_leaves_the_module_in_train_mode(tmp_path: Path) -> None:
    class Fails(Normed):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            raise RuntimeError("no")

    module = Fails()
    with pytest.raises(RuntimeError, match="no"):
        trainer(tmp_path).validate(module, loader(4))

    assert module.training
    assert module.norm.training
