"""ExperimentWriter: writes ``metrics.csv`` and ``hparams.yaml`` of a CSVLogger."""

import csv
import os
import threading
import warnings
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ..bus.system.atomic_file import atomic_file
from .hyperparameter_yaml import write_hyperparameters


class ExperimentWriter:
    """Writes rows of metrics, with a column for each name that came so far.

    Args:
        log_dir: folder of the files; a ``metrics.csv`` in it is removed, with a warning.

    Attributes:
        hparams: the hyperparameters.
        metrics: rows that are not written yet.
        metrics_keys: the columns, in the order in which they came.
        metrics_file_path: the file of metrics.
    """

    NAME_HPARAMS_FILE = "hparams.yaml"
    NAME_METRICS_FILE = "metrics.csv"

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self.log_dir = os.fspath(log_dir)
        self.hparams: dict[str, Any] = {}
        self.metrics: list[dict[str, Any]] = []
        self.metrics_keys: list[str] = []
        self.metrics_file_path = os.path.join(self.log_dir, self.NAME_METRICS_FILE)
        self._alone = threading.RLock()  # training and bus thread
        folder = Path(self.log_dir)
        if folder.is_dir() and any(folder.iterdir()):
            warnings.warn(
                f"the folder {folder} is not empty, and its metrics.csv is replaced; leave out "
                "version= for a folder of its own",
                UserWarning,
                stacklevel=4,
            )
            Path(self.metrics_file_path).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)

    def log_hparams(self, params: Mapping[str, Any]) -> None:
        """Write hyperparameters, besides those before.

        Args:
            params: the hyperparameters.
        """
        with self._alone:
            self.hparams.update(params)
            write_hyperparameters(Path(self.log_dir, self.NAME_HPARAMS_FILE), self.hparams)

    def log_metrics(self, metrics_dict: Mapping[str, Any], step: int | None = None) -> None:
        """Keep a row of metrics until ``save``.

        Args:
            metrics_dict: value of each metric; tensors of one element become numbers.
            step: their step; the number of rows that wait if None.
        """
        with self._alone:
            row = {name: _number(value) for name, value in metrics_dict.items()}
            row["step"] = len(self.metrics) if step is None else step
            self.metrics.append(row)

    def save(self) -> None:
        """Write hyperparameters, and the rows that wait."""
        with self._alone:
            write_hyperparameters(Path(self.log_dir, self.NAME_HPARAMS_FILE), self.hparams)
            rows, self.metrics = self.metrics, []
            if not rows:
                return
            path = Path(self.metrics_file_path)
            names = {name: None for row in rows for name in sorted(row)}
            new = [name for name in names if name not in self.metrics_keys]
            if new:
                written = _rows_of(path)
                self.metrics_keys += new
                with atomic_file(path, path.with_name(f".{path.name}.tmp"), 0o666) as whole:
                    whole.write(self._lines([*written, *rows], has_head=True))
                return
            with path.open("ab") as file:
                file.write(self._lines(rows, has_head=False))

    def _lines(self, rows: list[dict[str, Any]], has_head: bool) -> bytes:
        text = StringIO()
        writer = csv.DictWriter(text, self.metrics_keys, restval="", lineterminator="\n")
        if has_head:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()


def _rows_of(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
