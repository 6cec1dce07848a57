"""ShownLoop: where a loop is, under the names that a bar of tqdm has for it."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, overload

from ...bus.system.logging_setup import get_logger

Kind = Literal["train", "val", "test", "predict"]
INSTEAD = (
    "the bar is drawn from the log, on another thread, by the class nightbus.ProgressBar; override "
    "get_metrics to choose the metrics, or derive a bar of your own from ProgressBarBase and "
    "override hooks"
)
# What draws a bar of tqdm.
_DRAWING = frozenset(
    """clear close display refresh reset set_description set_description_str set_postfix
    set_postfix_str unpause update""".split()  # noqa: SIM905  readable so
)
_log = get_logger("nightbus.progress_bar")


class ShownLoop:
    """Where a loop is; to be read only, for the bar is drawn from the log.

    What would draw a bar of tqdm, or set something of it, has no effect, which a warning says.

    Args:
        bar: the callback that sets the bar, a ProgressBarBase.
        kind: ``train``, ``val``, ``test`` or ``predict``.
    """

    __slots__ = ("_bar", "_kind")
    _bar: Any
    _kind: Kind

    def __init__(self, bar: Any, kind: Kind) -> None:
        object.__setattr__(self, "_bar", bar)
        object.__setattr__(self, "_kind", kind)

    @property
    def _loop(self) -> Any:
        trainer = self._bar.trainer
        match self._kind:
            case "train":
                return trainer
            case "val":
                amid = trainer.state.fn == "fit" and getattr(trainer.epoch_loop, "val_loop", None)
                return (amid or trainer.validate_loop).epoch_loop
            case "test":
                return trainer.test_loop.epoch_loop
            case _:
                return trainer.predict_loop.epoch_loop

    @property
    def n(self) -> int:
        """Batches done, of the epoch or of the dataloader that is read."""
        progress = self._loop.batch_progress
        return 0 if progress is None else progress.current.completed

    @property
    def total(self) -> int | None:
        """Batches there are; None if that is not known."""
        bar = self._bar
        if self._kind == "train":
            trainer = bar.trainer
            total = bar.total_train_batches
            if trainer.max_epochs == -1 and trainer.max_steps > 0:  # those done are not in it
                total = min(trainer.num_training_batches, total + self.n)
        elif self._kind == "val" and bar.trainer.sanity_checking:
            total = bar.trainer.num_sanity_val_batches[self._dataloader_idx]
        else:
            total = getattr(bar.trainer, f"num_{self._kind}_batches")[self._dataloader_idx]
        return None if math.isinf(total) else int(total)

    @property
    def _dataloader_idx(self) -> int:
        return max(0, int(self._loop.dataloader_idx))

    @property
    def desc(self) -> str:
        """What the loop is called."""
        bar = self._bar
        if self._kind == "train":
            return f"Epoch {bar.trainer.current_epoch}"
        names = {"test": bar.test_description, "predict": bar.predict_description}
        checks = self._kind == "val" and bar.trainer.sanity_checking
        name = bar.sanity_check_description if checks else bar.validation_description
        return f"{names.get(self._kind, name)} DataLoader {self._dataloader_idx}"

    @property
    def disable(self) -> bool:
        """Whether nothing is shown."""
        return bool(self._bar.is_disabled)

    @staticmethod
    def write(text: str, file: Any = None, end: str = "\n", nolock: bool = False) -> None:
        """Print above the bar.

        Args:
            text: the text.
            file: where to; standard output by default.
            end: what follows the text.
            nolock: accepted for code written for tqdm, without effect.
        """
        print(text, file=file, end=end)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also those of a copy that is being made
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name not in _DRAWING:
            raise AttributeError(f"{self._kind}_progress_bar.{name} is not there: {INSTEAD}")
        return _without_effect(self._kind, name)

    def __reduce__(self) -> tuple[type, tuple[Any, Kind]]:
        return type(self), (self._bar, self._kind)

    def __setattr__(self, name: str, value: Any) -> None:
        _say_without_effect(f"{self._kind}_progress_bar.{name} = ...")


class BarOfLoop:
    """An attribute with a loop's bar: where the loop is, unless a bar of the user's is set.

    Args:
        kind: ``train``, ``val``, ``test`` or ``predict``.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind: Kind = kind

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, bar: None, kind: type) -> "BarOfLoop": ...
    @overload
    def __get__(self, bar: object, kind: type) -> Any: ...
    def __get__(self, bar: object | None, kind: type) -> Any:
        if bar is None:
            return self
        own = vars(bar)  # a bar of tqdm of unknown length is neither true nor false
        return own[self._name] if self._name in own else ShownLoop(bar, self._kind)

    def __set__(self, bar: object, value: Any) -> None:
        vars(bar)[self._name] = value


def _without_effect(kind: Kind, name: str) -> Callable[..., None]:
    def do_nothing(*_: Any, **__: Any) -> None:
        _say_without_effect(f"{kind}_progress_bar.{name}()")

    return do_nothing


@lru_cache
def _say_without_effect(what: str) -> None:
    _log.warning(f"{what} has no effect: {INSTEAD}")
