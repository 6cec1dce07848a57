"""Memory: what ran out of it, how much a module takes, what holds on to it."""

import gc
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..actors.trees import detached, map_tensors


def recursive_detach(in_dict: Any, to_cpu: bool = False) -> Any:
    """Return tensors in containers detached from their graphs.

    Args:
        in_dict: a tensor or a container.
        to_cpu: move them to the CPU, too.
    """
    found = detached(in_dict)
    return map_tensors(found, torch.Tensor.cpu) if to_cpu else found


def is_oom_error(exception: BaseException) -> bool:
    """Return whether an exception says that memory ran out, of a GPU or of the machine.

    Args:
        exception: the exception.
    """
    return any(
        says(exception) for says in (is_cuda_out_of_memory, is_cudnn_snafu, is_out_of_cpu_memory)
    )


def is_cuda_out_of_memory(exception: BaseException) -> bool:
    """Return whether a GPU's memory ran out.

    Args:
        exception: the exception.
    """
    return _says(exception, "CUDA", "out of memory")


def is_cudnn_snafu(exception: BaseException) -> bool:
    """Return whether cuDNN failed in the way it does for want of memory.

    Args:
        exception: the exception.
    """
    return _says(exception, "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED.")


def is_out_of_cpu_memory(exception: BaseException) -> bool:
    """Return whether the machine's memory ran out.

    Args:
        exception: the exception.
    """
    return _says(exception, "DefaultCPUAllocator: can't allocate memory")


def _says(exception: BaseException, *texts: str) -> bool:
    return (
        isinstance(exception, RuntimeError)
        and len(exception.args) == 1
        and all(text in str(exception.args[0]) for text in texts)
    )


def garbage_collection_cuda() -> None:
    """Collect garbage, and give back the GPU memory that torch keeps but does not use.

    Raises:
        RuntimeError: the GPU failed, other than for want of memory.
    """
    gc.collect()
    try:
        torch.cuda.empty_cache()
    except RuntimeError as error:
        if not is_oom_error(error):
            raise


def get_model_size_mb(model: nn.Module) -> float:
    """Return the size of a module's saved weights, in MB.

    Args:
        model: the module.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights")
        torch.save(model.state_dict(), path)
        return path.stat().st_size / 1e6
