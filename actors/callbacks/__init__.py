"""Callbacks that come with nightbus."""

from .checkpoint import Checkpoint
from .device_stats_monitor import DeviceStatsMonitor
from .early_stopping import EarlyStopping, EarlyStoppingReason
from .finetuning import BackboneFinetuning, BaseFinetuning
from .gradient_accumulation_scheduler import GradientAccumulationScheduler
from .lambda_callback import LambdaCallback
from .learning_rate_monitor import LearningRateMonitor
from .model_checkpoint import ModelCheckpoint
from .model_pruning import ModelPruning
from .model_summary import ModelSummary, RichModelSummary
from .on_exception_checkpoint import OnExceptionCheckpoint
from .prediction_writer import BasePredictionWriter
from .progress_bar import (
    ProgressBarBase,
    RichProgressBar,
    RichProgressBarTheme,
    TQDMProgressBar,
)
from .run_checkpoint import RunCheckpoint
from .spike_detection import SpikeDetection, TrainingSpikeError
from .stochastic_weight_averaging import StochasticWeightAveraging
from .throughput_monitor import ThroughputMonitor
from .timer import Timer
from .weight_averaging import EMA, EMAWeightAveraging, WeightAveraging

__all__ = [
    "EMA",
    "BackboneFinetuning",
    "BaseFinetuning",
    "BasePredictionWriter",
    "Checkpoint",
    "DeviceStatsMonitor",
    "EMAWeightAveraging",
    "EarlyStopping",
    "EarlyStoppingReason",
    "GradientAccumulationScheduler",
    "LambdaCallback",
    "LearningRateMonitor",
    "ModelCheckpoint",
    "ModelPruning",
    "ModelSummary",
    "OnExceptionCheckpoint",
    "ProgressBarBase",
    "RichModelSummary",
    "RichProgressBar",
    "RichProgressBarTheme",
    "RunCheckpoint",
    "SpikeDetection",
    "StochasticWeightAveraging",
    "TQDMProgressBar",
    "ThroughputMonitor",
    "Timer",
    "TrainingSpikeError",
    "WeightAveraging",
]
