"""LeftOut: parts of a run's state that checkpoints cannot hold, and are saved without."""

from collections.abc import Mapping
from typing import Any

from ...bus.errors import CheckpointError
from ...bus.events import Fault
from ...bus.secrets.redaction import without_secrets
from ...bus.system.logging_setup import get_logger
from ..checkpoints.format import check_carried
from ..checkpoints.lightning_format import OURS_ALONE
from ..run_context import RunContext

_log = get_logger("nightbus.checkpoint")

_MAX_SHOWN = 1000  # characters of an error in an event
_TRAINING = "training"
# The least that a checkpoint has; all else of nightbus's own is needed to resume.
_WEIGHTS = frozenset(
    {
        "epoch",
        "global_step",
        "left_out",
        "state_dict",
        "hyper_parameters",
        "hparams_argument",
        "hparams_form",
        "datamodule_hyper_parameters",
        "datamodule_hparams_argument",
        "datamodule_hparams_form",
    }
)


class LeftOut:
    """Finds the parts of a state that a checkpoint cannot hold, reports them, and leaves them out.

    A part is an entry of the module's ``state_dict``, the state of one participant, the
    datamodule's, an entry that a hook added, or, if anything else cannot be held, all that resuming
    needs.

    Args:
        context: the run, whose log gets a Fault for each part.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._why: dict[str, str] = {}  # by place

    @property
    def resumes(self) -> bool:
        """Return whether training can be resumed from checkpoints without these parts."""
        return _TRAINING not in self._why

    def leave_out_training(self, error: CheckpointError) -> None:
        """Save weights only from now on.

        Args:
            error: why a checkpoint cannot hold what resuming needs.
        """
        self._report(
            _TRAINING,
            error,
            "checkpoints of this run hold only weights, so that it cannot be resumed",
        )

    def find(self, state: Mapping[str, Any]) -> None:
        """Find the parts that a checkpoint cannot hold, and report those that are new.

        Args:
            state: content of a checkpoint, or entries of it.
        """
        for name, value in state.items():
            try:
                check_carried({name: value})
            except CheckpointError as error:
                self._find_in(name, value, error)

    def _find_in(self, name: str, value: Any, error: CheckpointError) -> None:
        if name in ("actors", "state_dict"):
            for key, part in value.items():
                try:
                    check_carried({name: {key: part}})
                except CheckpointError as of_part:
                    what = f"the state of {key}" if name == "actors" else f"{key!r} of the module"
                    self._report(f"{name}.{key}", of_part, _anew(what))
        elif name == "datamodule":
            self._report(name, error, _anew("the state of the datamodule"))
        elif name in OURS_ALONE or name in ("optimizer_states", "lr_schedulers"):
            self.leave_out_training(error)
        else:
            self._report(name, error, f"checkpoints are saved without {name!r}, added by a hook")

    def without(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state without the parts that a checkpoint cannot hold.

        Args:
            state: content of a checkpoint; it is not changed.
        """
        if not self._why:
            return state
        kept = {name: value for name, value in state.items() if name not in self._why}
        for group in ("state_dict", "actors"):
            if group in kept:
                parts = kept[group].items()
                kept[group] = {n: v for n, v in parts if f"{group}.{n}" not in self._why}
        kept["left_out"] = dict(self._why)
        if not self.resumes:
            kept = {n: v for n, v in kept.items() if n in _WEIGHTS or n not in OURS_ALONE}
            kept.pop("optimizer_states", None)
            kept.pop("lr_schedulers", None)
        elif "datamodule" in state:
            kept["datamodule"] = kept.get("datamodule", {})
        return kept

    def _report(self, place: str, error: CheckpointError, what: str) -> None:
        if place in self._why:
            return
        why = without_secrets(str(error))
        self._why[place] = why
        _log.warning(what, why=why)
        self._context.bus.emit(
            Fault,
            type(error).__name__,
            f"{what}: {why}"[:_MAX_SHOWN],
            "",
            "",
            source="checkpointer",
        )


def _anew(what: str) -> str:
    return f"checkpoints are saved without {what}, which a resumed run begins anew"


def report_left_out(state: Mapping[str, Any]) -> None:
    """Warn that a run is resumed without parts of its state.

    Args:
        state: content of the checkpoint.
    """
    places = [place.removeprefix("actors.") for place in state.get("left_out", {})]
    if places:
        _log.warning(
            "the checkpoint could not hold all of the run's state; these begin anew",
            names=", ".join(places),
        )
