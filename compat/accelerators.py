"""Lightning's accelerators: what ``Trainer(accelerator=...)`` takes, and questions to torch."""

from typing import ClassVar

import torch


class Accelerator:
    """A kind of device; give it to the Trainer, or its name.

    Attributes:
        argument: what the Trainer calls it; empty for one of a user's own, which it refuses.
    """

    argument: ClassVar[str] = ""

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


class CPUAccelerator(Accelerator):
    """The CPU."""

    argument = "cpu"


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


class MPSAccelerator(Accelerator):
    """The GPU of Apple's chips."""

    argument = "mps"

    @staticmethod
    def is_available() -> bool:
        """Return whether this machine has such a device."""
        return torch.backends.mps.is_available()


def find_usable_cuda_devices(num_devices: int = -1) -> list[int]:
    """Return the numbers of GPUs on which memory can be had.

    Args:
        num_devices: how many; -1 for all.

    Raises:
        ValueError: there are fewer GPUs.
        RuntimeError: fewer of them can be used.
    """
    there = torch.cuda.device_count()
    if num_devices > there:
        raise ValueError(f"num_devices={num_devices}: this machine has {there} GPUs")
    usable = [number for number in range(there) if num_devices and _is_usable(number)]
    if num_devices > len(usable):
        raise RuntimeError(f"num_devices={num_devices}: only {usable} of {there} GPUs can be used")
    return usable if num_devices < 0 else usable[:num_devices]


def _is_usable(number: int) -> bool:
    try:
        torch.empty(1, device=torch.device("cuda", number))
    except RuntimeError:
        return False
    return True
