"""Sinks: actors that carry events to a destination."""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .board.run_board import Board as Board
    from .csv import CSV as CSV
    from .function_sink import FunctionSink as FunctionSink
    from .json_lines import JSONLines as JSONLines
    from .logger_sink import LoggerSink as LoggerSink
    from .mlflow import MLflow as MLflow
    from .parquet import Parquet as Parquet
    from .progress_bar import ProgressBar as ProgressBar
    from .sink import Sink as Sink
    from .sqlite import SQLite as SQLite
    from .tensorboard import TensorBoard as TensorBoard
    from .wandb import WandB as WandB

__getattr__ = lazy_names(
    __name__,
    {
        "Board": ".board.run_board",
        "CSV": ".csv",
        "FunctionSink": ".function_sink",
        "JSONLines": ".json_lines",
        "LoggerSink": ".logger_sink",
        "MLflow": ".mlflow",
        "Parquet": ".parquet",
        "ProgressBar": ".progress_bar",
        "SQLite": ".sqlite",
        "Sink": ".sink",
        "TensorBoard": ".tensorboard",
        "WandB": ".wandb",
    },
)
__all__ = [
    "CSV",
    "Board",
    "FunctionSink",
    "JSONLines",
    "LoggerSink",
    "MLflow",
    "Parquet",
    "ProgressBar",
    "SQLite",
    "Sink",
    "TensorBoard",
    "WandB",
]
