"""Which of several GPUs a process uses, shown without one."""

from typing import Any

import pytest
import torch

from nightbus.actors.data.rng import rng_state, set_rng_state
from nightbus.actors.device import Device


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A machine with two GPUs, and what is told to its driver."""
    calls: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: calls.append((state, device))
    )
    return calls


def test_a_device_that_was_given_by_its_number_is_what_cuda_means(called: list[Any]) -> None:
    Device("gpu", "32-true", 1).make_current()

    assert called == [torch.device("cuda", 1)]


def test_any_device_is_the_one_that_the_process_has_already(called: list[Any]) -> None:
    Device("gpu", "32-true").make_current()

    assert called == []


def test_the_states_of_gpus_that_this_machine_lacks_are_left_out(called: list[Any]) -> None:
    set_rng_state({**rng_state(), "cuda": ["first", "second", "third"]})

    assert called == [("first", 0), ("second", 1)]
