"""Truncated back-propagation through time: splits, hidden states between them, and outputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import assert_same, trainer, weights
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import nightbus as nb


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.rnn = nn.LSTM(2, 6, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(6, 1)

    def loss(self, batch: Any, state: Any) -> tuple[Tensor, Any]:
        x, y = batch
        out, state = self.rnn(x, state)
        return F.mse_loss(self.head(self.dropout(out)), y), state


def sequences(time: int = 10) -> DataLoader[Any]:
    """2 batches of 4 sequences."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(8, time, 2, generator=generator)
    return DataLoader(TensorDataset(x, x.cumsum(dim=1)[..., :1]), 4)


class Truncated(nb.LightningModule):
    """10 time steps in splits of 4, 4 and 2."""

    truncated_bptt_steps = 4

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:
        loss, hiddens = self.net.loss(batch, hiddens)
        return {"loss": loss, "hiddens": hiddens}

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def fit(tmp_path: Path, module: nb.LightningModule, **arguments: Any) -> nb.Trainer:
    options: dict[str, Any] = {"max_epochs": 2, **arguments}
    run = trainer(tmp_path, **options)
    torch.manual_seed(7)
    run.fit(module, sequences())
    return run


def raw(
    size: int = 4,
    clip: float = 0.0,
    decay: float = 1.0,
    split: Callable[[Tensor, int], list[Tensor]] = lambda part, size: list(part.split(size, 1)),
) -> list[Tensor]:
    """The same training without a trainer."""
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    torch.manual_seed(7)
    for _ in range(2):
        for x, y in sequences():
            state = None
            for parts in zip(split(x, size), split(y, size), strict=True):
                loss, state = net.loss(parts, state)
                state = tuple(part.detach() for part in state)
                optimizer.zero_grad()
                loss.backward()
                if clip:
                    nn.utils.clip_grad_norm_(net.parameters(), clip)
                optimizer.step()
            optimizer.param_groups[0]["lr"] *= decay
    return weights(net)


# -- the weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4, 5, 10, 20])
def test_each_split_is_a_step(tmp_path: Path, size: int) -> None:
    module = Truncated()
    module.truncated_bptt_steps = size

    run = fit(tmp_path, module)

    assert_same(weights(module), raw(size))
    assert run.global_step == 2 * 2 * -(-10 // size)


def test_gradients_are_clipped_in_each_split(tmp_path: Path) -> None:
    module = Truncated()

    fit(tmp_path, module, gradient_clip_val=0.05)

    assert_same(weights(module), raw(clip=0.05))


def test_steps_may_be_a_property(tmp_path: Path) -> None:
    class Property(Truncated):
        @property
        def truncated_bptt_steps(self) -> int:  # type: ignore[override]
            return 5

    module = Property()

    fit(tmp_path, module)

    assert_same(weights(module), raw(5))


def test_a_manual_step_without_hiddens_splits_its_batches_itself(tmp_path: Path) -> None:
    class Splits(Truncated):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            optimizer, state = self.optimizers(), None
            for parts in zip(*(part.split(4, 1) for part in batch), strict=True):
                loss, state = self.net.loss(parts, state)
                state = tuple(part.detach() for part in state)
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()

    module = Splits()

    run = fit(tmp_path, module)

    assert_same(weights(module), raw())
    assert run.global_step == 2 * 2 * 3


def test_hiddens_are_given_by_name_in_any_position(tmp_path: Path) -> None:
    class First(Truncated):
        def training_step(self, hiddens: Any, batch: Any, batch_idx: int) -> Any:  # type: ignore[override]
            return super().training_step(batch, batch_idx, hiddens)

    module = First()

    fit(tmp_path, module)

    assert_same(weights(module), raw())


def test_manual_optimization_is_given_splits_too(tmp_path: Path) -> None:
    class ByHand(Truncated):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:
            loss, hiddens = self.net.loss(batch, hiddens)
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            return {"hiddens": hiddens}

    module = ByHand()

    fit(tmp_path, module)

    assert_same(weights(module), raw())


def test_a_split_of_ones_own_is_used(tmp_path: Path) -> None:
    def backwards(part: Tensor, size: int) -> list[Tensor]:
        return list(part.flip(1).split(size, 1))

    class Backwards(Truncated):
        def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
            parts = [backwards(part, split_size) for part in batch]
            return list(zip(*parts, strict=True))

    module = Backwards()

    fit(tmp_path, module)

    assert_same(weights(module), raw(split=backwards))


def test_a_step_scheduler_moves_once_after_the_splits_of_a_batch(tmp_path: Path) -> None:
    class Schedules(Truncated):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            scheduler = torch.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda _: 0.5)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    module = Schedules()

    fit(tmp_path, module)

    assert_same(weights(module), raw(decay=0.5))


def test_zero_steps_do_not_split(tmp_path: Path) -> None:
    times: list[int] = []

    class Whole(Truncated):
        truncated_bptt_steps = 0

        def training_step(self, batch: Any, batch_idx: int) -> Any:  # type: ignore[override]
            times.append(batch[0].shape[1])
            return self.net.loss(batch, None)[0]

    fit(tmp_path, Whole(), max_epochs=1)

    assert times == [10, 10]


# -- hidden states ---------------------------------------------------------------------------


def test_hiddens_start_as_none_in_each_batch_and_come_without_their_graph(tmp_path: Path) -> None:
    found: list[Any] = []

    class Notes(Truncated):
        def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:
            if hiddens is None:
                found.append(None)
            else:
                found.append([(tuple(part.shape), part.requires_grad) for part in hiddens])
            return super().training_step(batch, batch_idx, hiddens)

    fit(tmp_path, Notes(), max_epochs=1)

    states = [((1, 4, 6), False)] * 2
    assert found == [None, states, states] * 2


def test_two_optimizers_start_a_split_from_the_same_hiddens(tmp_path: Path) -> None:
    starts: list[tuple[int, Any]] = []

    class Two(Truncated):
        def training_step(  # type: ignore[override]
            self, batch: Any, batch_idx: int, optimizer_idx: int, hiddens: Any
        ) -> Any:
            starts.append((optimizer_idx, None if hiddens is None else hiddens[0].sum().item()))
            return super().training_step(batch, batch_idx, hiddens)

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.net.parameters(), lr=0.01) for _ in range(2)]

    fit(tmp_path, Two(), max_epochs=1)

    assert [idx for idx, _ in starts] == [0, 1] * 6
    assert starts[0][1] is starts[1][1] is None
    assert starts[2][1] == starts[3][1] is not None


def test_hiddens_may_be_nested_and_hold_more_than_tensors(tmp_path: Path) -> None:
    found: list[Any] = []

    class Nested(Truncated):
        def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:
            found.append(hiddens)
            loss, state = self.net.loss(batch, None if hiddens is None else hiddens["state"])
            return {"loss": loss, "hiddens": {"state": state, "kept": [state[0]], "count": 3}}

    fit(tmp_path, Nested(), max_epochs=1)

    first, second, _, *_ = found
    assert first is None
    assert set(second) == {"state", "kept", "count"}
    assert second["count"] == 3
    assert not second["kept"][0].requires_grad
    assert isinstance(second["state"], tuple)


def test_a_split_that_is_skipped_hands_its_own_hiddens_on(tmp_path: Path) -> None:
    starts: list[Any] = []

    class Skips(Truncated):
        def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:
            starts.append(hiddens)
            is_second = len(starts) % 3 == 2
            return None if is_second else super().training_step(batch, batch_idx, hiddens)

    run = fit(tmp_path, Skips(), max_epochs=1)

    assert starts[2] is starts[1] is not None
    assert starts[3] is None
    assert run.global_step == 4


# -- how a batch is split --------------------------------------------------------------------


def splits(batch: Any, size: int) -> list[Any]:
    return Truncated().tbptt_split_batch(batch, size)


def test_tensors_are_split_along_dimension_1() -> None:
    x, y = torch.arange(10).reshape(2, 5), torch.arange(20).reshape(2, 5, 2)

    found = splits((x, y), 2)

    assert [part[0].tolist() for part in found] == [
        [[0, 1], [5, 6]],
        [[2, 3], [7, 8]],
        [[4], [9]],
    ]
    assert torch.equal(torch.cat([part[1] for part in found], dim=1), y)


def test_lists_of_sequences_are_split_within_each_sequence() -> None:
    batch = [torch.zeros(2, 3), [["a", "b", "c"], ["d", "e", "f"]]]

    found = splits(batch, 2)

    assert [part[1] for part in found] == [[["a", "b"], ["d", "e"]], [["c"], ["f"]]]


def test_what_has_no_time_is_handed_to_each_split() -> None:
    labels = torch.tensor([1, 2])

    found = splits([torch.zeros(2, 4), labels, "name"], 2)

    assert len(found) == 2
    assert all(part[1] is labels and part[2] == "name" for part in found)


def test_a_batch_that_is_a_tensor_gives_tensors() -> None:
    found = splits(torch.zeros(2, 5, 3), 2)

    assert [tuple(part.shape) for part in found] == [(2, 2, 3), (2, 2, 3), (2, 1, 3)]


# -- outputs ---------------------------------------------------------------------------------


class KeepsOutputs(Truncated):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Any] = []
        self.epochs: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:
        output = super().training_step(batch, batch_idx, hiddens)
        return {**output, "time": batch[0].shape[1]}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(outputs)

    def training_epoch_end(self, outputs: Any) -> None:
        self.epochs.append(outputs)


def test_a_batchs_outputs_are_a_list_over_its_splits(tmp_path: Path) -> None:
    module = KeepsOutputs()

    fit(tmp_path, module, max_epochs=1)

    assert [[split["time"] for split in batch] for batch in module.batches] == [[4, 4, 2]] * 2
    for split in (split for batch in module.batches for split in batch):
        assert set(split) == {"loss", "time"}
        assert not split["loss"].requires_grad


def test_an_epochs_outputs_are_a_list_over_batches_of_lists_over_splits(tmp_path: Path) -> None:
    module = KeepsOutputs()

    fit(tmp_path, module)

    assert len(module.epochs) == 2
    assert [[split["time"] for split in batch] for batch in module.epochs[0]] == [[4, 4, 2]] * 2


class KeepsOfTwo(KeepsOutputs):
    def training_step(  # type: ignore[override]
        self, batch: Any, batch_idx: int, optimizer_idx: int, hiddens: Any
    ) -> Any:
        output = super().training_step(batch, batch_idx, hiddens)
        return {**output, "turn": optimizer_idx}

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), lr=0.01) for _ in range(2)]


def test_with_two_optimizers_a_batchs_outputs_are_by_split_and_then_by_optimizer(
    tmp_path: Path,
) -> None:
    module = KeepsOfTwo()

    fit(tmp_path, module, max_epochs=1)

    found = [[[turn["turn"] for turn in split] for split in batch] for batch in module.batches]
    assert found == [[[0, 1]] * 3] * 2


def test_with_two_optimizers_an_epochs_outputs_are_by_optimizer_batch_and_split(
    tmp_path: Path,
) -> None:
    module = KeepsOfTwo()

    fit(tmp_path, module, max_epochs=1)

    (outputs,) = module.epochs
    assert [[[split["turn"] for split in batch] for batch in own] for own in outputs] == [
        [[0, 0, 0]] * 2,
        [[1, 1, 1]] * 2,
    ]


def test_hooks_of_a_batch_run_once_and_those_of_a_step_once_a_split(tmp_path: Path) -> None:
    called: list[str] = []

    class Notes(Truncated):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            called.append("start")

        def on_before_optimizer_step(self, optimizer: Any, optimizer_idx: int = 0) -> None:
            called.append("step")

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            called.append("end")

    fit(tmp_path, Notes(), max_epochs=1)

    assert called == ["start", "step", "step", "step", "end"] * 2


# -- what is refused -------------------------------------------------------------------------


def refused(tmp_path: Path, module: nb.LightningModule, batches: Any, said: str) -> None:
    with pytest.raises(nb.UsageError, match=said):
        trainer(tmp_path).fit(module, batches)


def test_a_training_step_without_hiddens_is_refused(tmp_path: Path) -> None:
    class Without(Truncated):
        def training_step(self, batch: Any, batch_idx: int) -> Any:  # type: ignore[override]
            raise AssertionError

    said = r"Without\.training_step\(batch, batch_idx\) has no argument hiddens"
    refused(tmp_path, Without(), sequences(), said)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"loss": torch.zeros(())}, r"a dict with \['loss'\]"),
        (torch.zeros(()), "it returned Tensor"),
    ],
)
def test_an_output_without_hiddens_is_refused(tmp_path: Path, output: Any, said: str) -> None:
    class Fixed(Truncated):
        def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:
            return output

    refused(tmp_path, Fixed(), sequences(), f"'loss' and 'hiddens'.*{said}")


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ((torch.zeros(2, 4), torch.zeros(2, 3)), "part 0: 4, part 1: 3"),
        ((torch.zeros(2, 4), [[1, 2, 3]]), "part 0: 4, part 1: 3"),
        ((torch.zeros(2), torch.zeros(2)), "no part has one"),
        ({"x": torch.zeros(2, 4)}, "a batch that is dict"),
    ],
)
def test_a_batch_that_cannot_be_split_is_refused_with_what_to_override(
    tmp_path: Path, batch: Any, said: str
) -> None:
    refused(tmp_path, Truncated(), iter([batch]), f"{said}.*tbptt_split_batch")


@pytest.mark.parametrize("part", [[[1, 2, 3], [1, 2]], [[1, 2], [1, 2, 3]]])
def test_sequences_that_differ_in_length_within_a_list_are_refused(part: Any) -> None:
    with pytest.raises(nb.UsageError, match="equally long"):
        splits([part], 2)


def test_accumulation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="accumulate_grad_batches=2 cannot be combined"):
        fit(tmp_path, Truncated(), accumulate_grad_batches=2)


@pytest.mark.parametrize("steps", [-1, 2.5, "4"])
def test_steps_that_are_no_number_of_time_steps_are_refused(tmp_path: Path, steps: Any) -> None:
    module = Truncated()
    module.truncated_bptt_steps = steps

    with pytest.raises(nb.UsageError, match="truncated_bptt_steps"):
        fit(tmp_path, module)
