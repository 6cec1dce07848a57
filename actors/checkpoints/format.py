"""Checkpoints on disk: tensors as safetensors, everything else as msgpack, nothing executable.

A checkpoint is a folder with ``tensors.safetensors``, ``state.msgpack``, and the digest of both.
The kinds of values in the state, and their encoding, are in ``values.py``.
"""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import safetensors
import safetensors.torch
from torch import Tensor

from ...bus.errors import CheckpointError, MissingCheckpointError
from ...bus.log.codec import UNENCODABLE
from ...bus.log.segments import sync_folder
from ...bus.runs.checkpoint_folder import DIGEST as DIGEST
from ...bus.runs.checkpoint_folder import STATE as STATE
from ...bus.runs.checkpoint_folder import TENSORS as TENSORS
from ...bus.runs.checkpoint_folder import check_digest, digest_of, no_checkpoint
from ...bus.runs.checkpoint_folder import is_checkpoint as is_checkpoint
from ...bus.runs.checkpoint_kind import kind_of_file
from ...bus.runs.crash_leftovers import is_gone
from ...bus.runs.run_folder import make_private_folder
from ...bus.shown_text import quoted
from ...bus.system.paths import as_path
from ...bus.system.plain_file import is_regular, open_plain
from .explained import explained_hyperparameters
from .replaced import put_in_place, restore_replaced
from .values import Flattener, decoder

FORMAT_VERSION = 1
CKPT = ".ckpt"
NOTE = "README.txt"
NOTE_TEXT = """\
This folder is a checkpoint of nightbus, to be read as a whole. Instead of torch.load(path):

    nightbus.load_checkpoint(path)                         a dict, as torch.load returns
    MyModule.load_from_checkpoint(path)                    the module
    safetensors.torch.load_file(path + "/tensors.safetensors")    tensors, without nightbus
    nightbus export-ckpt PATH -o model.ckpt                a file for Lightning and torch.load
"""
MAX_NEAR = 8  # maximum number of checkpoints named in an error about a missing one

_encode = msgspec.msgpack.Encoder().encode
# Errors of decoding a malformed file.
_DAMAGE = (
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    MemoryError,
    msgspec.DecodeError,
    safetensors.SafetensorError,
)


class Snapshot(NamedTuple):
    """An encoded copy of a state.

    Attributes:
        state: everything but the tensors, encoded.
        tensors: copies, on the CPU, by name.
    """

    state: bytes
    tensors: dict[str, Tensor]

    @property
    def size_bytes(self) -> int:
        """Approximate size on disk, in bytes."""
        return len(self.state) + sum(t.numel() * t.element_size() for t in self.tensors.values())


def take_snapshot(state: Mapping[str, Any]) -> Snapshot:
    """Copy a state, so that it can be written while training goes on.

    Args:
        state: plain data and tensors.

    Raises:
        CheckpointError: a checkpoint cannot hold a value in it.
    """
    flattener = Flattener()
    try:
        plain = flattener.plain(state, "state")
        packed = _encode({"format": FORMAT_VERSION, "state": plain})
    except UNENCODABLE as error:
        raise CheckpointError(
            f"the state cannot be saved in a checkpoint: {error}; text must be Unicode"
        ) from error
    return Snapshot(packed, flattener.tensors)


def packed_state(state: Mapping[str, Any]) -> bytes:
    """Return a state as bytes, which a checkpoint can hold.

    Args:
        state: plain data and tensors.

    Raises:
        CheckpointError: a checkpoint cannot hold a value in it.
    """
    snapshot = take_snapshot(state)
    return _encode((snapshot.state, safetensors.torch.save(snapshot.tensors)))


def unpacked_state(packed: bytes) -> dict[str, Any]:
    """Return what ``packed_state`` got; it is data, whoever wrote it.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        state, tensors = msgspec.msgpack.decode(packed, type=tuple[bytes, bytes])
        content = _decode(state, safetensors.torch.load(tensors))["state"]
    except _DAMAGE as error:
        raise CheckpointError(f"a rank's part of the checkpoint is damaged: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError("a rank's part of the checkpoint is damaged: it holds no state")
    return content


def check_carried(state: Mapping[str, Any], path: str = "state") -> None:
    """Check that a state can be saved and read again.

    Args:
        state: plain data and tensors, which are not copied.
        path: its name in errors.

    Raises:
        CheckpointError: it holds something that a checkpoint cannot hold; the message says where.
    """
    flattener = Flattener(copies=False)
    plain = flattener.plain(state, path)
    try:
        _decode(_encode(plain), flattener.tensors)
    except _DAMAGE as error:
        raise CheckpointError(
            f"{path} could not be read again from a checkpoint: {error}"
        ) from error


def write_checkpoint(
    folder: Path, state: Mapping[str, Any] | Snapshot, replaces: bool = False
) -> tuple[str, int]:
    """Write a checkpoint so that ``folder`` is either absent or complete.

    Args:
        folder: the checkpoint; must not exist.
        state: plain data and tensors, or a snapshot of it.
        replaces: replace an existing checkpoint.

    Returns:
        Its digest and its size in bytes.

    Raises:
        CheckpointError: a checkpoint cannot hold a value in the state, or the disk failed.
    """
    snapshot = state if isinstance(state, Snapshot) else take_snapshot(state)
    with _made_at(folder, replaces) as temporary:
        safetensors.torch.save_file(snapshot.tensors, temporary / TENSORS)
        _write_private(temporary / STATE, snapshot.state)
        _check_readable(temporary, folder, snapshot)
        digest, size = digest_of(temporary)
        _write_private(temporary / DIGEST, f"{digest}\n".encode())
        _write_private(temporary / NOTE, NOTE_TEXT.encode())
    return digest, size


def _check_readable(written: Path, folder: Path, snapshot: Snapshot) -> None:
    """Check that a checkpoint can be read, as its reader would, without copying tensors.

    Raises:
        CheckpointError: it cannot.
    """
    try:
        with safetensors.safe_open(written / TENSORS, "pt") as file:
            if set(file.keys()) != set(snapshot.tensors):
                raise ValueError("the file has other tensors than were written")
        _decode((written / STATE).read_bytes(), snapshot.tensors)
    except (*_DAMAGE, CheckpointError) as error:
        raise CheckpointError(
            f"the checkpoint {folder} could not be read again and is not kept: {error}"
        ) from error


def _decode(data: bytes, tensors: Mapping[str, Tensor]) -> Any:
    return msgspec.msgpack.decode(data, ext_hook=decoder(tensors), strict=True)


def _write_private(path: Path, data: bytes) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    path.write_bytes(data)


def link_checkpoint(source: Path, folder: Path, replaces: bool = False) -> tuple[str, int]:
    """Give a complete checkpoint another name too, without writing it again.

    Args:
        source: the checkpoint.
        folder: the other name; must not exist.
        replaces: replace an existing checkpoint.

    Returns:
        Its digest and its size in bytes.

    Raises:
        CheckpointError: the disk failed.
    """
    with _made_at(folder, replaces) as temporary:
        for name in (TENSORS, STATE, DIGEST, NOTE):
            if name == NOTE and not (source / NOTE).exists():  # of an earlier version
                continue
            try:
                os.link(source / name, temporary / name)
            except OSError:  # another file system, or one without hard links
                shutil.copyfile(source / name, temporary / name)
        digest = (temporary / DIGEST).read_text().strip()
        size = sum((temporary / name).stat().st_size for name in (TENSORS, STATE))
    return digest, size


@contextlib.contextmanager
def _made_at(folder: Path, replaces: bool) -> Any:
    """Provide a temporary folder for a checkpoint's files, which becomes ``folder`` at the end."""
    if os.path.lexists(folder) and not replaces:
        raise CheckpointError(
            f"{folder} exists already and is not overwritten; choose another path, or "
            "remove it first"
        )
    temporary = temporary_name(folder)
    try:
        if not folder.parent.is_dir():
            make_private_folder(folder.parent)
            sync_folder(folder.parent.parent)
        shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process with our id
        temporary.mkdir(mode=0o700)
        yield temporary
        for path in temporary.iterdir():
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fchmod(fd, 0o600)
                os.fsync(fd)
            finally:
                os.close(fd)
        sync_folder(temporary)
        put_in_place(temporary, folder)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"cannot write the checkpoint {folder}: {error}") from error
    finally:
        _remove_files(temporary)


def _remove_files(folder: Path) -> None:
    """Remove a checkpoint's files and their folder, or a file that it has replaced, if they exist.

    It does not open the folder, which is impossible without a file descriptor.
    """
    with contextlib.suppress(OSError):
        if is_regular(folder):
            folder.unlink()
            return
        for name in (TENSORS, STATE, DIGEST, NOTE):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    shutil.rmtree(folder, ignore_errors=True)  # whatever else is in it


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint, so that it is complete or gone if the process is killed.

    Raises:
        OSError: the disk failed, or there is no such checkpoint.
    """
    temporary = temporary_name(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    folder.rename(temporary)
    # First, because a power cut must not leave some of the files under the old name.
    try:
        sync_folder(folder.parent)
    except OSError:  # for example no file descriptor: it stays complete
        temporary.rename(folder)
        raise
    _remove_files(temporary)
    if os.path.lexists(temporary):
        shutil.rmtree(temporary)


def temporary_name(path: Path) -> Path:
    """Return the name of something that is about to become ``path``, or no longer is."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left of checkpoints that they were writing or removing.

    Links to such checkpoints are removed too.
    """
    restore_replaced(folder)
    for path in folder.glob(".*.tmp"):
        pid = path.name.split(".")[-2]
        if not (pid.isdecimal() and is_gone(int(pid))):
            continue
        if path.is_symlink():
            path.unlink(missing_ok=True)
        elif path.is_dir() and all(map(_is_ours, path.iterdir())):
            shutil.rmtree(path, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    """Return whether a file belongs to a checkpoint, or is one that safetensors did not finish."""
    return path.name in (TENSORS, STATE, DIGEST, NOTE) or path.name.startswith(".tmp")


def _is_a_file(path: Path) -> str:
    """Return what a file given as a checkpoint is, and what to do."""
    try:
        kind = kind_of_file(path)
    except OSError as error:
        return f"{path} is a file that cannot be read: {error.strerror}"
    if not kind.is_torchs:
        return f"{path} is {kind.what}; a nightbus checkpoint is a folder. {kind.advice}"
    return (
        f"{path} is a file; a nightbus checkpoint is a folder. It seems to be {kind.what}, which "
        "can be made to run code when it is read; if you know where it comes from, convert it "
        f"first: nightbus import-ckpt {quoted(path)} -o OUT --trust"
    )


def what_is_not_there(path: Path) -> str:
    """Return that there is no checkpoint, and which are near.

    Args:
        path: where one was to be.
    """
    if path.is_symlink():
        return f"{path} is a link to {os.readlink(path)}, where nothing is"
    above = path.parent
    if not above.is_dir():
        return f"there is no checkpoint {path}: there is no folder {above}"
    near = sorted(each.name for each in above.iterdir() if is_checkpoint(each))
    more = f" and {len(near) - MAX_NEAR} more" if len(near) > MAX_NEAR else ""
    there = f"; checkpoints in {above}: {', '.join(near[:MAX_NEAR])}{more}" if near else ""
    return f"there is no checkpoint {path}{there}"


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of a checkpoint, which is data, whoever wrote it.

    It takes the place of ``torch.load`` of a file of Lightning, and has ``state_dict``,
    ``hyper_parameters``, ``epoch``, ``global_step``, ``optimizer_states`` and ``lr_schedulers``
    under the same names; docs/checkpoint-format.md lists all.

    Args:
        path: the checkpoint, a folder; ``.ckpt`` may be appended to its name.

    Returns:
        A dict of plain data and tensors, on the CPU.

    Raises:
        CheckpointError: it is not a checkpoint, or is damaged.
    """
    state = read_checkpoint(as_path(path))
    if "hyper_parameters" in state:
        state["hyper_parameters"] = explained_hyperparameters(state, as_path(path))
    return state


def meant_checkpoint(path: Path) -> Path:
    """Return the checkpoint that a path means: without ``.ckpt`` if it exists only so.

    Checkpoints of Lightning are files with this ending, which its users write.

    Args:
        path: a path that may end in ``.ckpt``.
    """
    if path.suffix != CKPT or os.path.lexists(path):
        return path
    without = path.with_suffix("")
    restore_replaced(without.parent)
    return without if is_checkpoint(without) else path


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, which is data, whoever wrote it.

    Raises:
        CheckpointError: it is not a checkpoint, or is damaged.
    """
    folder = meant_checkpoint(folder)
    restore_replaced(folder.parent)
    if is_regular(folder):
        raise CheckpointError(_is_a_file(folder))
    if not folder.exists():
        raise MissingCheckpointError(what_is_not_there(folder))
    try:
        check_digest(folder)
        with open(open_plain(folder / STATE, CheckpointError), "rb") as file:
            data = file.read()
        loaded = safetensors.torch.load_file(folder / TENSORS)
        # Copied, because a tensor may begin anywhere in the file, and a dot product over unaligned
        # memory may differ in its last bit.
        tensors = {name: tensor.clone() for name, tensor in loaded.items()}
        content = _decode(data, tensors)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(no_checkpoint(folder)) from None
    except (OSError, *_DAMAGE) as error:
        raise CheckpointError(f"the checkpoint {folder} is damaged: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("state"), dict):
        raise CheckpointError(f"the checkpoint {folder} is damaged: it holds no state")
    if content.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"the checkpoint {folder} has format {content.get('format')}; this version reads "
            f"{FORMAT_VERSION}"
        )
    return content["state"]  # type: ignore[no-any-return]
