"""World: which of the processes that train together this one is, as its launcher says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ...bus.errors import UsageError

# Variables of those that nightbus starts itself: the process that did, and what only they know.
STARTED_BY = "NIGHTBUS_RANKS_STARTED_BY"
TOKEN = "NIGHTBUS_RANKS_TOKEN"

Launcher = Literal["nobody", "nightbus", "torchrun", "slurm", "mpi"]
# Of SLURM: shells of interactive jobs, whose tasks are not this process's siblings.
_INTERACTIVE_JOBS = ("bash", "interactive")
LOOPBACK = "127.0.0.1"
_PORTS_OF_JOBS = 15_000  # and up, by the last digits of a job's number


class _MPI(NamedTuple):
    """Variables of an MPI: the number of processes, the rank, and the same within the machine."""

    size: str
    rank: str
    local_size: str
    local_rank: str


_MPIS = (
    _MPI(
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
    ),
    _MPI(
        "MV2_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
        "MV2_COMM_WORLD_LOCAL_RANK",
    ),
    _MPI("PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"),
    _MPI("JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK", "", "JSM_NAMESPACE_LOCAL_RANK"),
)


@dataclass(frozen=True)
class World:
    """The processes that train one model together, and which of them this is.

    Attributes:
        rank: this process among all, from 0.
        size: number of processes.
        local_rank: this process among those of its machine, from 0.
        local_size: number of processes of its machine.
        node_rank: its machine, from 0.
        started_by: who started the processes.
        address: host of the store, which rank 0's machine serves.
        port: its port; 0 until rank 0 has chosen one.
        has_store: the launcher serves the store; otherwise rank 0 does.
        restart: how often the launcher has started all processes again.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    node_rank: int = 0
    started_by: Launcher = "nobody"
    address: str = LOOPBACK
    port: int = 0
    has_store: bool = False
    restart: int = 0

    @property
    def is_alone(self) -> bool:
        """True if this process trains alone."""
        return self.size == 1

    @property
    def is_global_zero(self) -> bool:
        """True in the process of rank 0."""
        return self.rank == 0

    @property
    def num_nodes(self) -> int:
        """Number of machines."""
        return -(-self.size // self.local_size)


ALONE = World()


def world_of_environment(environment: Mapping[str, str] = os.environ) -> World | None:
    """Return the world that a launcher has started this process in.

    Args:
        environment: variables of the process.

    Returns:
        The world; None if no launcher has started it, or one has started it alone.

    Raises:
        UsageError: the variables of a launcher are incomplete or contradict each other.
    """
    return _by_torchrun(environment) or _by_slurm(environment) or _by_mpi(environment)


def _by_torchrun(variables: Mapping[str, str]) -> World | None:
    """Return the world of torchrun, or of nightbus, which sets the same variables."""
    if "RANK" not in variables and "LOCAL_RANK" not in variables:  # leftovers, such as WORLD_SIZE
        return None
    by_nightbus = STARTED_BY in variables
    if by_nightbus and variables[STARTED_BY] != str(os.getppid()):
        return None  # a program that a rank has started, which has inherited its variables
    size = _number(variables, "WORLD_SIZE", 1)
    if size <= 1:
        return None
    rank = _number(variables, "RANK")
    local_size = _number(variables, "LOCAL_WORLD_SIZE", size)
    return _checked(
        World(
            rank=rank,
            size=size,
            local_rank=_number(variables, "LOCAL_RANK", rank % local_size),
            local_size=local_size,
            node_rank=_number(variables, "GROUP_RANK", rank // local_size),
            started_by="nightbus" if by_nightbus else "torchrun",
            address=_text(variables, "MASTER_ADDR"),
            port=_number(variables, "MASTER_PORT"),
            has_store=variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            restart=_number(variables, "TORCHELASTIC_RESTART_COUNT", 0),
        )
    )


def _by_slurm(variables: Mapping[str, str]) -> World | None:
    if variables.get("SLURM_JOB_NAME") in _INTERACTIVE_JOBS:
        return None
    # Each process of a step has this variable; the script of sbatch has only SLURM_NTASKS, the
    # number that srun would start.
    in_step = "SLURM_STEP_NUM_TASKS" in variables or "SLURM_STEP_ID" in variables
    if not in_step and variables.get("SLURM_PROCID", "0") == "0":
        return None
    size = _number(
        variables, "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in variables else "SLURM_NTASKS"
    )
    if size <= 1:
        return None
    nodes = _number(variables, "SLURM_STEP_NUM_NODES", _number(variables, "SLURM_NNODES", 1))
    if size % nodes:
        raise UsageError(
            f"srun started {size} tasks on {nodes} nodes; nightbus needs the same number on each: "
            "give srun --ntasks-per-node="
        )
    node_list = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST", "")
    job = _number(variables, "SLURM_JOB_ID")
    return _checked(
        World(
            rank=_number(variables, "SLURM_PROCID"),
            size=size,
            local_rank=_number(variables, "SLURM_LOCALID"),
            local_size=size // nodes,
            node_rank=_number(variables, "SLURM_NODEID", 0),
            started_by="slurm",
            address=variables.get("MASTER_ADDR") or _first_host(node_list),
            port=_number(variables, "MASTER_PORT", _PORTS_OF_JOBS + job % 10_000),
        )
    )


def _by_mpi(variables: Mapping[str, str]) -> World | None:
    for names in _MPIS:
        if names.size not in variables or _number(variables, names.size) <= 1:
            continue
        size, rank = _number(variables, names.size), _number(variables, names.rank)
        local_size = _number(variables, names.local_size, size)
        return _checked(
            World(
                rank=rank,
                size=size,
                local_rank=_number(variables, names.local_rank, rank % local_size),
                local_size=local_size,
                node_rank=rank // local_size,
                started_by="mpi",
                address=_text(variables, "MASTER_ADDR"),
                port=_number(variables, "MASTER_PORT"),
            )
        )
    return None


def _checked(world: World) -> World:
    fits = (
        0 <= world.rank < world.size
        and 0 <= world.local_rank < world.local_size <= world.size
        and world.size % world.local_size == 0
    )
    if not fits:
        raise UsageError(
            f"the variables of {world.started_by} contradict each other: rank {world.rank} of "
            f"{world.size}, {world.local_rank} of {world.local_size} on its machine; each machine "
            "needs the same number of processes"
        )
    return world


def _text(variables: Mapping[str, str], name: str) -> str:
    if not variables.get(name):
        raise UsageError(
            f"several processes were started, and the variable {name} is not set: set MASTER_ADDR "
            "to the host of rank 0 and MASTER_PORT to a free port there, or start with torchrun"
        )
    return variables[name]


def _number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    if default is not None and not variables.get(name):
        return default
    value = _text(variables, name)
    if not value.isdecimal():
        raise UsageError(f"the variable {name} is {value!r}; expected a number")
    return int(value)


def _first_host(node_list: str) -> str:
    """Return the first host of a list such as ``gpu[07-09,12],login1``."""
    name, bracket, ranges = node_list.partition("[")
    first = name.partition(",")[0]
    if not bracket or "," in name:
        return first or LOOPBACK
    return first + ranges.partition("]")[0].replace("-", ",").partition(",")[0]
