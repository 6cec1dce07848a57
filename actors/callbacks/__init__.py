"""Callbacks that come with nightbus."""

from .checkpoint import Checkpoint
from .model_summary import ModelSummary
from .prediction_writer import BasePredictionWriter

__all__ = ["BasePredictionWriter", "Checkpoint", "ModelSummary"]
