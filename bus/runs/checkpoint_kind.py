"""Recognises a file given as a checkpoint by its first bytes; nothing in it is run."""

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

_HEAD_BYTES = 4096
_ZIP, _PICKLE, _GZIP, _HDF5 = b"PK\x03\x04", b"\x80", b"\x1f\x8b", b"\x89HDF"


class CheckpointKind(NamedTuple):
    """What kind of file something seems to be.

    Attributes:
        what: for people, to follow "is".
        is_torchs: torch.save may have written it.
        advice: what to do with it.
    """

    what: str
    is_torchs: bool
    advice: str


_COPY = "compare its size with the original's, and copy it again"
_TORCHS = CheckpointKind("a checkpoint of PyTorch or Lightning, a pickle", True, "")


def kind_of_file(path: Path) -> CheckpointKind:
    """Return the kind of a regular file, from its first bytes.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
        size = os.fstat(file.fileno()).st_size
    if not head:
        return CheckpointKind("damaged or cut short, it is empty", False, _COPY)
    if head.startswith(_ZIP):
        return _TORCHS if _may_be_torchs(path) else _another("a zip archive")
    if head.startswith(_PICKLE):
        return _TORCHS
    if head.startswith(_GZIP):
        return CheckpointKind("compressed by gzip", False, "unpack it first: gunzip")
    if head.startswith(_HDF5):
        return _another("a file of HDF5")
    if int.from_bytes(head[:8], "little") < size and head[8:9] == b"{":
        what = "a file of safetensors: weights alone"
        load = "load them with module.load_state_dict(safetensors.torch.load_file(PATH))"
        return CheckpointKind(what, False, load)
    if head.startswith(b"version https://git-lfs"):
        return CheckpointKind(
            "a pointer of Git LFS, not the file itself", False, "get it with git lfs pull"
        )
    if head.lstrip()[:9].lower() in (b"<!doctype", b"<html>"):
        what = "a web page, as a download without access leaves it"
        return CheckpointKind(what, False, "download it again")
    return _another("a text file" if _is_text(head) else "a file of another kind")


def _another(what: str) -> CheckpointKind:
    advice = "give a checkpoint's folder, or a .ckpt, .pt or .pth file to nightbus import-ckpt"
    return CheckpointKind(what, False, advice)


def _may_be_torchs(path: Path) -> bool:
    """Return whether a zip archive has what torch.save writes; assume so if it was cut short."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return True


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # unless a character is cut in two at the end
            return False
        text = head[: error.start].decode()
    return all(sign.isprintable() or sign.isspace() for sign in text)
