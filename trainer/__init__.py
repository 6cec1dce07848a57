"""The Trainer, which puts loops, module, data, actors and sinks on one bus and runs them."""

from .trainer import Trainer

__all__ = ["Trainer"]
