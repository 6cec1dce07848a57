"""The hyperparameters in a checkpoint: which it can hold, and what is reported of the others."""

from typing import Any

from torch.nn import Module

from ...bus.errors import CheckpointError
from ...bus.secrets.redaction import redact_setting, without_secrets
from ...bus.secrets.texts import STRUCK_OUT
from ...bus.system.logging_setup import get_logger
from ..checkpoints.format import check_carried
from ..checkpoints.torch_objects import is_module_of_torch
from ..checkpoints.values import is_registered, registered_without_secrets
from ..hyperparameter_values import carried
from ..hyperparameters import (
    HyperparametersMixin,
    become_mappings,
    hyperparameters_of,
    unknown_arguments,
)

_log = get_logger("nightbus.checkpoint", of_all_ranks=True)


class SavedHyperparameters:
    """Makes the hyperparameters of a module or datamodule part of the checkpoints of one run."""

    def __init__(self) -> None:
        self._reported_left_out = False

    def check(self, owner: HyperparametersMixin) -> None:
        """Warn, before training begins, of arguments that ``load_from_checkpoint`` will miss.

        Args:
            owner: the module or the datamodule.
        """
        self.of(owner)
        if changed := become_mappings(owner, is_registered):
            _log.warning(
                "dataclasses among the hyperparameters come back as mappings with attributes; "
                "annotate the arguments with their classes, or call nightbus.register_type for "
                "these",
                names=", ".join(map(str, changed)),
            )
        if unknown := unknown_arguments(owner):
            _log.warning(
                f"load_from_checkpoint will need arguments of {type(owner).__name__} that are not "
                "hyperparameters; call self.save_hyperparameters() in its __init__ to have "
                "checkpoints keep them",
                names=", ".join(unknown),
            )

    def of(self, owner: HyperparametersMixin) -> dict[str, Any]:
        """Return the hyperparameters that a checkpoint can hold, and how they were given.

        Secrets are left out, because checkpoints are passed on. A warning reports what is left out.

        Args:
            owner: the module or the datamodule.

        Returns:
            Entries of the checkpoint.
        """
        kept: dict[str, Any] = {}
        shapes: dict[str, Any] = {}
        left_out: dict[str, str] = {}  # name -> why
        reported = set[str]()  # by save_hyperparameters, which knows modules
        for name, given in hyperparameters_of(owner).items():
            try:
                value, shape = carried(given, is_registered)
                check_carried({name: value})
            except CheckpointError as error:
                left_out[name] = without_secrets(str(error))
                if isinstance(given, Module) and not is_module_of_torch(given):
                    reported.add(name)
                continue
            kept[name] = redact_setting(name, value, registered_without_secrets)
            # == of an array is not a bool.
            if isinstance(kept[name], str) and kept[name] == STRUCK_OUT:
                left_out[name] = "it is a secret, which checkpoints do not keep"
                del kept[name]
            elif shape:
                shapes[name] = shape
        if set(left_out) - reported and not self._reported_left_out:
            self._reported_left_out = True
            _log.warning(
                "hyperparameters are not in the checkpoint, which cannot hold them or keeps no "
                "secrets; pass them to load_from_checkpoint, or leave them out with "
                "save_hyperparameters(ignore=...)",
                names=", ".join(str(name) for name in left_out if name not in reported),
            )
        how = owner._nightbus_kept_hparams
        form: dict[str, Any] = {"items": list(how.items), "shape": how.shape, "shapes": shapes}
        if how.configured:
            form["configured"] = sorted(how.configured)
        if left_out:
            form["left_out"] = left_out
        return {
            "hyper_parameters": kept,
            "hparams_argument": how.argument,
            "hparams_form": form | self._star(how.star),
        }

    def _star(self, star: tuple[Any, ...]) -> dict[str, Any]:
        """Return the values of ``*args``, if a checkpoint can hold them."""
        try:
            check_carried({"*args": list(star)})
        except CheckpointError as error:
            if not self._reported_left_out:
                self._reported_left_out = True
                _log.warning(
                    "the values of *args of __init__ are not in the checkpoint", why=str(error)
                )
            return {}
        return {"star": redact_setting("", list(star), registered_without_secrets)}
