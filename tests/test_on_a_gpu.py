"""One process trains on a GPU what a loop of PyTorch alone trains there, in every precision."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, assert_same, dataset, events, loader, make_net, trainer, weights
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import nightbus as nb

pytestmark = pytest.mark.gpu

WHOLE = {"64-true": torch.float64, "bf16-true": torch.bfloat16, "16-true": torch.float16}
MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
PRECISIONS = ["32-true", *WHOLE, *MIXED]


def on_gpu(folder: Path, **arguments: Any) -> nb.Trainer:
    return trainer(folder, **{"accelerator": "gpu", **arguments})


def by_hand(
    precision: str = "32-true",
    accumulate: int = 1,
    clip: Callable[[list[nn.Parameter]], Any] | None = None,
    factor: float = 1.0,
) -> list[Tensor]:
    """The loop that a user would write, of two epochs."""
    whole, mixed = WHOLE.get(precision), MIXED.get(precision)
    net = make_net().to("cuda", whole)
    parameters = list(net.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "16-mixed")
    data = loader()
    for _ in range(2):
        for number, (x, y) in enumerate(data):
            with torch.autocast("cuda", mixed, enabled=mixed is not None):
                loss = F.cross_entropy(net(x.to("cuda", whole)), y.cuda()) * factor
            if number % accumulate == 0:
                optimizer.zero_grad()
            scaler.scale(loss / accumulate).backward()
            if (number + 1) % accumulate == 0 or number + 1 == len(data):
                scaler.unscale_(optimizer)
                if clip:
                    clip(parameters)
                scaler.step(optimizer)
                scaler.update()
    return weights(net)


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda"])
def test_the_module_and_its_batches_are_on_the_gpu(tmp_path: Path, accelerator: str) -> None:
    seen: list[tuple[str, str]] = []

    class Looks(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append((batch[0].device.type, self.device.type))
            return self.loss(batch)

    module = Looks()
    trainer(tmp_path, accelerator=accelerator).fit(module, loader())

    assert {*seen} == {("cuda", "cuda")}
    assert all(parameter.is_cuda for parameter in module.parameters())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("arguments", "same_by_hand"),
    [
        ({}, {}),
        ({"recording": "off"}, {}),
        ({"accumulate_grad_batches": 4}, {"accumulate": 4}),
        ({"gradient_clip_val": 0.05}, {"clip": lambda p: nn.utils.clip_grad_norm_(p, 0.05)}),
        (
            {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
            {"clip": lambda p: nn.utils.clip_grad_value_(p, 0.01)},
        ),
    ],
)
def test_training_gives_the_weights_of_a_loop_by_hand(
    tmp_path: Path, precision: str, arguments: dict[str, Any], same_by_hand: dict[str, Any]
) -> None:
    module = Small()

    on_gpu(tmp_path, max_epochs=2, precision=precision, **arguments).fit(module, loader())

    assert_same(weights(module), by_hand(precision, **same_by_hand))


@pytest.mark.parametrize("precision", MIXED)
def test_the_loops_themselves_give_them_too(tmp_path: Path, precision: str) -> None:
    """The fast path is left where a hook within a step is handled."""

    class Hears(nb.Callback):
        def on_before_backward(self, trainer: Any, module: Any, loss: Any) -> None:
            pass

    module = Small()
    run = on_gpu(tmp_path, max_epochs=2, precision=precision, callbacks=[Hears()])
    run.fit(module, loader())

    assert_same(weights(module), by_hand(precision))


class Overflows(Small):
    """Its scaled gradients overflow float16, until the scale has come down."""

    factor = 1e3

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) * self.factor


def test_steps_whose_gradients_overflow_are_skipped_and_the_scale_comes_down(
    tmp_path: Path,
) -> None:
    module = Overflows()
    run = on_gpu(tmp_path, max_epochs=2, precision="16-mixed")
    run.fit(module, loader())

    assert run.device.scaler is not None
    assert run.device.scaler.get_scale() < 2.0**16
    assert_same(weights(module), by_hand("16-mixed", factor=Overflows.factor))


def test_manual_optimization_scales_its_losses(tmp_path: Path) -> None:
    class ByHand(Small):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()
            loss = self.loss(batch)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    module = ByHand()
    on_gpu(tmp_path, max_epochs=2, precision="16-mixed").fit(module, loader())

    assert_same(weights(module), by_hand("16-mixed"))


def test_a_deterministic_run_needs_no_further_setting(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        module = Small()
        on_gpu(tmp_path, deterministic=True).fit(module, loader())
        found.append(weights(module))

    assert_same(*found)


def test_pinned_batches_of_workers_arrive(tmp_path: Path) -> None:
    module, plain = Small(), Small()
    batches = DataLoader(dataset(), 4, num_workers=2, pin_memory=True, persistent_workers=True)

    on_gpu(tmp_path, max_epochs=2).fit(module, batches, batches)
    on_gpu(tmp_path, max_epochs=2).fit(plain, loader())

    assert_same(weights(module), weights(plain))


def test_batches_of_a_users_own_type_are_moved(tmp_path: Path) -> None:
    class Pair:
        def __init__(self, x: Tensor, y: Tensor) -> None:
            self.x, self.y = x, y

        def to(self, device: Any) -> "Pair":
            return Pair(self.x.to(device), self.y.to(device))

    class Takes(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss((batch["pair"].x, batch["pair"].y))

    class Pairs:
        def __iter__(self) -> Iterator[Any]:
            return ({"pair": Pair(x, y)} for x, y in loader())

    module, plain = Takes(), Small()
    on_gpu(tmp_path).fit(module, Pairs())
    on_gpu(tmp_path).fit(plain, loader())

    assert_same(weights(module), weights(plain))


def test_predictions_are_on_the_cpu(tmp_path: Path) -> None:
    found: Any = on_gpu(tmp_path).predict(Small(), loader())

    assert {prediction.device.type for prediction in found} == {"cpu"}


class Drops(Small):
    """Draws from the GPU's generator."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return F.cross_entropy(self(F.dropout(x, 0.3)), y)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("val_loss", F.cross_entropy(self(F.dropout(batch[0], 0.3)), batch[1]))


def test_the_sanity_check_draws_nothing_from_the_gpus_generator(tmp_path: Path) -> None:
    found = []
    for number in (0, 2):
        module = Drops()
        torch.manual_seed(1)
        run = on_gpu(tmp_path, num_sanity_val_steps=number, limit_val_batches=3)
        run.fit(module, loader(), loader())
        found.append(weights(module))

    assert_same(*found)


def test_a_compiled_module_trains(tmp_path: Path) -> None:
    module, plain = Small(), Small()

    on_gpu(tmp_path, max_epochs=2).fit(torch.compile(module, backend="aot_eager"), loader())  # type: ignore[arg-type]
    on_gpu(tmp_path, max_epochs=2).fit(plain, loader())

    for found, expected in zip(weights(module), weights(plain), strict=True):
        torch.testing.assert_close(found, expected)


def test_an_anomaly_is_found(tmp_path: Path) -> None:
    class Roots(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return (self(batch[0]) * 0).sqrt().sum()

    with (
        pytest.raises(RuntimeError, match="returned nan"),
        pytest.warns(UserWarning, match="Error detected"),
    ):
        on_gpu(tmp_path, detect_anomaly=True).fit(Roots(), loader())


def test_an_exponential_average_is_that_of_a_loop_by_hand(tmp_path: Path) -> None:
    averages: list[Tensor] = []

    class Follows(nb.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if not averages:
                averages.extend(weights(module))
                return
            for average, weight in zip(averages, weights(module), strict=True):
                average.lerp_(weight, 1 - 0.9)

    ema = nb.EMA(0.9)
    on_gpu(tmp_path, max_epochs=2, callbacks=[Follows(), ema]).fit(Small(), loader())

    assert all(average.is_cuda for average in ema.averaged_weights)
    for found, expected in zip(ema.averaged_weights, averages, strict=True):
        torch.testing.assert_close(found, expected)


def test_an_average_may_be_kept_on_the_cpu(tmp_path: Path) -> None:
    on_cpu, there = nb.EMA(0.9, device="cpu"), nb.EMA(0.9)
    module = Small()
    on_gpu(tmp_path, max_epochs=2, callbacks=[on_cpu]).fit(module, loader(), loader())
    on_gpu(tmp_path, max_epochs=2, callbacks=[there]).fit(Small(), loader(), loader())

    assert all(parameter.is_cuda for parameter in module.parameters())
    for found, expected in zip(on_cpu.averaged_weights, there.averaged_weights, strict=True):
        torch.testing.assert_close(found.cpu(), expected.cpu())


def test_weights_are_averaged_over_epochs(tmp_path: Path) -> None:
    module = Small()
    averaging = nb.StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1)
    on_gpu(tmp_path, max_epochs=4, callbacks=[averaging]).fit(module, loader(), loader())

    assert all(parameter.is_cuda for parameter in module.parameters())
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_the_use_of_its_memory_is_recorded(tmp_path: Path) -> None:
    run = on_gpu(tmp_path, callbacks=[nb.DeviceStatsMonitor()], log_every_n_steps=2)
    run.fit(Small(), loader(), loader())

    values = {put.name.rpartition("/")[2]: put.value for put in events(run, nb.Put)}
    assert values["allocated_bytes.all.current"] > 0
    assert values["allocated_bytes.all.peak"] >= values["allocated_bytes.all.current"]
    assert values["num_ooms"] == 0
    assert "cpu_percent" not in values


def test_throughput_is_measured(tmp_path: Path) -> None:
    monitor = nb.ThroughputMonitor(batch_size_fn=lambda batch: len(batch[0]), window_size=3)
    run = on_gpu(tmp_path, callbacks=[monitor], log_every_n_steps=2, max_epochs=2)
    run.fit(Small(), loader())

    assert any("samples_per_sec" in put.name for put in events(run, nb.Put))


def test_validation_and_test_give_the_results_of_the_cpu(tmp_path: Path) -> None:
    for function in ("validate", "test"):
        there, here = (
            getattr(trainer(tmp_path, accelerator=name), function)(Small(), loader(), verbose=False)
            for name in ("gpu", "cpu")
        )
        assert there[0].keys() == here[0].keys()
        for name, value in here[0].items():
            assert there[0][name] == pytest.approx(value, rel=1e-5)


def test_a_tensor_that_is_left_on_the_cpu_is_explained(tmp_path: Path) -> None:
    class Forgets(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss(batch) + self(torch.ones(1, 4)).sum()

    with pytest.raises(RuntimeError) as caught:
        on_gpu(tmp_path).fit(Forgets(), loader())

    assert any("device=self.device" in note for note in caught.value.__notes__)


def test_a_device_is_chosen_by_its_number(tmp_path: Path) -> None:
    module = Small()
    run = on_gpu(tmp_path, devices=[torch.cuda.device_count() - 1])
    run.fit(module, loader())

    assert run.device_ids == [torch.cuda.device_count() - 1]
    assert torch.cuda.current_device() == torch.cuda.device_count() - 1
    with pytest.raises(nb.UsageError, match="this machine has"):
        on_gpu(tmp_path, devices=[torch.cuda.device_count()])


@pytest.fixture(autouse=True)
def _no_test_changes_the_current_device() -> Iterator[None]:
    current = torch.cuda.current_device()
    yield
    torch.cuda.set_device(current)
