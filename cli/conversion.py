"""Runs a conversion of a checkpoint in a process of its own, and shows what was left out."""

import subprocess
import sys
from pathlib import Path

from .text import ERROR, OK, as_json, plain, print_note

_ROOM = "nightbus.actors.checkpoints"


def convert(module: str, source: Path, out: Path, what: str, is_json: bool, *more: str) -> int:
    """Run a conversion, and report it.

    Whatever the source makes the process do ends with it.

    Args:
        module: the module of ``actors.checkpoints`` to run.
        source: what is converted.
        out: what it becomes.
        what: the word for it, for people.
        is_json: write the report for programs.
        *more: further arguments of the module.

    Returns:
        The exit code.
    """
    command = [sys.executable, "-m", f"{_ROOM}.{module}", str(source), str(out), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print_note(done.stderr.strip() or f"the conversion ended with {done.returncode}")
        return ERROR
    left_out = done.stdout.splitlines()
    if is_json:
        sys.stdout.write(as_json({"source": str(source), "path": str(out), "left_out": left_out}))
        return OK
    for line in left_out:
        print_note(f"left out: {line}")
    print(plain(f"{source} is now the {what} {out}"))
    return OK
