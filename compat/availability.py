"""What Lightning's flags say: which packages are installed, in which version, on which system."""

import re
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec

_INSTALLED = re.compile(r"_([A-Z0-9_]+?)(?:_SIGNATURES)?_AVAILABLE")
_VERSION = re.compile(r"_([A-Z_]+?)_(GREATER_EQUAL|LESSER_EQUAL|EQUAL)(?:_DEV)?_(\d+(?:_\d+)*)")
_COMPARES: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "GREATER_EQUAL": lambda here, asked: here >= asked,
    "LESSER_EQUAL": lambda here, asked: here <= (*asked, 0, 0)[:3],
    "EQUAL": lambda here, asked: here[: len(asked)] == asked,
}
_SYSTEMS = {"_IS_WINDOWS": "win32"}
_SAME = (
    "apex bagua bitsandbytes colossalai deepspeed docstring_parser fairscale habana_frameworks "
    "hivemind horovod hydra jsonargparse lightning lightning_bagua lightning_colossalai "
    "lightning_graphcore lightning_habana lightning_sdk litlogger matplotlib mlflow neptune numpy "
    "omegaconf onnx onnxruntime pandas poptorch psutil requests rich scipy sklearn tensorboard "
    "test_tube thunder torch_tensorrt torchmetrics torchtext torchvision tqdm transformer_engine "
    "wandb yaml"
)
_MODULES = {
    **{name: name for name in _SAME.split()},
    "bolts": "pl_bolts",
    "comet": "comet_ml",
    "fairscale_fully_sharded": "fairscale",
    "fairscale_oss_fp16_broadcast": "fairscale",
    "fairscale_pipe": "fairscale",
    "habana_framework": "habana_frameworks",
    "hpu": "habana_frameworks",
    "hydra_experimental": "hydra.experimental",
    "ipu": "poptorch",
    "pil": "PIL",
    "tensorboardx": "tensorboardX",
    "torchtext_legacy": "torchtext.legacy",
    "tpu": "torch_xla",
    "xla": "torch_xla",
}
"""Name in a flag -> the module; of no other name is it known that there is such a flag."""
_DISTRIBUTIONS = {
    "comet": "comet-ml",
    "hydra": "hydra-core",
    "pil": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""Name in a flag -> the package that has a version, if that has another name."""


def _has_kineto() -> bool:
    import torch

    return torch.profiler.kineto_available()


def _has_quantized_kernels() -> bool:
    import torch

    return any(engine != "none" for engine in torch.backends.quantized.supported_engines)


def _has_distributed() -> bool:
    import torch

    return torch.distributed.is_available()


_OF_TORCH: dict[str, Callable[[], bool]] = {
    "kineto": _has_kineto,
    "native_amp": lambda: True,
    "torch_distributed": _has_distributed,
    "torch_quantize": _has_quantized_kernels,
}
"""Name in a flag -> whether torch, which is asked only then, can do that."""


def flag(name: str) -> bool | None:
    """Return the value of a flag, such as ``_TORCHVISION_AVAILABLE``; None if it is none.

    Args:
        name: the flag's name: of a package that is installed, ``_TORCH_GREATER_EQUAL_2_1`` of a
            version that is reached, or ``_IS_WINDOWS``.
    """
    if name in _SYSTEMS:
        return sys.platform == _SYSTEMS[name]
    if found := _INSTALLED.fullmatch(name):
        return _is_available(found[1].lower())
    if found := _VERSION.fullmatch(name):
        package = found[1].lower()
        if package in ("python", "torch") or package in _MODULES:
            here = _version_of(package)
            return bool(here) and _COMPARES[found[2]](here, _numbers(found[3]))
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


def _is_available(name: str) -> bool | None:
    if name in _OF_TORCH:
        return _OF_TORCH[name]()
    return module_available(_MODULES[name]) if name in _MODULES else None


def _version_of(package: str) -> tuple[int, ...]:
    """Return the numbers of a version; none if the package is not installed."""
    if package == "python":
        return tuple(sys.version_info[:3])
    try:
        return _numbers(metadata.version(_DISTRIBUTIONS.get(package, package)))
    except metadata.PackageNotFoundError:
        return ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])
