"""Detects that this process is one of several started to train together."""

import os
import sys
from typing import NamedTuple

from ...bus.errors import UnsupportedArgumentError

_TORCHRUN = "start it with python, without torchrun, or with --nproc-per-node=1 --nnodes=1"
_MPI = "start it with python, without mpirun, or with one process"
_SRUN = "start it with srun --ntasks=1"
# Variables with the number of processes, and with the rank of this one.
_MPI_VARIABLES = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),  # MVAPICH
    ("PMI_SIZE", "PMI_RANK"),  # MPICH, Intel MPI
    ("JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK"),  # jsrun of LSF
)
# Shells of interactive jobs: the job's tasks are not this process's siblings.
_INTERACTIVE_JOBS = ("bash", "interactive")


class _Several(NamedTuple):
    """Evidence that there are several processes.

    Attributes:
        rank: the rank of this one.
        number: the number of processes.
        said_by: the variable with its value, or another fact.
        advice: what to do instead.
        variable: name of the variable; empty if there is none.
    """

    rank: str
    number: int
    said_by: str
    advice: str
    variable: str = ""


def refuse_several_processes() -> None:
    """Refuse to be one of several processes, each of which would train a model of its own.

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
            f" To train a model in each, remove {found.variable} from os.environ "
            "before the Trainer is created."
        )
    raise UnsupportedArgumentError(
        f"this is process {found.rank} of {found.number} ({found.said_by}); nightbus trains in one "
        f"process so far, so they would not train together: {found.advice}.{alone}"
    )


def _by_torch() -> _Several | None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    number = distributed.get_world_size()
    if number <= 1:
        return None
    said_by = "torch.distributed was initialised for that number"
    return _Several(str(distributed.get_rank()), number, said_by, _TORCHRUN)


def _by_torchrun() -> _Several | None:
    rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK")
    if rank is None:  # a leftover variable
        return None
    return _found("WORLD_SIZE", rank, _TORCHRUN)


def _by_srun() -> _Several | None:
    if os.environ.get("SLURM_JOB_NAME") in _INTERACTIVE_JOBS:
        return None
    rank = os.environ.get("SLURM_PROCID", "0")
    # Each process of a step has this variable; the script of sbatch has only SLURM_NTASKS, the
    # number that srun would start.
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
