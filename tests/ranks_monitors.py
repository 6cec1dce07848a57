"""A program of several ranks: what they log differs, and what they decide by it is the same."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torchmetrics
from ranks_fit import Net, bits, case, loader, main, trainer
from ranks_log import numbered
from torch import nn

import nightbus as nb
from nightbus.actors.callbacks import model_checkpoint

CASES: list[Any] = []


class Several(Net):
    """Logs each kind of value, of two validation loaders."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"max": torchmetrics.MaxMetric()})
        self.cat = torchmetrics.CatMetric()
        self.errors = torchmetrics.MetricCollection(
            {"mse": torchmetrics.MeanSquaredError(), "mae": torchmetrics.MeanAbsoluteError()}
        )

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        numbers = batch[0][:, 0]
        self.parts["max"].update(numbers)  # type: ignore[operator]
        self.cat.update(numbers)
        self.errors.update(numbers, numbers * 0.5)
        self.log("mean", numbers.mean(), prog_bar=True)
        self.log("half", numbers.mean().half())
        self.log("whole", int(numbers.sum()), reduce_fx="sum")
        self.log("is_odd", bool(numbers[0] % 2))
        self.log("numpy", numbers.double().mean().numpy())
        self.log("both", numbers.mean(), on_step=True, on_epoch=True)
        self.log("least", numbers.min(), reduce_fx=torch.min)
        self.log("spread", numbers.max(), reduce_fx=lambda values: values.max() - values.min())
        if dataloader_idx == 0:
            self.log("metric", self.parts["max"])
            self.log_dict(self.errors)

    def on_validation_epoch_end(self) -> None:
        gathered = self.cat.compute()
        self.cat.reset()
        self.log("number", float(torch.as_tensor(gathered).numel()))


def validated(function: Any) -> Any:
    loaders = [numbered(9, 1), numbered(1, 1)]
    return function(Several(), loaders, verbose=False)


@case(CASES)
def several_loaders() -> Any:
    return validated(trainer().validate)


class OnOneRank(Net):
    """Logs on rank 1 alone, in the epochs' first validation batch."""

    def __init__(self) -> None:
        super().__init__()
        self.metric = torchmetrics.SumMetric()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.metric.update(1.0)
        if dist.get_rank() == 1:
            self.log("by_function", float(batch_idx), reduce_fx=lambda values: values.sum() + 100)
            self.log("metric", self.metric)
            self.log("worst", float(batch_idx), reduce_fx="max")


class Keeps(nb.Callback):
    def __init__(self) -> None:
        self.kept: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.kept.append({name: float(v) for name, v in trainer.callback_metrics.items()})


@case(CASES)
def on_one_rank() -> Any:
    keeps = Keeps()
    trainer(callbacks=[keeps]).fit(OnOneRank(), loader(), numbered(8))
    return keeps.kept


class NotFinite(Net):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        value = float("nan") if dist.get_rank() == 1 and self.current_epoch == 1 else 1.0
        self.log("mean", value)
        self.log("least", value, reduce_fx="min")


@case(CASES)
def not_finite_on_one_rank() -> Any:
    keeps = Keeps()
    stops = nb.EarlyStopping("least", check_finite=True, patience=9)
    fitting = trainer(max_epochs=5, callbacks=[keeps, stops])
    fitting.fit(NotFinite(), loader(), loader())
    return {"epochs": fitting.current_epoch, "last": str(keeps.kept[-1])}


class Apart(Net):
    """Its values are each rank's own, and its schedulers monitor them."""

    def __init__(self, **scheduler: Any) -> None:
        super().__init__()
        self.scheduler = scheduler

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        own = float(self.global_step * (-1 if dist.get_rank() else 1))
        self.log("of_step", own)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        own = float(self.current_epoch * (1 if dist.get_rank() else -1))
        self.log("own", own, sync_dist=False)
        self.log("of_zero", -own, rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        optimizer: Any = super().configure_optimizers()
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": plateau, **self.scheduler},
        }


def fitted_apart(callbacks: Any = (), validated_on: Any = None, **scheduler: Any) -> Any:
    module = Apart(**scheduler)
    fitting = trainer(max_epochs=4, callbacks=list(callbacks), limit_train_batches=2)
    fitting.fit(module, loader(), loader() if validated_on is None else validated_on)
    rate = fitting.optimizers[0].param_groups[0]["lr"]
    return {"bits": bits(module), "rate": rate, "epochs": fitting.current_epoch}


@case(CASES)
def plateau_of_own_values() -> Any:
    return fitted_apart(monitor="own")


@case(CASES)
def plateau_of_rank_zero() -> Any:
    return fitted_apart(monitor="of_zero")


@case(CASES)
def plateau_of_own_steps() -> Any:
    return fitted_apart(monitor="of_step", interval="step")


@case(CASES)
def plateau_without_batches_on_rank_1() -> Any:
    return fitted_apart(monitor="own", validated_on=numbered(1))


@case(CASES)
def stopped_by_rank_zero() -> Any:
    stops = nb.EarlyStopping("of_zero", patience=1)
    return fitted_apart([stops], monitor="own")


class SyncsSteps(Net):
    """Its Metric exchanges its states in each training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.metric = torchmetrics.SumMetric(dist_sync_on_step=True)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.metric(float(dist.get_rank() + 1))
        self.log("metric", self.metric, on_step=True, on_epoch=True)
        return super().training_step(batch, batch_idx)


class LogsLate(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("in_time", float(dist.get_rank()), sync_dist=True)
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.log("late", float(dist.get_rank()), sync_dist=True)


@case(CASES)
def logged_late() -> Any:
    fitting = trainer(max_epochs=1, limit_train_batches=2)
    fitting.fit(LogsLate(), loader())
    return {name: float(value) for name, value in fitting.callback_metrics.items()}


@case(CASES)
def metric_of_steps() -> Any:
    fitting = trainer(max_epochs=1, limit_train_batches=2)
    fitting.fit(SyncsSteps(), loader())
    return {name: float(value) for name, value in fitting.callback_metrics.items()}


# -- checkpoints -------------------------------------------------------------------------------


class OwnClock:
    """On rank 1, time stands still."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.0 if dist.get_rank() else 1.0
        return self.now_s


def saved(name: str, module: Any, **options: Any) -> Any:
    keeping = nb.ModelCheckpoint(dirpath=name, save_top_k=-1, **options)
    options = {"enable_checkpointing": True, "default_root_dir": ".", "limit_train_batches": 6}
    fitting = trainer(callbacks=[keeping], **options)
    fitting.fit(module, loader(batch_size=2), loader())
    found = sorted(path.name for path in Path(name).iterdir())
    return {"found": found, "best": Path(keeping.best_model_path).name}


@case(CASES)
def saved_by_steps() -> Any:
    return saved("by-steps", Apart(monitor="own"), every_n_train_steps=4)


@case(CASES)
def saved_by_time() -> Any:
    with mock.patch.object(model_checkpoint, "monotonic", OwnClock()):
        return saved("by-time", Apart(monitor="own"), train_time_interval=timedelta(seconds=4))


@case(CASES)
def saved_by_own_values() -> Any:
    filename = "{epoch}-{own:.1f}"
    return saved("by-own", Apart(monitor="own"), monitor="own", filename=filename)


if __name__ == "__main__":
    main(sys.argv[1:], CASES)
