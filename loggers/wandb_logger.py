"""WandbLogger: a run in Weights & Biases."""

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..bus.errors import MissingPackageError, UsageError
from ..bus.events import Media
from ..bus.media import EncodedMedia, decoded, encode_table
from .calls import record_calls
from .hyperparameter_yaml import as_plain_data
from .logger import RecordedLogger, as_folder, rank_zero_experiment
from .media_of_calls import image_of
from .saved_checkpoints import CheckpointUploads

_STEP = "trainer/global_step"
# Of a ModelCheckpoint, in an artifact's metadata; the names are those that Lightning gives them.
_NOTED = ("monitor", "mode", "save_last", "save_top_k", "save_weights_only", "_every_n_train_steps")


class WandbLogger(RecordedLogger):
    """Logs to Weights & Biases; ``experiment`` is the run there.

    Numbers, images and tables that a run gives to ``experiment.log`` are recorded, so that the log
    and all sinks have them. nightbus' own ``WandB`` continues the same run there after a
    resumption.

    Args:
        name: name of the run.
        save_dir: folder of W&B's files.
        version: id of the run, to continue it.
        offline: write to the folder only; ``wandb sync`` sends it later.
        dir: the same as ``save_dir``.
        id: the same as ``version``.
        anonymous: argument of ``wandb.init``.
        project: the project; ``WANDB_PROJECT`` or ``lightning_logs`` by default.
        log_model: upload checkpoints: True at the end, ``all`` each when it is saved.
        experiment: a run to use instead of a new one.
        prefix: stands before each metric's name.
        checkpoint_name: name of the artifact of checkpoints; ``model-<id>`` by default.
        **kwargs: arguments of ``wandb.init``.

    Raises:
        MissingPackageError: wandb is missing.
        UsageError: offline and log_model were given.
    """

    def __init__(
        self,
        name: str | None = None,
        save_dir: str | os.PathLike[str] = ".",
        version: str | None = None,
        offline: bool = False,
        dir: str | os.PathLike[str] | None = None,
        id: str | None = None,
        anonymous: bool | None = None,
        project: str | None = None,
        log_model: Literal["all"] | bool = False,
        experiment: Any = None,
        prefix: str = "",
        checkpoint_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(prefix)
        _library()
        if offline and log_model:
            raise UsageError(
                f"WandbLogger(offline=True, log_model={log_model!r}): checkpoints cannot be "
                "uploaded offline; leave one out"
            )
        self._uploads = CheckpointUploads(log_model)
        self._experiment = experiment
        self._checkpoint_name = checkpoint_name
        folder = as_folder(dir if dir is not None else save_dir)
        self._save_dir = folder
        project = project or os.environ.get("WANDB_PROJECT", "lightning_logs")
        self._wandb_init: dict[str, Any] = {
            "name": name,
            "project": project,
            "dir": folder,
            "id": version or id,
            "resume": "allow",
            "anonymous": ("allow" if anonymous else None),
            **({"mode": "offline"} if offline else {}),
            **kwargs,
        }
        self._sync_tensorboard = bool(kwargs.get("sync_tensorboard"))

    @property
    def name(self) -> str | None:
        """The project."""
        return self._wandb_init["project"]  # type: ignore[no-any-return]

    @property
    def version(self) -> str | None:
        """Id of the run; None until it has begun."""
        known = self._wandb_init["id"]
        return known if self._experiment is None else str(self._experiment.id)

    @property
    def save_dir(self) -> str:
        """Folder of W&B's files."""
        return self._save_dir

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run in W&B; begun when it is first used."""
        if self._experiment is None:
            self._experiment = self._begun()
            self._choose_steps(self._experiment)
        if self.is_recorded and not hasattr(self._experiment.log, "of_nightbus"):
            record_calls(self, self._experiment, {"log": _log_of_call})
            self._experiment.log.of_nightbus = True
        return self._experiment

    def _choose_steps(self, experiment: Any) -> None:
        """Have charts drawn by the steps of training, if the run knows how."""
        define = getattr(experiment, "define_metric", None)
        if define is not None and self._sync_tensorboard:
            define("*", step_metric="global_step")
        elif define is not None:
            define(_STEP)
            define("*", step_metric=_STEP, step_sync=True)

    def _begun(self) -> Any:
        wandb = _library()
        if wandb.run is not None:
            warnings.warn(
                "the run of W&B that goes on is used, and WandbLogger begins none of its own; to "
                "begin one, call wandb.finish() first",
                UserWarning,
                stacklevel=4,
            )
            return wandb.run
        Path(self._save_dir).mkdir(parents=True, exist_ok=True)
        return wandb.init(**self._wandb_init)

    def write_metrics(self, metrics: Mapping[str, Any], step: int | None) -> None:
        shown = self._prefixed(metrics)
        if step is not None and not self._sync_tensorboard:
            shown[_STEP] = step
        self.experiment.log(shown)

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Add hyperparameters to the run's config.

        Args:
            params: a mapping or a Namespace.
            *_: unused.
            **__: unused.
        """
        given = as_plain_data(self.remember_hyperparams(params))
        self.experiment.config.update(given, allow_val_change=True)

    def watch(
        self, model: Any, log: str | None = "gradients", log_freq: int = 100, log_graph: bool = True
    ) -> None:
        """Have W&B record gradients or weights of a module.

        Args:
            model: the module.
            log: ``gradients``, ``parameters``, ``all`` or None.
            log_freq: every how many batches.
            log_graph: the graph of its operations, too.
        """
        self.experiment.watch(model, log=log, log_freq=log_freq, log_graph=log_graph)

    def log_image(
        self, key: str, images: list[Any], step: int | None = None, **kwargs: Any
    ) -> None:
        """Log images.

        Args:
            key: their name.
            images: tensors, arrays, Pillow images, matplotlib figures or paths.
            step: their step; the current one by default.
            **kwargs: a list for each further argument of ``wandb.Image``, such as ``caption``.
        """
        self._log_each("Image", key, images, step, kwargs)

    def log_audio(
        self, key: str, audios: list[Any], step: int | None = None, **kwargs: Any
    ) -> None:
        """Log audio; not recorded.

        Args:
            key: its name.
            audios: arrays or paths.
            step: its step.
            **kwargs: a list for each further argument of ``wandb.Audio``.
        """
        self._log_each("Audio", key, audios, step, kwargs)

    def log_video(
        self, key: str, videos: list[Any], step: int | None = None, **kwargs: Any
    ) -> None:
        """Log videos; not recorded.

        Args:
            key: their name.
            videos: arrays or paths.
            step: their step.
            **kwargs: a list for each further argument of ``wandb.Video``.
        """
        self._log_each("Video", key, videos, step, kwargs)

    def _log_each(
        self, kind: str, key: str, entries: list[Any], step: int | None, more: Mapping[str, Any]
    ) -> None:
        if not isinstance(entries, list):
            what = f"{kind.lower()}s"
            raise TypeError(f"{what} is a {type(entries).__name__}; expected a list of {what}")
        for name, values in more.items():
            if len(values) != len(entries):
                raise ValueError(
                    f"{name} has {len(values)} items; expected {len(entries)}, one for each {key}"
                )
        make = getattr(_library(), kind)
        made = [
            make(entry, **{name: values[number] for name, values in more.items()})
            for number, entry in enumerate(entries)
        ]
        if self.is_recorded:
            _log_of_call(self, {key: made, _STEP: step})
        else:
            self.write_metrics({key: made}, step)

    def log_table(
        self,
        key: str,
        columns: list[str] | None = None,
        data: list[list[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log a table.

        Args:
            key: its name.
            columns: titles of the columns.
            data: rows.
            dataframe: of pandas, instead of columns and rows.
            step: its step; the current one by default.
        """
        if self.is_recorded and dataframe is None and _is_plain(data or []):
            encoded = encode_table(key, columns or [], data or [])
            self.log_encoded({key: encoded}, step)
            return
        table = _library().Table(columns=columns, data=data, dataframe=dataframe)
        if self.is_recorded:
            _log_of_call(self, {key: table, _STEP: step})
        else:
            self.write_metrics({key: table}, step)

    def log_text(self, *args: Any, **kwargs: Any) -> None:
        """Log a table of texts; takes what ``log_table`` takes.

        Args:
            *args: of ``log_table``.
            **kwargs: of ``log_table``.
        """
        self.log_table(*args, **kwargs)

    def log_media(self, media: Media) -> None:
        """Log what the log has.

        Args:
            media: event of the log.
        """
        wandb, content = _library(), decoded(media)
        if media.kind in ("image", "figure"):
            shown = wandb.Image(_picture(content))
        elif media.kind == "histogram":
            shown = wandb.Histogram(np_histogram=(content["counts"], content["edges"]))
        elif media.kind == "table":
            shown = wandb.Table(columns=content["columns"], data=content["rows"])
        else:
            shown = wandb.Table(columns=["text"], data=[[content]])
        self.write_metrics({media.name: shown}, media.step)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Upload a checkpoint if ``log_model`` is ``all``, or remember to at the end.

        Args:
            checkpoint_callback: the ModelCheckpoint that saved it.
        """
        self._uploads.saved(checkpoint_callback, self._upload)

    def finalize(self, status: str) -> None:
        """Upload the checkpoints that wait, if the run succeeded.

        Args:
            status: ``success`` or ``failed``.
        """
        if status == "success" and self._experiment is not None:
            self._uploads.upload_waiting(self._upload)

    def _upload(self, callback: Any, path: str, score: float | None) -> None:
        name = self._checkpoint_name or f"model-{self.experiment.id}"
        metadata = {
            "score": score,
            "original_filename": Path(path).name,
            type(callback).__name__: {
                key: getattr(callback, key.lstrip("_"))
                for key in _NOTED
                if hasattr(callback, key.lstrip("_"))
            },
        }
        artifact = _library().Artifact(name=name, type="model", metadata=metadata)
        (artifact.add_dir if Path(path).is_dir() else artifact.add_file)(path)
        aliases = ["latest", "best"] if path == callback.best_model_path else ["latest"]
        self.experiment.log_artifact(artifact, aliases=aliases)

    def use_artifact(self, artifact: str, artifact_type: str | None = None) -> Any:
        """Declare an artifact as an input of the run.

        Args:
            artifact: its path in W&B.
            artifact_type: its type.

        Returns:
            The artifact.
        """
        return self.experiment.use_artifact(artifact, type=artifact_type)

    @staticmethod
    def download_artifact(
        artifact: str,
        save_dir: str | os.PathLike[str] | None = None,
        artifact_type: str | None = None,
        use_artifact: bool | None = True,
    ) -> str:
        """Download an artifact.

        Args:
            artifact: its path in W&B.
            save_dir: where to put it.
            artifact_type: its type.
            use_artifact: declare it as an input of the run that is open.

        Returns:
            The folder.
        """
        wandb = _library()
        if wandb.run is not None and use_artifact:
            found = wandb.run.use_artifact(artifact)
        else:
            found = wandb.Api().artifact(artifact, type=artifact_type)
        return str(found.download(root=None if save_dir is None else os.fspath(save_dir)))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the run, which a copy continues by its id."""
        run = self.experiment
        state = super().__getstate__()
        known = {"id": getattr(run, "id", None)}
        return {**state, "_wandb_init": {**self._wandb_init, **known}}


def _log_of_call(
    logger: WandbLogger, data: Mapping[str, Any], step: int | None = None, **_: Any
) -> None:
    """Record what ``experiment.log`` was called with; write what has no counterpart at once."""
    metrics: dict[str, Any] = {}
    media: dict[str, EncodedMedia] = {}
    rest: dict[str, Any] = {}
    step = data.get(_STEP, step)
    for name, value in data.items():
        if name == _STEP:
            continue
        entries = value if isinstance(value, list) and value else [value]
        if isinstance(value, bool | int | float) or getattr(value, "shape", None) == ():
            metrics[name] = value
        elif all(getattr(entry, "image", None) is not None for entry in entries):
            several = len(entries) > 1
            for number, entry in enumerate(entries):
                title = f"{name}/{number}" if several else name
                media[title] = image_of(title, entry)
        else:
            rest[name] = value
    logger.log_metrics(metrics, step)
    logger.log_encoded(media, step)
    if rest:
        method = logger.experiment.log.__wrapped__
        method({**rest, **({} if step is None else {_STEP: step})})


def _is_plain(rows: Sequence[Sequence[Any]]) -> bool:
    return all(
        value is None or isinstance(value, bool | int | float | str)
        for row in rows
        for value in row
    )


def _picture(png: bytes) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("WandbLogger, for images,", "pillow", "media") from None
    return Image.open(io.BytesIO(png))


def _library() -> Any:
    try:
        import wandb
    except ImportError:
        raise MissingPackageError("WandbLogger", "wandb", "wandb") from None
    return wandb
