"""Runs tests with other versions of what nightbus requires than constraints.txt pins.

``python tests/release/try_versions.py oldest`` takes the lowest that pyproject.toml allows,
``newest`` the newest that can be had; ``--keep torch`` leaves a package as constraints.txt has it,
``--python`` takes another interpreter. What was tried, and with which result, is in
docs/versions.md.
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
    "tests/test_training_equals_raw_loop.py",
    "tests/test_replay_reproduces.py",
    "tests/test_golden_logs.py",
    "tests/test_golden_checkpoint.py",
)
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")


def lowest() -> dict[str, str]:
    """Return the lowest version of each package that nightbus requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [_REQUIREMENT.match(line) for line in project["dependencies"]]
    return {match[1]: match[2] for match in found if match is not None}


def constraints(which: str, keep: list[str]) -> list[str]:
    """Return the lines of a constraints file."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].strip(): line for line in lines if "==" in line}
    required = lowest()
    if which == "oldest":  # of the others, those that go with these
        kept = [line for name, line in pinned.items() if name in keep]
        return kept + [f"{name}=={required[name]}" for name in required if name not in keep]
    return [line for name, line in pinned.items() if name in keep or name not in required]


def main(arguments: list[str]) -> int:
    """Try one set of versions; return pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", choices=("oldest", "newest", "pinned"))
    parser.add_argument("--python", default=sys.executable, help="the interpreter")
    parser.add_argument("--keep", action="append", default=[], metavar="PACKAGE")
    parser.add_argument("--tests", nargs="*", default=list(TESTS), help="files and folders")
    options = parser.parse_args(arguments)
    required = list(lowest())
    keep = required if options.versions == "pinned" else options.keep
    with tempfile.TemporaryDirectory(prefix="nightbus-versions-") as name:
        python, file = Path(name, "venv", "bin", "python"), Path(name, "constraints.txt")
        file.write_text("\n".join(constraints(options.versions, keep)) + "\n", encoding="utf-8")
        subprocess.run([options.python, "-m", "venv", str(Path(name, "venv"))], check=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        # What a new environment has may be too old to read pyproject.toml.
        subprocess.run([*pip, "--upgrade", "-c", str(file), "setuptools"], check=True)
        checkout = ["--no-build-isolation", "-e", f"{ROOT}[test]"]
        subprocess.run([*pip, "--upgrade", "-c", str(file), *checkout], check=True)
        listed = ["-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
        told = subprocess.run([python, *listed], capture_output=True, text=True, check=True).stdout
        held = [line for line in told.splitlines() if line.partition("==")[0] in required]
        print(f"{Path(options.python).name}: {', '.join(held)}", flush=True)
        tests = [python, "-m", "pytest", "-q", "-m", "not long", "-W", "default", *options.tests]
        return subprocess.run(tests, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
