"""Runs tests with other versions of what nightbus requires than constraints.txt pins.

``python tests/release/try_versions.py oldest`` takes the lowest version that pyproject.toml allows
of each package, those of the extras included; ``newest`` takes the newest that can be had.
``--keep torch`` leaves a package as constraints.txt has it, ``--python`` takes another interpreter.
What was tried, and with which result, is in docs/versions.md.

uv installs, as pip has no option for the lowest versions, and looks for minutes for versions that
go together where uv takes seconds. It is in the environment that is tried, and goes with it.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TESTS = (
    "tests/unit",
    "tests/test_trainer.py",
    "tests/test_metrics.py",
    "tests/test_torchmetrics.py",
    "tests/test_checkpoints.py",
    "tests/test_compat.py",
    "tests/test_training_equals_raw_loop.py",
    "tests/test_replay_reproduces.py",
    "tests/test_golden_logs.py",
    "tests/test_golden_checkpoint.py",
)
RESOLUTIONS = {"oldest": "lowest-direct", "newest": "highest", "pinned": "highest"}
# What nightbus itself uses that is to go is an error; others' warnings are shown.
WARNINGS = "filterwarnings=default\nerror::DeprecationWarning:nightbus"
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def required() -> list[str]:
    """Return the names of the packages that nightbus requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [_NAME.match(line) for line in project["dependencies"]]
    return [match[0] for match in found if match is not None]


def constraints(which: str, keep: list[str]) -> list[str]:
    """Return the lines of a constraints file."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].strip(): line for line in lines if "==" in line}
    if unknown := [name for name in keep if name not in pinned]:
        raise SystemExit(f"constraints.txt does not pin {', '.join(unknown)}, so it cannot be kept")
    return [line for name, line in pinned.items() if which == "pinned" or name in keep]


def install(python: str, folder: Path, which: str, keep: list[str]) -> Path:
    """Make an environment with the checkout and what its tests need; return its interpreter."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    of_environment = folder / "bin" / "python"
    pip = [str(of_environment), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "uv"], check=True)
    pins = folder / "constraints.txt"
    pins.write_text("\n".join(constraints(which, keep)) + "\n", encoding="utf-8")
    uv = [str(folder / "bin" / "uv"), "pip", "install", "-q", "--python", str(of_environment)]
    chosen = ["--resolution", RESOLUTIONS[which], "-c", str(pins)]
    subprocess.run([*uv, *chosen, "-e", f"{ROOT}[test]"], check=True)
    return of_environment


def main(arguments: list[str]) -> int:
    """Try one set of versions; return pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", choices=tuple(RESOLUTIONS))
    parser.add_argument("--python", default=sys.executable, help="the interpreter")
    parser.add_argument("--keep", action="append", default=[], metavar="PACKAGE")
    parser.add_argument("--tests", nargs="*", default=list(TESTS), help="files and folders")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="nightbus-versions-") as name:
        python = install(options.python, Path(name, "venv"), options.versions, options.keep)
        listed = ["-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
        told = subprocess.run([python, *listed], capture_output=True, text=True, check=True).stdout
        held = [line for line in told.splitlines() if line.partition("==")[0] in required()]
        print(f"{Path(options.python).name}: {', '.join(held)}", flush=True)
        pytest = [python, "-m", "pytest", "-q", "-m", "not long", "-o", WARNINGS, *options.tests]
        return subprocess.run(pytest, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
