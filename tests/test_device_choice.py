"""Which of several devices a process uses, shown without a GPU."""

from typing import Any

import pytest
import torch

import nightbus as nb
from nightbus.actors.accelerators import CPUAccelerator
from nightbus.actors.data.rng import rng_state, set_rng_state
from nightbus.actors.device import Device, choose_device
from nightbus.actors.ranks.devices import parse_devices
from nightbus.bus.system import streams


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


def test_a_gpu_that_is_left_unused_is_said_once(
    called: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(streams, "_TOLD", set())

    Device("cpu", "32-true")
    Device("cpu", "32-true")

    said = "nightbus: accelerator='cpu' leaves the GPU of this machine unused"
    assert capsys.readouterr().err.count(said) == 1


def test_an_accelerator_reads_what_the_monitor_records() -> None:
    assert {*CPUAccelerator().get_device_stats("cpu")} == {
        "cpu_percent",
        "cpu_vm_percent",
        "cpu_swap_percent",
    }


def test_the_gpu_of_a_mac_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    assert choose_device("gpu") == torch.device("mps")
    assert parse_devices(-1, "gpu").count == 1


@pytest.mark.parametrize("devices", [["0"], [[0, 1]], 1.5, {}, -2])
def test_what_is_no_number_of_devices_is_of_the_wrong_type(devices: Any) -> None:
    with pytest.raises(TypeError, match="expected a number, -1 for all") as caught:
        parse_devices(devices, "cpu")

    assert isinstance(caught.value, nb.UsageError)
