"""``nightbus run --as-lightning SCRIPT``: run code that was written for Lightning."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..bus.errors import UsageError
from ..compat import IN_PLACE


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "run",
        help="run a script that was written for Lightning",
        description="Run a Python script, with nightbus in place of the packages lightning, "
        "pytorch_lightning and lightning_fabric. The script is not changed. It holds in the "
        "processes that the script starts, too.",
        usage="nightbus run --as-lightning [-h] (SCRIPT | -m MODULE) ...",
    )
    parser.add_argument(
        "--as-lightning",
        action="store_true",
        required=True,
        help="put nightbus in place of Lightning; required",
    )
    parser.add_argument(
        "-m",
        dest="module",
        metavar="MODULE",
        nargs=argparse.REMAINDER,
        help="a module and its arguments, as for python -m",
    )
    parser.add_argument(
        "script",
        metavar="SCRIPT",
        nargs=argparse.REMAINDER,
        help="the script and its arguments",
    )
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    command = ["-m", *options.module] if options.module else options.script
    if not command:
        raise UsageError("there is nothing to run; give a script, or -m and a module")
    if not options.module and not Path(command[0]).exists():
        raise UsageError(f"there is no script {command[0]}")
    if sys.flags.ignore_environment:
        raise UsageError("Python was started with -E or -I; without, since a variable is needed")
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{IN_PLACE}{os.pathsep}{path}" if path else IN_PLACE
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *flags, *command])
