"""What Lightning's flags say: which packages are installed, in which version, on which system."""

import re
import sys
from importlib import metadata
from importlib.util import find_spec

_INSTALLED = re.compile(r"_([A-Z0-9_]+?)(?:_SIGNATURES)?_AVAILABLE")
_VERSION = re.compile(r"_([A-Z]+)_GREATER_EQUAL_(\d+(?:_\d+)*)")
_SYSTEMS = {"_IS_WINDOWS": "win32"}
_MODULES = {"hydra": "hydra", "tpu": "torch_xla", "xla": "torch_xla", "bolts": "pl_bolts"}
"""Name in a flag -> the module, if it has another name."""


def flag(name: str) -> bool | None:
    """Return the value of a flag, such as ``_TORCHVISION_AVAILABLE``; None if it is none.

    Args:
        name: the flag's name: of a package that is installed, ``_TORCH_GREATER_EQUAL_2_1`` of a
            version that is reached, or ``_IS_WINDOWS``.
    """
    if name in _SYSTEMS:
        return sys.platform == _SYSTEMS[name]
    if found := _INSTALLED.fullmatch(name):
        return _is_installed(found[1].lower())
    if found := _VERSION.fullmatch(name):
        return _version_of(found[1].lower()) >= _numbers(found[2])
    return None


def module_available(name: str) -> bool:
    """Return whether a module can be imported.

    Args:
        name: the module, such as ``torchvision`` or ``nvidia.dali``.
    """
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _is_installed(name: str) -> bool:
    return module_available(_MODULES.get(name, name))


def _version_of(package: str) -> tuple[int, ...]:
    try:
        return _numbers(metadata.version(package))
    except metadata.PackageNotFoundError:
        return ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])
