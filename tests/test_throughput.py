"""Throughput, which measures a loop of one's own."""

from importlib import import_module
from typing import Any

import pytest

import nightbus as nb

Throughput: Any = import_module("nightbus.compat.lightning.fabric.utilities.throughput").Throughput


def test_rates_are_those_of_a_full_window() -> None:
    throughput = Throughput(window_size=2)
    throughput.update(time=1.0, batches=1, samples=4)
    assert throughput.compute() == {"time": 1.0, "batches": 1, "samples": 4}

    throughput.update(time=3.0, batches=2, samples=8)
    assert throughput.compute() == {
        "time": 3.0,
        "batches": 2,
        "samples": 8,
        "device/batches_per_sec": 0.5,
        "device/samples_per_sec": 2.0,
    }


def test_all_processes_together_have_rates_too() -> None:
    throughput = Throughput(available_flops=100, world_size=2, window_size=2, separator="|")
    for batch in (1, 2):
        throughput.update(time=batch, batches=batch, samples=batch, lengths=3 * batch, flops=10)

    found = throughput.compute()
    assert found["items_per_sec"] == 2 * found["device|items_per_sec"] == 6.0
    assert found["flops_per_sec"] == 2 * found["device|flops_per_sec"] == 20.0
    assert found["device|mfu"] == 0.1


def test_a_loop_begins_anew_after_a_reset() -> None:
    throughput = Throughput()
    throughput.update(time=2.0, batches=2, samples=2)
    throughput.reset()

    assert throughput.compute() == {}
    throughput.update(time=1.0, batches=1, samples=1)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"time": 1.0, "batches": 2, "samples": 2}, "time=1.0: expected the total"),
        ({"time": 2.0, "batches": 3, "samples": 2}, "samples=2: expected at least batches=3"),
        ({"time": 2.0, "batches": 2, "samples": 2, "lengths": 2}, "lengths was given at some"),
    ],
)
def test_counts_that_cannot_be_are_refused(second: dict[str, Any], message: str) -> None:
    throughput = Throughput()
    throughput.update(time=1.0, batches=1, samples=1)

    with pytest.raises(nb.UsageError, match=message):
        throughput.update(**second)
