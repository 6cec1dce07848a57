"""SpikeDetection: ends training when the loss jumps, and notes the batches to leave out."""

import json
import math
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from ...bus.errors import UsageError
from ...bus.system.atomic_file import atomic_file
from ...bus.system.paths import as_path
from ..arguments import check_at_least, check_choice
from ..callback import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

FILE_NAME = "skip_batches.json"


class TrainingSpikeError(RuntimeError):
    """The loss of a batch jumped.

    Args:
        batch_idx: number of the batch in its epoch.
        said: what jumped, and where the batches to leave out are noted.

    Attributes:
        batch_idx: as given.
    """

    def __init__(self, batch_idx: int, said: str = "the loss jumped") -> None:
        super().__init__(f"batch {batch_idx}: {said}")
        self.batch_idx = batch_idx


class SpikeDetection(Callback):
    """Ends training with a TrainingSpikeError when a batch's loss jumps.

    The loss is compared with the mean of the last ones. The batch, and the one before, which may
    have changed the weights so that this one jumps, are noted in a JSON file, a list of batch
    numbers that can be left out the next time. Chowdhery et al., PaLM, 2022, section 5.1, restart
    training in this way. Reading the loss waits for a GPU in each step.

    Args:
        mode: ``min`` if the loss jumps upwards, ``max`` if downwards.
        window: number of last losses whose mean is compared with.
        warmup: number of batches before the first comparison; at least 1.
        atol: smallest distance from the mean that is a jump; None for any.
        rtol: the same as a share of the mean; both have to be exceeded.
        exclude_batches_path: the file, or a folder for ``skip_batches.json``; the run's folder by
            default, or the current one if the run keeps none.
        finite_only: a loss that is not finite is a jump too.

    Attributes:
        bad_batches: numbers of the batches to leave out.

    Raises:
        UsageError: an argument is wrong.
    """

    why_not_replayed = "it ends training before the next step, and a replay does not train"

    def __init__(
        self,
        mode: Literal["min", "max"] = "min",
        window: int = 10,
        warmup: int = 1,
        atol: float | None = None,
        rtol: float | None = 2.0,
        exclude_batches_path: str | os.PathLike[str] | None = None,
        finite_only: bool = True,
    ) -> None:
        check_choice("mode", mode, ("min", "max"))
        for name, value in (("window", window), ("warmup", warmup)):
            if value is None:
                raise UsageError(f"{name}=None: expected an int of at least 1")
            check_at_least(name, value, 1)
        self.mode = mode
        self.warmup = warmup
        self.atol = atol
        self.rtol = rtol
        self.finite_only = finite_only
        self.exclude_batches_path = (
            None if exclude_batches_path is None else as_path(exclude_batches_path)
        )
        self.bad_batches: list[int] = []
        self._last: deque[float] = deque(maxlen=window)

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Compare the batch's loss with the last ones.

        Raises:
            TrainingSpikeError: it jumped, on this rank or another.
        """
        loss = _loss_of(outputs)
        is_spike = batch_idx >= self.warmup and loss is not None and self._is_spike(loss)
        if not trainer.world.is_alone:
            is_spike = any(trainer.group.gather("whether the loss jumped", is_spike))
        if is_spike:
            self._end(trainer, batch_idx, loss)
        if loss is not None and (self.finite_only or math.isfinite(loss)):
            self._last.append(loss)

    def _is_spike(self, loss: float) -> bool:
        if self.finite_only and not math.isfinite(loss):
            return True
        if not self._last:
            return False
        mean = sum(self._last) / len(self._last)
        difference = loss - mean if self.mode == "min" else mean - loss
        return (
            difference >= 0
            and (self.atol is None or difference >= abs(self.atol))
            and (self.rtol is None or difference >= abs(self.rtol * mean))
        )

    def _end(self, trainer: "Trainer", batch_idx: int, loss: float | None) -> None:
        added = {idx for idx in (batch_idx - 1, batch_idx) if idx >= 0}
        self.bad_batches = sorted({*self.bad_batches, *added})
        path = self._path(trainer)
        if trainer.is_global_zero:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path, path.with_name(f".{path.name}.tmp")) as file:
                file.write(json.dumps(self.bad_batches).encode())
        raise TrainingSpikeError(
            batch_idx,
            f"the loss jumped to {loss}; the last ones: "
            f"{', '.join(f'{value:g}' for value in self._last) or 'none'}; the batches to leave "
            f"out are in {path}",
        )

    def _path(self, trainer: "Trainer") -> Path:
        folder = trainer.run_folder.path if trainer.run_folder is not None else Path.cwd()
        path = self.exclude_batches_path or folder
        return path if path.suffix == ".json" else path / FILE_NAME

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {"bad_batches": list(self.bad_batches), "last": list(self._last)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.bad_batches = list(state_dict["bad_batches"])
        self._last.clear()
        self._last.extend(state_dict["last"])


def _loss_of(outputs: Any) -> float | None:
    """Return the loss in a step's output; None if there is none."""
    found = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return found.item() if isinstance(found, Tensor) and found.numel() == 1 else None
