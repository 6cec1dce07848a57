"""A process that is one of several is told so, before anything is made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import DEADLINE_S
from models import Small, loader, trainer

import nightbus as nb

pytestmark = pytest.mark.long

MENTIONED = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@pytest.fixture(autouse=True)
def started_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs the tests."""
    for name in os.environ:
        if name in MENTIONED or name.startswith(("SLURM_", "OMPI_", "PMI_", "MV2_", "JSM_")):
            monkeypatch.delenv(name)


SEVERAL: dict[str, dict[str, str]] = {
    "torchrun": {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"},
    "one process on each of two machines": {"WORLD_SIZE": "2", "RANK": "1"},
    "a launcher that says the local rank alone": {"WORLD_SIZE": "4", "LOCAL_RANK": "0"},
    "srun": {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"},
    "srun, by the job's number": {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"},
    "srun, by its step": {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0"},
    "Open MPI": {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
    "MVAPICH": {"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "1"},
    "MPICH": {"PMI_SIZE": "2", "PMI_RANK": "1"},
    "jsrun": {"JSM_NAMESPACE_SIZE": "2", "JSM_NAMESPACE_RANK": "1"},
}
ALONE: dict[str, dict[str, str]] = {
    "torchrun with one process": {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
    "a variable that was left behind": {"WORLD_SIZE": "2"},
    "a script of sbatch, which would start several": {
        "SLURM_JOB_ID": "77",
        "SLURM_NTASKS": "8",
        "SLURM_PROCID": "0",
        "SLURM_JOB_NAME": "train",
    },
    "a step of one task in a larger job": {
        "SLURM_NTASKS": "8",
        "SLURM_STEP_NUM_TASKS": "1",
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": "0",
    },
    "a shell that SLURM gave": {
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_PROCID": "0",
        "SLURM_JOB_NAME": "bash",
    },
    "mpirun with one process": {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
    "nonsense": {"WORLD_SIZE": "many", "RANK": "0", "PMI_SIZE": ""},
}


@pytest.mark.parametrize("how", SEVERAL)
def test_one_of_several_processes_makes_no_trainer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    for name, value in SEVERAL[how].items():
        monkeypatch.setenv(name, value)

    with pytest.raises(nb.UsageError, match=r"process \d of [24] \(.*one process so far"):
        trainer(tmp_path)


@pytest.mark.parametrize("how", ALONE)
def test_a_process_of_its_own_trains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    for name, value in ALONE[how].items():
        monkeypatch.setenv(name, value)

    trainer(tmp_path, max_steps=1).fit(Small(), loader())


def test_who_is_told_can_have_each_train_a_model_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in SEVERAL["torchrun"].items():
        monkeypatch.setenv(name, value)
    with pytest.raises(nb.UsageError, match=r"remove WORLD_SIZE from os\.environ"):
        trainer(tmp_path)

    monkeypatch.delenv("WORLD_SIZE")
    trainer(tmp_path, max_steps=1).fit(Small(), loader())


SCRIPT = """
import sys
import nightbus as nb
import torch
if sys.argv[1] == "torch.distributed":
    import os
    rank, store = int(sys.argv[2]), "file://" + os.path.abspath("store")
    trainer = nb.Trainer(max_steps=1)
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=2)
    trainer.fit(nb.LightningModule(), [torch.zeros(1)])
nb.Trainer(max_steps=1)
"""


def run(folder: Path, *command: str) -> "subprocess.Popen[str]":
    (folder / "script.py").write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, stderr=subprocess.PIPE, text=True
    )


def test_torchrun_with_two_processes_makes_nothing(tmp_path: Path) -> None:
    command = "-m torch.distributed.run --standalone --nproc-per-node 2 script.py torchrun"

    process = run(tmp_path, *command.split())
    _, said = process.communicate(timeout=DEADLINE_S)

    assert process.returncode != 0
    assert "WORLD_SIZE=2" in said
    assert [found.name for found in tmp_path.iterdir()] == ["script.py"]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without it")
def test_a_group_of_two_processes_that_the_user_initialised_makes_nothing(tmp_path: Path) -> None:
    processes = [run(tmp_path, "script.py", "torch.distributed", rank) for rank in "01"]

    for process in processes:
        _, said = process.communicate(timeout=DEADLINE_S)
        assert process.returncode != 0
        assert "of 2 (torch.distributed was initialised" in said

    assert not (tmp_path / "runs").exists()
