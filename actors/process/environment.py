"""Where a run is started: the process, its machine, its code and the packages that it has loaded.

Everything is read from files of the system and from what is loaded already: nothing is imported
and no device is touched for it. Of environment variables, only a launcher's job ids are recorded.
"""

import functools
import os
import platform
import pwd
import re
import shlex
import sys
from pathlib import Path
from typing import ClassVar

from ...bus.events import Plain
from ...bus.secrets.redaction import redact, without_secrets
from .code_state import code_state
from .versions import package_versions

_NVIDIA = Path("/proc/driver/nvidia")
_CPU_INFO_BYTES = 4096  # of the first processor; the others are the same
_JOB_IDS = (  # variable -> the kind of environment that it means
    ("SLURM_JOB_ID", "slurm"),
    ("TORCHELASTIC_RUN_ID", "torchrun"),
)


def environment() -> dict[str, Plain]:
    """Return where this process runs, without secrets.

    Returns:
        ``kind`` (``script``, ``notebook``, ``interactive``, ``slurm``, ``torchrun``), ``job``,
        ``command``, ``script``, ``pid``, ``host``, ``user``, ``platform``, ``cpu``, ``cpus``,
        ``memory_bytes``, ``gpus``, ``gpu_driver``, ``git.commit``, ``git.branch`` and
        ``git.dirty``; what is not known is left out.
    """
    script = _script()
    found: dict[str, Plain] = {"kind": "interactive" if script is None else "script"}
    found |= _kind()
    found["command"] = shlex.join(redact(sys.argv))
    if script is not None:
        found["script"] = without_secrets(str(script))
    found |= {"pid": os.getpid(), **machine()}
    return found | code_state(code_folder())


def code_folder() -> Path:
    """Return the folder of the script that runs; without one, the working directory."""
    script = _script()
    return Path.cwd() if script is None else script.parent


def _script() -> Path | None:
    script = Path(sys.argv[0]).absolute() if sys.argv and sys.argv[0] else None
    return script if script is not None and script.is_file() else None


def loaded_versions() -> dict[str, str]:
    """Return the versions of Python, nightbus, torch and the other packages that are loaded."""
    number, last = len(sys.modules), next(reversed(sys.modules.values()))
    if number != _Looked.number or last is not _Looked.last:
        _Looked.number, _Looked.last = number, last
        _Looked.versions = _look_for_versions()
    return dict(_Looked.versions)


class _Looked:
    """What was found when thousands of modules were looked at, which takes milliseconds.

    Attributes:
        number: how many there were.
        last: the one that was loaded last; with another one, there is another last one.
        versions: of them.
    """

    number: int = 0
    last: object = None
    versions: ClassVar[dict[str, str]] = {}


def _look_for_versions() -> dict[str, str]:
    versions = package_versions()
    for name, module in list(sys.modules.items()):
        if "." in name or name in versions or name in sys.stdlib_module_names:
            continue
        version = getattr(module, "__dict__", {}).get("__version__")
        if isinstance(version, str) and not name.startswith("_"):
            versions[name] = version[:100]
    return versions


def _kind() -> dict[str, Plain]:
    for variable, kind in _JOB_IDS:
        if job := os.environ.get(variable):
            return {"kind": kind, "job": job[:100]}
    return {"kind": "notebook"} if "ipykernel" in sys.modules else {}


@functools.cache
def _machine() -> tuple[tuple[str, Plain], ...]:
    found: dict[str, Plain] = {
        "host": platform.node(),
        "user": _user(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    if cpu := re.search(r"^model name\s*:\s*(.+)$", _begin("/proc/cpuinfo"), re.MULTILINE):
        found["cpu"] = cpu[1].strip()
    found["cpus"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    if memory := re.search(r"^MemTotal:\s*(\d+) kB", _begin("/proc/meminfo"), re.MULTILINE):
        found["memory_bytes"] = int(memory[1]) * 1024
    return tuple({**found, **gpus_of(_NVIDIA)}.items())


def machine() -> dict[str, Plain]:
    """Return the machine: host, user, system, processor, memory, and its GPUs with their driver."""
    return dict(_machine())


def gpus_of(driver: Path) -> dict[str, Plain]:
    """Return the GPUs that NVIDIA's driver shows in a folder, and its version.

    Args:
        driver: the folder, ``/proc/driver/nvidia``.
    """
    found: dict[str, Plain] = {}
    models = []
    for file in sorted(driver.glob("gpus/*/information")):
        if model := re.search(r"^Model:\s*(.+)$", _begin(str(file)), re.MULTILINE):
            models.append(model[1].strip())
    if models:
        found["gpus"] = ", ".join(
            f"{models.count(each)} x {each}" for each in dict.fromkeys(models)
        )
    if version := re.search(r"Kernel Module.*?\s(\d+\.\d+[\d.]*)", _begin(str(driver / "version"))):
        found["gpu_driver"] = version[1]
    return found


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container, a user may have a number only
        return str(os.getuid())


def _begin(path: str) -> str:
    """Return the beginning of a file of the system; empty if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_CPU_INFO_BYTES)
    except OSError:
        return ""
