"""Checkpoint: the base of callbacks that save checkpoints."""

from ..callback import Callback


class Checkpoint(Callback):
    """The base of callbacks that save checkpoints.

    Their hooks run after those of all other callbacks, so that the others' changes are saved too.
    ``trainer.checkpoint_callbacks`` lists them.

    Attributes:
        FILE_EXTENSION: what the names of their checkpoints end in; empty, because a checkpoint is a
            folder.
    """

    FILE_EXTENSION = ""
