"""The files of a checkpoint and their digest, without reading tensors."""

import hashlib
from pathlib import Path

from ..errors import CheckpointError
from ..system.plain_file import is_regular, open_plain, read_small

TENSORS = "tensors.safetensors"
STATE = "state.msgpack"
DIGEST = "digest"


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder looks like a checkpoint."""
    return is_regular(folder / STATE)


def no_checkpoint(folder: Path) -> str:
    """Return that a folder is no checkpoint, and which one may be meant if it is a run's."""
    places = (folder / "checkpoints" / "last", folder / "last")
    last = next((path for path in places if is_checkpoint(path)), None)
    advice = f"; {last} is the newest of this run" if last is not None else ""
    return (
        f"{folder} is not a checkpoint: a nightbus checkpoint is a folder with {STATE}, "
        f"{TENSORS} and {DIGEST}{advice}"
    )


def digest_of(folder: Path) -> tuple[str, int]:
    """Return the blake2b-128 of a checkpoint's files, and their size in bytes."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    for name in (STATE, TENSORS):
        with open(open_plain(folder / name, CheckpointError), "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
    return digest.hexdigest(), size


def kept_digest(folder: Path) -> str:
    """Return the digest that was recorded when a checkpoint was written."""
    return read_small(folder / DIGEST, CheckpointError).decode("ascii", "replace").strip()


def check_digest(folder: Path) -> str:
    """Check that a checkpoint's files are as they were written, and return their digest.

    Raises:
        CheckpointError: they are not, or one of them is not a regular file.
        FileNotFoundError: one is missing.
        OSError: one cannot be read.
    """
    found, _ = digest_of(folder)
    kept = kept_digest(folder)
    if kept != found:
        raise CheckpointError(
            f"the checkpoint {folder} is damaged: its digest is {found}, but was {kept[:80]} when "
            "it was written"
        )
    return found
