"""TensorBoardLogger: event files for TensorBoard."""

import io
import os
import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

from ..actors.export import as_exported
from ..actors.process.rank_zero import is_main
from ..bus.errors import MissingPackageError
from ..bus.events import Media
from ..bus.media import decoded
from ..bus.secrets.redaction import redact_setting
from ..sinks.tensorboard import markdown
from .calls import record_calls
from .folder_logger import FolderLogger
from .hyperparameter_yaml import as_plain_data
from .logger import as_folder, flattened, rank_zero_experiment
from .tensorboard_calls import COUNTERPARTS


class TensorBoardLogger(FolderLogger):
    """Writes ``save_dir/name/version_N``: event files, and ``hparams.yaml`` beside them.

    ``experiment`` is the SummaryWriter of ``torch.utils.tensorboard``, or of tensorboardX if
    TensorBoard itself is not installed. What a run gives it with ``add_scalar``, ``add_image`` and
    others that have a counterpart is recorded, so that the log and all sinks have it. nightbus' own
    ``TensorBoard`` writes a step as one record, and each step once after a resumption.

    Args:
        save_dir: folder of the experiments.
        name: name of the experiment, a folder in ``save_dir``; no such folder if empty or None.
        version: a number, or a text, which is the folder's name then; the next free number if
            None.
        log_graph: write the graph of the module's operations, for which it needs
            ``example_input_array``.
        default_hp_metric: show ``hp_metric`` in HPARAMS where ``log_hyperparams`` is called
            without metrics.
        prefix: stands before each metric's name.
        sub_dir: folder in that of the version, for the event files.
        **kwargs: arguments of SummaryWriter.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        log_graph: bool = False,
        default_hp_metric: bool = True,
        prefix: str = "",
        sub_dir: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(save_dir, name, version, prefix)
        self._log_graph = log_graph
        self._default_hp_metric = default_hp_metric
        self._sub_dir = None if sub_dir is None else os.fspath(sub_dir)
        self._kwargs = kwargs

    @property
    def sub_dir(self) -> str | None:
        """Folder in that of the version; None if there is none."""
        return self._sub_dir

    @property
    def log_dir(self) -> str:
        """Folder of the event files."""
        folder = super().log_dir
        return folder if self.sub_dir is None else os.path.join(folder, as_folder(self.sub_dir))

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The SummaryWriter; made when it is first used."""
        if self._experiment is None:
            os.makedirs(self.root_dir, exist_ok=True)
            self._experiment = self._new_writer()
        if self.is_recorded and not hasattr(self._experiment, "of_nightbus"):
            record_calls(self, self._experiment, COUNTERPARTS)
            self._experiment.of_nightbus = True
        return self._experiment

    def _new_writer(self) -> Any:
        if find_spec("tensorboard") is None:
            return _writer_without_tensorboard(self.log_dir, self._kwargs)
        # LightningCLI finds the arguments that kwargs may have by these lines.
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(log_dir=self.log_dir, **self._kwargs)

    def write_metrics(self, metrics: Mapping[str, Any], step: int | None) -> None:
        for name, value in self._prefixed(metrics).items():
            if isinstance(value, Mapping):
                self.experiment.add_scalars(name, value, step)
            else:
                number = value.item() if hasattr(value, "item") else value
                self.experiment.add_scalar(name, number, step)

    def log_hyperparams(
        self, params: Any = None, metrics: Any = None, step: int | None = None
    ) -> None:
        """Log hyperparameters, for ``hparams.yaml`` and HPARAMS.

        Args:
            params: a mapping or a Namespace.
            metrics: shown beside them: a dict, or the value of ``hp_metric``.
            step: step of the metrics; 0 by default.
        """
        if metrics is not None and not isinstance(metrics, Mapping):
            metrics = {"hp_metric": metrics}
        elif metrics is None and self._default_hp_metric and not self.is_recorded:
            metrics = {"hp_metric": -1}  # a run has it since it began
        super().log_hyperparams(params)
        if metrics and is_main():
            self.log_metrics(metrics, step or 0)
            self._write_session(metrics)

    def write_hyperparams(self, given: Mapping[str, Any]) -> None:
        """Do nothing: they are in ``hparams.yaml``, and in HPARAMS with the metrics."""

    def _write_session(self, metrics: Mapping[str, Any]) -> None:
        """Write what HPARAMS shows."""
        flat = {str(k): as_plain_data(v) for k, v in flattened(self.hparams).items()}
        shown = {k: v if isinstance(v, bool | int | float) else str(v) for k, v in flat.items()}
        writer = self.experiment
        for record in _library_of(writer).hparams(redact_setting("", shown), dict(metrics)):
            writer.file_writer.add_summary(record)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Write the graph of a module's operations, if ``log_graph`` is set.

        Args:
            model: the module.
            input_array: a batch with which it is traced; ``model.example_input_array`` if None.
        """
        if not self._log_graph:
            return
        given = getattr(model, "example_input_array", None) if input_array is None else input_array
        why = ""
        if given is None:
            why = "there is no batch to trace it with; set example_input_array, or give input_array"
        elif not isinstance(given, tuple) and not hasattr(given, "detach"):
            why = f"it cannot be traced with a {type(given).__name__}; give a tensor or a tuple"
        if why:
            warnings.warn(f"the graph of the module was not logged: {why}", UserWarning, 2)
            return
        with as_exported(model) as module:
            self.experiment.add_graph(module, given)

    def log_media(self, media: Media) -> None:
        """Write an image, figure, histogram, text or table.

        Args:
            media: event of the log.
        """
        content, writer, name = decoded(media), self.experiment, media.name
        if media.kind in ("image", "figure"):
            writer.add_image(name, _pixels(content), media.step, dataformats="HWC")
        elif media.kind == "histogram":
            edges, counts = content["edges"], content["counts"]
            middles = [(low + high) / 2 for low, high in pairwise(edges)]
            weighted = [m * count for m, count in zip(middles, counts, strict=True)]
            squares = sum(m * w for m, w in zip(middles, weighted, strict=True))
            writer.add_histogram_raw(
                name,
                edges[0],
                edges[-1],
                sum(counts),
                sum(weighted),
                squares,
                edges[1:],
                counts,
                media.step,
            )
        else:
            text = content if media.kind == "text" else markdown(**content)
            writer.add_text(name, text, media.step)

    def save(self) -> None:
        """Write ``hparams.yaml`` and hand the events to the operating system."""
        super().save()
        if self._experiment is not None:
            self._experiment.flush()

    def finalize(self, status: str) -> None:
        """Close the event file, if there is one.

        Args:
            status: ``success`` or ``failed``.
        """
        if self._experiment is not None:
            self.save()
            self._experiment.flush()
            self._experiment.close()


def _writer_without_tensorboard(folder: str, options: Mapping[str, Any]) -> Any:
    try:
        import tensorboardX
    except ImportError:
        raise MissingPackageError("TensorBoardLogger", "tensorboardX", "tensorboard") from None
    return tensorboardX.SummaryWriter(log_dir=folder, **options)


def _library_of(writer: Any) -> Any:
    """Return the module that encodes a SummaryWriter's summaries."""
    return import_module(f"{type(writer).__module__.rpartition('.')[0]}.summary")


def _pixels(png: bytes) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("TensorBoardLogger, for images,", "pillow", "media") from None
    import numpy as np

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
