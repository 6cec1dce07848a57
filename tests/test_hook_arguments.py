"""Hook methods of any kind are called with what they take."""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
import torch
from models import Small, loader, trainer

import nightbus as nb
from nightbus.actors.hook_arguments import fitted
from nightbus.actors.hook_table import HOOKS


class HandsOn(Small):
    """A module whose every hook hands on whatever it got to its base."""


class HandsOnCallback(nb.Callback):
    """The same for a callback."""


def _hands_on(kind: type, name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(kind, self), name)(*args, **kwargs)

    return method


for _name, _spec in HOOKS.items():
    if hasattr(Small, _name):
        setattr(HandsOn, _name, _hands_on(HandsOn, _name))
    if hasattr(nb.Callback, _name):
        setattr(HandsOnCallback, _name, _hands_on(HandsOnCallback, _name))


@pytest.mark.parametrize("loaders", [1, 2])
def test_every_hook_of_a_module_and_a_callback_may_hand_on_star_arguments(
    tmp_path: Path, loaders: int
) -> None:
    class Knows(HandsOn):
        if loaders > 1:

            def validation_step(self, *args: Any, **kwargs: Any) -> Any:
                assert len(args) == 3
                return super().validation_step(*args[:2])

            def test_step(self, *args: Any, **kwargs: Any) -> Any:
                assert len(args) == 3
                return super().test_step(*args[:2])

    module = Knows()
    data = [loader(8) for _ in range(loaders)]
    run = trainer(tmp_path, callbacks=[HandsOnCallback()], gradient_clip_val=1)

    run.fit(module, loader(8), data)
    run.test(module, data, verbose=False)
    run.predict(module, data)

    assert run.global_step == 2


def step_of(kind: str) -> Any:
    """A training step as each kind of thing that can be called."""

    def plain(batch: Any, batch_idx: int) -> Any:
        return module.loss(batch)

    def scaled(scale: float, batch: Any, batch_idx: int) -> Any:
        return module.loss(batch) * scale

    @functools.wraps(plain)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    @functools.wraps(lambda batch: None)
    def narrower(batch: Any, batch_idx: int) -> Any:
        return plain(batch, batch_idx)

    def by_name(batch: Any, *, batch_idx: int) -> Any:
        return plain(batch, batch_idx)

    def all_by_name(**kwargs: Any) -> Any:
        return plain(kwargs["batch"], kwargs["batch_idx"])

    def other_order(batch_idx: int, batch: Any) -> Any:
        return plain(batch, batch_idx)

    class Callable_:
        def __call__(self, batch: Any, batch_idx: int) -> Any:
            return plain(batch, batch_idx)

    module = Small()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    steps: dict[str, Any] = {
        "a lambda": lambda batch, batch_idx: plain(batch, batch_idx),
        "a lambda of the batch": lambda batch: plain(batch, 0),
        "a partial": functools.partial(scaled, 2.0),
        "a wrapper with star arguments": wrapped,
        "a wrapper with other arguments than what it wraps": narrower,
        "keyword-only arguments": by_name,
        "nothing but keywords": all_by_name,
        "another order": other_order,
        "an object": Callable_(),
        "no_grad's wrapper": torch.enable_grad()(plain),
        "a Mock": Mock(side_effect=plain),
        "a MagicMock": MagicMock(wraps=plain),
    }
    module.training_step = steps[kind]  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize(
    "kind",
    [
        "a lambda",
        "a lambda of the batch",
        "a partial",
        "a wrapper with star arguments",
        "a wrapper with other arguments than what it wraps",
        "keyword-only arguments",
        "nothing but keywords",
        "another order",
        "an object",
        "no_grad's wrapper",
        "a Mock",
        "a MagicMock",
    ],
)
def test_a_step_may_be_anything_that_can_be_called(tmp_path: Path, kind: str) -> None:
    module = step_of(kind)
    run = trainer(tmp_path)

    run.fit(module, loader(8))

    assert run.global_step == 2


def test_a_static_method_is_a_hook_too(tmp_path: Path) -> None:
    seen: list[int] = []

    class Static(Small):
        @staticmethod
        def on_train_batch_start(batch: Any, batch_idx: int) -> None:
            seen.append(batch_idx)

    trainer(tmp_path).fit(Static(), loader(8))

    assert seen == [0, 1]


@pytest.mark.parametrize("name", sorted(set(HOOKS) - {"training_step", "configure_optimizers"}))
def test_a_hook_that_is_none_is_switched_off(tmp_path: Path, name: str) -> None:
    module, callback, data = Small(), nb.Callback(), nb.LightningDataModule()
    for owner in (module, callback, data):
        setattr(owner, name, None)
    data.train_dataloader = lambda: loader(4)  # type: ignore[method-assign]
    run = trainer(tmp_path, callbacks=[callback], gradient_clip_val=1.0)

    run.fit(module, datamodule=data)

    assert run.global_step == 1


def test_a_hook_of_the_class_that_is_none_is_switched_off(tmp_path: Path) -> None:
    class Quiet(Small):
        validation_step = None  # type: ignore[assignment]
        on_train_start = None  # type: ignore[assignment]

    run = trainer(tmp_path)

    run.fit(Quiet(), loader(4))

    assert run.global_step == 1


def test_a_hook_that_cannot_be_called_is_refused(tmp_path: Path) -> None:
    module = Small()
    module.train_dataloader = loader(4)  # type: ignore[method-assign, assignment]

    with pytest.raises(nb.UsageError, match="train_dataloader is DataLoader, which cannot be"):
        trainer(tmp_path).fit(module)


ENVIRONMENT = {"using_native_amp": True, "using_lbfgs": True}


def step_1x(
    epoch: int,
    batch_idx: int,
    optimizer: Any,
    optimizer_idx: int,
    optimizer_closure: Any,
    on_tpu: bool,
    using_native_amp: bool,
    using_lbfgs: bool,
) -> Any:
    return optimizer_closure, on_tpu, using_native_amp, using_lbfgs


def step_with_defaults(
    epoch: Any = None,
    batch_idx: Any = None,
    optimizer: Any = None,
    optimizer_idx: Any = None,
    optimizer_closure: Any = None,
    on_tpu: Any = None,
    using_native_amp: Any = None,
    using_lbfgs: Any = None,
) -> Any:
    return optimizer_closure, on_tpu, using_native_amp, using_lbfgs


def step_without_idx(
    epoch: int,
    batch_idx: int,
    optimizer: Any,
    optimizer_closure: Any,
    on_tpu: bool,
    using_native_amp: bool,
    using_lbfgs: bool,
) -> Any:
    return optimizer_closure, on_tpu, using_native_amp, using_lbfgs


@pytest.mark.parametrize("step", [step_1x, step_with_defaults, step_without_idx])
def test_flags_of_the_older_optimizer_step_say_what_is_so(step: Any) -> None:
    arguments = HOOKS["optimizer_step"].arguments

    called = fitted(step, "optimizer_step", arguments, former=ENVIRONMENT)

    assert called(1, 2, "opt", 0, "closure") == ("closure", False, True, True)


def test_star_arguments_get_a_number_only_where_there_are_several() -> None:
    arguments = HOOKS["optimizer_step"].arguments

    def step(*args: Any) -> Any:
        return args

    alone = fitted(step, "optimizer_step", arguments, several=lambda _: False)
    beside_others = fitted(step, "optimizer_step", arguments, several=lambda _: True)

    assert alone(1, 2, "opt", 0, "closure") == (1, 2, "opt", "closure")
    assert beside_others(1, 2, "opt", 0, "closure") == (1, 2, "opt", 0, "closure")


def test_a_backward_that_hands_on_what_it_got_hands_on_nothing_of_the_optimizer(
    tmp_path: Path,
) -> None:
    class Backward(Small):
        def backward(self, loss: Any, *args: Any, **kwargs: Any) -> None:
            loss.backward(*args, **kwargs)

    run = trainer(tmp_path)

    run.fit(Backward(), loader(4))

    assert run.global_step == 1


def test_a_backward_of_the_users_own_gets_the_arguments_of_manual_backward(tmp_path: Path) -> None:
    seen: list[Any] = []

    class ByHand(Small):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(self.loss(batch), retain_graph=True)

        def backward(self, loss: Any, *args: Any, **kwargs: Any) -> None:
            seen.append((args, kwargs))

    trainer(tmp_path).fit(ByHand(), loader(4))

    assert seen == [((), {"retain_graph": True})]


class HasHelpers(Small):
    """Methods of its own that have the names of older hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def on_epoch_end(self, stage: str) -> None:  # type: ignore[override]
        self.seen.append(stage)

    def validation_step_end(self, x: Any, y: Any) -> None:
        raise AssertionError

    def training_epoch_end(self, a: Any, b: Any) -> None:
        raise AssertionError

    def on_train_epoch_end(self) -> None:
        self.on_epoch_end("train")


def test_a_helper_with_the_name_of_an_older_hook_and_other_arguments_is_no_hook(
    tmp_path: Path,
) -> None:
    module = HasHelpers()

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer(tmp_path).fit(module, loader(4), loader(4))

    assert module.seen == ["train"]
    own = [
        str(entry.message) for entry in said if "is not taken for the hook" in str(entry.message)
    ]
    assert [line.partition(" ")[0] for line in sorted(own)] == [
        "HasHelpers.on_epoch_end",
        "HasHelpers.training_epoch_end",
        "HasHelpers.validation_step_end",
    ]


def test_a_method_that_nothing_calls_any_more_is_named_with_what_to_do(tmp_path: Path) -> None:
    class Older(Small):
        def get_progress_bar_dict(self) -> dict[str, Any]:
            raise AssertionError

    with pytest.warns(UserWarning, match=r"get_progress_bar_dict is not called; log what the bar"):
        trainer(tmp_path).fit(Older(), loader(4))


class Largest(torch.nn.Module):
    """A reduction that is a torch module."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.max()


@pytest.mark.parametrize(
    "make",
    [
        lambda: lambda values: values.max(),
        lambda: functools.partial(torch.quantile, q=1.0),
        Largest,
    ],
    ids=["a lambda", "a partial", "a torch module"],
)
def test_a_reduction_may_be_made_anew_in_each_call_of_log(tmp_path: Path, make: Any) -> None:
    class Logs(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", float(batch_idx), on_step=False, on_epoch=True, reduce_fx=make())
            return self.loss(batch)

    run = trainer(tmp_path, max_epochs=2)

    run.fit(Logs(), loader(8))

    assert run.callback_metrics["x"] == 1.0


def test_two_functions_of_two_places_are_still_refused_under_one_name(tmp_path: Path) -> None:
    class Logs(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", 1.0, on_epoch=True, on_step=False, reduce_fx=lambda values: values.max())
            self.log("x", 1.0, on_epoch=True, on_step=False, reduce_fx=lambda values: values.min())
            return self.loss(batch)

    with pytest.raises(nb.NightbusError, match="logged twice in training_step with different"):
        trainer(tmp_path).fit(Logs(), loader(4))


def test_an_unknown_argument_of_a_hook_warns_of_nothing_else(tmp_path: Path) -> None:
    class Usual(Small):
        def on_epoch_end(self) -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer(tmp_path).fit(Usual(), loader(4))
