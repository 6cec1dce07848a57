"""The module's arguments, from the checkpoint that a command line names."""

from typing import Any

from jsonargparse import ArgumentError, Namespace

from ...actors.checkpoints.format import load_checkpoint, meant_checkpoint
from ...bus.system.paths import as_path
from .parser import LightningArgumentParser


def with_hyperparameters_of(
    config: Namespace, parser: LightningArgumentParser, subclass_mode: bool
) -> Namespace:
    """Return a configuration whose module has the arguments that a checkpoint keeps.

    They take precedence, since the weights fit no others. It holds for what has weights only from
    the checkpoint: ``validate``, ``test`` and ``predict``.

    Args:
        config: the configuration, with its subcommand.
        parser: the parser that has read it. It ends the program if the arguments do not fit.
        subclass_mode: the configuration names the module's class.
    """
    name = config.get("subcommand")
    given = config[name].get("ckpt_path") if name and name != "fit" else None
    path = meant_checkpoint(as_path(given)) if given else None
    if path is None or not path.exists():  # "best" and "last" are looked up later, as are errors
        return config
    state = load_checkpoint(path)
    described = state.get("hparams_form", {}).get("configured", ())
    saved: dict[str, Any] = {
        key: value
        for key, value in state.get("hyper_parameters", {}).items()
        if key not in described
    }
    if not saved:
        return config
    model = {"init_args": saved} if subclass_mode else saved
    exits, parser.exit_on_error = parser.exit_on_error, False
    try:
        found: Namespace = parser.parse_object({name: {"model": model}}, config)
    except ArgumentError as error:
        parser.exit_on_error = exits
        parser.error(f"Parsing of ckpt_path hyperparameters failed: {path} has {saved}; {error}")
    finally:
        parser.exit_on_error = exits
    return found
