"""Two machines with a network between them: namespaces of this one, joined by a pair of devices."""

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

MACHINE = "TRIAL_MACHINE"
DEVICE = "veth0"
ADDRESSES = ("10.77.0.1", "10.77.0.2")
_WITHIN_S = 60.0


@cache
def why_not() -> str:
    """Say why there can be no two machines here; empty if there can."""
    tools = [name for name in ("unshare", "nsenter", "ip") if not shutil.which(name)]
    if tools:
        return f"{', '.join(tools)} is missing"
    try:
        with two_machines():
            return ""
    except (OSError, subprocess.SubprocessError) as error:
        return f"namespaces cannot be made: {error}"


@contextmanager
def two_machines() -> Iterator[list[dict[str, str]]]:
    """Two machines, until this is left; yields the variables of a process on each."""
    with ExitStack() as held:
        first = _hold(held, ["unshare", "--user", "--map-root-user", "--net", "cat"])
        second = _hold(held, [*_inside(first), "unshare", "--net", "cat"])
        pair = f"ip link add {DEVICE} type veth peer name {DEVICE} netns {second}"
        subprocess.run([*_inside(first), *pair.split()], check=True)
        for pid, address in zip((first, second), ADDRESSES, strict=True):
            for what in ("link set lo up", f"addr add {address}/24 dev {DEVICE}", _set("up")):
                subprocess.run([*_inside(pid), "ip", *what.split()], check=True)
        yield [
            {
                MACHINE: str(pid),
                "MASTER_ADDR": ADDRESSES[0],
                "GLOO_SOCKET_IFNAME": DEVICE,
                "LOCAL_RANK": "0",
                "LOCAL_WORLD_SIZE": "1",
                "GROUP_RANK": str(node),
            }
            for node, pid in enumerate((first, second))
        ]


def enter(pid: int) -> None:
    """Go on, with this process of one thread, on the machine of another."""
    libc = ctypes.CDLL(None, use_errno=True)
    for kind in ("user", "net"):
        with open(f"/proc/{pid}/ns/{kind}") as namespace:
            if libc.setns(namespace.fileno(), 0):
                raise OSError(ctypes.get_errno(), f"cannot enter the {kind} namespace of {pid}")


def take_network_down() -> None:
    """Take down the network of the machine on which this process is."""
    subprocess.run(["ip", *_set("down").split()], check=True)


def _set(state: str) -> str:
    return f"link set {DEVICE} {state}"


def _inside(pid: int) -> list[str]:
    return ["nsenter", "--target", str(pid), "--user", "--net", "--preserve-credentials"]


def _hold(held: ExitStack, command: list[str]) -> int:
    """Start a process that keeps its namespaces until ``held`` is closed; return its pid."""
    process = held.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
    held.callback(process.kill)
    end_s = time.monotonic() + _WITHIN_S
    while os.readlink(f"/proc/{process.pid}/exe").rpartition("/")[2] in ("unshare", "nsenter"):
        if process.poll() is not None or time.monotonic() > end_s:
            raise OSError(f"{command} did not make its namespaces")
        time.sleep(0.01)
    return process.pid
