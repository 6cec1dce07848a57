"""Loggers under Lightning's names and with its arguments; each is a sink of the Trainer."""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .csv_logger import CSVLogger as CSVLogger
    from .logger import Logger as Logger
    from .mlflow_logger import MLFlowLogger as MLFlowLogger
    from .tensorboard_logger import TensorBoardLogger as TensorBoardLogger
    from .wandb_logger import WandbLogger as WandbLogger

__getattr__ = lazy_names(
    __name__,
    {
        "CSVLogger": ".csv_logger",
        "Logger": ".logger",
        "MLFlowLogger": ".mlflow_logger",
        "TensorBoardLogger": ".tensorboard_logger",
        "WandbLogger": ".wandb_logger",
    },
)
__all__ = ["CSVLogger", "Logger", "MLFlowLogger", "TensorBoardLogger", "WandbLogger"]
