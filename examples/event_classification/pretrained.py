"""Weights of a trained classifier for one with other classes: rows are moved by class name."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from examples.event_classification.errors import ClassListError


def move_weights(
    model: nn.Module,
    last_layer: str,
    classes: Sequence[str],
    weights: Mapping[str, Tensor],
    old_classes: Sequence[str],
) -> list[str]:
    """Copy weights; rows of the last layer go to the class of the same name.

    A class that is new keeps the row that the model has.

    Args:
        model: gets the weights.
        last_layer: name of its layer that has a row for each class.
        classes: names of its classes.
        weights: of the old model, by the names of ``state_dict``.
        old_classes: names of the old model's classes.

    Returns:
        The classes that both have.

    Raises:
        ClassListError: they have no class in common, or another weight does not fit.
    """
    own = model.state_dict()
    common = [name for name in classes if name in old_classes]
    if not common:
        raise ClassListError(
            f"no class is in both models: the old one has {', '.join(old_classes)}, "
            f"the new one {', '.join(classes)}"
        )
    if own.keys() != weights.keys():
        odd = sorted(own.keys() ^ weights.keys())[0]
        raise ClassListError(f"{odd} is in one of the models only; they are different models")
    for name, old in weights.items():
        if name.startswith(f"{last_layer}.") and old.shape[1:] == own[name].shape[1:]:
            for one in common:
                own[name][classes.index(one)] = old[old_classes.index(one)]
        elif old.shape != own[name].shape:
            raise ClassListError(
                f"{name} has shape {tuple(own[name].shape)}, and {tuple(old.shape)} in the old "
                "model; make the new one with the same cin, base and cout"
            )
        else:
            own[name] = old
    with torch.no_grad():
        model.load_state_dict(own)
    return common
