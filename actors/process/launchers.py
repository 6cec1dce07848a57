"""Whether this process is one of several that were started to train together."""

import os
import sys
from typing import NamedTuple

from ...bus.errors import UnsupportedArgumentError

_TORCHRUN = "start it with python, without torchrun, or with --nproc-per-node=1 --nnodes=1"
_MPI = "start it with python, without mpirun, or with one process"
_SRUN = "start it with srun --ntasks=1"
# The variable that says how many there are, and the one that says which this is.
_MPI_VARIABLES = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),  # MVAPICH
    ("PMI_SIZE", "PMI_RANK"),  # MPICH, Intel MPI
    ("JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK"),  # jsrun of LSF
)
# Shells that a job was asked for to work in: the job's tasks are not this process's siblings.
_INTERACTIVE_JOBS = ("bash", "interactive")


class _Several(NamedTuple):
    """What says that there are several processes.

    Attributes:
        rank: which this one is.
        number: how many there are.
        said_by: the variable, with its value; or what was done.
        advice: what to do instead.
        variable: empty if there is none.
    """

    rank: str
    number: int
    said_by: str
    advice: str
    variable: str = ""


def refuse_several_processes() -> None:
    """Refuse to be one of several processes: each would train a model of its own, as if it were
    alone.

    Raises:
        UnsupportedArgumentError: torchrun, srun or mpirun started several, or torch.distributed was
            initialised for several.
    """
    found = _by_torch() or _by_torchrun() or _by_srun() or _by_mpi()
    if found is None:
        return
    alone = ""
    if found.variable:
        alone = (
            f" To have each train a model of its own, take {found.variable} out of os.environ "
            "before the Trainer is made."
        )
    raise UnsupportedArgumentError(
        f"this is process {found.rank} of {found.number} ({found.said_by}); nightbus trains in one "
        f"process so far, they would not train together: {found.advice}.{alone}"
    )


def _by_torch() -> _Several | None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    number = distributed.get_world_size()
    if number <= 1:
        return None
    said_by = "torch.distributed was initialised for so many"
    return _Several(str(distributed.get_rank()), number, said_by, _TORCHRUN)


def _by_torchrun() -> _Several | None:
    rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK")
    if rank is None:  # a variable that somebody left there
        return None
    return _found("WORLD_SIZE", rank, _TORCHRUN)


def _by_srun() -> _Several | None:
    if os.environ.get("SLURM_JOB_NAME") in _INTERACTIVE_JOBS:
        return None
    rank = os.environ.get("SLURM_PROCID", "0")
    # Each of a step's processes has this, the script of sbatch does not: its SLURM_NTASKS says what
    # srun would start.
    if "SLURM_STEP_NUM_TASKS" in os.environ:
        return _found("SLURM_STEP_NUM_TASKS", rank, _SRUN)
    if rank != "0" or "SLURM_STEP_ID" in os.environ:
        return _found("SLURM_NTASKS", rank, _SRUN)
    return None


def _by_mpi() -> _Several | None:
    for size, rank in _MPI_VARIABLES:
        if (found := _found(size, os.environ.get(rank, "?"), _MPI)) is not None:
            return found
    return None


def _found(variable: str, rank: str, advice: str) -> _Several | None:
    value = os.environ.get(variable, "")
    if not value.isdecimal() or int(value) <= 1:
        return None
    return _Several(rank, int(value), f"{variable}={value}", advice, variable)
