"""Devices: which devices of this machine train, a rank each, and the world that they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...bus.errors import ArgumentTypeError, UsageError
from .joining import joined_group
from .world import ALONE, World, world_of_environment

_EXPECTED = "expected a number, -1 for all, 'auto', or a list of the devices' numbers, such as [0]"


@dataclass(frozen=True)
class Devices:
    """The devices of this machine that train, as the Trainer's argument says.

    Attributes:
        given: the argument.
        count: how many; None for as many as the launcher has started processes, or one.
        indices: their numbers, from 0; None for the first ones.
    """

    given: Any
    count: int | None = None
    indices: tuple[int, ...] | None = None

    def index_of(self, world: World, accelerator: str) -> int | None:
        """Return the number of the device of this process; None for any.

        Args:
            world: which rank this is.
            accelerator: the Trainer's argument.
        """
        if self.indices is not None:
            return self.indices[world.local_rank % len(self.indices)]
        several = (_number_of_devices(accelerator) or 1) > 1
        # A scheduler may show each process its own device only.
        return world.local_rank if several and not world.is_alone else None

    def of_machine(self, world: World) -> list[int]:
        """Return the numbers of the devices of this machine that train, one of each rank here.

        Args:
            world: which rank this is.
        """
        return list(range(world.local_size) if self.indices is None else self.indices)

    def world(self, num_nodes: int | None) -> World:
        """Return the world of a Trainer with these devices.

        Args:
            num_nodes: number of machines; None for as many as the launcher says.

        Raises:
            UsageError: a launcher has started another number of processes, or none for several
                machines.
        """
        joined = joined_group()
        world = world_of_environment() if joined is None else joined.world
        if world is None:
            if num_nodes not in (None, 1):
                raise UsageError(
                    f"num_nodes={num_nodes}: no launcher has started this process; start the "
                    "script on each machine with torchrun, or with srun"
                )
            if self.count in (None, 1):
                return ALONE
            return World(0, self.count, local_size=self.count, started_by="nightbus")
        if self.count not in (None, world.local_size):
            raise UsageError(
                f"devices={self.given!r}: this process is one of {world.local_size} on this "
                f"machine, which {world.started_by} has started; use devices='auto'"
            )
        if num_nodes not in (None, world.num_nodes):
            raise UsageError(
                f"num_nodes={num_nodes}: {world.started_by} has started processes on "
                f"{world.num_nodes} machines; leave num_nodes out"
            )
        return world


def parse_devices(given: Any, accelerator: str) -> Devices:
    """Return the devices that the Trainer's argument means.

    Args:
        given: a number, -1 for all devices, ``"auto"``, or a list or text with their numbers.
        accelerator: the Trainer's argument.

    Raises:
        ArgumentTypeError: it is none of these.
        UsageError: there are not as many.
    """
    devices = _numbers(given) if isinstance(given, str) else given
    if devices in ("auto", None):
        return Devices(given)
    if type(devices) is int:
        devices = [-1] if devices == -1 else devices
    if isinstance(devices, Sequence) and list(devices) == [-1]:
        return Devices(given, _number_of_devices(accelerator))
    if type(devices) is int and devices > 0:
        available = _number_of_devices(accelerator)
        if available is not None and devices > available:
            raise UsageError(f"devices={given!r}: this machine has {available} for {accelerator!r}")
        return Devices(given, devices)
    if isinstance(devices, Sequence) and not isinstance(devices, str) and devices:
        numbers = tuple(devices)
        if all(type(n) is int and n >= 0 for n in numbers) and len({*numbers}) == len(numbers):
            return Devices(given, len(numbers), numbers)
    raise ArgumentTypeError(f"devices={given!r}: {_EXPECTED}")


def _numbers(text: str) -> Any:
    """Return what a text such as ``"2"``, ``"0,1"`` or ``"0,"`` means; itself if nothing."""
    if text.strip() in ("auto", ""):
        return "auto"
    numbers = text.strip().rstrip(",").split(",")
    if not all(number.strip().removeprefix("-").isdecimal() for number in numbers):
        return text
    return [int(number) for number in numbers] if "," in text else int(numbers[0])


def _number_of_devices(accelerator: str) -> int | None:
    """Return how many devices there are of a kind; None for as many processes as one likes."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.device_count()
    if accelerator == "mps" or (
        accelerator in ("auto", "gpu") and torch.backends.mps.is_available()
    ):
        return 1
    return None
