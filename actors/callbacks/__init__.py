"""Callbacks that come with nightbus, one file each."""

from .model_summary import ModelSummary

__all__ = ["ModelSummary"]
