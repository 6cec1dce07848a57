"""A LightningModule within another one is in its run."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.bus.errors import UsageError


class Part(Small):
    """Notes where it is, and logs and puts for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []
        self.count = torchmetrics.SumMetric()
        self.at_end: list[float] = []

    def step(self, name: str) -> None:
        self.seen.append((self.current_epoch, self.global_step))
        self.log(f"{name}_logged", float(self.global_step), on_step=False, on_epoch=True)
        self.put(f"{name}_put", float(self.global_step))
        self.count(1)
        self.log(f"{name}_count", self.count, on_step=False, on_epoch=True)


class Whole(Small):
    """Has parts as an attribute, in containers, within a part, and one that is made late."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = Part()
        self.plain.within = Part()
        self.listed = torch.nn.ModuleList([torch.nn.Sequential(Part())])
        self.named = torch.nn.ModuleDict({"one": Part()})

    def configure_model(self) -> None:
        if not hasattr(self, "late"):
            self.late = Part()

    def parts(self) -> dict[str, Part]:
        return {
            name.replace(".", "_"): part
            for name, part in self.named_modules()
            if isinstance(part, Part)
        }

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for name, part in self.parts().items():
            part.step(name)
        return self.loss(batch)

    def on_train_epoch_end(self) -> None:
        for part in self.parts().values():
            part.at_end.append(float(part.count.compute()))


def test_it_knows_trainer_epoch_and_step_and_logs_and_puts(tmp_path: Path) -> None:
    module = Whole()
    run = trainer(tmp_path, max_epochs=2, sinks=[nb.CSV()])
    run.fit(module, loader(8))

    parts = module.parts()
    assert sorted(parts) == ["late", "listed_0_0", "named_one", "plain", "plain_within"]
    puts: dict[str, list[float]] = {}
    for event in events(run, nb.Put):
        assert event.source == "module"
        puts.setdefault(event.name, []).append(event.value)
    for name, part in parts.items():
        assert part.seen == [(0, 0), (0, 1), (1, 2), (1, 3)]
        assert puts[f"{name}_logged"] == [0.5, 2.5]
        assert puts[f"{name}_put"] == [0, 1, 2, 3]
        assert puts[f"{name}_count"] == part.at_end == [2, 2]


@pytest.mark.parametrize("function", ["validate", "test", "predict"])
def test_it_has_the_trainer_in_evaluation_and_afterwards(tmp_path: Path, function: str) -> None:
    class Asks(Small):
        def __init__(self) -> None:
            super().__init__()
            self.part = Part()
            self.found: list[Any] = []

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.found.append((self.part.trainer, self.part.logger))

        test_step = predict_step = validation_step  # type: ignore[assignment]

    module = Asks()
    run = trainer(tmp_path, sinks=[nb.CSV()])
    getattr(run, function)(module, loader(4))
    assert module.found == [(run, run.logger)]
    assert module.part.trainer is run


def test_it_is_given_back_to_the_run_that_another_one_interrupted(tmp_path: Path) -> None:
    module = Whole()

    class Tests(nb.Callback):
        def on_train_batch_end(self, outer: Any, *_: Any) -> None:
            trainer(tmp_path / "inner").test(module, loader(4))
            assert all(part.trainer is outer for part in module.parts().values())

    run = trainer(tmp_path / "outer", callbacks=[Tests()])
    run.fit(module, loader(8))
    assert module.parts()["plain"].seen == [(0, 0), (0, 1)]


def test_a_modules_trainer_can_be_set(tmp_path: Path) -> None:
    module, run = Whole(), trainer(tmp_path)
    module.trainer = run
    assert module.trainer is run
    assert all(part.trainer is run for part in module.parts().values())
    module.trainer = None
    with pytest.raises(UsageError, match="not attached"):
        _ = module.plain.trainer
    callback = nb.Callback()
    callback.trainer = run
    assert callback.trainer is run


def test_its_hyperparameters_stay_its_own(tmp_path: Path) -> None:
    class Sized(Small):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.save_hyperparameters()

    class Outer(Small):
        def __init__(self) -> None:
            super().__init__()
            self.part = Sized(3)
            self.save_hyperparameters({"outer": 1})

    module = Outer()
    trainer(tmp_path).fit(module, loader(4))
    assert dict(module.part.hparams) == {"size": 3}
    assert dict(module.hparams) == {"outer": 1}
