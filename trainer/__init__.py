"""The Trainer, which connects loops, module, data, actors and sinks to one bus and runs them."""

from .trainer import Trainer

__all__ = ["Trainer"]
