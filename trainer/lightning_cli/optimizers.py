"""The optimizer and scheduler of a command line become the module's ``configure_optimizers``."""

import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from jsonargparse import Namespace

from ...actors.module import LightningModule
from ...actors.overrides import is_overridden
from ...bus.errors import UsageError
from .parser import AUTOMATIC, Classes, LightningArgumentParser, described_as
from .types import instantiate_class


def override_configure_optimizers(
    model: LightningModule,
    parser: LightningArgumentParser,
    config: Namespace,
    configure: Callable[..., Any],
    owner: str,
) -> None:
    """Give a module the ``configure_optimizers`` of the command line, if it names an optimizer.

    Args:
        model: the module.
        parser: the parser that has read the configuration.
        config: the configuration.
        configure: called with the module, the optimizer and, if there is one, the scheduler.
        owner: name of the class that has it, for warnings.

    Raises:
        UsageError: several optimizers or schedulers would be its own.
    """
    make_optimizer = _automatic(parser.optimizers, config)
    make_scheduler = _automatic(parser.lr_schedulers, config)
    if not make_optimizer:
        return
    if is_overridden(model, "configure_optimizers"):
        warnings.warn(
            f"{type(model).__name__}.configure_optimizers is not called: the optimizer is the one "
            f"that the arguments of {owner} name",
            stacklevel=2,
        )

    def configure_optimizers(module: LightningModule) -> Any:
        optimizer = instantiate_class(module.parameters(), make_optimizer)
        if not make_scheduler:
            return configure(module, optimizer)
        return configure(module, optimizer, instantiate_class(optimizer, make_scheduler))

    object.__setattr__(model, "configure_optimizers", types.MethodType(configure_optimizers, model))


def _automatic(configured: Mapping[str, tuple[Classes, str]], config: Namespace) -> dict[str, Any]:
    """Return the class and arguments of what no link leads elsewhere; empty if there is none."""
    keys = [key for key, (_, link_to) in configured.items() if link_to == AUTOMATIC]
    if len(keys) > 1:
        raise UsageError(
            f"{' and '.join(keys)} would both go to configure_optimizers, which takes one of a "
            "kind; pass link_to= when you add them, and use them in the module's own "
            "configure_optimizers"
        )
    parsed = config.get(keys[0]) if keys else None
    return described_as(configured[keys[0]][0])(parsed) if parsed else {}
