"""A program of several ranks: each case evaluates or logs, and what it found is kept."""

import sys
from typing import Any

import torch
import torch.distributed as dist
import torchmetrics
from ranks_fit import Net, bits, loader, main, trainer
from torch.utils.data import DataLoader, TensorDataset

import nightbus as nb

SAMPLES = 11


def numbered(samples: int = SAMPLES, batch_size: int = 2) -> DataLoader[Any]:
    x = torch.zeros(samples, 5)
    x[:, 0] = torch.arange(samples)
    return DataLoader(TensorDataset(x, torch.zeros(samples, 1)), batch_size=batch_size)


class Evaluated(Net):
    """Notes which samples it sees, and logs their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.mean = torchmetrics.MeanMetric()

    def see(self, batch: Any) -> torch.Tensor:
        numbers: torch.Tensor = batch[0][:, 0]
        self.seen += [int(number) for number in numbers]
        return numbers

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        numbers = self.see(batch)
        self.log("val_mean", numbers.mean())
        self.log("val_sum", numbers.sum(), reduce_fx="sum")
        self.log("val_min", numbers.min(), reduce_fx="min")
        self.log("val_max", numbers.max(), reduce_fx="max")
        self.log("val_spread", numbers.max(), reduce_fx=lambda values: values.max() - values.min())

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.mean.update(self.see(batch))
        self.log("test_metric", self.mean)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self.see(batch)


def validated() -> Any:
    module = Evaluated()
    results = trainer().validate(module, numbered(), verbose=False)
    return {"seen": module.seen, "results": results}


def tested_with_torchmetrics() -> Any:
    module = Evaluated()
    results = trainer().test(module, numbered(), verbose=False)
    return {"seen": module.seen, "results": results}


def validated_on_one_sample() -> Any:
    """Rank 1 has no batch at all."""
    module = Evaluated()
    return trainer().validate(module, numbered(1), verbose=False)


def predicted() -> Any:
    module = Evaluated()
    found: Any = trainer().predict(module, numbered())
    return [int(number) for batch in found for number in batch]


class Logs(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        rank = float(dist.get_rank())
        self.log("both", rank, sync_dist=True, on_step=True, on_epoch=True)
        self.log("weighted", rank, sync_dist=True, batch_size=3 if rank else 1)
        self.log("most", rank, sync_dist=True, reduce_fx="max")
        self.log("own", rank, sync_dist=False, on_step=False, on_epoch=True)
        self.log("of_zero", rank + 5, rank_zero_only=True, on_step=False, on_epoch=True)
        if rank == 1:
            self.log("of_one", 7.0, sync_dist=True, on_epoch=True)
        return loss


class Reads(nb.Callback):
    """Keeps what callbacks read at the end of each batch."""

    def __init__(self) -> None:
        self.read: list[dict[str, float]] = []

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.read.append({name: float(v) for name, v in trainer.callback_metrics.items()})


def logged() -> Any:
    reads, fitting = Reads(), trainer(max_epochs=1, recording="all", default_root_dir=".")
    fitting.callbacks.append(reads)
    fitting.fit(Logs(), loader())
    at_end = {name: float(value) for name, value in fitting.callback_metrics.items()}
    return {"at_batches": reads.read, "at_end": at_end}


class LogsInSteps(Net):
    """Logs what ranks tell each other with the gradients, and what they cannot."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        rank = float(dist.get_rank())
        self.log("loss", loss, sync_dist=True)
        self.log("sum", rank + 1, sync_dist=True, reduce_fx="sum")
        self.log("broken", float("nan") if rank else 1.0, sync_dist=True)
        if batch_idx != 2:
            self.log("not_always", rank, sync_dist=True)
        if batch_idx == 2 and rank == 1:
            return None
        return loss

    def on_after_backward(self) -> None:
        self.log("late", float(dist.get_rank()), sync_dist=True)


class Silent(LogsInSteps):
    def log(self, *arguments: Any, **options: Any) -> None:
        """Log nothing."""


class Counts(Reads):
    """Keeps, too, how many exchanges there were until each batch's end."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self._all_reduce = dist.all_reduce
        self._number = 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        dist.all_reduce = self._counted

    def on_train_end(self, trainer: Any, module: Any) -> None:
        dist.all_reduce = self._all_reduce

    def _counted(self, *arguments: Any, **options: Any) -> Any:
        self._number += 1
        return self._all_reduce(*arguments, **options)

    def on_train_batch_end(self, *arguments: Any) -> None:
        super().on_train_batch_end(*arguments)
        self.calls.append(self._number)


def logged_in_steps(**options: Any) -> Any:
    counts, module = Counts(), LogsInSteps()
    trainer(max_epochs=1, callbacks=[counts], **options).fit(module, loader())
    silent = Silent()
    trainer(max_epochs=1, **options).fit(silent, loader())
    is_same = bits(module) == bits(silent)
    return {"at_batches": counts.read, "calls": counts.calls, "trains_the_same": is_same}


def logged_with_gradients() -> Any:
    return logged_in_steps()


def logged_while_accumulating() -> Any:
    return logged_in_steps(accumulate_grad_batches=2)


class LogsALoss(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("loss", loss, sync_dist=True)
        return loss


def exchanges_for_a_mean() -> Any:
    counts = Counts()
    trainer(max_epochs=1, callbacks=[counts]).fit(LogsALoss(), loader())
    return counts.calls


class Rises(Net):
    """Its validation gets worse on rank 0, and better on rank 1, but less."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        epoch = self.current_epoch
        self.log("val", 3.0 * epoch if dist.get_rank() == 0 else -1.0 * epoch)

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val"}}


def stopped_early() -> Any:
    stopping = nb.EarlyStopping("val", patience=2)
    fitting = trainer(max_epochs=9, callbacks=[stopping])
    fitting.fit(Rises(), loader(), loader())
    rate = fitting.optimizers[0].param_groups[0]["lr"]
    return {"epochs": fitting.current_epoch, "rate": rate, "step": fitting.global_step}


if __name__ == "__main__":
    main(
        sys.argv[1:],
        [
            validated,
            tested_with_torchmetrics,
            validated_on_one_sample,
            predicted,
            logged,
            logged_with_gradients,
            logged_while_accumulating,
            exchanges_for_a_mean,
            stopped_early,
        ],
    )
