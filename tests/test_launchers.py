"""Processes that a launcher has started are the ranks of one run."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import read_log
from models import Small, loader, trainer
from ranks import run_ranks

import nightbus as nb
from nightbus.actors.ranks.world import World, world_of_environment

SEVERAL: dict[str, tuple[dict[str, str], World]] = {
    "torchrun": (
        {
            "WORLD_SIZE": "4",
            "RANK": "3",
            "LOCAL_RANK": "1",
            "LOCAL_WORLD_SIZE": "2",
            "GROUP_RANK": "1",
            "MASTER_ADDR": "node7",
            "MASTER_PORT": "29500",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "2",
        },
        World(3, 4, 1, 2, 1, "torchrun", "node7", 29500, has_store=True, restart=2),
    ),
    "variables set by hand": (
        {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1234"},
        World(1, 2, 1, 2, 0, "torchrun", "localhost", 1234),
    ),
    "srun": (
        {
            "SLURM_STEP_NUM_TASKS": "4",
            "SLURM_STEP_NUM_NODES": "2",
            "SLURM_STEP_NODELIST": "gpu[07-08]",
            "SLURM_PROCID": "2",
            "SLURM_LOCALID": "0",
            "SLURM_NODEID": "1",
            "SLURM_NTASKS": "4",
            "SLURM_JOB_ID": "123456",
        },
        World(2, 4, 0, 2, 1, "slurm", "gpu07", 18456),
    ),
    "Open MPI": (
        {
            "OMPI_COMM_WORLD_SIZE": "2",
            "OMPI_COMM_WORLD_RANK": "0",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
            "OMPI_COMM_WORLD_LOCAL_RANK": "0",
            "MASTER_ADDR": "a",
            "MASTER_PORT": "5",
        },
        World(0, 2, 0, 2, 0, "mpi", "a", 5),
    ),
    "MPICH": (
        {"PMI_SIZE": "2", "PMI_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "5"},
        World(1, 2, 1, 2, 0, "mpi", "a", 5),
    ),
}
ALONE: dict[str, dict[str, str]] = {
    "no launcher": {},
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
}
WRONG: dict[str, tuple[dict[str, str], str]] = {
    "a rank without an address": ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR is not set"),
    "a rank beyond the world": (
        {"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "5"},
        "contradict each other: rank 2 of 2",
    ),
    "no number": ({"WORLD_SIZE": "many", "RANK": "0"}, "WORLD_SIZE is 'many'; expected a number"),
    "machines with other numbers of tasks": (
        {"SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "0"},
        "3 tasks on 2 nodes",
    ),
}


@pytest.mark.parametrize("how", SEVERAL)
def test_a_launcher_says_which_rank_this_is(how: str) -> None:
    variables, world = SEVERAL[how]

    assert world_of_environment(variables) == world


@pytest.mark.parametrize("how", ALONE)
def test_a_process_of_its_own_is_alone(how: str) -> None:
    assert world_of_environment(ALONE[how]) is None


@pytest.mark.parametrize("how", WRONG)
def test_variables_that_make_no_sense_are_refused(how: str) -> None:
    variables, message = WRONG[how]

    with pytest.raises(nb.UsageError, match=message):
        world_of_environment(variables)


@pytest.mark.parametrize("devices", ["--1", "1,,2", "one", 0, -2, [1, 1]])
def test_devices_that_are_none_are_refused(devices: Any) -> None:
    with pytest.raises(nb.UsageError, match="expected a number, -1 for all"):
        nb.Trainer(devices=devices, accelerator="cpu")


def test_a_strategy_for_one_process_is_refused_with_several_devices() -> None:
    with pytest.raises(nb.UsageError, match="strategy='single_device': 2 processes train"):
        nb.Trainer(devices=2, accelerator="cpu", strategy="single_device")


TRAINING = """
import nightbus as nb
from models import Small, loader

trainer = nb.Trainer(max_epochs=1, accelerator="cpu", sinks=nb.JSONLines("events.jsonl"))
trainer.fit(Small(), loader(), loader())
trainer.validate(Small(), loader())
print(trainer.global_rank, trainer.world_size, trainer.log_dir)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two ranks have trained and validated."""
    folder = tmp_path_factory.mktemp("trained")
    for rank, ended in enumerate(run_ranks(folder, TRAINING)):
        assert ended.code == 0, ended
        assert ended.out.splitlines()[-1].startswith(f"{rank} 2 ")
    return folder


@pytest.mark.long
def test_all_ranks_are_of_one_run(trained: Path) -> None:
    (run,) = (trained / "runs").iterdir()

    assert (trained / "out-1").read_text() == f"1 2 {run}\n"
    assert sorted(p.name for p in run.glob("attempt-*")) == ["attempt-000", "attempt-001"]


@pytest.mark.long
def test_each_rank_keeps_its_own_log(trained: Path) -> None:
    (run,) = (trained / "runs").iterdir()
    for rank in range(2):
        events = read_log(run / "attempt-000" / f"rank-{rank:05d}")

        assert {getattr(event, "rank", None) for event in events} == {rank}
        assert isinstance(events[-1], nb.RunEnded)


@pytest.mark.long
def test_rank_0_alone_shows_and_prints(trained: Path) -> None:
    shown, printed = (trained / "err-0").read_text(), (trained / "out-0").read_text()

    assert (shown.count("parameters"), shown.count("fit completed")) == (1, 1)
    assert printed.count("val_loss") == 1
    assert (trained / "err-1").read_text() == ""


@pytest.mark.long
def test_a_group_that_the_user_initialised_without_a_launcher_is_refused(tmp_path: Path) -> None:
    script = """
    import os
    import torch
    import nightbus as nb
    from models import Small, loader
    rank = int(os.environ.pop("RANK"))
    del os.environ["LOCAL_RANK"]
    store = "file://" + os.path.abspath("store")
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=2)
    nb.Trainer(max_steps=1).fit(Small(), loader())
    """
    for ended in run_ranks(tmp_path, script):
        assert ended.code == 1
        assert "leave init_process_group to the Trainer" in ended.err
    assert not (tmp_path / "runs").exists()


def test_a_process_of_its_own_has_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    run = trainer(tmp_path, max_steps=1)
    run.fit(Small(), loader())

    assert run.group.world.is_alone
    assert not torch.distributed.is_initialized()
