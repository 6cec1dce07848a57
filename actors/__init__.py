"""Everything that knows torch: module, data, callbacks, metrics, device, checkpoints.

Names are loaded on first use: a dataloader's worker process imports one module of this package.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .callback import Callback as Callback
    from .data.combined_loader import CombinedLoader as CombinedLoader
    from .datamodule import LightningDataModule as LightningDataModule
    from .hook_table import HOOKS as HOOKS
    from .module import LightningModule as LightningModule

__getattr__ = lazy_names(
    __name__,
    {
        "Callback": ".callback",
        "CombinedLoader": ".data.combined_loader",
        "HOOKS": ".hook_table",
        "LightningDataModule": ".datamodule",
        "LightningModule": ".module",
    },
)
__all__ = ["HOOKS", "Callback", "CombinedLoader", "LightningDataModule", "LightningModule"]
