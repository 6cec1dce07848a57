"""A program of several ranks: ways of training, each as one process trains with twice the batch."""

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Any

import torch
from ranks_fit import FEATURES, Net, bits, data, loader, main, trainer, weights
from torch import nn
from torch.utils.data import DataLoader

import nightbus as nb

NORMALIZED = {"swa_of_batch_norm", "ema_of_batch_norm"}  # by the batches of a rank
Variant = Callable[[int], Any]
VARIANTS: dict[str, Variant] = {}


def variant(train: Variant) -> Variant:
    """Make a function of the batch size, which returns what it trained, one of the variants."""
    VARIANTS[train.__name__] = train
    return train


def found_by(train: Variant, batch_size: int) -> dict[str, Any]:
    """What a variant has in the end."""
    module, fitting = train(batch_size)
    return {
        "bits": bits(module),
        "weights": weights(module),
        "steps": fitting.global_step,
        "epochs": fitting.current_epoch,
        "rates": [group["lr"] for each in fitting.optimizers for group in each.param_groups],
    }


def fitted(module: Any, batch_size: int, validates: bool = False, **options: Any) -> Any:
    fitting = trainer(**options)
    fitting.fit(module, loader(batch_size), loader(batch_size) if validates else None)
    return module, fitting


class Validated(Net):
    """Logs the losses of training and validation; has a scheduler."""

    def __init__(self, scheduler: Any = None) -> None:
        super().__init__()
        self.scheduler = scheduler

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("train_loss", loss, on_step=True, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        optimizer: Any = super().configure_optimizers()
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}


# -- callbacks ---------------------------------------------------------------------------------


@variant
def swa(batch_size: int) -> Any:
    callback = nb.StochasticWeightAveraging(0.01, swa_epoch_start=2, annealing_epochs=1)
    return fitted(Net(), batch_size, max_epochs=4, callbacks=[callback])


@variant
def ema(batch_size: int) -> Any:
    return fitted(Validated(), batch_size, True, callbacks=[nb.EMA(0.9)])


@variant
def weight_averaging(batch_size: int) -> Any:
    return fitted(Validated(), batch_size, True, callbacks=[nb.WeightAveraging()])


@variant
def swa_of_batch_norm(batch_size: int) -> Any:
    callback = nb.StochasticWeightAveraging(0.01, swa_epoch_start=2)
    return fitted(Net(normalizes=True), batch_size, max_epochs=3, callbacks=[callback])


@variant
def ema_of_batch_norm(batch_size: int) -> Any:
    class Measured(Validated):
        def __init__(self) -> None:
            super().__init__()
            self.layers[1] = nn.BatchNorm1d(8)

    stops = nb.EarlyStopping("val_loss", patience=1, min_delta=0.3)
    callbacks = [nb.EMA(0.9), stops]
    return fitted(Measured(), batch_size, True, max_epochs=4, callbacks=callbacks)


class Backbone(Net):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = self.layers[0], self.layers[2]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.head.parameters(), lr=0.05, momentum=0.9)


@variant
def backbone_finetuning(batch_size: int) -> Any:
    callback = nb.BackboneFinetuning(unfreeze_backbone_at_epoch=1)
    return fitted(Backbone(), batch_size, max_epochs=3, callbacks=[callback])


@variant
def accumulation_scheduler(batch_size: int) -> Any:
    callback = nb.GradientAccumulationScheduler({0: 1, 1: 2, 2: 3})
    return fitted(Net(), batch_size, max_epochs=3, callbacks=[callback])


class UnfreezesAtBatch(nb.Callback):
    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        module.layers[0].requires_grad_(False)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            module.layers[0].requires_grad_(True)


@variant
def unfrozen_within_an_epoch(batch_size: int) -> Any:
    return fitted(Net(), batch_size, callbacks=[UnfreezesAtBatch()])


# -- steps -------------------------------------------------------------------------------------


class Recurrent(Net):
    """Truncated back-propagation."""

    truncated_bptt_steps = 3

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(FEATURES, 4, batch_first=True)
        self.layers = nn.Sequential(nn.Linear(4, 1))

    def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:  # type: ignore[override]
        x, y = batch
        out, hiddens = self.rnn(x, hiddens)
        return {"loss": nn.functional.mse_loss(self.layers(out), y), "hiddens": hiddens}


def sequences(batch_size: int) -> DataLoader[Any]:
    made = torch.Generator().manual_seed(1)
    x = torch.randn(32, 7, FEATURES, generator=made)
    found = torch.utils.data.TensorDataset(x, x.cumsum(1).mean(2, keepdim=True))
    return DataLoader(found, batch_size)


@variant
def truncated_bptt(batch_size: int) -> Any:
    module, fitting = Recurrent(), trainer()
    fitting.fit(module, sequences(batch_size))
    return module, fitting


@variant
def clipped_by_value(batch_size: int) -> Any:
    return fitted(Net(), batch_size, gradient_clip_val=0.05, gradient_clip_algorithm="value")


@variant
def clipped_by_norm(batch_size: int) -> Any:
    return fitted(Net(), batch_size, gradient_clip_val=0.1)


@variant
def adam_accumulated(batch_size: int) -> Any:
    class Adam(Net):
        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    return fitted(Adam(), batch_size, accumulate_grad_batches=2)


class Gan(nb.LightningModule):
    """Manual optimization of two parts that alternate, with clipping and schedulers."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(8)
        self.generator = nn.Linear(FEATURES, FEATURES)
        self.discriminator = nn.Sequential(nn.Linear(FEATURES, 4), nn.Tanh(), nn.Linear(4, 1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, _ = batch
        of_generator, of_discriminator = self.optimizers()
        fake = self.generator(x)
        self.toggle_optimizer(of_generator)
        loss = -self.discriminator(fake).mean()
        of_generator.zero_grad()
        self.manual_backward(loss)
        of_generator.step()
        self.untoggle_optimizer(of_generator)
        self.toggle_optimizer(of_discriminator)
        loss = (self.discriminator(fake.detach()) - 1).pow(2).mean()
        loss = loss + self.discriminator(x).pow(2).mean()
        of_discriminator.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(of_discriminator, gradient_clip_val=0.5)
        of_discriminator.step()
        self.untoggle_optimizer(of_discriminator)
        for scheduler in self.lr_schedulers():
            scheduler.step()

    def configure_optimizers(self) -> Any:
        parts = (self.generator, self.discriminator)
        optimizers = [torch.optim.Adam(part.parameters(), lr=0.02) for part in parts]
        return optimizers, [torch.optim.lr_scheduler.StepLR(each, 3) for each in optimizers]


@variant
def gan_by_hand(batch_size: int) -> Any:
    return fitted(Gan(), batch_size)


class AccumulatesByHand(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        steps = batch_idx % 2 == 1
        with optimizer.toggle_model(sync_grad=steps):
            self.manual_backward(self.loss(batch) / 2)
            if steps:
                optimizer.step()
                optimizer.zero_grad()


@variant
def accumulated_by_hand(batch_size: int) -> Any:
    return fitted(AccumulatesByHand(), batch_size, limit_train_batches=4)


class OftenInTurn(nb.LightningModule):
    """Two optimizers with frequencies."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.one, self.two = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, 1)

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
        x, y = batch
        return (self.two(self.one(x)) - y).pow(2).mean()

    def configure_optimizers(self) -> Any:
        return [
            {"optimizer": torch.optim.SGD(self.one.parameters(), lr=0.05), "frequency": 2},
            {"optimizer": torch.optim.SGD(self.two.parameters(), lr=0.05), "frequency": 1},
        ]


@variant
def with_frequencies(batch_size: int) -> Any:
    return fitted(OftenInTurn(), batch_size)


@variant
def compiled(batch_size: int) -> Any:
    module: Any = Net()
    module.layers = torch.compile(module.layers, backend="eager")
    fitting = trainer()
    fitting.fit(module, loader(batch_size))
    return module, fitting


@variant
def compiled_whole(batch_size: int) -> Any:
    module = Net()
    fitting = trainer()
    whole: Any = torch.compile(module, backend="eager")
    fitting.fit(whole, loader(batch_size))
    return module, fitting


# -- schedulers --------------------------------------------------------------------------------


@variant
def plateau(batch_size: int) -> Any:
    def scheduler(optimizer: Any) -> Any:
        made = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
        return {"scheduler": made, "monitor": "val_loss"}

    return fitted(Validated(scheduler), batch_size, True, max_epochs=4)


@variant
def plateau_of_steps(batch_size: int) -> Any:
    def scheduler(optimizer: Any) -> Any:
        made = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
        return {"scheduler": made, "monitor": "train_loss_step", "interval": "step"}

    return fitted(Validated(scheduler), batch_size)


@variant
def cosine_by_step(batch_size: int) -> Any:
    def scheduler(optimizer: Any) -> Any:
        made = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        return {"scheduler": made, "interval": "step"}

    return fitted(Validated(scheduler), batch_size)


@variant
def one_cycle_by_estimate(batch_size: int) -> Any:
    class Estimated(Net):
        def configure_optimizers(self) -> Any:
            optimizer: Any = super().configure_optimizers()
            total = self.trainer.estimated_stepping_batches
            made = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=int(total))
            return [optimizer], [{"scheduler": made, "interval": "step"}]

    return fitted(Estimated(), batch_size)


# -- data --------------------------------------------------------------------------------------


class OfTwo(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch["a"]) + 0.5 * self.loss(batch["b"])


@variant
def combined(batch_size: int) -> Any:
    module, fitting = OfTwo(), trainer()
    loaders = {"a": loader(batch_size), "b": loader(batch_size, samples=16)}
    fitting.fit(module, nb.CombinedLoader(loaders, "max_size_cycle"))
    return module, fitting


@variant
def limited(batch_size: int) -> Any:
    return fitted(Net(), batch_size, limit_train_batches=3)


@variant
def limited_to_a_share(batch_size: int) -> Any:
    return fitted(Net(), batch_size, limit_train_batches=0.5)


class Reloads(Validated):
    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size, self.made = batch_size, 0

    def train_dataloader(self) -> Any:
        self.made += 1
        return DataLoader(data(16 * self.made), self.batch_size)


@variant
def reloaded(batch_size: int) -> Any:
    module = Reloads(batch_size)
    fitting = trainer(max_epochs=3, reload_dataloaders_every_n_epochs=1)
    fitting.fit(module)
    return module, fitting


@variant
def validated_within_epochs(batch_size: int) -> Any:
    stops = nb.EarlyStopping("val_loss", patience=1, min_delta=0.2)
    options = {"val_check_interval": 2, "max_epochs": 8, "callbacks": [stops]}
    return fitted(Validated(), batch_size, True, **options)


@variant
def overfitted(batch_size: int) -> Any:
    return fitted(Net(), batch_size, overfit_batches=2, max_epochs=3)


@variant
def shuffled_by_seed(batch_size: int) -> Any:
    nb.seed_everything(3)
    return fitted(Net(), batch_size, limit_train_batches=4)


# -- loops of one's own ------------------------------------------------------------------------


class Announced(nb.TrainingEpochLoop):
    seen = 0

    def advance(self) -> None:
        super().advance()
        self.seen += 1


class Twice(nb.FitLoop):
    @property
    def done(self) -> bool:
        return bool(super().done) or self.current_epoch >= 2


@variant
def own_epoch_loop(batch_size: int) -> Any:
    module, fitting = Net(), trainer()
    fitting.fit_loop.replace(epoch_loop=Announced)
    fitting.fit(module, loader(batch_size))
    return module, fitting


@variant
def own_fit_loop(batch_size: int) -> Any:
    module, fitting = Net(), trainer(max_epochs=7)
    fitting.fit_loop = Twice(max_epochs=7)
    fitting.fit(module, loader(batch_size))
    return module, fitting


class OtherLoss(nb.OptimizerLoop):
    """Takes the loss from elsewhere than training_step."""

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
        x, y = batch
        return nn.functional.l1_loss(self.trainer.lightning_module(x), y)


class SharpnessAware(nb.OptimizerLoop):
    def optimizer_step(self, optimizer: Any, optimizer_idx: int, closure: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        closure()
        with torch.no_grad():
            moves = [0.05 * p.grad for p in parameters]
            torch._foreach_add_(parameters, moves)
        closure()
        with torch.no_grad():
            torch._foreach_sub_(parameters, moves)
        super().optimizer_step(optimizer, optimizer_idx, lambda: torch.zeros(()))


class Penalty(nb.OptimizerLoop):
    """Adds to the loss that training_step returned."""

    def loss_of(self, output: Any) -> Any:
        squares = [p.pow(2).sum() for p in self.trainer.lightning_module.parameters()]
        return super().loss_of(output) + 0.1 * torch.stack(squares).sum()  # type: ignore[operator]


def with_optimizer_loop(loop: type[nb.OptimizerLoop], batch_size: int) -> Any:
    module, fitting = Net(), trainer()
    fitting.fit_loop.epoch_loop.batch_loop.replace(optimizer_loop=loop)
    fitting.fit(module, loader(batch_size))
    return module, fitting


@variant
def own_loss(batch_size: int) -> Any:
    return with_optimizer_loop(OtherLoss, batch_size)


@variant
def sharpness_aware(batch_size: int) -> Any:
    return with_optimizer_loop(SharpnessAware, batch_size)


@variant
def penalty(batch_size: int) -> Any:
    return with_optimizer_loop(Penalty, batch_size)


class Rounds(nb.Loop):
    """Runs a FitLoop several times."""

    def __init__(self) -> None:
        self.round = 0
        self.fit_loop = nb.FitLoop(max_epochs=1)

    @property
    def done(self) -> bool:
        return self.round >= 3

    def advance(self) -> None:
        self.hook("on_round_start", self.round)
        self.replace(fit_loop=nb.FitLoop)
        self.fit_loop.run()

    def on_advance_end(self) -> None:
        self.trainer.reset_train_dataloader()
        self.round += 1


@variant
def own_loop_of_fits(batch_size: int) -> Any:
    module, fitting = Net(), trainer()
    fitting.fit_loop = Rounds()
    fitting.fit(module, loader(batch_size))
    return module, fitting


class ByItself(nb.Loop):
    """Trains without the built-in loops."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def on_run_start(self) -> None:
        self.batches = list(self.trainer.train_dataloader)

    @property
    def done(self) -> bool:
        return not self.batches

    def advance(self) -> None:
        module: Any = self.trainer.lightning_module
        optimizer = module.optimizers()
        optimizer.zero_grad()
        module.manual_backward(module.loss(self.batches.pop(0)))
        optimizer.step()


@variant
def own_loop_by_hand(batch_size: int) -> Any:
    module, fitting = Net(), trainer()
    module.automatic_optimization = False
    fitting.fit_loop = ByItself()
    fitting.fit(module, loader(batch_size))
    return module, fitting


# -- several runs ------------------------------------------------------------------------------


@variant
def fitted_twice(batch_size: int) -> Any:
    module, fitting = fitted(Validated(), batch_size, True, max_epochs=1)
    fitting.validate(module, loader(batch_size), verbose=False)
    fitting.fit_loop.max_epochs = 3
    fitting.fit(module, loader(batch_size))
    return module, fitting


@variant
def by_two_trainers(batch_size: int) -> Any:
    module = Net()
    fitted(module, batch_size, max_epochs=1)
    return fitted(module, batch_size, max_epochs=2)


def weights_that_differ() -> Any:
    """Each rank adds noise of its own to the averaged gradients; what is said of it."""

    class Noisy(nb.OptimizerLoop):
        def backward(self, loss: Any, optimizer: Any, optimizer_idx: int) -> None:
            super().backward(loss, optimizer, optimizer_idx)
            bias = dict(self.trainer.lightning_module.named_parameters())["layers.2.bias"]
            assert bias.grad is not None
            bias.grad += torch.randn(1)

    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        with_optimizer_loop(Noisy, 4)
    return [line for line in told.getvalue().splitlines() if "differ between ranks" in line]


def found_by_rank(train: Variant) -> Callable[[], Any]:
    """A variant as a case of the program."""

    def found() -> Any:
        return found_by(train, 4)

    found.__name__ = train.__name__
    return found


if __name__ == "__main__":
    cases = [found_by_rank(train) for train in VARIANTS.values()]
    main(sys.argv[1:], [*cases, weights_that_differ])
