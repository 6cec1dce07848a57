"""Every way of optimizing gives, to the bit, the weights of the same loop written by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, assert_same, loader, trainer, weights
from torch import Tensor, nn
from torch.nn import functional as F

import nightbus as nb


class Parts(nn.Module):
    """An encoder, two heads on it, and dropout, so that random numbers count too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Linear(4, 8)
        self.first = nn.Linear(8, 2)
        self.second = nn.Linear(8, 2)
        self.dropout = nn.Dropout(0.2)

    def loss(self, batch: Any, turn: int) -> Tensor:
        x, y = batch
        hidden = self.dropout(torch.tanh(self.encoder(x)))
        head = self.first if turn == 0 else self.second
        return F.cross_entropy(head(hidden), y)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The encoder belongs to both: it learns in each turn, the heads only in their own."""
        return [
            torch.optim.Adam([*self.encoder.parameters(), *self.first.parameters()], lr=0.01),
            torch.optim.SGD([*self.encoder.parameters(), *self.second.parameters()], lr=0.1),
        ]


class Several(nb.LightningModule):
    frequencies: tuple[int, int] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.parts = Parts()

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
        return self.parts.loss(batch, optimizer_idx)

    def configure_optimizers(self) -> Any:
        optimizers = self.parts.optimizers()
        if self.frequencies is None:
            return optimizers
        pairs = zip(optimizers, self.frequencies, strict=True)
        return [{"optimizer": optimizer, "frequency": number} for optimizer, number in pairs]


def by_hand(
    turns: Callable[[int], Iterator[int]],
    accumulate: int = 1,
    clip: float = 0.0,
    epochs: int = 2,
) -> list[Tensor]:
    """The loop a user would write, with each turn's optimizers by the number of the batch."""
    parts = Parts()
    optimizers = parts.optimizers()
    torch.manual_seed(7)
    count = 0
    for _ in range(epochs):
        data = list(loader(20))  # 5 batches
        for number, batch in enumerate(data):
            for turn in turns(count):
                own = {id(p) for group in optimizers[turn].param_groups for p in group["params"]}
                frozen = [p for p in parts.parameters() if id(p) not in own]
                for parameter in frozen:
                    parameter.requires_grad_(False)
                loss = parts.loss(batch, turn) / accumulate
                if number % accumulate == 0:
                    optimizers[turn].zero_grad()
                loss.backward()
                if (number + 1) % accumulate == 0 or number + 1 == len(data):
                    if clip:
                        parameters = [p for g in optimizers[turn].param_groups for p in g["params"]]
                        nn.utils.clip_grad_norm_(parameters, clip)
                    optimizers[turn].step()
                for parameter in frozen:
                    parameter.requires_grad_(True)
            count += 1
    return weights(parts)


def both(_: int) -> Iterator[int]:
    return iter((0, 1))


def fit(tmp_path: Path, module: nb.LightningModule, **arguments: Any) -> list[Tensor]:
    options: dict[str, Any] = {"max_epochs": 2, "recording": "all", **arguments}
    torch.manual_seed(7)
    trainer(tmp_path, **options).fit(module, loader(20))
    return weights(module)


@pytest.mark.parametrize(
    ("arguments", "clip"),
    [({}, 0.0), ({"recording": "off"}, 0.0), ({"gradient_clip_val": 0.05}, 0.05)],
)
def test_two_optimizers(tmp_path: Path, arguments: dict[str, Any], clip: float) -> None:
    assert_same(fit(tmp_path, Several(), **arguments), by_hand(both, clip=clip))


def test_two_optimizers_with_disjoint_parameters_and_accumulation(tmp_path: Path) -> None:
    class Disjoint(Several):
        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
            return self.net(batch[0]).sum() if optimizer_idx == 0 else self.other(batch[0]).sum()

        def __init__(self) -> None:
            super().__init__()
            del self.parts
            torch.manual_seed(2)
            self.net, self.other = nn.Linear(4, 1), nn.Linear(4, 1)

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(n.parameters(), lr=0.01) for n in (self.net, self.other)]

    module = Disjoint()
    found = fit(tmp_path, module, accumulate_grad_batches=2)

    torch.manual_seed(2)
    nets = [nn.Linear(4, 1), nn.Linear(4, 1)]
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.01) for net in nets]
    for _ in range(2):
        for number, (x, _y) in enumerate(loader(20)):
            for net, optimizer in zip(nets, optimizers, strict=True):
                if number % 2 == 0:
                    optimizer.zero_grad()
                (net(x).sum() / 2).backward()
                if number % 2 or number == 4:
                    optimizer.step()
    assert_same(found, [p for net in nets for p in weights(net)])


def test_frequencies_cycle_over_batches_and_epochs(tmp_path: Path) -> None:
    class Cycles(Several):
        frequencies = (2, 1)

    def turns(count: int) -> Iterator[int]:
        yield (0, 0, 1)[count % 3]

    assert_same(fit(tmp_path, Cycles()), by_hand(turns))


class Automatic(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)


def raw(make: Callable[[Any], torch.optim.Optimizer], epochs: int = 2) -> list[Tensor]:
    net = Small().net
    optimizer = make(net.parameters())
    for _ in range(epochs):
        for x, y in loader(20):

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)  # type: ignore[arg-type]
    return weights(net)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=5),
        lambda p: torch.optim.LBFGS(p, lr=1.0, max_iter=4, line_search_fn="strong_wolfe"),
        lambda p: torch.optim.AdamW(p, lr=0.01),
        lambda p: torch.optim.RMSprop(p, lr=0.01),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    ],
    ids=["LBFGS", "LBFGS with line search", "AdamW", "RMSprop", "Nesterov"],
)
def test_optimizers_of_torch(tmp_path: Path, make: Any) -> None:
    class Uses(Automatic):
        def configure_optimizers(self) -> Any:
            return make(self.parameters())

    assert_same(fit(tmp_path, Uses()), raw(make))


def test_an_optimizer_step_of_ones_own_that_passes_the_closure_on(tmp_path: Path) -> None:
    class Own(Automatic):
        def optimizer_step(self, epoch: Any, batch_idx: Any, optimizer: Any, closure: Any) -> None:  # type: ignore[override]
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * (batch_idx + 1)
            optimizer.step(closure=closure)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    net = Small().net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        for number, (x, y) in enumerate(loader(20)):
            optimizer.param_groups[0]["lr"] = 0.1 * (number + 1)
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    assert_same(fit(tmp_path, Own()), weights(net))


class WithoutGrad(torch.optim.SGD):
    """Calls its closure where there are no gradients."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else closure()
        super().step()
        return loss


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("overridden", [False, True])
def test_a_closure_has_gradients_wherever_it_is_called(
    tmp_path: Path, overridden: bool, accumulate: int
) -> None:
    class Uses(Automatic):
        def configure_optimizers(self) -> Any:
            kind = torch.optim.SGD if overridden else WithoutGrad
            return kind(self.parameters(), lr=0.1)

    class Own(Uses):
        @torch.no_grad()
        def optimizer_step(self, epoch: Any, batch_idx: Any, optimizer: Any, closure: Any) -> None:  # type: ignore[override]
            closure()
            optimizer.step()

    net = Small().net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        for number, (x, y) in enumerate(loader(16)):
            (F.cross_entropy(net(x), y) / accumulate).backward()
            if (number + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
    module = Own() if overridden else Uses()
    run = trainer(tmp_path, max_epochs=2, accumulate_grad_batches=accumulate)
    run.fit(module, loader(16))

    assert_same(weights(module), weights(net))
    assert run.global_step == 8 // accumulate


def test_an_optimizer_step_that_does_not_call_its_closure_is_an_error(tmp_path: Path) -> None:
    class Forgets(Automatic):
        def optimizer_step(self, epoch: Any, batch_idx: Any, optimizer: Any, closure: Any) -> None:  # type: ignore[override]
            optimizer.step()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    with pytest.raises(nb.UsageError, match="optimizer_step did not call its closure"):
        trainer(tmp_path).fit(Forgets(), loader())


def test_an_optimizer_that_does_not_call_its_closure_is_an_error(tmp_path: Path) -> None:
    class Forgets(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step()

    class Uses(Automatic):
        def configure_optimizers(self) -> Any:
            return Forgets(self.parameters(), lr=0.1)

    with pytest.raises(nb.UsageError, match=r"Forgets\.step did not call its closure"):
        trainer(tmp_path).fit(Uses(), loader())


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_schedulers(tmp_path: Path, interval: str) -> None:
    class Schedules(Automatic):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
            return [optimizer], [{"scheduler": scheduler, "interval": interval}]

    net = Small().net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
    for _ in range(2):
        for x, y in loader(20):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
            if interval == "step":
                scheduler.step()
        if interval == "epoch":
            scheduler.step()
    assert_same(fit(tmp_path, Schedules()), weights(net))


class ByHand(Several):
    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        for turn, optimizer in enumerate(self.optimizers()):
            with self.toggle_optimizer(optimizer):
                loss = self.parts.loss(batch, turn)
                optimizer.zero_grad()
                self.manual_backward(loss)
                self.clip_gradients(optimizer, gradient_clip_val=0.05)
                optimizer.step()


def test_manual_optimization_of_two_optimizers(tmp_path: Path) -> None:
    assert_same(fit(tmp_path, ByHand()), by_hand(both, clip=0.05))


def test_manual_optimization_with_closures(tmp_path: Path) -> None:
    def make(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(parameters, lr=0.1, max_iter=5)

    class WithClosure(Small):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()

            def closure() -> Tensor:
                optimizer.zero_grad()
                loss = self.loss(batch)
                self.manual_backward(loss)
                return loss

            optimizer.step(closure)

        def configure_optimizers(self) -> Any:
            return make(self.parameters())

    assert_same(fit(tmp_path, WithClosure()), raw(make))


def test_without_an_optimizer_nothing_changes(tmp_path: Path) -> None:
    class Fixed(Automatic):
        def configure_optimizers(self) -> None:
            return None

    module = Fixed()
    before = weights(module)

    assert_same(fit(tmp_path, module), before)


def test_a_turn_without_a_loss_is_skipped(tmp_path: Path) -> None:
    class Skips(Several):
        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
            if optimizer_idx == 1 and batch_idx % 2:
                return None
            return super().training_step(batch, batch_idx, optimizer_idx)

    def turns(count: int) -> Iterator[int]:
        yield 0
        if (count % 5) % 2 == 0:
            yield 1

    assert_same(fit(tmp_path, Skips()), by_hand(turns))


class Scheduled(Several):
    """Two optimizers with frequencies, one with a scheduler that moves every second step."""

    frequencies = (2, 1)

    def configure_optimizers(self) -> Any:
        first, second = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ExponentialLR(first["optimizer"], 0.9)
        config = {"scheduler": scheduler, "interval": "step", "frequency": 2}
        return [{**first, "lr_scheduler": config}, second]


@pytest.mark.parametrize("kind", [Several, Scheduled, ByHand])
def test_a_run_that_is_resumed_between_epochs_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, kind: type[Several]
) -> None:
    straight = kind()
    whole = fit(tmp_path / "straight", straight, max_epochs=3)

    first, stopped = trainer(tmp_path / "stopped", max_epochs=2), kind()
    torch.manual_seed(7)
    first.fit(stopped, loader(20))
    resumed = kind()
    run = trainer(tmp_path / "stopped", max_epochs=3)
    run.fit(resumed, loader(20), ckpt_path=first.checkpointer.last_path)

    assert_same(weights(resumed), whole)
    assert run.global_step == sum(run.optimization_progress.steps_by_optimizer)
