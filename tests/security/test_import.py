"""Importing nightbus does nothing but load it, and not much."""

import json
import os
import subprocess
import sys

import pytest

# Heard by the interpreter itself; what is imported cannot avoid it.
CODE = """
import json, os, sys
sys.dont_write_bytecode = True
heard = []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

def hear(event, arguments):
    if event == "open":
        if isinstance(arguments[0], (str, bytes)) and (arguments[2] or 0) & WRITING:
            heard.append(f"writes {arguments[0]!r}")
    elif event.startswith(FORBIDDEN):
        heard.append(event)

FORBIDDEN = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn",
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod",
    "os.putenv", "shutil.", "tempfile.", "urllib.", "http.", "ftplib.", "smtplib.",
)
sys.addaudithook(hear)
IMPORT
print(json.dumps({"heard": heard, "modules": sorted(sys.modules)}))
"""


def after(statement: str) -> dict[str, list[str]]:
    """What was heard while a fresh interpreter ran a statement, and what it has loaded then."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.replace("IMPORT", statement)],
        capture_output=True,
        text=True,
        env={**os.environ, "NIGHTBUS_LOG": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *said, report = done.stdout.splitlines()
    assert said == []
    found: dict[str, list[str]] = json.loads(report)
    return found


@pytest.mark.parametrize(
    "statement",
    [
        "import nightbus",
        "import nightbus.__main__",
        "import nightbus.bus, nightbus.sinks, nightbus.bus.inspection.control_client, "
        "nightbus.bus.inspection.salvage",
    ],
)
def test_importing_opens_no_socket_starts_no_process_and_writes_no_file(statement: str) -> None:
    assert after(statement)["heard"] == []


@pytest.mark.parametrize(
    "statement",
    [
        "open(os.devnull, 'w')",
        "import socket; socket.socket()",
        "import subprocess; subprocess.run(['true'])",
        "os.system('true')",
    ],
)
def test_what_importing_may_not_do_is_heard(statement: str) -> None:
    assert after(statement)["heard"]


def test_importing_nightbus_loads_no_library_that_takes_long() -> None:
    heavy = {"torch", "numpy", "trio", "msgspec", "structlog", "rich", "asyncio", "torchmetrics"}

    assert heavy.isdisjoint(after("import nightbus")["modules"])
    # trio asks ldconfig for a library, in a process of its own: only who runs a bus loads it.
    assert (
        "trio" not in after("import nightbus.__main__, nightbus.bus.inspection.salvage")["modules"]
    )
