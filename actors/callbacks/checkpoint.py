"""Checkpoint: what callbacks that save checkpoints have in common."""

from ..callback import Callback


class Checkpoint(Callback):
    """Base of callbacks that save checkpoints.

    Their hooks run after those of all other callbacks, so that what these did is saved too, and
    ``trainer.checkpoint_callbacks`` lists them.
    """
