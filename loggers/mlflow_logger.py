"""MLFlowLogger: a run in MLflow."""

import io
import os
import re
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ..bus.errors import MissingPackageError
from ..bus.events import Media
from ..bus.media import decoded, encode_figure, encode_image, encode_text
from .calls import record_calls
from .hyperparameter_yaml import as_plain_data
from .logger import RecordedLogger, as_folder, flattened, rank_zero_experiment
from .saved_checkpoints import CheckpointUploads

_PARAMS = 100  # of a request
_PARAM_CHARS = 250
_RUN_NAME = "mlflow.runName"


class MLFlowLogger(RecordedLogger):
    """Logs to MLflow; ``experiment`` is the client.

    What a run gives to its ``log_metric``, ``log_image``, ``log_figure`` and ``log_text`` is
    recorded, so that the log and all sinks have it. nightbus' own ``MLflow`` sends nothing twice
    after a crash.

    Args:
        experiment_name: name of the experiment; created if there is none.
        run_name: name of the run.
        tracking_uri: where to send; ``MLFLOW_TRACKING_URI``, or ``save_dir`` by default.
        tags: tags of the run.
        save_dir: folder of the runs, if there is no ``tracking_uri``.
        log_model: upload checkpoints: True at the end, ``all`` each when it is saved.
        prefix: stands before each metric's name.
        artifact_location: where artifacts of a new experiment are kept.
        run_id: id of a run to continue.
        synchronous: argument of ``log_batch``.

    Raises:
        MissingPackageError: MLflow is missing.
    """

    def __init__(
        self,
        experiment_name: str = "lightning_logs",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: dict[str, Any] | None = None,
        save_dir: str | None = "./mlruns",
        log_model: Literal["all"] | bool = False,
        prefix: str = "",
        artifact_location: str | None = None,
        run_id: str | None = None,
        synchronous: bool | None = None,
    ) -> None:
        super().__init__(prefix)
        mlflow = _library()
        tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if not tracking_uri:
            tracking_uri = f"file:{as_folder(save_dir or './mlruns')}"
        self._experiment_name = experiment_name
        self._experiment_id: str | None = None
        self._tracking_uri = tracking_uri
        self._run_id = run_id
        self.tags = {**(tags or {}), **({_RUN_NAME: run_name} if run_name else {})}
        self._uploads = CheckpointUploads(log_model)
        self._artifact_location = artifact_location
        self._options = {} if synchronous is None else {"synchronous": synchronous}
        self._initialized = False
        self._mlflow_client = mlflow.tracking.MlflowClient(tracking_uri)

    @property
    def name(self) -> str | None:
        """Id of the experiment."""
        return self.experiment_id

    @property
    def version(self) -> str | None:
        """Id of the run."""
        return self.run_id

    @property
    def experiment_id(self) -> str | None:
        """Id of the experiment, which is created if there is none."""
        _ = self.experiment
        return self._experiment_id

    @property
    def run_id(self) -> str | None:
        """Id of the run, which begins with this."""
        _ = self.experiment
        return self._run_id

    @property
    def save_dir(self) -> str | None:
        """Folder of the runs; None if they are sent elsewhere."""
        kind, _, path = self._tracking_uri.partition("file:")
        return path if not kind and path else None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The client of MLflow; the run begins when it is first used."""
        client = self._mlflow_client
        if not self._initialized:
            _library().set_tracking_uri(self._tracking_uri)
            if self._run_id is not None:
                self._experiment_id = client.get_run(self._run_id).info.experiment_id
            else:
                known = client.get_experiment_by_name(self._experiment_name)
                self._experiment_id = (
                    known.experiment_id
                    if known is not None
                    else client.create_experiment(
                        name=self._experiment_name, artifact_location=self._artifact_location
                    )
                )
                run = client.create_run(experiment_id=self._experiment_id, tags=self.tags)
                self._run_id = run.info.run_id
            self._initialized = True
        if self.is_recorded and not hasattr(client, "of_nightbus"):
            record_calls(self, client, _COUNTERPARTS)
            client.of_nightbus = True
        return client

    def write_metrics(self, metrics: Mapping[str, Any], step: int | None) -> None:
        entities = _library().entities
        now_ms = int(time.time() * 1000)
        found = []
        for name, value in self._prefixed(metrics).items():
            clean = re.sub(r"[^\w\-. :/]", "", name, flags=re.ASCII)
            if clean != name:
                warnings.warn(
                    f"MLflow does not take the special characters in metric name {name!r}; it is "
                    f"called {clean!r} there",
                    RuntimeWarning,
                    stacklevel=3,
                )
            number = value.item() if hasattr(value, "item") else value
            found.append(entities.Metric(key=clean, value=number, timestamp=now_ms, step=step or 0))
        self.experiment.log_batch(run_id=self.run_id, metrics=found, **self._options)

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Log hyperparameters as parameters, which MLflow cuts after 250 characters.

        Args:
            params: a mapping or a Namespace.
            *_: unused.
            **__: unused.
        """
        given = flattened(self.remember_hyperparams(params))
        make = _library().entities.Param
        entries = [
            make(key=str(name), value=str(as_plain_data(value))[:_PARAM_CHARS])
            for name, value in given.items()
        ]
        for first in range(0, len(entries), _PARAMS):
            part = entries[first : first + _PARAMS]
            self.experiment.log_batch(run_id=self.run_id, params=part, **self._options)

    def log_media(self, media: Media) -> None:
        """Log what the log has, as an artifact ``<name>/<step>``.

        Args:
            media: event of the log.
        """
        path = f"{re.sub(r'[^a-zA-Z0-9_. /-]', '_', media.name)}/{media.step}"
        client, content = self.experiment, decoded(media)
        if media.kind == "text":
            client.log_text(self.run_id, content, f"{path}.txt")
        elif media.kind in ("image", "figure"):
            client.log_image(self.run_id, _picture(content), f"{path}.png")
        else:
            client.log_dict(self.run_id, content, f"{path}.json")

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Upload a checkpoint if ``log_model`` is ``all``, or remember to at the end.

        Args:
            checkpoint_callback: the ModelCheckpoint that saved it.
        """
        self._uploads.saved(checkpoint_callback, self._upload)

    def finalize(self, status: str) -> None:
        """Upload the checkpoints that wait, and end the run, if it has begun.

        Args:
            status: ``success`` or ``failed``.
        """
        if not self._initialized:
            return
        if status == "success":
            self._uploads.upload_waiting(self._upload)
        ends = {"success": "FINISHED", "finished": "FINISHED", "failed": "FAILED"}
        if (end := ends.get(status)) is not None:
            self.experiment.set_terminated(self.run_id, end)

    def _upload(self, callback: Any, path: str, score: float | None) -> None:
        client = self.experiment
        send = client.log_artifacts if Path(path).is_dir() else client.log_artifact
        send(self.run_id, path, f"model/checkpoints/{Path(path).stem}")


def _metric(
    logger: MLFlowLogger,
    run_id: str,
    key: str,
    value: Any,
    timestamp: int | None = None,
    step: int | None = None,
    **_: Any,
) -> None:
    logger.log_metrics({key: value}, step)


def _text(logger: MLFlowLogger, run_id: str, text: str, artifact_file: str) -> None:
    logger.log_encoded({artifact_file: encode_text(artifact_file, text)}, None)


def _figure(logger: MLFlowLogger, run_id: str, figure: Any, artifact_file: str, **_: Any) -> None:
    logger.log_encoded({artifact_file: encode_figure(artifact_file, figure)}, None)


def _image(
    logger: MLFlowLogger,
    run_id: str,
    image: Any,
    artifact_file: str | None = None,
    key: str | None = None,
    step: int | None = None,
    **_: Any,
) -> None:
    name = artifact_file or key or "image"
    logger.log_encoded({name: encode_image(name, image)}, step)


_COUNTERPARTS: dict[str, Callable[..., None]] = {
    "log_metric": _metric,
    "log_text": _text,
    "log_figure": _figure,
    "log_image": _image,
}


def _picture(png: bytes) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("MLFlowLogger, for images,", "pillow", "media") from None
    return Image.open(io.BytesIO(png))


def _library() -> Any:
    try:
        import mlflow
        import mlflow.entities
        import mlflow.tracking
    except ImportError:
        raise MissingPackageError("MLFlowLogger", "mlflow-skinny", "mlflow") from None
    return mlflow
