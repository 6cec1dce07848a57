"""Weights & Biases: metrics by step, hyperparameters, media."""

import html
import io
import os
import sys
import uuid
from collections.abc import Sequence
from typing import Any, Literal

from ..bus.errors import MissingPackageError
from ..bus.events import Event, Media, Put, RunEnded, RunStarted
from ..bus.media import decoded
from ..bus.runs.cursor import PlainState
from ..bus.secrets.redaction import redact
from ..bus.system.logging_setup import get_logger
from ..bus.system.paths import as_path
from .sink import Sink
from .step_rows import StepRow, StepRows, is_extreme

_log = get_logger("nightbus.wandb")
_STEP = "trainer/global_step"
_LOCAL_MODES = ("offline", "disabled", "dryrun")


class WandB(Sink):
    """A run in Weights & Biases.

    Puts of one step are one row of its history, with ``trainer/global_step`` as the axis.
    Hyperparameters become its config. A resumed run continues the same W&B run, and rows that
    it has are not added again.

    Offline, everything is written to ``wandb/`` in the run's folder; send it later with
    ``wandb sync``. If the command line holds secrets, what W&B itself finds out about the process
    and the machine is left out, because it includes the command line. Needs the extra ``wandb``.

    Args:
        project: the project.
        name: the run's name in W&B; its nightbus id by default.
        entity: the user or team.
        group: the group of runs it belongs to.
        tags: tags of the run.
        mode: ``online``, ``offline`` or ``disabled``; W&B's own setting by default.
        folder: where W&B keeps its files; the run's own folder by default.
        destination: takes puts with this label.

    Raises:
        MissingPackageError: wandb is missing.
    """

    events: tuple[type[Event], ...] = (Put, Media, RunStarted, RunEnded)
    poll_interval_s = 1.0

    def __init__(
        self,
        project: str | None = None,
        *,
        name: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        mode: Literal["online", "offline", "disabled"] | None = None,
        folder: str | os.PathLike[str] | None = None,
        destination: str = "loggers",
    ) -> None:
        try:
            import wandb
        except ImportError:
            raise MissingPackageError("WandB", "wandb", "wandb") from None
        self.project = project
        self.run_name = name
        self.entity = entity
        self.group = group
        self.tags = tuple(tags)
        self.mode = mode
        self.folder = None if folder is None else as_path(folder)
        self.destination = destination
        self._wandb: Any = wandb
        self._run: Any = None
        self._begin()

    def _begin(self) -> None:
        self._wandb_id = uuid.uuid4().hex[:8]
        self._rows = StepRows()
        self._number = 0  # number of the next row
        self._exit_code = 1  # for a run that ends without a record of it

    @property
    def needs_run_folder(self) -> bool:
        """True if W&B keeps its files in the run's folder."""
        return self.folder is None

    @property
    def uses_network(self) -> bool:
        """True if it is online."""
        return (self.mode or os.environ.get("WANDB_MODE", "online")) not in _LOCAL_MODES

    @property
    def wandb_id(self) -> str:
        """Id of the run in W&B."""
        return self._wandb_id

    def open(self, resumed: bool) -> None:
        if not resumed:
            self._begin()

    def write(self, batch: list[Put | Media | RunStarted | RunEnded]) -> None:
        add, wall_ns = self._rows.add, self.wall_ns
        for event in batch:
            if type(event) is Put:
                self._send(add(event, wall_ns(event)))
                continue
            self._send(self._rows.end())
            if type(event) is Media:
                self._send_media(event)
            elif type(event) is RunStarted:
                self._exit_code = 1
                self._started().config.update(event.hparams, allow_val_change=True)
            elif type(event) is RunEnded:
                self._exit_code = 0 if event.how in ("completed", "stopped") else 1

    def finish(self) -> None:
        """Send the last row, which is complete now."""
        self._send(self._rows.end())

    def _started(self) -> Any:
        """Return the run in W&B; it begins when it is first needed."""
        if self._run is None:
            folder = self.run_path if self.folder is None else self.folder
            folder.mkdir(parents=True, exist_ok=True)
            self._run = self._wandb.init(
                project=self.project,
                name=self.run_name or self.run_id or None,
                entity=self.entity,
                group=self.group,
                tags=self.tags or None,
                mode=self.mode,
                dir=str(folder),
                id=self._wandb_id,
                resume="allow",
                reinit="create_new",  # leaves other runs of this process alone
                settings=self._wandb.Settings(
                    console="off",  # the progress bar owns the terminal
                    silent=True,
                    # W&B would record the command line with its secrets.
                    x_disable_meta=redact(sys.argv) != sys.argv,
                ),
            )
            self._run.define_metric(_STEP)
            self._run.define_metric("*", step_metric=_STEP, step_sync=True)
            if self._run.url:
                _log.info("W&B", url=self._run.url)
        return self._run

    def _send(self, row: StepRow | None) -> None:
        if row is not None:
            values = {**row.values, "epoch": row.epoch, _STEP: row.step}
            # W&B drops a row whose number it has passed, so nothing is added twice.
            try:
                self._started().log(values, step=self._number)
            except (OverflowError, ValueError, TypeError) as error:
                if not is_extreme(row):
                    raise
                self.refuse(row.values, row.step, error)
            self._number += 1

    def _send_media(self, event: Media) -> None:
        shown = {event.name: self._shown(event), "epoch": event.epoch, _STEP: event.step}
        self._started().log(shown, step=self._number)
        self._number += 1

    def _shown(self, event: Media) -> Any:
        content = decoded(event)
        if event.kind in ("image", "figure"):
            return self._wandb.Image(_picture(content))
        if event.kind == "histogram":
            return self._wandb.Histogram(np_histogram=(content["counts"], content["edges"]))
        if event.kind == "table":
            return self._wandb.Table(columns=content["columns"], data=content["rows"])
        return self._wandb.Html(f"<pre>{html.escape(content)}</pre>")

    def close(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.finish(exit_code=self._exit_code)

    def state(self) -> PlainState:
        return {"wandb_id": self._wandb_id, "number": self._number, **self._rows.state()}

    def load_state(self, state: PlainState) -> None:
        self._wandb_id = str(state["wandb_id"])
        self._number = int(state["number"])  # type: ignore[arg-type]
        self._rows.load_state(state)


def _picture(png: bytes) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("WandB, for images,", "pillow", "media") from None
    return Image.open(io.BytesIO(png))
