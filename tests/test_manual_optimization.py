"""Manual optimization: what training_step does by hand is what happens, and all that happens."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, assert_same, loader, make_net, trainer, weights
from torch import Tensor, nn
from torch.nn import functional as F

import nightbus as nb


class ByHand(Small):
    """Steps its one optimizer on every batch."""

    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


def raw(epochs: int = 2, accumulate: int = 1, clip: float = 0.0) -> list[Tensor]:
    """The same loop without a trainer; an accumulation that is not full is not stepped."""
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for number, (x, y) in enumerate(loader()):
            (F.cross_entropy(net(x), y) / accumulate).backward()
            if (number + 1) % accumulate == 0:
                if clip:
                    nn.utils.clip_grad_value_(net.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad()
    return weights(net)


# -- the weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("recording", ["all", "off"])
def test_one_optimizer_gives_the_weights_of_the_loop_by_hand(
    tmp_path: Path, recording: str
) -> None:
    module = ByHand()

    trainer(tmp_path, max_epochs=2, recording=recording).fit(module, loader())

    assert_same(weights(module), raw())


def test_gradients_accumulate_until_the_module_clears_them(tmp_path: Path) -> None:
    class Accumulates(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(self.loss(batch) / 4)
            if (batch_idx + 1) % 4 == 0:
                self.optimizers().step()
                self.optimizers().zero_grad()

    module = Accumulates()
    run = trainer(tmp_path, max_epochs=2)

    run.fit(module, loader())

    assert_same(weights(module), raw(accumulate=4))
    assert run.global_step == 2  # 6 batches in each of 2 epochs


def test_gradients_are_clipped_when_the_module_says_so(tmp_path: Path) -> None:
    class Clips(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            self.clip_gradients(optimizer, gradient_clip_val=0.01, gradient_clip_algorithm="value")
            optimizer.step()

    module = Clips()

    trainer(tmp_path, max_epochs=2).fit(module, loader())

    assert_same(weights(module), raw(clip=0.01))


def test_a_closure_is_evaluated_and_its_loss_returned(tmp_path: Path) -> None:
    pairs: list[tuple[float, float]] = []

    class WithClosure(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            losses: list[Tensor] = []

            def closure() -> Tensor:
                losses.append(self.loss(batch))
                optimizer.zero_grad()
                self.manual_backward(losses[-1])
                return losses[-1]

            returned = optimizer.step(closure=closure)
            (loss,) = losses
            pairs.append((returned.item(), loss.item()))

    module = WithClosure()

    trainer(tmp_path, max_epochs=2).fit(module, loader())

    assert_same(weights(module), raw())
    assert len(pairs) == 12
    assert all(returned == loss for returned, loss in pairs)


# -- two optimizers --------------------------------------------------------------------------


class Nets(nn.Module):
    """A generator of points and a discriminator of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.generator = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 4))
        self.discriminator = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def generator_loss(self, x: Tensor) -> Tensor:
        return self._loss(self.generator(torch.randn(len(x), 2)), 1.0)

    def discriminator_loss(self, x: Tensor) -> Tensor:
        fake = self.generator(torch.randn(len(x), 2)).detach()
        return (self._loss(x, 1.0) + self._loss(fake, 0.0)) / 2

    def _loss(self, x: Tensor, truth: float) -> Tensor:
        found = self.discriminator(x)
        return F.binary_cross_entropy_with_logits(found, torch.full_like(found, truth))

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(self.generator.parameters(), lr=0.01),
            torch.optim.Adam(self.discriminator.parameters(), lr=0.02),
        ]


class GAN(nb.LightningModule):
    """Toggles in one of the ways there are."""

    automatic_optimization = False
    way = "by hand"

    def __init__(self) -> None:
        super().__init__()
        self.nets = Nets()
        self.requiring: list[tuple[bool, bool]] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for number, optimizer in enumerate(self.optimizers()):
            if self.way == "by hand":
                self.toggle_optimizer(optimizer)
                self.turn(number, optimizer, batch[0])
                self.untoggle_optimizer(optimizer)
            elif self.way == "by number":
                self.toggle_optimizer(optimizer, number)
                self.turn(number, optimizer, batch[0])
                self.untoggle_optimizer(number)
            elif self.way == "with":
                with self.toggle_optimizer(optimizer):
                    self.turn(number, optimizer, batch[0])
            else:
                with optimizer.toggle_model():
                    self.turn(number, optimizer, batch[0])
        self.note()

    def turn(self, number: int, optimizer: Any, x: Tensor) -> None:
        self.note()
        nets = self.nets
        loss = nets.generator_loss(x) if number == 0 else nets.discriminator_loss(x)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def note(self) -> None:
        generator, discriminator = self.nets.generator, self.nets.discriminator
        parts = [{p.requires_grad for p in net.parameters()} for net in (generator, discriminator)]
        assert all(len(part) == 1 for part in parts)
        self.requiring.append((True in parts[0], True in parts[1]))

    def configure_optimizers(self) -> Any:
        return self.nets.make_optimizers()


def raw_gan() -> list[Tensor]:
    nets = Nets()
    optimizers = nets.make_optimizers()
    torch.manual_seed(7)
    for _ in range(2):
        for x, _y in loader():
            nets.discriminator.requires_grad_(False)
            loss = nets.generator_loss(x)
            optimizers[0].zero_grad()
            loss.backward()
            optimizers[0].step()
            nets.discriminator.requires_grad_(True)
            nets.generator.requires_grad_(False)
            loss = nets.discriminator_loss(x)
            optimizers[1].zero_grad()
            loss.backward()
            optimizers[1].step()
            nets.generator.requires_grad_(True)
    return weights(nets)


@pytest.mark.parametrize("way", ["by hand", "by number", "with", "toggle_model"])
def test_two_optimizers_take_turns_with_their_own_parameters(tmp_path: Path, way: str) -> None:
    module = GAN()
    module.way = way
    torch.manual_seed(7)

    trainer(tmp_path, max_epochs=2).fit(module, loader())

    assert_same(weights(module), raw_gan())
    assert module.requiring == [(True, False), (False, True), (True, True)] * 12


def test_toggling_leaves_frozen_parameters_frozen(tmp_path: Path) -> None:
    class Frozen(GAN):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            first = self.nets.generator[0].weight
            first.requires_grad = False
            for optimizer in self.optimizers():
                with self.toggle_optimizer(optimizer):
                    assert not first.requires_grad
                assert not first.requires_grad
            self.done = True

    module = Frozen()

    trainer(tmp_path).fit(module, loader(4))

    assert module.done


def test_an_error_within_toggle_model_gives_the_gradients_back(tmp_path: Path) -> None:
    class Fails(GAN):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            with pytest.raises(ZeroDivisionError), self.optimizers()[0].toggle_model():
                _ = 1 / 0
            with pytest.raises(ZeroDivisionError), self.toggle_optimizer(self.optimizers()[1]):
                _ = 1 / 0
            self.note()

    module = Fails()

    trainer(tmp_path).fit(module, loader(4))

    assert module.requiring == [(True, True)]


# -- what self.optimizers() gives ------------------------------------------------------------


def test_an_optimizer_is_wrapped_and_shows_what_the_wrapped_one_has(tmp_path: Path) -> None:
    class Asks(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            wrapped, plain = self.optimizers(), self.optimizers(use_lightning_optimizer=False)
            assert isinstance(wrapped, nb.LightningOptimizer)
            assert wrapped.optimizer is plain is self.trainer.optimizers[0]
            assert wrapped.param_groups is plain.param_groups
            assert wrapped.state is plain.state
            self.asked = True

    module = Asks()

    trainer(tmp_path).fit(module, loader(4))

    assert module.asked


def test_a_step_of_the_torch_optimizer_itself_is_not_counted(tmp_path: Path) -> None:
    class Plain(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers(use_lightning_optimizer=False)
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

    module = Plain()
    run = trainer(tmp_path, max_epochs=2)

    run.fit(module, loader())

    assert_same(weights(module), raw())
    assert run.global_step == 0


# -- counting --------------------------------------------------------------------------------


def test_every_step_of_every_optimizer_counts(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=2)

    run.fit(GAN(), loader())

    assert run.global_step == 24
    assert run.optimization_progress.steps_by_optimizer == [12, 12]


def test_max_steps_ends_training_after_the_batch_in_which_it_is_reached(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=None, max_steps=5)

    run.fit(GAN(), loader())

    assert run.global_step == 6


def test_the_count_moves_with_each_step_within_a_batch(tmp_path: Path) -> None:
    found: list[int] = []

    class Notes(GAN):
        def turn(self, number: int, optimizer: Any, x: Tensor) -> None:
            found.append(self.global_step)
            super().turn(number, optimizer, x)

    trainer(tmp_path).fit(Notes(), loader(8))

    assert found == [0, 1, 2, 3]


# -- hooks -----------------------------------------------------------------------------------


def test_hooks_get_the_loss_and_the_optimizer_with_its_number(tmp_path: Path) -> None:
    called: list[Any] = []

    class Notes(GAN):
        def on_before_backward(self, loss: Tensor) -> None:
            called.append(("on_before_backward", loss.requires_grad, tuple(loss.shape)))

        def backward(self, loss: Tensor, optimizer: Any = None, optimizer_idx: Any = None) -> None:
            called.append(("backward", optimizer, optimizer_idx))
            loss.backward()

        def on_after_backward(self) -> None:
            called.append("on_after_backward")

        def on_before_optimizer_step(self, optimizer: Any, optimizer_idx: int = 0) -> None:
            assert optimizer is self.trainer.optimizers[optimizer_idx]
            called.append(("on_before_optimizer_step", optimizer_idx))

    trainer(tmp_path).fit(Notes(), loader(4))

    assert called == [
        call
        for optimizer_idx in (0, 1)
        for call in (
            ("on_before_backward", True, ()),
            ("backward", None, None),
            "on_after_backward",
            ("on_before_optimizer_step", optimizer_idx),
        )
    ]


def test_manual_backward_passes_arguments_on(tmp_path: Path) -> None:
    class Twice(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            loss = self.loss(batch)
            self.manual_backward(loss, retain_graph=True)
            self.manual_backward(loss)
            self.grad = self.net[0].weight.grad / 2  # type: ignore[index]

    module = Twice()
    net = make_net()
    x, y = next(iter(loader(4)))
    F.cross_entropy(net(x), y).backward()

    trainer(tmp_path).fit(module, loader(4))

    assert torch.equal(module.grad, net[0].weight.grad)  # type: ignore[index]


def test_hooks_of_automatic_optimization_are_not_called(tmp_path: Path) -> None:
    class Refuses(ByHand):
        def optimizer_step(self, *_: Any, **__: Any) -> None:
            raise AssertionError

        def optimizer_zero_grad(self, *_: Any, **__: Any) -> None:
            raise AssertionError

        def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
            raise AssertionError

        def lr_scheduler_step(self, *_: Any, **__: Any) -> None:
            raise AssertionError

    run = trainer(tmp_path)

    run.fit(Refuses(), loader())

    assert run.global_step == 6


# -- schedulers ------------------------------------------------------------------------------


class Schedules(ByHand):
    steps_them = True

    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        by_step, _ = self.lr_schedulers()
        if self.steps_them:
            by_step.step()

    def on_train_epoch_end(self) -> None:
        _, by_epoch = self.lr_schedulers()
        if self.steps_them:
            by_epoch.step()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        by_step = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        by_epoch = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return [optimizer], [{"scheduler": by_step, "interval": "step"}, by_epoch]


@pytest.mark.parametrize(("steps_them", "rate"), [(True, 0.9**12 * 0.5**2), (False, 1.0)])
def test_schedulers_move_only_when_the_module_steps_them(
    tmp_path: Path, steps_them: bool, rate: float
) -> None:
    module = Schedules()
    module.steps_them = steps_them
    run = trainer(tmp_path, max_epochs=2)

    run.fit(module, loader())

    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(rate)


def test_a_plateau_needs_no_monitor_in_order_to_be_stepped_by_hand(tmp_path: Path) -> None:
    class Plateau(ByHand):
        def on_train_epoch_end(self) -> None:
            self.lr_schedulers().step(1.0)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
            return {"optimizer": optimizer, "lr_scheduler": plateau}

    run = trainer(tmp_path, max_epochs=3)

    run.fit(Plateau(), loader())

    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01)


def test_without_schedulers_there_are_none(tmp_path: Path) -> None:
    class Asks(ByHand):
        def on_train_start(self) -> None:
            assert self.lr_schedulers() is None
            self.asked = True

    module = Asks()

    trainer(tmp_path).fit(module, loader(4))

    assert module.asked


# -- outputs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["tensor", "dict", "none", "a dict without a loss"])
def test_what_training_step_returns_reaches_the_hooks_without_its_graph(
    tmp_path: Path, form: str
) -> None:
    batches: list[Any] = []
    epochs: list[Any] = []

    class Returns(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            return {
                "tensor": loss,
                "dict": {"loss": loss, "more": 3},
                "none": None,
                "a dict without a loss": {"more": 3},
            }[form]

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            batches.append(outputs)

        def training_epoch_end(self, outputs: Any) -> None:
            epochs.append(outputs)

    trainer(tmp_path).fit(Returns(), loader(8))

    keys = {
        "tensor": {"loss"},
        "dict": {"loss", "more"},
        "none": None,
        "a dict without a loss": {"more"},
    }[form]
    assert [None if output is None else set(output) for output in batches] == [keys] * 2
    assert all(
        "loss" not in output or not output["loss"].requires_grad for output in batches if output
    )
    assert epochs == [[output for output in batches if output is not None]]


# -- what is refused -------------------------------------------------------------------------


def test_manual_backward_with_automatic_optimization_is_refused(tmp_path: Path) -> None:
    class Mixes(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.manual_backward(self.loss(batch))

    with pytest.raises(nb.UsageError, match=r"self\.automatic_optimization = False"):
        trainer(tmp_path).fit(Mixes(), loader())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"gradient_clip_val": 0.5}, r"gradient_clip_val=0\.5 .*self\.clip_gradients"),
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches=2 .*in training_step"),
    ],
)
def test_arguments_that_would_do_nothing_are_refused(
    tmp_path: Path, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(nb.UsageError, match=said):
        trainer(tmp_path, **arguments).fit(ByHand(), loader())


def test_such_arguments_do_not_keep_a_module_from_being_evaluated(tmp_path: Path) -> None:
    run = trainer(tmp_path, gradient_clip_val=0.5)

    (results,) = run.validate(ByHand(), loader(), verbose=False)

    assert set(results) == {"val_loss"}


def test_toggling_an_optimizer_of_nobody_is_refused(tmp_path: Path) -> None:
    class Strange(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.toggle_optimizer(torch.optim.SGD(self.parameters(), lr=0.1))

    with pytest.raises(nb.UsageError, match="got SGD, which is none of the 1 optimizers"):
        trainer(tmp_path).fit(Strange(), loader())


def test_an_unknown_way_of_clipping_is_refused(tmp_path: Path) -> None:
    class Clips(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.clip_gradients(self.optimizers(), 0.5, "median")

    with pytest.raises(nb.UsageError, match="'median': expected 'norm' or 'value'"):
        trainer(tmp_path).fit(Clips(), loader())


def test_a_module_without_an_optimizer_trains_by_hand(tmp_path: Path) -> None:
    class Without(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            assert self.optimizers() == []
            with torch.no_grad():
                self.net[0].bias += 1.0  # type: ignore[index]

        def configure_optimizers(self) -> None:
            return None

    module = Without()
    before = module.net[0].bias.detach().clone()  # type: ignore[index]

    trainer(tmp_path).fit(module, loader(8))

    assert torch.equal(module.net[0].bias, before + 1.0 + 1.0)  # type: ignore[index]


def test_a_step_returns_a_tensor_a_dict_or_nothing(tmp_path: Path) -> None:
    class Five(Small):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return 5

    with pytest.raises(nb.UsageError, match="training_step returned int; in manual optimization"):
        trainer(tmp_path).fit(Five(), loader(4))


def test_a_scheduler_that_is_advanced_by_hand_may_be_of_any_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Own:
        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            pass

    class Schedules(ByHand):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [{"scheduler": Own(), "monitor": "train_loss"}]

    class Automatic(Schedules):
        automatic_optimization = True

    trainer(tmp_path).fit(Schedules(), loader(4))
    assert "monitor of Own have no effect" in capsys.readouterr().err
    with pytest.raises(nb.UsageError, match="Own is not a scheduler: it has no step"):
        trainer(tmp_path).fit(Automatic(), loader(4))


class Forgets(ByHand):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)


@pytest.mark.parametrize(
    ("epochs", "batches"), [(2, 4), (60, 100)], ids=["in a short fit", "in 100 batches"]
)
def test_manual_optimization_without_a_step_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], epochs: int, batches: int
) -> None:
    trainer(tmp_path, max_epochs=epochs).fit(Forgets(), loader(8))

    said = capsys.readouterr().err
    assert said.count("no step of an optimizer was counted in ") == 1
    assert f"counted in {batches} batches" in said


class SkipsFirst(nb.Callback):
    def on_train_batch_start(self, trainer: Any, *_: Any) -> int | None:
        return -1 if trainer.current_epoch == 0 else None


class SkipsAll(nb.Callback):
    def on_train_batch_start(self, *_: Any) -> int:
        return -1


class Stops(nb.Callback):
    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        trainer.should_stop = True


@pytest.mark.parametrize("callback", [SkipsFirst, SkipsAll, Stops])
def test_an_epoch_without_a_training_step_does_not_blame_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], callback: type[nb.Callback]
) -> None:
    trainer(tmp_path, max_epochs=2, callbacks=[callback()]).fit(ByHand(), loader(8))

    said = capsys.readouterr().err
    assert "no step of an optimizer" not in said
    assert "had no batches" not in said


def test_gradients_may_be_accumulated_over_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Accumulates(ByHand):
        done = 0

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(self.loss(batch) / 4)
            self.done += 1
            if self.done % 4 == 0:
                self.optimizers().step()
                self.optimizers().zero_grad()

    run = trainer(tmp_path, max_epochs=4)
    run.fit(Accumulates(), loader(8))

    assert run.global_step == 2
    assert "no step of an optimizer" not in capsys.readouterr().err
