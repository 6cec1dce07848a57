"""Actors that know torch: module, data, callbacks, metrics, device, checkpoints."""

from .callback import Callback
from .combined_loader import CombinedLoader
from .datamodule import LightningDataModule
from .hooks import HOOKS
from .module import LightningModule

__all__ = ["HOOKS", "Callback", "CombinedLoader", "LightningDataModule", "LightningModule"]
