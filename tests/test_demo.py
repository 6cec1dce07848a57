"""The demo that `make demo` runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import DEADLINE_S

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent


def test_the_demo_learns_and_says_what_to_try_next(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from examples import digits; digits.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=DEADLINE_S,
    )

    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"validation accuracy: ([\d.]+)%", done.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) > 96
    commands = re.findall(r"^  (\S.*)$", done.stdout, flags=re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 10  # not a terminal: a plain line an epoch
    assert "val_accuracy" in lines[-1]
