"""States of callbacks in the form of Lightning 1.x: what ``on_save_checkpoint`` returned."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .callback import Callback
from .overrides import takes_argument

if TYPE_CHECKING:
    from .module import LightningModule

_OWN_STATE = ("callback_state", "checkpointed_state")  # what overrides for 1.x call it


def handler_of(
    callback: Callback,
    name: str,
    method: Callable[..., Any],
    trainer: Any,
    module: "LightningModule",
) -> Callable[..., Any]:
    """Return what runs when a checkpoint is saved or loaded, for one callback.

    A dict that ``on_save_checkpoint`` returns is the callback's state, instead of what its
    ``state_dict`` returns. An ``on_load_checkpoint`` whose argument is called ``callback_state``
    gets the state, and is not called if the checkpoint has none; any other gets the checkpoint.

    Args:
        callback: the callback.
        name: ``on_save_checkpoint`` or ``on_load_checkpoint``.
        method: its method of this name, as a callable of trainer, module and checkpoint.
        trainer: the trainer.
        module: the module.
    """

    def save(checkpoint: dict[str, Any]) -> None:
        state = method(trainer, module, checkpoint)
        if isinstance(state, Mapping) and state and "actors" in checkpoint:
            # A new dict: that of an earlier point to resume from belongs to several checkpoints.
            checkpoint["actors"] = {**checkpoint["actors"], callback.saved_as: dict(state)}

    def load(checkpoint: Mapping[str, Any]) -> None:
        if not any(takes_argument(callback, name, argument) for argument in _OWN_STATE):
            method(trainer, module, checkpoint)
        elif state := checkpoint.get("actors", {}).get(callback.saved_as):
            method(trainer, module, state)

    return save if name == "on_save_checkpoint" else load
