"""Gradients are cleared as torch clears them."""

import runpy
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import profiler

from nightbus.loops.fast import clearing
from nightbus.loops.fast.clearing import clear_gradients


class Noting(torch.optim.SGD):
    """Notes how its gradients are cleared."""

    noted: Any = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.noted = set_to_none


def parameters_with_gradients() -> list[nn.Parameter]:
    made = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    for parameter in made[:2]:
        parameter.grad = torch.ones(2)
    return made


def gradients(parameters: list[nn.Parameter]) -> list[Tensor | None]:
    return [parameter.grad for parameter in parameters]


def test_no_parameter_of_any_group_has_a_gradient_after_it() -> None:
    own, torchs = parameters_with_gradients(), parameters_with_gradients()
    groups = [[{"params": each[:1]}, {"params": each[1:]}] for each in (own, torchs)]
    clear_gradients(torch.optim.SGD(groups[0], foreach=True))
    torch.optim.SGD(groups[1], foreach=True).zero_grad()
    assert gradients(own) == gradients(torchs) == [None, None, None]


def test_an_optimizer_with_a_method_of_its_own_clears_them_itself() -> None:
    optimizer = Noting(parameters_with_gradients())
    clear_gradients(optimizer)
    assert optimizer.noted is True
    assert optimizer.param_groups[0]["params"][0].grad is not None


def test_a_method_that_was_set_on_the_optimizer_is_called() -> None:
    parameters = parameters_with_gradients()
    optimizer: Any = torch.optim.SGD(parameters)
    optimizer.zero_grad = mock.Mock()
    clear_gradients(optimizer)
    optimizer.zero_grad.assert_called_once_with()
    assert parameters[0].grad is not None


def test_a_method_that_was_patched_before_this_was_imported_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", lambda self: calls.append(self))
    optimizer = torch.optim.SGD(parameters_with_gradients())
    runpy.run_path(clearing.__file__)["clear_gradients"](optimizer)
    assert calls == [optimizer]


def test_a_profiler_finds_it_under_torchs_name() -> None:
    optimizer = torch.optim.SGD(parameters_with_gradients())
    with profiler.profile(use_cpu=True) as profile:
        clear_gradients(optimizer)
    assert [event.name for event in profile.function_events] == [
        "Optimizer.zero_grad#SGD.zero_grad"
    ]
