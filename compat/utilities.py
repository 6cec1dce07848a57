"""Small names that code written for Lightning imports: types, warnings, and what rank 0 says.

What Lightning has from ``lightning_utilities``, which torchmetrics brings, is the same here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from lightning_utilities.core.apply_func import apply_to_collection as apply_to_collection
from lightning_utilities.core.enums import StrEnum as LightningEnum
from lightning_utilities.core.rank_zero import WarningCache as WarningCache
from lightning_utilities.core.rank_zero import rank_zero_debug as rank_zero_debug
from lightning_utilities.core.rank_zero import rank_zero_deprecation as rank_zero_deprecation
from lightning_utilities.core.rank_zero import rank_zero_info as rank_zero_info
from lightning_utilities.core.rank_zero import rank_zero_warn as rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..actors.process.rank_zero import announce_rank

announce_rank()  # without which the functions above raise

__all__ = ["LightningEnum"]

STEP_OUTPUT: TypeAlias = Tensor | Mapping[str, Any] | None
"""What a step returns."""
EPOCH_OUTPUT: TypeAlias = list[STEP_OUTPUT]
"""What ``training_epoch_end`` and the like are given."""
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
    """A category for filters; nightbus warns with UserWarning."""


class LightningDeprecationWarning(DeprecationWarning):
    """A category for filters; nightbus warns with DeprecationWarning."""
