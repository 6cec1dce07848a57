"""Writes the predictions of EvalResults to files, and reads them.

A file has the format safetensors. Values of a name are one tensor if possible; other values are
msgpack, as in a checkpoint, in a tensor of bytes.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ...bus.errors import CheckpointError, UsageError
from ...bus.system.paths import as_path
from ...bus.system.plain_file import open_plain
from ...bus.system.streams import notify_user
from ..checkpoints.format import check_carried, take_snapshot
from ..checkpoints.values import decoder
from ..trees import map_tensors

ENDING = ".safetensors"
_STATE = "state.msgpack"
_RANK = "_rank_"
# Endings of torch.save's files, which existing scripts use.
_OF_TORCH = frozenset([".pt", ".pth", ".ckpt", ".bin", ".pkl", ENDING])

_Values = Tensor | list[Any]


class Predictions:
    """Gathers the values of ``EvalResult.write``, and writes them when the epoch ends."""

    def __init__(self) -> None:
        # File name -> parts, each with the values of consecutive batches with the same names.
        self._parts: dict[str, list[dict[str, list[_Values]]]] = {}
        self._told: set[str] = set()

    def add(self, writes: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Add the values of one batch's results, combining those of several calls.

        Raises:
            UsageError: values differ in length, or a file cannot hold them.
        """
        by_file: dict[str, dict[str, Any]] = {}
        for filename, values in writes:
            by_file.setdefault(filename, {}).update(values)
        for filename, values in by_file.items():
            lengths = {name: len(entries) for name, entries in values.items()}
            if len(set(lengths.values())) > 1:
                raise UsageError(f"values written to {filename} differ in length: {lengths}")
            part = {name: _kept(entries) for name, entries in values.items()}
            parts = self._parts.setdefault(filename, [])
            if not parts:  # checked now, before there is anything to lose
                _check(filename, part)
            if not (parts and _joined(parts[-1], part)):
                parts.append({name: [kept] for name, kept in part.items()})

    def write(self, root: Path, run_folder: Path | None, rank: int) -> None:
        """Write the files, one for each process, and drop the values.

        Args:
            root: base of relative paths, if there is no run folder.
            run_folder: otherwise their base; files in it are private.
            rank: of this process, for the files' names.

        Raises:
            UsageError: a file cannot hold a value.
        """
        gathered, self._parts = self._parts, {}
        for filename, parts in gathered.items():
            path = as_path(filename)
            ending = "" if path.suffix in _OF_TORCH else path.suffix
            name = f"{path.stem}{ending}{_RANK}{rank}{ENDING}"
            folder = path.parent
            if not path.is_absolute():
                folder = (run_folder or root) / folder
            folder.mkdir(parents=True, exist_ok=True)
            is_private = run_folder is not None and folder.is_relative_to(run_folder)
            _write(folder / name, [_in_one(part) for part in parts], is_private)
            if filename not in self._told:
                self._told.add(filename)
                notify_user(
                    f"nightbus: predictions are in {folder / name}; "
                    f"nightbus.load_predictions({str(folder / name)!r}) reads them"
                )


def load_predictions(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the predictions that ``EvalResult.write`` wrote.

    Nothing in the file is run, whoever made it.

    Args:
        path: the file, ``predictions_rank_0.safetensors``; or the name given to ``write``, in the
            same folder (``predictions.pt``), for the files of all processes in order.

    Returns:
        A dict for each sample: name -> value.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is not a file of predictions, or is damaged.
    """
    given = as_path(path)
    samples: list[dict[str, Any]] = []
    for file in _files(given):
        for part in _read(file):
            columns = list(part.values())
            for row in zip(*columns, strict=True):
                samples.append(dict(zip(part, row, strict=True)))
    return samples


def _files(given: Path) -> list[Path]:
    if given.is_file():
        return [given]
    beginning = f"{given.stem if given.suffix in _OF_TORCH else given.name}{_RANK}"
    ranks: dict[int, Path] = {}
    if given.parent.is_dir():
        for path in given.parent.iterdir():
            rank = path.name.removeprefix(beginning).removesuffix(ENDING)
            if path.name == f"{beginning}{rank}{ENDING}" and rank.isdecimal():
                ranks[int(rank)] = path
    if not ranks:
        raise UsageError(
            f"there are no predictions {given}; pass the file, or the name given to "
            "EvalResult.write, in the run's folder"
        )
    return [ranks[rank] for rank in sorted(ranks)]


def _read(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        os.close(open_plain(path, CheckpointError))
        tensors = safetensors.torch.load_file(path)
        if _STATE not in tensors:
            raise CheckpointError(f"{path} is not a file of predictions: it holds only tensors")
        state = tensors.pop(_STATE).numpy().tobytes()
        content = msgspec.msgpack.decode(state, ext_hook=decoder(tensors), strict=True)
        parts = content["state"]["predictions"]
        yield from [{str(name): values for name, values in part.items()} for part in parts]
    except (
        OSError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
        MemoryError,
        RuntimeError,
        msgspec.DecodeError,
        safetensors.SafetensorError,
    ) as error:
        raise CheckpointError(
            f"{path} is not a file of predictions, or is damaged: {error}"
        ) from None


def _kept(entries: Any) -> _Values:
    """Return a batch's values on the CPU, as copies if they may change."""
    if isinstance(entries, Tensor):
        return entries.detach().cpu().clone()
    return [map_tensors(entry, lambda tensor: tensor.detach().cpu().clone()) for entry in entries]


def _check(filename: str, part: Mapping[str, _Values]) -> None:
    first = {name: values[:1] for name, values in part.items()}
    try:
        check_carried(first, "values")
    except CheckpointError as error:
        raise UsageError(f"EvalResult.write to {filename}: {error}") from None


def _joined(before: Mapping[str, list[_Values]], part: Mapping[str, _Values]) -> bool:
    """Append a batch's values to those before, if names and kinds are the same."""
    if before.keys() != part.keys():
        return False
    if not all(_goes_with(before[name][-1], values) for name, values in part.items()):
        return False
    for name, values in part.items():
        before[name].append(values)
    return True


def _goes_with(left: _Values, right: _Values) -> bool:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return left.dtype == right.dtype and left.shape[1:] == right.shape[1:]
    return isinstance(left, list) and isinstance(right, list)


def _in_one(part: Mapping[str, Any]) -> dict[str, _Values]:
    """Return the values of all batches of a part, in one tensor or list for each name."""
    return {
        name: torch.cat(batches)
        if isinstance(batches[0], Tensor)
        else [entry for batch in batches for entry in batch]
        for name, batches in part.items()
    }


def _write(path: Path, parts: list[dict[str, _Values]], is_private: bool) -> None:
    """Write a file atomically."""
    try:
        snapshot = take_snapshot({"predictions": parts})
    except CheckpointError as error:
        raise UsageError(f"cannot write the predictions for {path}: {error}") from None
    state = torch.frombuffer(bytearray(snapshot.state), dtype=torch.uint8)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600 if is_private else 0o666)
    mode = stat.S_IMODE(os.fstat(fd).st_mode)  # as the umask allows
    os.close(fd)
    try:
        safetensors.torch.save_file({**snapshot.tensors, _STATE: state}, temporary)
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
