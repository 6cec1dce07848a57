"""Predictions that EvalResults write to files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..bus.errors import UsageError

if TYPE_CHECKING:
    from ..trainer import Trainer


class Predictions:
    """Gathers what ``EvalResult.write`` was given, and writes it when the epoch ends."""

    def __init__(self) -> None:
        self._samples: dict[str, list[dict[str, Any]]] = {}  # by file name

    def add(self, writes: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Take what the results of one batch write: values of several calls are put together."""
        by_file: dict[str, dict[str, Any]] = {}
        for filename, values in writes:
            by_file.setdefault(filename, {}).update(values)
        for filename, values in by_file.items():
            lengths = {name: len(entries) for name, entries in values.items()}
            if len(set(lengths.values())) > 1:
                raise UsageError(f"values written to {filename} differ in length: {lengths}")
            number = next(iter(lengths.values()), 0)
            self._samples.setdefault(filename, []).extend(
                {name: _on_cpu(entries[sample]) for name, entries in values.items()}
                for sample in range(number)
            )

    def write(self, trainer: "Trainer") -> None:
        """Write the files, one for each process, and forget what is written."""
        samples, self._samples = self._samples, {}
        for filename, entries in samples.items():
            path = Path(filename)
            name = f"{path.stem}_rank_{trainer.global_rank}{path.suffix}"
            folder = path.parent
            if not path.is_absolute():
                run = trainer.run_folder
                folder = (trainer.default_root_dir if run is None else run.path) / folder
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(entries, folder / name)


def _on_cpu(value: Any) -> Any:
    # A copy: a view would be saved with all of the tensor that it is a part of.
    return value.detach().cpu().clone() if isinstance(value, torch.Tensor) else value
