"""Gradients are computed as ``loss.backward()`` computes them."""

import logging
import runpy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import graph
from torch.overrides import TorchFunctionMode

from nightbus.actors.optimization import backward
from nightbus.actors.optimization.backward import knows_torch, run_backward

Make = Callable[[nn.Parameter], Tensor]
LOSSES: dict[str, Make] = {
    "a number": lambda weights: (weights * weights).sum(),
    "of float64": lambda weights: weights.double().sum(),
    "of bfloat16": lambda weights: weights.bfloat16().sum(),
    "of one element": lambda weights: weights[:1] * 3,
    "of several elements": lambda weights: weights * 2,
    "of complex numbers": lambda weights: weights.sum() * 1j,
    "without a graph": lambda weights: weights.detach().sum(),
    "the parameter itself": lambda weights: weights[0].detach().requires_grad_(),
}


class Noting(TorchFunctionMode):
    """Notes which functions of torch are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))


def outcome(compute: Callable[[Tensor], None], make: Make) -> Any:
    """The gradients of the parameter and of the loss, or the error."""
    weights = parameter()
    loss = make(weights)
    if loss.requires_grad:
        loss.retain_grad()
    try:
        compute(loss)
    except RuntimeError as error:
        return str(error)
    return [None if each is None else each.tolist() for each in (weights.grad, loss.grad)]


@pytest.fixture
def engine() -> Iterator[mock.Mock]:
    """torch's engine, whose direct calls are counted."""
    spied = mock.Mock(wraps=backward._engine)
    with mock.patch.object(backward, "_engine", spied):
        yield spied.run_backward


def test_this_version_of_torch_is_known() -> None:
    assert knows_torch()


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_and_errors_are_those_of_the_method(name: str) -> None:
    make = LOSSES[name]
    assert outcome(run_backward, make) == outcome(lambda loss: loss.backward(), make)


def test_a_number_goes_to_the_engine_at_once(engine: mock.Mock) -> None:
    run_backward(LOSSES["a number"](parameter()))
    engine.assert_called_once()


def test_gradients_add_up() -> None:
    weights = parameter()
    for _ in range(2):
        run_backward((weights * 2).sum())
    assert weights.grad is not None
    assert weights.grad.tolist() == [4.0, 4.0, 4.0]


def test_a_graph_is_freed_as_the_method_frees_it() -> None:
    loss = LOSSES["a number"](parameter())
    run_backward(loss)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        run_backward(loss)


def test_what_a_hook_does_to_its_gradient_stays_in_this_backward() -> None:
    for _ in range(2):
        weights = parameter()
        loss = weights.sum()
        loss.register_hook(lambda gradient: gradient.mul_(2))
        run_backward(loss)
        assert weights.grad is not None
        assert weights.grad.tolist() == [2.0, 2.0, 2.0]


def test_a_root_gets_its_gradient_and_its_hooks_run(engine: mock.Mock) -> None:
    assert gradients_with_root() == ([1.0, 1.0, 1.0], [5.0, 6.0], 1)
    engine.assert_called_once()


def gradients_with_root() -> tuple[list[float], list[float], int]:
    """Gradients of the parameter and the root, and how often the root's hook was run."""
    weights, root = parameter(), nn.Parameter(torch.zeros(2))
    ran: list[Tensor] = []
    root.grad = torch.tensor([5.0, 6.0])
    root.register_post_accumulate_grad_hook(ran.append)
    run_backward(weights.sum(), (root, torch.zeros(2)))
    assert weights.grad is not None
    return weights.grad.tolist(), root.grad.tolist(), len(ran)


@contextmanager
def noted_functions(of: object, name: str) -> Iterator[None]:
    """As patched by a user, to note calls."""
    original, calls = getattr(of, name), []

    def noting(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return original(*arguments, **options)

    with mock.patch.object(of, name, noting):
        yield
    assert calls


@contextmanager
def noted_by_a_mode() -> Iterator[None]:
    with Noting() as noting:
        yield
    assert "backward" in noting.names


@contextmanager
def debugging() -> Iterator[None]:
    """As ``TORCH_LOGS=+autograd`` has it: torch tells which nodes run."""
    if torch.__version__.startswith("2.6."):
        pytest.importorskip("expecttest", reason="torch 2.6 cannot tell it without this package")
    lines: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = lines.append  # type: ignore[assignment]
    before = graph.log.level
    graph.log.addHandler(handler)
    graph.log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        graph.log.setLevel(before)
        graph.log.removeHandler(handler)
    assert lines


LISTENERS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "a patch of the method": lambda: noted_functions(Tensor, "backward"),
    "a patch of the function": lambda: noted_functions(torch.autograd, "backward"),
    "a mode": noted_by_a_mode,
    "torch's log": debugging,
}


@pytest.mark.parametrize("name", LISTENERS)
def test_who_listens_hears_of_it(name: str, engine: mock.Mock) -> None:
    with LISTENERS[name]():
        assert gradients_with_root() == ([1.0, 1.0, 1.0], [5.0, 6.0], 1)
    engine.assert_not_called()


@pytest.mark.parametrize(
    "patch",
    [
        mock.patch.object(Tensor, "backward"),
        mock.patch.object(torch.autograd, "backward"),
        mock.patch.object(graph, "_engine_run_backward", print),
    ],
)
def test_what_was_patched_before_this_was_imported_is_called(
    patch: AbstractContextManager[Any],
) -> None:
    with patch:
        assert not runpy.run_path(backward.__file__)["_knows_torch"]
    assert runpy.run_path(backward.__file__)["_knows_torch"]
