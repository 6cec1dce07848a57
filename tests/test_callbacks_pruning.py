"""ModelPruning: pruned values stay 0, in training, in checkpoints and in a resumed run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer
from torch import Tensor, nn
from torch.nn.utils import prune

import nightbus as nb
from nightbus.bus.errors import UsageError


def pruned_share(tensor: Tensor) -> float:
    return float((tensor == 0).float().mean())


def weight(module: nn.Module, name: str) -> Tensor:
    part = module.get_submodule(name)
    assert isinstance(part, nn.Linear)
    return part.weight


def test_a_share_of_all_weights_together_is_0_after_training(tmp_path: Path) -> None:
    module = Small()
    callback = nb.ModelPruning("l1_unstructured", amount=0.25)
    trainer(tmp_path, callbacks=[callback]).fit(module, loader(8))

    every = torch.cat([values.flatten() for values in module.parameters()])  # biases, too
    assert int((every == 0).sum()) == round(0.25 * every.numel())
    assert set(dict(module.named_parameters())) == set(dict(Small().named_parameters()))


def test_each_epoch_prunes_a_share_of_what_is_left(tmp_path: Path) -> None:
    shares: list[float] = []

    class Watches(nb.Callback):
        def on_train_epoch_start(self, trainer: nb.Trainer, module: Any) -> None:
            shares.append(pruned_share(weight(module, "net.0")))

    callback = nb.ModelPruning(
        "l1_unstructured",
        parameter_names=["weight"],
        use_global_unstructured=False,
        amount=lambda epoch: 0.5,
        apply_pruning=lambda epoch: epoch != 1,
    )
    run = trainer(tmp_path, max_epochs=4, callbacks=[callback, Watches()])
    run.fit(Small(), loader(4))

    assert shares == [0.0, 0.5, 0.5, 0.75]


def test_whole_rows_are_pruned_where_that_is_asked_for(tmp_path: Path) -> None:
    module = Small()
    callback = nb.ModelPruning(
        "ln_structured",
        parameters_to_prune=[(module.get_submodule("net.0"), "weight")],
        use_global_unstructured=False,
        amount=2,
        pruning_dim=0,
        pruning_norm=2,
    )
    trainer(tmp_path, callbacks=[callback]).fit(module, loader(4))

    assert int((weight(module, "net.0") == 0).all(dim=1).sum()) == 2
    assert pruned_share(weight(module, "net.2")) == 0


def test_columns_are_pruned_of_what_has_columns(tmp_path: Path) -> None:
    module, options = Small(), {"pruning_dim": 1, "pruning_norm": 2, "amount": 1}
    pruning = nb.ModelPruning("ln_structured", use_global_unstructured=False, **options)  # type: ignore[arg-type]
    trainer(tmp_path, callbacks=[pruning]).fit(module, loader(4))

    assert int((weight(module, "net.0") == 0).all(dim=0).sum()) == 1
    assert not (dict(module.named_parameters())["net.0.bias"] == 0).any()


def test_a_method_of_ones_own_prunes_all_together(tmp_path: Path) -> None:
    class Positive(prune.BasePruningMethod):
        PRUNING_TYPE = "unstructured"

        def __init__(self, amount: float) -> None: ...

        def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
            return default_mask * (t < 0)

    module = Small()
    trainer(tmp_path, callbacks=[nb.ModelPruning(Positive)]).fit(module, loader(4))

    assert not (weight(module, "net.0") > 0).any()


def test_an_epoch_for_which_the_function_returns_none_prunes_nothing(tmp_path: Path) -> None:
    def amount(epoch: int) -> float | None:
        return 0.5 if epoch == 1 else None

    module = Small()
    callback = nb.ModelPruning("l1_unstructured", amount=amount)
    run = trainer(tmp_path, max_epochs=1, callbacks=[callback])
    run.fit(module, loader(8))
    assert (weight(module, "net.0") != 0).all()

    run.fit_loop.max_epochs = 3
    run.fit(module, loader(8))

    assert (weight(module, "net.0") == 0).any()


def test_the_winning_ticket_begins_where_training_began(tmp_path: Path) -> None:
    module, before = Small(), Small()
    callback = nb.ModelPruning("l1_unstructured", use_lottery_ticket_hypothesis=True)
    trainer(tmp_path, callbacks=[callback]).fit(module, loader(8))

    now, first = weight(module, "net.0"), weight(before, "net.0")
    assert torch.equal(now, first * (now != 0))


def test_or_at_random_values(tmp_path: Path) -> None:
    module, before = Small(), Small()
    callback = nb.ModelPruning("l1_unstructured", resample_parameters=True)
    trainer(tmp_path, callbacks=[callback]).fit(module, loader(8))

    now, first = weight(module, "net.0"), weight(before, "net.0")
    left = now != 0
    assert left.any()
    assert not (now[left] == first[left]).any()


@pytest.mark.parametrize("permanent", [True, False])
def test_a_resumed_run_goes_on_as_one_that_was_not_interrupted(
    tmp_path: Path, permanent: bool
) -> None:
    def pruning() -> nb.ModelPruning:
        return nb.ModelPruning(
            "l1_unstructured",
            amount=0.5,
            use_lottery_ticket_hypothesis=False,
            make_pruning_permanent=permanent,
        )

    whole, before, after = Small(), Small(), Small()
    trainer(tmp_path / "whole", max_epochs=3, callbacks=[pruning()]).fit(whole, loader(8))
    trainer(tmp_path / "parts", max_epochs=1, callbacks=[pruning()]).fit(before, loader(8))
    run = trainer(tmp_path / "parts", max_epochs=3, callbacks=[pruning()])
    run.fit(after, loader(8), ckpt_path="last")

    for name in ("net.0", "net.2"):
        assert torch.equal(weight(after, name), weight(whole, name))


def test_a_checkpoint_has_the_pruned_weights_under_their_names(tmp_path: Path) -> None:
    module = Small()
    run = trainer(tmp_path, callbacks=[nb.ModelPruning("l1_unstructured")])
    run.fit(module, loader(8))
    assert run.run_folder is not None

    found = Small.load_from_checkpoint(run.run_folder.path / "checkpoints" / "last")

    expected = module.state_dict()
    assert found.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())


def test_pruning_may_wait_for_the_validation(tmp_path: Path) -> None:
    callback = nb.ModelPruning("random_unstructured", prune_on_train_epoch_end=False)
    module = Small()
    run = trainer(tmp_path, callbacks=[callback], num_sanity_val_steps=1)
    run.fit(module, loader(4), loader(4))

    every = torch.cat([values.flatten() for values in module.parameters()])
    assert pruned_share(every) == 0.5


def test_it_reports_how_much_is_pruned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = nb.ModelPruning("l1_unstructured", amount=0.5, verbose=2)
    trainer(tmp_path, callbacks=[callback]).fit(Small(), loader(4))

    said = capsys.readouterr().err
    assert "ModelPruning: pruned 0.5; 29 of 58 values (50.00%) are 0" in said
    assert "  net.2.weight: " in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pruning_fn": "l2"}, "expected 'l1_unstructured'"),
        ({"pruning_fn": prune.l1_unstructured}, "subclass of .*BasePruningMethod"),
        ({"pruning_fn": "ln_structured"}, "give use_global_unstructured=False"),
        ({"pruning_fn": "random_structured", "use_global_unstructured": False}, "pruning_dim="),
        (
            {"pruning_fn": "ln_structured", "use_global_unstructured": False, "pruning_dim": 0},
            "pruning_norm=",
        ),
        (
            {"pruning_fn": prune.L1Unstructured, "use_global_unstructured": False},
            "prunes all parameters together",
        ),
        ({"parameter_names": ["weights"]}, "expected some of 'weight', 'bias'"),
        ({"amount": 1.5}, "expected a share from 0.0 to 1.0"),
        ({"amount": -1}, "expected a share"),
        ({"verbose": 3}, "verbose"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        nb.ModelPruning(**{"pruning_fn": "l1_unstructured", **given})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"parameters_to_prune": [(nn.Linear(1, 1), "weight")]}, "pairs of a part of the module"),
        ({"parameter_names": ["bias"]}, "found no parameter of Small called bias"),
    ],
)
def test_parameters_that_are_not_the_modules_are_refused(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    module = Small()
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.register_parameter("bias", None)
    run = trainer(tmp_path, callbacks=[nb.ModelPruning("l1_unstructured", **given)])

    with pytest.raises(UsageError, match=said):
        run.fit(module, loader(4))


@pytest.mark.parametrize("averaging", [nb.EMA, nb.WeightAveraging])
def test_an_average_of_the_weights_beside_it_is_refused(
    tmp_path: Path, averaging: type[nb.Callback]
) -> None:
    run = trainer(tmp_path, callbacks=[averaging(), nb.ModelPruning("l1_unstructured")])

    with pytest.raises(UsageError, match=f"ModelPruning and {averaging.__name__} were given"):
        run.fit(Small(), loader(4))
