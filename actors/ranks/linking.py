"""Links this rank with the others: tells all where the desk of rank 0 is, and connects to it."""

import secrets
import selectors
import socket
from contextlib import ExitStack

from ...bus.errors import RankError
from ...bus.ranks.connection import Connection
from ...bus.ranks.desk import Desk
from .group import Group
from .link import Link
from .world import World

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
    with ExitStack() as unless_linked:
        selector = unless_linked.enter_context(selectors.DefaultSelector())
        if group.world.is_global_zero:
            token = secrets.token_hex(16)
            desk = _open_desk(group.world, token, selector)
            unless_linked.callback(desk.close)
            group.broadcast("the desk", [str(desk.path), desk.port, token])
            link = Link(group.world, token, selector, desk, None)
        else:
            path, port, token = group.broadcast("the desk", None)
            connected = unless_linked.enter_context(_connect(group.world, path, port))
            link = Link(group.world, token, selector, None, Connection(connected))
        unless_linked.pop_all()  # it closes them
        return link


def _open_desk(world: World, token: str, selector: selectors.BaseSelector) -> Desk:
    try:
        return Desk(world.size, token, selector, world.num_nodes > 1)
    except OSError as error:
        raise RankError(f"rank 0 cannot take connections of the others: {error}") from error


def _connect(world: World, path: str, port: int) -> socket.socket:
    """Return a socket that is connected to the desk: on its machine by a path, or by a port."""
    try:
        if world.node_rank:
            return socket.create_connection((world.address, port), CONNECT_WITHIN_S)
        connected = socket.socket(socket.AF_UNIX)
        try:
            connected.settimeout(CONNECT_WITHIN_S)
            connected.connect(path)
        except BaseException:
            connected.close()
            raise
        return connected
    except OSError as error:
        where = f"{world.address}, port {port}" if world.node_rank else path
        raise RankError(f"rank {world.rank} cannot reach rank 0 at {where}: {error}") from error
