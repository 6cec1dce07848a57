"""Loops: what is done again and again, from epochs down to one optimizer's turn."""

from .evaluation import EvaluationEpochLoop, EvaluationLoop
from .fit import FitLoop
from .loop import Loop
from .optimizer import OptimizerLoop
from .prediction import PredictionEpochLoop, PredictionLoop
from .progress import Counts, Progress
from .training_batch import TrainingBatchLoop
from .training_epoch import TrainingEpochLoop

__all__ = [
    "Counts",
    "EvaluationEpochLoop",
    "EvaluationLoop",
    "FitLoop",
    "Loop",
    "OptimizerLoop",
    "PredictionEpochLoop",
    "PredictionLoop",
    "Progress",
    "TrainingBatchLoop",
    "TrainingEpochLoop",
]
