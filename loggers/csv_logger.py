"""CSVLogger: metrics as a table."""

import os
from collections.abc import Mapping
from typing import Any

from .calls import record_calls
from .experiment_writer import ExperimentWriter
from .folder_logger import FolderLogger
from .logger import rank_zero_experiment


class CSVLogger(FolderLogger):
    """Writes ``save_dir/name/version_N/metrics.csv``, and ``hparams.yaml`` beside it.

    A row is a step, and a metric that comes later gets a column. nightbus' own ``CSV``, which is
    the default, writes into the run's folder, and its file has each step once after a resumption.

    Args:
        save_dir: folder of the experiments.
        name: name of the experiment, a folder in ``save_dir``; no such folder if empty or None.
        version: a number, or a text, which is the folder's name then; the next free number if
            None.
        prefix: stands before each metric's name.
        flush_logs_every_n_steps: outside a run, rows are written when the step is a multiple of
            this; in a run, with each delivery.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
    ) -> None:
        super().__init__(save_dir, name, version, prefix)
        self._flush_every = flush_logs_every_n_steps

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer of the two files; made when it is first used."""
        if self._experiment is None:
            self._experiment = ExperimentWriter(self.log_dir)
            record_calls(self, self._experiment, {"log_metrics": _metrics_of_call})
        return self._experiment  # type: ignore[no-any-return]

    def write_metrics(self, metrics: Mapping[str, Any], step: int | None) -> None:
        if step is None:
            step = len(self.experiment.metrics)
        self.experiment.log_metrics(self._prefixed(metrics), step)
        if (step + 1) % self._flush_every == 0:
            self.save()

    def write_hyperparams(self, given: Mapping[str, Any]) -> None:
        self.experiment.log_hparams(given)

    def save(self) -> None:
        """Write hyperparameters, and the rows that wait."""
        self.experiment.save()

    def finalize(self, status: str) -> None:
        """Write what waits, if anything was logged.

        Args:
            status: ``success`` or ``failed``.
        """
        if self._experiment is not None:
            self.save()


def _metrics_of_call(
    logger: CSVLogger, metrics_dict: Mapping[str, Any], step: int | None = None
) -> None:
    logger.log_metrics(metrics_dict, step)
