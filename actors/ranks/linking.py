"""Links this rank with the others: tells all where the desk of rank 0 is, and connects to it."""

import secrets
import selectors
import socket

from ...bus.errors import RankError
from ...bus.ranks.connection import Connection
from ...bus.ranks.desk import Desk
from .group import Group
from .link import Link

CONNECT_WITHIN_S = 30.0


def link_with(group: Group) -> Link:
    """Link this rank with the others of its group.

    Args:
        group: tells the others where the desk is.

    Returns:
        The link, whose thread runs.

    Raises:
        RankError: the desk cannot be opened, or not be reached from here.
    """
    world, selector = group.world, selectors.DefaultSelector()
    if world.is_global_zero:
        token = secrets.token_hex(16)
        try:
            desk = Desk(world.size, token, selector, world.num_nodes > 1)
        except OSError as error:
            raise RankError(f"rank 0 cannot take connections of the others: {error}") from error
        group.broadcast("the desk", [str(desk.path), desk.port, token])
        return Link(world, token, selector, desk, None)
    path, port, token = group.broadcast("the desk", None)
    connected = socket.socket()
    try:
        if world.node_rank == 0:
            connected = socket.socket(socket.AF_UNIX)
            connected.settimeout(CONNECT_WITHIN_S)
            connected.connect(path)
        else:
            connected = socket.create_connection((world.address, port), CONNECT_WITHIN_S)
    except OSError as error:
        where = path if world.node_rank == 0 else f"{world.address}, port {port}"
        raise RankError(f"rank {world.rank} cannot reach rank 0 at {where}: {error}") from error
    return Link(world, token, selector, None, Connection(connected))
