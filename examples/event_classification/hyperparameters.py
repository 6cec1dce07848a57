"""The hyperparameters of the application, with their defaults."""

from argparse import Namespace
from typing import Any

from examples.event_classification.errors import unknown_name

DEFAULTS: dict[str, Any] = {
    "dataset_path": "event-recordings",  # folder of the recordings
    "root_dir": ".",  # parent of runs/ and videos/
    "models": "ConvRNNClassifier",  # the model's name
    "cin": 2,  # channels of its input
    "base": 8,  # channels of its first convolution
    "cout": 64,  # width before its last layer
    "num_classes": 10,
    "classes": [str(digit) for digit in range(10)],  # their names
    "batch_size": 16,  # streams
    "num_tbins": 10,  # time bins of a sequence, over which gradients go back
    "delta_t": 20_000,  # duration of a bin, in us
    "label_delta_t": None,  # period of the labels to take, in us; None for all
    "preprocess": "histo",  # name of the event tensor
    "data_aug": True,  # shift and zoom recordings in training
    "lr": 4e-3,  # the highest learning rate
    "epochs": 9,
    "num_workers": 0,  # processes of each loader
    "seed": 1,  # of the order and the augmentation
}


def hyperparameters(**changes: Any) -> Namespace:
    """Return the hyperparameters with some of them changed.

    Args:
        **changes: name -> value.

    Raises:
        UsageError: there is no hyperparameter of that name.
    """
    for name in changes:
        if name not in DEFAULTS:
            raise unknown_name("hyperparameter", name, DEFAULTS)
    return Namespace(**{**DEFAULTS, "classes": list(DEFAULTS["classes"]), **changes})
