"""What a bug report needs of this machine and its Python, without loading torch."""

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import msgspec

from ..bus.secrets.redaction import without_secrets

_PACKAGE = "nightbus"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)")
_FOR_DEVELOPERS = ("dev", "docs", "test")
# Variables that change what a run does; values of others may be private.
_VARIABLES = re.compile(
    r"^(NIGHTBUS_|TORCH_|TORCHELASTIC_|CUDA_|NCCL_|GLOO_|OMP_|MKL_|PYTORCH_"
    r"|SLURM_(JOB_ID|NTASKS|PROCID|NNODES)$|(WORLD_SIZE|RANK|LOCAL_RANK|MASTER_ADDR|MASTER_PORT)$"
    r"|(TERM|COLUMNS|NO_COLOR|LANG|CI)$)"
)
_GPU_QUERY = ("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
_GPU_WAIT_S = 10.0
_UNKNOWN = "file system not known"


class SelfReport(msgspec.Struct, frozen=True):
    """The machine, Python, and packages.

    Attributes:
        nightbus: its version, and where it is installed.
        python: version, implementation and path.
        machine: system, processor, number of cores that this process may use, memory in GiB.
        gpus: name, driver and memory of each, as nvidia-smi says; or why it does not.
        packages: versions of what nightbus requires, empty for what is missing.
        extras: versions of what each extra requires, empty for what is missing.
        variables: environment variables that change what a run does.
        folder: the working directory, the kind of its file system, and its free space in GiB.
        terminal: whether stdout and stderr are terminals, and their encoding.
    """

    nightbus: str
    python: str
    machine: str
    gpus: list[str]
    packages: dict[str, str]
    extras: dict[str, dict[str, str]]
    variables: dict[str, str]
    folder: str
    terminal: str


def self_report() -> SelfReport:
    """Return what a bug report needs of this machine."""
    packages, extras = _requirements()
    told = sorted((name, value) for name, value in os.environ.items() if _VARIABLES.match(name))
    return SelfReport(
        nightbus=f"{_version(_PACKAGE)} in {Path(__file__).parent.parent}",
        python=f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}",
        machine=_machine(),
        gpus=_gpus(),
        packages={name: _version(name) for name in packages},
        extras={extra: {n: _version(n) for n in names} for extra, names in extras.items()},
        variables={name: without_secrets(value) for name, value in told},
        folder=_folder(),
        terminal=_terminal(),
    )


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of what nightbus requires, and of what each extra does."""
    packages: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in requires(_PACKAGE) or ():
        name, extra = _NAME.match(line), _EXTRA.search(line)
        if name is None or (extra is not None and extra[1] in _FOR_DEVELOPERS):
            continue
        (packages if extra is None else extras.setdefault(extra[1], [])).append(name[0])
    return packages, extras


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        held = f", {memory:.1f} GiB of memory"
    except (ValueError, OSError):  # not told by every system
        held = ""
    return f"{platform.platform()}, {platform.machine()}, {cores} cores{held}"


def _gpus() -> list[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        told = subprocess.run(
            [tool, *_GPU_QUERY], capture_output=True, text=True, check=True, timeout=_GPU_WAIT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        return [f"nvidia-smi failed: {error}"]
    return told.stdout.strip().splitlines()


def _folder() -> str:
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 2**30
    return f"{here}, {_file_system(here)}, {free:.1f} GiB free"


def _file_system(folder: Path) -> str:
    """Return the kind of file system of a folder, where the system tells."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _UNKNOWN
    best, kind = "", _UNKNOWN
    for fields in map(str.split, mounts.splitlines()):
        if len(fields) > 2 and folder.is_relative_to(fields[1]) and len(fields[1]) >= len(best):
            best, kind = fields[1], fields[2]
    return kind


def _terminal() -> str:
    return "; ".join(
        f"{name} is {'a' if stream.isatty() else 'not a'} terminal, {stream.encoding}"
        for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr))
    )
