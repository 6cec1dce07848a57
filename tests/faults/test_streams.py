"""Programs that put something of their own in place of standard error."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import DEADLINE_S
from models import QUIET, Small, loader

import nightbus as nb


class Tee:
    """All that many programs give it."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


class Ascii(Tee):
    def write(self, text: str) -> None:
        text.encode("ascii")
        super().write(text)


class Breaks(Tee):
    def write(self, text: str) -> None:
        raise RuntimeError("no")


class BreaksWhereItIsAsked(Tee):
    def isatty(self) -> bool:
        raise ValueError("no")

    def flush(self) -> None:
        raise ValueError("no")


def closed() -> Any:
    stream = io.StringIO()
    stream.close()
    return stream


class Says(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("verlüst", float("nan"), prog_bar=True)  # which is said
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    "stream",
    [Tee, Ascii, Breaks, BreaksWhereItIsAsked, closed, lambda: None],
    ids=lambda stream: stream.__name__,
)
def test_a_run_says_what_it_can_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: Any
) -> None:
    mine = stream()
    monkeypatch.setattr(sys, "stdout", mine)
    monkeypatch.setattr(sys, "stderr", mine)
    show = {"enable_progress_bar": True, "enable_model_summary": True}
    run = nb.Trainer(max_epochs=2, default_root_dir=tmp_path, **{**QUIET, **show})

    run.fit(Says(), loader())

    monkeypatch.undo()
    assert run.global_step == 12
    if type(mine) in (Tee, Ascii):
        assert "parameters" in mine.text
        assert "epoch 1/2" in mine.text
        assert "\x1b" not in mine.text
        assert "stopped early" not in mine.text


PROGRAM = """
import os, sys
os.close(1)
os.close(2)
sys.path.insert(0, sys.argv[1])
from models import QUIET, Small, loader
import nightbus as nb

class Prints(Small):
    def on_train_batch_end(self, *_):
        os.write(2, b"into the wrong file")

run = nb.Trainer(max_epochs=2, default_root_dir=sys.argv[2], **QUIET)
run.fit(Prints(), loader())
"""


def test_nothing_that_is_printed_gets_into_the_log_where_standard_error_is_closed(
    tmp_path: Path,
) -> None:
    helpers = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", PROGRAM, helpers, str(tmp_path)]

    done = subprocess.run(command, timeout=DEADLINE_S, check=False, env=dict(os.environ))

    (path,) = (tmp_path / "runs").iterdir()
    assert done.returncode == 0
    assert not [
        file for file in path.rglob("*") if file.is_file() and b"wrong" in file.read_bytes()
    ]
