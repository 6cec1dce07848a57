"""Loops, from epochs down to one optimizer's turn."""

from ..actors.optimization.progress import Counts, OptimizationProgress, Progress
from .evaluation import EvaluationEpochLoop, EvaluationLoop
from .fast.as_built import remember
from .fit import FitLoop
from .loop import Loop
from .manual import ManualOptimization
from .optimizer import OptimizerLoop
from .prediction import PredictionEpochLoop, PredictionLoop
from .training_batch import TrainingBatchLoop
from .training_epoch import TrainingEpochLoop
from .training_step import TrainingStepLoop

remember(
    EvaluationEpochLoop,
    EvaluationLoop,
    ManualOptimization,
    OptimizerLoop,
    PredictionEpochLoop,
    PredictionLoop,
    TrainingBatchLoop,
    TrainingEpochLoop,
)

__all__ = [
    "Counts",
    "EvaluationEpochLoop",
    "EvaluationLoop",
    "FitLoop",
    "Loop",
    "ManualOptimization",
    "OptimizationProgress",
    "OptimizerLoop",
    "PredictionEpochLoop",
    "PredictionLoop",
    "Progress",
    "TrainingBatchLoop",
    "TrainingEpochLoop",
    "TrainingStepLoop",
]
