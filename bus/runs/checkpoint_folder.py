"""The files of a checkpoint and their digest: what can be said of one without reading tensors."""

import hashlib
from pathlib import Path

from ..errors import CheckpointError
from ..system.plain_file import open_plain, read_small

TENSORS = "tensors.safetensors"
STATE = "state.msgpack"
DIGEST = "digest"


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder looks like a checkpoint."""
    return (folder / STATE).is_file()


def digest_of(folder: Path) -> tuple[str, int]:
    """blake2b-128 of a checkpoint's files, and their size in bytes."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    for name in (STATE, TENSORS):
        with open(open_plain(folder / name, CheckpointError), "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
    return digest.hexdigest(), size


def kept_digest(folder: Path) -> str:
    """What a checkpoint's digest was when it was written."""
    return read_small(folder / DIGEST, CheckpointError).decode("ascii", "replace").strip()


def check_digest(folder: Path) -> str:
    """The digest of a checkpoint whose files are as they were written.

    Raises:
        CheckpointError: they are not, or one of them is no plain file.
        FileNotFoundError: one is missing.
        OSError: one cannot be read.
    """
    found, _ = digest_of(folder)
    kept = kept_digest(folder)
    if kept != found:
        raise CheckpointError(
            f"the checkpoint {folder} is damaged: its digest is {found}, and was {kept[:80]} when "
            "it was written"
        )
    return found
