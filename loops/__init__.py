"""Loops: what is done again and again, from epochs down to one optimizer's turn."""

from ..actors.optimization.progress import Counts, OptimizationProgress, Progress
from . import optimizer, training_epoch
from .evaluation import EvaluationEpochLoop, EvaluationLoop
from .fit import FitLoop
from .loop import Loop
from .manual import ManualOptimization
from .optimizer import OptimizerLoop
from .prediction import PredictionEpochLoop, PredictionLoop
from .training_batch import TrainingBatchLoop
from .training_epoch import TrainingEpochLoop
from .training_step import TrainingStepLoop

HOOK_GROUPS = {**training_epoch.HOOK_GROUPS, **optimizer.HOOK_GROUPS}
"""Hooks that loops run directly one after the other; see ``Routes.set_groups``."""

__all__ = [
    "HOOK_GROUPS",
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
