"""Checkpoints on disk: tensors as safetensors, everything else as msgpack, nothing executable.

A checkpoint is a folder with ``tensors.safetensors`` and ``state.msgpack``. In the state a tensor
is a msgpack extension that holds its name, a tuple an extension that holds its items.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..bus.codec import UNENCODABLE
from ..bus.errors import CheckpointError
from ..bus.plain_file import open_plain
from ..bus.run_folder import make_private_folder
from ..bus.segments import sync_folder

TENSORS = "tensors.safetensors"
STATE = "state.msgpack"
FORMAT_VERSION = 1
_TENSOR_EXT = 1
_TUPLE_EXT = 2

_encode = msgspec.msgpack.Encoder().encode


class _Flattener:
    """Takes the tensors out of a state and names them by where they were."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}  # id of a tensor -> its name; tied weights are kept once

    def plain(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if isinstance(value, Tensor):
            return msgspec.msgpack.Ext(_TENSOR_EXT, self._name(value, path).encode())
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str | int):
                    raise CheckpointError(
                        f"{path} has the key {key!r} of type {type(key).__name__}; a checkpoint "
                        "takes str and int keys"
                    )
            return {key: self.plain(entry, f"{path}.{key}") for key, entry in value.items()}
        if isinstance(value, list | tuple):
            items = [self.plain(entry, f"{path}[{i}]") for i, entry in enumerate(value)]
            if isinstance(value, list):
                return items
            return msgspec.msgpack.Ext(_TUPLE_EXT, _encode(items))
        raise CheckpointError(
            f"{path} is {type(value).__name__}, which a checkpoint cannot carry; it takes numbers, "
            "strings, bytes, None, tensors, and lists, tuples and dicts of these"
        )

    def _name(self, tensor: Tensor, path: str) -> str:
        known = self._names.get(id(tensor))
        if known is not None:
            return known
        self._names[id(tensor)] = path
        # A copy, so that views of one storage do not meet in the file.
        self.tensors[path] = tensor.detach().to("cpu", copy=True).contiguous()
        return path


def write_checkpoint(folder: Path, state: Mapping[str, Any]) -> tuple[str, int]:
    """Write a checkpoint so that ``folder`` is either absent or complete.

    Args:
        folder: where; must not exist.
        state: plain data and tensors.

    Returns:
        Its digest and its size in bytes.

    Raises:
        CheckpointError: the state holds something a checkpoint cannot carry, or the disk failed.
    """
    flattener = _Flattener()
    plain = flattener.plain(state, "state")
    try:
        packed = _encode({"format": FORMAT_VERSION, "state": plain})
    except UNENCODABLE as error:
        raise CheckpointError(
            f"the state cannot be saved in a checkpoint: {error}; text must be Unicode, and "
            "integers have at most 64 bits"
        ) from error
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        make_private_folder(temporary.parent)
        temporary.mkdir(mode=0o700)
        safetensors.torch.save_file(flattener.tensors, temporary / TENSORS)
        (temporary / STATE).write_bytes(packed)
        for name in (TENSORS, STATE):
            os.chmod(temporary / name, 0o600)
            fd = os.open(temporary / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        sync_folder(temporary)
        digest, size = digest_of(temporary)
        temporary.rename(folder)
        sync_folder(folder.parent)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"cannot write the checkpoint {folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return digest, size


def digest_of(folder: Path) -> tuple[str, int]:
    """blake2b-128 of a checkpoint's files, and their size in bytes."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    for name in (STATE, TENSORS):
        with open(folder / name, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
    return digest.hexdigest(), size


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Read a checkpoint; what it holds is data, whoever wrote it.

    Raises:
        CheckpointError: it is none, or is damaged.
    """
    try:
        os.close(open_plain(folder / TENSORS, CheckpointError))  # which load_file does not ask
        with open(open_plain(folder / STATE, CheckpointError), "rb") as file:
            data = file.read()
        tensors = safetensors.torch.load_file(folder / TENSORS)
        content = msgspec.msgpack.decode(data, ext_hook=_ext_hook(tensors), strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(
            f"{folder} is no checkpoint: a nightbus checkpoint is a folder with {STATE} and "
            f"{TENSORS}"
        ) from None
    except (
        OSError,
        KeyError,
        ValueError,
        RecursionError,
        msgspec.DecodeError,
        safetensors.SafetensorError,
    ) as error:
        raise CheckpointError(f"the checkpoint {folder} is damaged: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("state"), dict):
        raise CheckpointError(f"the checkpoint {folder} is damaged: it holds no state")
    if content.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"the checkpoint {folder} has format {content.get('format')}; this version reads "
            f"{FORMAT_VERSION}"
        )
    return content["state"]  # type: ignore[no-any-return]


def _ext_hook(tensors: dict[str, torch.Tensor]) -> Any:
    def hook(code: int, data: memoryview) -> Any:
        if code == _TENSOR_EXT:
            return tensors[bytes(data).decode()]
        if code == _TUPLE_EXT:
            return tuple(msgspec.msgpack.decode(data, ext_hook=hook))
        raise ValueError(f"unknown extension {code}")

    return hook
