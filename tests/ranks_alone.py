"""Imported by a program, makes its only process a rank of one that exchanges as several would.

NCCL takes one rank a GPU, so this is what one GPU can show of it.
"""

import os

from nightbus.actors.ranks.devices import Devices
from nightbus.actors.ranks.world import World


def _world(self: Devices, num_nodes: int | None) -> World:
    return World(started_by="torchrun", port=int(os.environ["MASTER_PORT"]))


setattr(World, "is_alone", False)  # noqa: B010  a property of a frozen class
setattr(Devices, "world", _world)  # noqa: B010
