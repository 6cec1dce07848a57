"""MLflow: metrics, hyperparameters, and media as artifacts."""

import io
import json
import os
import re
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..bus.errors import MissingPackageError
from ..bus.events import Event, Media, Put, RunEnded, RunStarted
from ..bus.runs.cursor import PlainState
from ..bus.system.paths import as_path
from .sink import Sink

_BATCH = 1000  # metrics in a request, the most MLflow takes
_PARAMS = 100
_SERVERS_WITHOUT_SCHEME = ("databricks", "databricks-uc", "uc")
_LOCAL_SCHEMES = ("", "file", "sqlite")
_REFUSED = "INVALID_PARAMETER_VALUE"  # MLflow's code for a bad value, and for nothing else
_RUN_TAG = "nightbus.run"
_KEY_TAG = "nightbus.delivery"
_STATUS = {"interrupted": "KILLED", "failed": "FAILED"}
_EXTENSIONS = {"image": "png", "figure": "png", "histogram": "json", "text": "txt", "table": "json"}


class MLflow(Sink):
    """A run in MLflow.

    Metrics are sent in batches with the time of their put, hyperparameters as parameters. Images,
    figures, histograms, texts and tables become artifacts ``<name>/<step>.png``, ``.json`` or
    ``.txt``.

    Characters that MLflow does not take in names become ``_``. A resumed run continues with the
    same MLflow run. After a crash, what MLflow has already is not sent again.

    Needs the extra ``mlflow``, which brings the client. A database of one's own,
    ``sqlite:///mlflow.db``, needs the package ``mlflow`` itself.

    Args:
        experiment: the experiment's name; created if there is none.
        tracking_uri: where to send; ``MLFLOW_TRACKING_URI`` or MLflow's own default if not given.
        run_name: the run's name in MLflow; its nightbus id by default.
        tags: tags of the run.
        destination: takes puts with this label.

    Raises:
        MissingPackageError: MLflow is missing.
    """

    events: tuple[type[Event], ...] = (Put, Media, RunStarted, RunEnded)
    poll_interval_s = 1.0

    def __init__(
        self,
        experiment: str = "nightbus",
        *,
        tracking_uri: str | os.PathLike[str] | None = None,
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        destination: str = "loggers",
    ) -> None:
        try:
            import mlflow
            import mlflow.entities
        except ImportError:
            raise MissingPackageError("MLflow", "mlflow-skinny", "mlflow") from None
        self.experiment = experiment
        uri = None if tracking_uri is None else os.fspath(tracking_uri)
        self.tracking_uri = str(as_path(uri)) if uri and uri.startswith("~") else uri
        self.run_name = run_name
        self.tags = dict(tags or {})
        self.destination = destination
        self._mlflow: Any = mlflow
        self._client: Any = None
        self._mlflow_run = ""
        self._key = ""  # finds a run whose id was not committed
        self._sent: dict[str, set[tuple[int, int]]] | None = None

    @property
    def mlflow_run_id(self) -> str:
        """Id of the run in MLflow; empty until it began."""
        return self._mlflow_run

    @property
    def uses_network(self) -> bool:
        """True unless the tracking server is a folder or a database file."""
        uri = self.tracking_uri or self._mlflow.get_tracking_uri()
        return urlsplit(uri).scheme not in _LOCAL_SCHEMES or uri in _SERVERS_WITHOUT_SCHEME

    def open(self, resumed: bool) -> None:
        self._client = self._mlflow.MlflowClient(self.tracking_uri)
        if not resumed:
            self._mlflow_run, self._key = "", uuid.uuid4().hex
        # A crash may have come between sending and committing: look what MLflow has already.
        self._sent = {} if resumed else None

    def write(self, batch: list[Put | Media | RunStarted | RunEnded]) -> None:
        metrics: list[Any] = []
        for event in batch:
            if type(event) is Put:
                metrics.append(self._metric(event))
                continue
            self._send(metrics)
            metrics = []
            if type(event) is Media:
                try:
                    self._send_media(event)
                except self._mlflow.MlflowException as error:
                    if error.error_code != _REFUSED:
                        raise
                    self.refuse([event.name], event.step, error)
            elif type(event) is RunStarted:
                self._start(event)
            elif type(event) is RunEnded:
                status = _STATUS.get(event.how, "FINISHED")
                self._client.set_terminated(self._run(), status, self.wall_ns(event) // 1_000_000)
        self._send(metrics)

    def _run(self) -> str:
        """Return the run in MLflow; it begins when it is first needed."""
        if not self._mlflow_run:
            found = self._client.get_experiment_by_name(self.experiment)
            experiment_id = (
                found.experiment_id if found else self._client.create_experiment(self.experiment)
            )
            run = self._begun(experiment_id) if self._sent is not None else None
            if run is None:
                tags = {**self.tags, _RUN_TAG: self.run_id, _KEY_TAG: self._key}
                name = self.run_name or self.run_id or None
                run = self._client.create_run(experiment_id, tags=tags, run_name=name)
            self._mlflow_run = run.info.run_id
        return self._mlflow_run

    def _begun(self, experiment_id: str) -> Any:
        """Return the run if it was begun just before a crash, otherwise None."""
        runs = self._client.search_runs([experiment_id], f"tags.`{_KEY_TAG}` = '{self._key}'")
        return runs[0] if runs else None

    def _start(self, event: RunStarted) -> None:
        run = self._run()
        self._client.update_run(run, status="RUNNING")
        params = [
            self._mlflow.entities.Param(_name(name), str(value))
            for name, value in event.hparams.items()
        ]
        if event.attempt > 0:  # MLflow refuses a new value for a parameter it has
            known = self._client.get_run(run).data.params
            params = [param for param in params if param.key not in known]
        for first in range(0, len(params), _PARAMS):
            self._log_batch(params=params[first : first + _PARAMS])

    def _metric(self, put: Put) -> Any:
        return self._mlflow.entities.Metric(
            _name(put.name), float(put.value), self.wall_ns(put) // 1_000_000, put.step
        )

    def _send(self, metrics: list[Any]) -> None:
        for first in range(0, len(metrics), _BATCH):
            part = metrics[first : first + _BATCH]
            if self._sent is not None:
                part = [metric for metric in part if self._is_new(metric)]
                if not part:
                    continue
                self._sent = None  # the following ones were never sent
            self._log_batch(metrics=part)

    def _log_batch(self, **kind: list[Any]) -> None:
        """Send metrics or parameters, leaving out only those that MLflow refuses."""
        try:
            self._client.log_batch(self._run(), **kind)
        except (self._mlflow.MlflowException, OverflowError, ValueError, TypeError) as error:
            if getattr(error, "error_code", _REFUSED) != _REFUSED:
                raise
            ((name, entries),) = kind.items()
            if len(entries) == 1:
                self.refuse([entries[0].key], getattr(entries[0], "step", 0), error)
                return
            for entry in entries:
                self._log_batch(**{name: [entry]})

    def _is_new(self, metric: Any) -> bool:
        assert self._sent is not None
        if metric.key not in self._sent:
            history = self._client.get_metric_history(self._run(), metric.key)
            self._sent[metric.key] = {(entry.step, entry.timestamp) for entry in history}
        return (metric.step, metric.timestamp) not in self._sent[metric.key]

    def _send_media(self, event: Media) -> None:
        path = f"{_name(event.name)}/{event.step}.{_EXTENSIONS[event.kind]}"
        if event.kind == "text":
            self._client.log_text(self._run(), event.data.decode(), path)
        elif event.kind in ("image", "figure"):
            self._client.log_image(self._run(), _picture(event.data), path)
        else:
            self._client.log_dict(self._run(), json.loads(event.data), path)

    def state(self) -> PlainState:
        return {"mlflow_run": self._mlflow_run, "key": self._key}

    def load_state(self, state: PlainState) -> None:
        self._mlflow_run = str(state["mlflow_run"])
        self._key = str(state["key"])


def _name(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


def _picture(png: bytes) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("MLflow, for images,", "pillow", "media") from None
    return Image.open(io.BytesIO(png))
