"""nightbus run --as-lightning: scripts that were written for Lightning."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nightbus.__main__ import main

SCRIPT = """
import sys
import pytorch_lightning as pl
from lightning.pytorch.demos.boring_classes import BoringModel

if __name__ == "__main__":
    print(sys.argv[1:], issubclass(BoringModel, pl.LightningModule), pl.Trainer.__module__)
"""


@pytest.mark.long
def test_a_script_gets_nightbus_where_it_imports_lightning(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    arguments = ["run", "--as-lightning", "train.py", "--epochs", "2"]

    done = subprocess.run(
        [sys.executable, "-m", "nightbus", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "['--epochs', '2'] True nightbus.trainer.trainer\n"


def test_a_module_is_run_with_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, command: started.append(command))
    monkeypatch.setenv("PYTHONPATH", "mine")

    main(["run", "--as-lightning", "-m", "project.train", "-m", "resnet"])

    assert started[0][-4:] == ["-m", "project.train", "-m", "resnet"]
    assert os.environ["PYTHONPATH"].endswith(f"in_place{os.pathsep}mine")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to run; give a script, or -m and a module"),
        (["no.py"], "there is no script no.py"),
    ],
)
def test_a_call_without_a_script_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--as-lightning", *arguments]) == 2

    assert message in capsys.readouterr().err
