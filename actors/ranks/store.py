"""The store of all ranks: a small server of keys and values, run by rank 0 or its launcher."""

import os
import socket
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from ...bus.errors import RankError
from .world import LOOPBACK, TOKEN, World

_TIMEOUT = timedelta(minutes=30)  # torch's own


def connect(world: World, timeout: timedelta | None) -> Store:
    """Connect to the store; serve it on rank 0, unless the launcher does.

    Args:
        world: which rank this is.
        timeout: how long rank 0 may take to serve it; 30 minutes if None.

    Returns:
        A client of the store.

    Raises:
        RankError: the store cannot be served or reached.
    """
    serves = world.is_global_zero and not world.has_store
    try:
        store = TCPStore(
            world.address,
            world.port,
            is_master=serves,
            timeout=timeout or _TIMEOUT,
            wait_for_workers=False,
            multi_tenant=True,  # the user's own init_process_group may use the address, too
        )
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        what = "serve" if serves else "reach"
        raise RankError(
            f"rank {world.rank} cannot {what} the store of rank 0 at {world.address}:{world.port}: "
            f"{error}; set MASTER_ADDR to the host of rank 0, and MASTER_PORT to a free port there"
        ) from error
    return known_to_ranks(store, os.environ.get(TOKEN, ""))


def serve_on_loopback() -> TCPStore:
    """Serve a store for ranks of this machine, on a port that the system chooses."""
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        return TCPStore(
            LOOPBACK,
            listening.getsockname()[1],
            is_master=True,
            timeout=_TIMEOUT,
            wait_for_workers=False,
            multi_tenant=True,
            master_listen_fd=listening.detach(),
        )


def client_of(store: TCPStore) -> TCPStore:
    """Return a further client of a store that this process serves, for another thread.

    Args:
        store: what ``serve_on_loopback`` has returned.
    """
    return TCPStore(LOOPBACK, store.port, is_master=False, wait_for_workers=False)


def known_to_ranks(store: Store, token: str) -> Store:
    """Return the part of a store whose keys nobody knows but the ranks that nightbus starts.

    Args:
        store: the store.
        token: what they know; empty for ranks that a launcher has started.
    """
    return PrefixStore(token, store) if token else store
