"""What a GPU of NVIDIA's does: use, memory, power and temperature, by nvidia-ml-py."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .usage import Reading


class GpuUsage:
    """Reads what one GPU does; nothing where nvidia-ml-py or the driver's library is missing.

    The library is loaded by the first reading, which may take a second.

    Args:
        uuid: of the GPU, as the driver calls it: ``GPU-...``.
        index: of the GPU among those that this process sees, for the names.
    """

    def __init__(self, uuid: str, index: int) -> None:
        self._uuid = uuid
        self._name = f"gpu{index}"
        self._reads: dict[str, Callable[[], float]] | None = None  # None before the first reading
        self._not_told: type[Exception] = ImportError

    def read(self) -> Reading:
        """Return what it does now; what the GPU does not tell is left out from then on."""
        if self._reads is None:
            self._reads = self._begin()
        found: Reading = {}
        for name, read in list(self._reads.items()):
            try:
                found[f"{self._name}/{name}"] = read()
            except self._not_told:
                del self._reads[name]
        return found

    def _begin(self) -> dict[str, Callable[[], float]]:
        try:
            nvml: Any = import_module("pynvml")
        except ImportError:
            return {}
        self._not_told = nvml.NVMLError
        try:
            nvml.nvmlInit()
            gpu = nvml.nvmlDeviceGetHandleByUUID(self._uuid)
        except nvml.NVMLError:  # no driver here, or a part of a GPU
            return {}
        return {
            "use_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
            "memory_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
            "power_w": lambda: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
            "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
        }
