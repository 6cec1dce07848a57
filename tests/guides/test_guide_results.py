"""The guide to results: each of its blocks runs and does what its text says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, events, loader, trainer
from torch import Tensor

import nightbus as nb


class Lit(Small):
    """A module whose steps return what the test says."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return nb.TrainResult(minimize=self.loss(batch))


def values(run: nb.Trainer, name: str, label: str = "loggers") -> list[float]:
    """What was put under a name to a destination."""
    return [e.value for e in events(run, nb.Put) if e.name == name and label in e.destinations]


def fit(tmp_path: Path, module: nb.LightningModule, **arguments: Any) -> nb.Trainer:
    run = trainer(tmp_path, log_every_n_steps=1, num_sanity_val_steps=0, **arguments)
    run.fit(module, loader(12), loader(8))
    return run


def losses(tmp_path: Path) -> list[float]:
    """Losses of the three training batches of an epoch."""
    module = Lit()
    found: list[float] = []

    class Notes(nb.Callback):
        def on_before_backward(self, trainer: Any, module: Any, loss: Tensor) -> None:
            found.append(loss.item())

    fit(tmp_path / "losses", module, callbacks=[Notes()])
    return found


def test_a_training_step_returns_a_train_result_with_what_to_log(tmp_path: Path) -> None:
    class Logs(Lit):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            result = nb.TrainResult(minimize=loss)
            result.log("train_loss", loss, prog_bar=True)
            return result

    run = fit(tmp_path, Logs())

    assert values(run, "train_loss") == values(run, "train_loss", "progress_bar")
    assert values(run, "train_loss") == losses(tmp_path)


def test_training_with_results_gives_the_same_weights(tmp_path: Path) -> None:
    plain, with_results = Small(), Lit()

    fit(tmp_path, plain)
    fit(tmp_path, with_results)

    for mine, other in zip(plain.parameters(), with_results.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_training_epoch_end_gets_what_the_steps_set(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Collects(Lit):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            result = nb.TrainResult(self.loss(batch))
            result.some_prediction = self(batch[0])
            result.number = torch.tensor(batch_idx)
            result.name = f"batch {batch_idx}"
            return result

        def training_epoch_end(self, training_step_output_result: Any) -> Any:
            seen["shape"] = training_step_output_result.some_prediction.shape
            seen["numbers"] = training_step_output_result.number.tolist()
            seen["names"] = training_step_output_result.name
            seen["graph"] = training_step_output_result.some_prediction.requires_grad
            training_step_output_result.log("epoch_end", torch.tensor(0.5))
            return training_step_output_result

    run = fit(tmp_path, Collects())

    assert seen["shape"] == (12, 2)
    assert seen["numbers"] == [0, 1, 2]
    assert seen["names"] == ["batch 0", "batch 1", "batch 2"]
    assert not seen["graph"]
    assert values(run, "epoch_end") == [0.5]


def test_a_validation_step_returns_an_eval_result(tmp_path: Path) -> None:
    class Validates(Lit):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            some_metric = torch.tensor(float(batch_idx))
            result = nb.EvalResult(checkpoint_on=some_metric)
            result.log("some_metric", some_metric, prog_bar=True)
            return result

    run = fit(tmp_path, Validates())

    assert values(run, "some_metric") == values(run, "some_metric", "progress_bar") == [0.5]
    assert run.callback_metrics["checkpoint_on"] == 0.5


def test_validation_epoch_end_gets_what_the_steps_set(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Collects(Lit):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            result = nb.EvalResult(checkpoint_on=torch.tensor(1.0))
            result.a_prediction = self(batch[0])
            result.log("val_metric", torch.tensor(float(batch_idx)))
            return result

        def validation_epoch_end(self, validation_step_output_result: Any) -> Any:
            seen.append(validation_step_output_result.a_prediction.shape)
            seen.append(validation_step_output_result.val_metric.tolist())
            return validation_step_output_result

    run = fit(tmp_path, Collects())

    assert seen == [(8, 2), [0.0, 1.0]]
    assert values(run, "val_metric") == [0.5]


def test_an_epoch_end_may_reduce_a_metric_itself(tmp_path: Path) -> None:
    class Reduces(Lit):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            result = nb.EvalResult()
            result.log("val_metric", torch.tensor(float(batch_idx)))
            return result

        def validation_epoch_end(self, outputs: Any) -> Any:
            outputs.val_metric = outputs.val_metric.max()
            return outputs

    assert values(fit(tmp_path, Reduces()), "val_metric") == [1.0]


def test_minimize_must_have_a_graph(tmp_path: Path) -> None:
    class Detaches(Lit):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return nb.TrainResult(self.loss(batch).detach())

    with pytest.raises(nb.UsageError, match="must have a computational graph"):
        fit(tmp_path, Detaches())


def test_a_result_that_minimizes_nothing_skips_the_turn(tmp_path: Path) -> None:
    class Skips(Lit):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return nb.TrainResult() if batch_idx == 1 else nb.TrainResult(self.loss(batch))

    assert fit(tmp_path, Skips()).global_step == 2


def test_what_to_monitor_can_be_chosen_in_training_alone(tmp_path: Path) -> None:
    class Chooses(nb.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Small().net

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            some_metric = torch.nn.functional.cross_entropy(self.net(x), y)
            metric_a, metric_b = torch.tensor(1.0 + batch_idx), torch.tensor(5.0)
            return nb.TrainResult(some_metric, checkpoint_on=metric_a, early_stop_on=metric_b)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    run = trainer(tmp_path)
    run.fit(Chooses(), loader(12))

    assert run.callback_metrics["checkpoint_on"] == 2.0
    assert run.callback_metrics["early_stop_on"] == 5.0


def test_checkpoint_on_is_the_loss_by_default(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(Lit(), loader(12))

    assert run.callback_metrics["checkpoint_on"].item() == pytest.approx(
        sum(losses(tmp_path)) / 3, rel=1e-6
    )


def test_validations_choice_wins_over_trainings(tmp_path: Path) -> None:
    class Both(Lit):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            metric = torch.tensor(9.0)
            return nb.TrainResult(self.loss(batch), checkpoint_on=metric, early_stop_on=metric)

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            return nb.EvalResult(checkpoint_on=torch.tensor(1.0), early_stop_on=torch.tensor(2.0))

    run = fit(tmp_path, Both(), max_epochs=2)

    assert run.callback_metrics["checkpoint_on"] == 1.0
    assert run.callback_metrics["early_stop_on"] == 2.0


def test_dicts_may_say_what_to_log_as_they_did_before_results(tmp_path: Path) -> None:
    class Older(Lit):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return {
                "loss": self.loss(batch),
                "log": {"a": float(batch_idx)},
                "progress_bar": {"b": 2.0},
            }

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            return {"val_loss": self.loss(batch)}

        def validation_epoch_end(self, outputs: Any) -> Any:
            mean = torch.stack([output["val_loss"] for output in outputs]).mean()
            return {"val_loss": mean, "log": {"val": mean}}

    run = fit(tmp_path, Older())

    assert values(run, "a") == [0.0, 1.0, 2.0]
    assert values(run, "b", "progress_bar") == [2.0] * 3
    assert run.callback_metrics["val_loss"] == run.callback_metrics["val"]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"train_loss": 3}),
        (
            {"on_step": True, "on_epoch": False, "logger": True, "prog_bar": False},
            {"train_loss": 3},
        ),
        ({"on_step": False, "on_epoch": True}, {"train_loss": 1}),
        ({"on_epoch": True}, {"step_train_loss": 3, "epoch_train_loss": 1}),
        ({"prog_bar": True, "logger": False}, {}),
        ({"sync_dist": True}, {"train_loss": 3}),
    ],
)
def test_when_and_where_a_train_result_logs(
    tmp_path: Path, options: dict[str, Any], names: dict[str, int]
) -> None:
    class Logs(Lit):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            result = nb.TrainResult(loss)
            result.log("train_loss", loss, **options)
            return result

    run = fit(tmp_path, Logs())

    puts = [
        e for e in events(run, nb.Put) if "train_loss" in e.name and "loggers" in e.destinations
    ]
    counts = {name: sum(e.name == name for e in puts) for name in {e.name for e in puts}}
    assert counts == names


def test_an_eval_result_logs_at_the_end_of_an_epoch_by_default(tmp_path: Path) -> None:
    class Logs(Lit):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            result = nb.EvalResult()
            result.log("val", torch.tensor(float(batch_idx)))
            result.log("both", torch.tensor(1.0), on_step=True)
            return result

        def test_step(self, batch: Any, batch_idx: int) -> Any:
            result = nb.EvalResult()
            result.log("tested", torch.tensor(float(batch_idx)))
            return result

    module = Logs()
    run = fit(tmp_path, module)

    assert values(run, "val") == [0.5]
    assert len(values(run, "step_both")) == 2
    assert len(values(run, "epoch_both")) == 1
    assert run.test(module, loader(8), verbose=False) == [{"tested": 0.5}]


def my_reduce_fx(all_train_loss: Tensor) -> Tensor:
    return all_train_loss.max() - all_train_loss.min()


@pytest.mark.parametrize("reduce_fx", [torch.sum, my_reduce_fx])
def test_reductions_of_ones_own(tmp_path: Path, reduce_fx: Any) -> None:
    class Logs(Lit):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            result = nb.TrainResult(self.loss(batch))
            value = torch.tensor(float(batch_idx + 1))
            result.log("train_loss", value, on_step=False, on_epoch=True, reduce_fx=reduce_fx)
            return result

    expected = 6.0 if reduce_fx is torch.sum else 2.0
    assert values(fit(tmp_path, Logs()), "train_loss") == [expected]


def test_a_dict_is_logged_at_once_and_names_can_be_changed() -> None:
    result = nb.EvalResult()
    result.log_dict({"a": 1.0, "b": 2.0}, prog_bar=True)

    result.rename_keys({"a": "c"})

    assert {name: value for name, value, _ in result.logged()} == {"b": 2.0, "c": 1.0}
    assert all(options.prog_bar for _, _, options in result.logged())
    with pytest.raises(nb.UsageError, match=r"no 'a'; it has b, c"):
        result.rename_keys({"a": "d"})


def test_hiddens_feed_truncated_back_propagation(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Splits(Lit):
        truncated_bptt_steps = 2

        def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:  # type: ignore[override]
            seen.append(None if hiddens is None else hiddens.item())
            x = batch[0]
            loss = self(torch.cat([x, x], dim=1)).mean()
            return nb.TrainResult(loss, hiddens=torch.tensor(float(len(seen)), requires_grad=True))

        def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
            x, y = batch
            return [[x[:, :2], y], [x[:, 2:], y]]

    fit(tmp_path, Splits(), limit_train_batches=2)

    assert seen == [None, 1.0, None, 3.0]


def test_predictions_are_written_to_a_file(tmp_path: Path) -> None:
    class Writes(Lit):
        def test_step(self, batch: Any, batch_idx: int) -> Any:
            result = nb.EvalResult()
            result.write("logits", self(batch[0]))
            result.write_dict({"labels": batch[1], "batch": [batch_idx] * len(batch[1])})
            return result

    module = Writes()
    run = trainer(tmp_path)
    run.test(module, loader(6, 4), verbose=False)

    assert run.run_folder is not None
    samples = nb.load_predictions(run.run_folder.path / "predictions_rank_0.safetensors")
    assert len(samples) == 6
    assert [sample["batch"] for sample in samples] == [0, 0, 0, 0, 1, 1]
    assert samples[0]["logits"].shape == (2,)


def test_a_metric_that_is_logged_neither_on_step_nor_on_epoch_is_refused() -> None:
    with pytest.raises(nb.UsageError, match="would record nothing"):
        nb.EvalResult().log("a", 1.0, on_epoch=False)


def test_what_to_monitor_is_one_number() -> None:
    with pytest.raises(nb.UsageError, match=r"checkpoint_on has shape \(3,\)"):
        nb.EvalResult(checkpoint_on=torch.zeros(3))
