"""What is read of the process, its machine and its GPU."""

import sys
import time
import types
from pathlib import Path

import pytest

from nightbus.bus.system.gpu_usage import GpuUsage
from nightbus.bus.system.usage import MachineUsage, ProcessUsage


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def write(proc: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (proc / name).parent.mkdir(parents=True, exist_ok=True)
        (proc / name).write_text(text)


def network(received: int, sent: int) -> str:
    row = "{}: {} 1 0 0 0 0 0 0 {} 1 0 0 0 0 0 0\n"
    head = "Inter-| Receive\n face |bytes\n"
    return head + row.format("    lo", 10**9, 10**9) + row.format("  eth0", received, sent)


def test_rates_of_a_machine_are_the_growth_of_its_counters_per_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("nightbus.bus.system.usage._TICKS_A_S", 100)
    clock = Clock()
    usage = MachineUsage(clock, tmp_path, tmp_path)
    memory = "MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  750 kB\n"
    disk = "nr_free_pages 3\npgpgin {}\npgpgout {}\n"
    first = {"stat": "cpu  100 0 50 900 30 1 2 3 0 0\ncpu0 1\n", "vmstat": disk.format(10, 20)}
    write(tmp_path, {**first, "meminfo": memory, "net/dev": network(1000, 0)})
    assert "machine/cpu_percent" not in usage.read()

    clock.now_s += 2
    later = {"stat": "cpu  500 0 50 990 31 1 2 3 0 0\ncpu0 1\n", "vmstat": disk.format(14, 20)}
    write(tmp_path, {**later, "meminfo": memory, "net/dev": network(3000, 500)})
    found = usage.read()

    assert found.pop("machine/disk_free_bytes") > 0
    assert found == pytest.approx(
        {
            "machine/cpu_percent": 50.0,  # 4 s of the 8 s that 4 cores have
            "machine/memory_bytes": 250 * 1024,
            "machine/memory_percent": 25.0,
            "machine/disk_read_bytes_per_s": 2048.0,
            "machine/disk_write_bytes_per_s": 0.0,
            "machine/network_received_bytes_per_s": 1000.0,  # without those to itself
            "machine/network_sent_bytes_per_s": 250.0,
        }
    )


def test_a_counter_that_begins_again_makes_no_negative_rate(tmp_path: Path) -> None:
    clock = Clock()
    usage = MachineUsage(clock, tmp_path, tmp_path)
    write(tmp_path, {"net/dev": network(3000, 0)})
    usage.read()
    clock.now_s += 1
    write(tmp_path, {"net/dev": network(100, 0)})

    assert usage.read()["machine/network_received_bytes_per_s"] == 0


def test_where_the_system_has_no_such_files_what_remains_is_read(tmp_path: Path) -> None:
    clock = Clock()
    process, machine = ProcessUsage(clock, tmp_path), MachineUsage(clock, tmp_path, tmp_path)
    process.read()
    machine.read()
    clock.now_s += 1

    assert process.read().keys() == {"process/cpu_percent"}
    assert machine.read().keys() == {"machine/disk_free_bytes"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_this_process_and_this_machine_are_read() -> None:
    process, machine = ProcessUsage(time.monotonic), MachineUsage(time.monotonic, Path.cwd())
    process.read()
    machine.read()

    assert process.read()["process/memory_bytes"] > 1e6
    assert 0 < machine.read()["machine/memory_percent"] < 100


class NVMLError(Exception):
    pass


def nvml(**replaced: object) -> types.ModuleType:
    """What nvidia-ml-py has, with a GPU in it."""

    def not_supported(gpu: str) -> None:
        raise NVMLError("Not Supported")

    module = types.ModuleType("pynvml")
    has = {
        "NVMLError": NVMLError,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetUtilizationRates": lambda gpu: types.SimpleNamespace(gpu=37, memory=4),
        "nvmlDeviceGetMemoryInfo": lambda gpu: types.SimpleNamespace(used=5 << 30),
        "nvmlDeviceGetPowerUsage": not_supported,
        "nvmlDeviceGetTemperature": lambda gpu, sensor: 61,
    }
    module.__dict__.update(has | replaced)
    return module


def test_a_gpu_is_read_and_what_it_does_not_tell_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())

    assert GpuUsage("GPU-1", 2).read() == {
        "gpu2/use_percent": 37,
        "gpu2/memory_bytes": 5 << 30,
        "gpu2/temperature_c": 61,
    }


def test_without_the_library_or_the_driver_nothing_is_read_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert GpuUsage("GPU-of-no-machine", 0).read() == {}  # nvidia-ml-py itself
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert GpuUsage("GPU-1", 0).read() == {}
