"""Small names that code written for Lightning imports: types, warnings, what rank 0 says, checks.

What Lightning has from ``lightning_utilities``, which torchmetrics brings, is the same here.
"""

import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from lightning_utilities.core.apply_func import apply_to_collection as apply_to_collection
from lightning_utilities.core.apply_func import apply_to_collections as apply_to_collections
from lightning_utilities.core.enums import StrEnum as LightningEnum
from lightning_utilities.core.rank_zero import WarningCache as WarningCache
from lightning_utilities.core.rank_zero import rank_prefixed_message as rank_prefixed_message
from lightning_utilities.core.rank_zero import rank_zero_debug as rank_zero_debug
from lightning_utilities.core.rank_zero import rank_zero_deprecation as rank_zero_deprecation
from lightning_utilities.core.rank_zero import rank_zero_info as rank_zero_info
from lightning_utilities.core.rank_zero import rank_zero_only as rank_zero_only
from lightning_utilities.core.rank_zero import rank_zero_warn as _rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import Metric

from ..actors import Callback, LightningDataModule, LightningModule
from ..actors.overrides import is_own, is_own_of
from ..actors.process.rank_zero import announce_rank
from ..bus.errors import UsageError

announce_rank()  # without which the functions above raise

__all__ = ["LightningEnum"]

_logger = logging.getLogger("pytorch_lightning")
FLOAT16_EPSILON = torch.finfo(torch.float16).eps
FLOAT32_EPSILON = torch.finfo(torch.float32).eps
FLOAT64_EPSILON = torch.finfo(torch.float64).eps
STEP_OUTPUT: TypeAlias = Tensor | Mapping[str, Any] | None
"""What a step returns."""
EPOCH_OUTPUT: TypeAlias = list[STEP_OUTPUT]
"""What ``training_epoch_end`` and the like are given."""
_METRIC: TypeAlias = Metric | Tensor | int | float
_DEVICE: TypeAlias = torch.device | str | int
_OUT_DICT: TypeAlias = dict[str, Tensor]
_EVALUATE_OUTPUT: TypeAlias = list[Mapping[str, float]]
"""What ``validate`` and ``test`` return."""
_PREDICT_OUTPUT: TypeAlias = list[Any] | list[list[Any]]
TRAIN_DATALOADERS: TypeAlias = Any
"""What ``train_dataloader`` returns: a loader, or several in lists, tuples and dicts."""
EVAL_DATALOADERS: TypeAlias = Any
"""What ``val_dataloader`` and the like return."""
LRSchedulerType: TypeAlias = type[LRScheduler] | type[ReduceLROnPlateau]
LRSchedulerTypeUnion: TypeAlias = LRScheduler | ReduceLROnPlateau
LRSchedulerPLType: TypeAlias = LRSchedulerTypeUnion
OptimizerConfig: TypeAlias = dict[str, Any]
OptimizerLRSchedulerConfig: TypeAlias = dict[str, Any]
OptimizerLRScheduler: TypeAlias = (
    Optimizer
    | Sequence[Optimizer]
    | tuple[Sequence[Optimizer], Sequence[LRSchedulerTypeUnion]]
    | Mapping[str, Any]
    | Sequence[Mapping[str, Any]]
    | None
)
"""What ``configure_optimizers`` returns."""


class PossibleUserWarning(UserWarning):
    """What nightbus warns of once it stands in Lightning's place; a category for filters."""


class _NightbusWarning(PossibleUserWarning, RuntimeWarning):
    """Of both categories that Lightning gives its warnings."""


def warn_in_python(text: str) -> None:
    """Show a warning of nightbus as one of Python, so that filters and ``pytest.warns`` see it.

    Args:
        text: the warning.
    """
    package, above = __name__.partition(".")[0], 1
    while (frame := _frame_at(above)) and f"{frame.f_globals.get('__name__')}.".startswith(
        f"{package}."
    ):
        above += 1
    warnings.warn(text, _NightbusWarning, stacklevel=above + 1)


def _frame_at(depth: int) -> FrameType | None:
    """Return the frame of a caller of this function's caller; None if there are not so many."""
    try:
        return sys._getframe(depth + 1)
    except ValueError:
        return None


class LightningDeprecationWarning(DeprecationWarning):
    """A category for filters; nightbus warns with DeprecationWarning."""


class GradClipAlgorithmType(LightningEnum):
    """What ``gradient_clip_algorithm`` may be."""

    VALUE = "value"
    NORM = "norm"

    @staticmethod
    def supported_type(val: str) -> bool:
        """Return whether a text is one of them.

        Args:
            val: the text.
        """
        return val in GradClipAlgorithmType.supported_types()

    @staticmethod
    def supported_types() -> list[str]:
        """Return all of them."""
        return [entry.value for entry in GradClipAlgorithmType]


class Interval(LightningEnum):
    """What the ``interval`` of a Timer may be."""

    step = "step"
    epoch = "epoch"


@runtime_checkable
class Steppable(Protocol):
    """What has a ``step``."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step.

        Args:
            closure: computes the loss and its gradients again.
        """


@runtime_checkable
class Optimizable(Steppable, Protocol):
    """What steps as an optimizer does."""

    param_groups: list[dict[Any, Any]]
    defaults: dict[Any, Any]
    state: dict[Any, Any]

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state.

        Args:
            state_dict: the state.
        """


def rank_zero_warn(
    message: str | Warning,
    category: type[Warning] | int = UserWarning,
    stacklevel: int = 4,
    **kwargs: Any,
) -> None:
    """Warn in the process of rank 0 only.

    Args:
        message: the warning.
        category: its category, in second place as in Lightning 1.x; there, a number is the
            stacklevel, as in Lightning 2.
        stacklevel: number of the caller in the stack whose line is shown.
        **kwargs: as for ``warnings.warn``.
    """
    kind: type[Warning] = UserWarning
    if isinstance(category, int):
        stacklevel = category
    else:
        kind = category
    _rank_zero_warn(message, stacklevel=stacklevel, category=kind, **kwargs)


def disable_possible_user_warnings(module: str = "") -> None:
    """Have PossibleUserWarning not shown.

    Args:
        module: of which modules, a regular expression; of all by default.
    """
    warnings.filterwarnings("ignore", module=module, category=PossibleUserWarning)


def is_overridden(
    method_name: str, instance: object | None = None, parent: type[object] | None = None
) -> bool:
    """Return whether an object defines a method itself, as Lightning's function of this name.

    Args:
        method_name: the method.
        instance: a module, datamodule or callback; None overrides nothing.
        parent: the class whose method counts as not overridden; by default all of nightbus.

    Raises:
        UsageError: the object is none of these, and no parent is given.
    """
    if instance is None:
        return False
    given: Any = getattr(instance, method_name, None)
    own: Any = inspect.unwrap(given)
    if parent is not None:
        own = getattr(own, "__func__", own)
        return own is not None and own is not getattr(parent, method_name, None)
    if not isinstance(instance, LightningModule | LightningDataModule | Callback):
        raise UsageError(
            f"Expected a parent class: {type(instance).__name__} is no module, datamodule or "
            "callback; give the class whose methods it may override as parent"
        )
    if own is None:
        return False
    if own is not given and getattr(own, "__self__", None) is instance:
        return is_own_of(type(instance), method_name)  # what was replaced by its wrapper
    return is_own(instance, method_name)


def is_param_in_hook_signature(
    hook_fx: Callable[..., Any], param: str, explicit: bool = False, min_args: int | None = None
) -> bool:
    """Return whether a method takes an argument, besides the first one, its object.

    Args:
        hook_fx: the method.
        param: the argument's name.
        explicit: ``*args`` do not count.
        min_args: a method with this many arguments takes it, whatever their names.
    """
    spec = inspect.getfullargspec(inspect.unwrap(hook_fx))
    names = spec.args[1:]
    is_taken = param in names or (not explicit and spec.varargs is not None)
    return is_taken or (min_args is not None and len(names) >= min_args)


def cli_lightning_logo() -> None:
    """Print the library's name, where Lightning's examples print its logo."""
    print("nightbus")


def _get_rank() -> int:
    """Return the rank of this process, 0 before there are several."""
    return int(getattr(rank_zero_only, "rank", 0))
