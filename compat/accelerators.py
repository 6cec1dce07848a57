"""Questions to torch about GPUs, under Lightning's names."""

import torch


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
