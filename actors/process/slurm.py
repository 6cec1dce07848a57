"""Puts the SLURM job of this process back into the queue."""

import os
import shutil
import subprocess

from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger

_TIMEOUT_S = 30.0

_log = get_logger("nightbus.slurm")


def check_requeue() -> None:
    """Check that this is a SLURM job that can be requeued.

    Raises:
        UsageError: it is not.
    """
    if "SLURM_JOB_ID" not in os.environ or shutil.which("scontrol") is None:
        raise UsageError(
            "slurm_requeue=True: this process is not a SLURM job, or scontrol is missing; start it "
            "with sbatch, or leave slurm_requeue out"
        )


def requeue_job() -> bool:
    """Put this SLURM job back into its queue; return whether that worked."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.error("cannot requeue the job", job=job, error=str(error))
        return False
    if done.returncode != 0:
        _log.error("cannot requeue the job", job=job, error=done.stderr.strip())
    return done.returncode == 0
