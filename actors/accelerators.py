"""What ``Trainer(accelerator=...)`` takes, and ``trainer.accelerator`` is."""

import importlib
from typing import Any, ClassVar

import torch

from ..bus.errors import MissingPackageError

_CUDA_STATS = (
    "allocated_bytes.all.current",
    "allocated_bytes.all.peak",
    "reserved_bytes.all.current",
    "reserved_bytes.all.peak",
    "active_bytes.all.current",
    "num_alloc_retries",
    "num_ooms",
)


class Accelerator:
    """A kind of device; give it to the Trainer, or its name. It is equal to its name.

    Args:
        given: what the Trainer's argument was; the object is equal to it.

    Attributes:
        argument: what the Trainer calls it; empty for one of a user's own, which it refuses.
    """

    argument: ClassVar[str] = ""

    def __init__(self, given: str = "") -> None:
        self._given = given

    def __eq__(self, other: object) -> bool:
        """Return whether it is of the same kind, or of this name."""
        if isinstance(other, str):
            return other in (self.argument, self._given)
        return isinstance(other, Accelerator) and other.argument == self.argument

    def __hash__(self) -> int:
        return hash(self.argument)

    def __str__(self) -> str:
        return self.argument

    @classmethod
    def name(cls) -> str:
        """Return what the Trainer calls it."""
        return cls.argument

    @staticmethod
    def is_available() -> bool:
        """Return whether this machine has such a device."""
        return True

    @classmethod
    def auto_device_count(cls) -> int:
        """Return how many such devices ``devices=-1`` means."""
        return int(cls.is_available())

    def get_device_stats(self, device: Any = None) -> dict[str, float]:
        """Return what DeviceStatsMonitor records of such a device.

        Args:
            device: the device, or its number; None for the current one.
        """
        return {}


class CPUAccelerator(Accelerator):
    """The CPU."""

    argument = "cpu"

    def get_device_stats(self, device: Any = None) -> dict[str, float]:
        """Return the load of all cores since the last call, and of the memory, in percent.

        Raises:
            MissingPackageError: psutil is not installed.
        """
        try:
            psutil: Any = importlib.import_module("psutil")
        except ImportError:
            raise MissingPackageError("DeviceStatsMonitor", "psutil", "device") from None
        return {
            "cpu_percent": psutil.cpu_percent(),
            "cpu_vm_percent": psutil.virtual_memory().percent,
            "cpu_swap_percent": psutil.swap_memory().percent,
        }


class CUDAAccelerator(Accelerator):
    """The GPUs of CUDA."""

    argument = "gpu"

    @staticmethod
    def is_available() -> bool:
        """Return whether this machine has such a device."""
        return torch.cuda.is_available()

    @classmethod
    def auto_device_count(cls) -> int:
        """Return how many such devices ``devices=-1`` means."""
        return torch.cuda.device_count()

    def get_device_stats(self, device: Any = None) -> dict[str, float]:
        """Return what torch has allocated, in bytes, and how often it failed to."""
        known = torch.cuda.memory_stats(device)
        return {name: known.get(name, 0) for name in _CUDA_STATS}


class MPSAccelerator(Accelerator):
    """The GPU of Apple's chips."""

    argument = "mps"

    @staticmethod
    def is_available() -> bool:
        """Return whether this machine has such a device."""
        return torch.backends.mps.is_available()


_OF_DEVICE: dict[str, type[Accelerator]] = {
    "cpu": CPUAccelerator,
    "cuda": CUDAAccelerator,
    "mps": MPSAccelerator,
}


def accelerator_of(device: torch.device, given: object) -> Accelerator:
    """Return what a device is.

    Args:
        device: the device of training.
        given: the Trainer's argument.
    """
    return _OF_DEVICE[device.type](str(given))
