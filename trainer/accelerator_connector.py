"""What Lightning keeps of the devices of a Trainer.

It is private there, and packages read it, or make one to learn what ``auto`` means.
"""

from typing import Any

import torch

from ..actors.accelerators import Accelerator, accelerator_of
from ..actors.device import choose_device
from ..actors.ranks.devices import parse_devices
from ..actors.ranks.strategy import parse_strategy


class AcceleratorConnector:
    """The devices that arguments of a Trainer mean on this machine.

    Args:
        accelerator: as for the Trainer.
        devices: as for the Trainer.
        strategy: as for the Trainer, or what its ``strategy`` reads as.
        use_distributed_sampler: as for the Trainer.

    Attributes:
        accelerator: what is known of the devices' kind.
        strategy: as given; None for the strategy of one process.
        parallel_devices: the devices of this machine that train.
        is_distributed: several processes train.
        use_distributed_sampler: as given.

    Raises:
        UsageError: the devices are not there, or the strategy is unknown.
    """

    def __init__(
        self,
        accelerator: str | Accelerator = "auto",
        devices: Any = "auto",
        strategy: Any = "auto",
        use_distributed_sampler: bool = True,
    ) -> None:
        kind = str(accelerator)
        asked = parse_devices(devices, kind)
        world = asked.world(None)
        if isinstance(strategy, str):
            strategy = parse_strategy(strategy, world.size)
        device = choose_device(kind, asked.index_of(world, kind))
        numbers = asked.of_machine(world)
        self.accelerator = accelerator_of(device, kind)
        self.strategy = strategy
        self.parallel_devices = [
            device if device.type == "cpu" else torch.device(device.type, number)
            for number in numbers
        ]
        self.is_distributed = world.size > 1
        self.use_distributed_sampler = use_distributed_sampler
        self._parallel_devices = self.parallel_devices
        self._accelerator_flag = device.type
        self._devices_flag = len(numbers) if devices in ("auto", None) else devices
