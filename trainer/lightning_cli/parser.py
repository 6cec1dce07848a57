"""The parser of the command line: arguments of classes of nightbus, optimizers and schedulers."""

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from typing import Any

import torch
from jsonargparse import (
    SUPPRESS,
    ArgumentParser,
    Namespace,
    register_unresolvable_import_paths,
    set_parsing_settings,
)
from jsonargparse.typing import class_from_function
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ...actors.callback import Callback
from ...actors.datamodule import LightningDataModule
from ...actors.former_arguments import FORMER_NAMES
from ...actors.module import LightningModule
from ...bus.errors import UsageError
from ...loggers.logger import Logger
from ...sinks.sink import Sink
from ..trainer import Trainer
from .types import LRSchedulerTypeTuple

register_unresolvable_import_paths(torch)
set_parsing_settings(config_read_mode_fsspec_enabled=True)
# A class is known by its short name once its module has been imported.
import_module("...actors.callbacks", __package__)
for _logger in ("csv_logger", "mlflow_logger", "tensorboard_logger", "wandb_logger"):
    import_module(f"...loggers.{_logger}", __package__)
for _sink in ("csv", "json_lines", "mlflow", "parquet", "sqlite", "tensorboard", "wandb"):
    import_module(f"...sinks.{_sink}", __package__)

AUTOMATIC = "AUTOMATIC"
"""As ``link_to``: the optimizer or scheduler becomes the module's ``configure_optimizers``."""

Classes = type | tuple[type, ...]


class LightningArgumentParser(ArgumentParser):
    """A parser of jsonargparse, which also adds the arguments of classes of nightbus.

    Args:
        *args: arguments of jsonargparse's ArgumentParser.
        description: shown by ``--help``.
        env_prefix: first part of the names of environment variables.
        default_env: read arguments from environment variables too.
        **kwargs: further arguments of jsonargparse's ArgumentParser.

    Attributes:
        callback_keys: keys of callbacks that ``add_lightning_class_args`` has added.
        optimizers: key -> the class or classes of an optimizer, and where it goes.
        lr_schedulers: the same of learning rate schedulers.
    """

    def __init__(
        self,
        *args: Any,
        description: str = "Trains, validates, tests and predicts with nightbus",
        env_prefix: str = "PL",
        default_env: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            *args, description=description, env_prefix=env_prefix, default_env=default_env, **kwargs
        )
        self.add_argument(
            "-c",
            "--config",
            action="config",
            help="a configuration file in YAML or JSON, or its text",
        )
        self.callback_keys: list[str] = []
        self.optimizers: dict[str, tuple[Classes, str]] = {}
        self.lr_schedulers: dict[str, tuple[Classes, str]] = {}

    def add_lightning_class_args(
        self,
        lightning_class: Any,
        nested_key: str | None,
        subclass_mode: bool = False,
        required: bool = True,
    ) -> list[str]:
        """Add the arguments of a class of nightbus.

        Args:
            lightning_class: a Trainer, LightningModule, LightningDataModule or Callback, or a
                function that returns one.
            nested_key: first part of the arguments' names.
            subclass_mode: accept any subclass, which the argument names.
            required: in subclass mode, an error if no class is named.

        Returns:
            Names of the arguments.

        Raises:
            UsageError: it is none of these classes.
        """
        if callable(lightning_class) and not isinstance(lightning_class, type):
            lightning_class = class_from_function(lightning_class)
        kinds = (Trainer, LightningModule, LightningDataModule, Callback)
        if not (isinstance(lightning_class, type) and issubclass(lightning_class, kinds)):
            raise UsageError(
                f"add_lightning_class_args() got {lightning_class!r}; expected a subclass of "
                f"{', '.join(kind.__name__ for kind in kinds)}, or a function that returns one"
            )
        if issubclass(lightning_class, Callback) and nested_key is not None:
            self.callback_keys.append(nested_key)
        added: Any
        if subclass_mode:
            added = self.add_subclass_arguments(
                lightning_class, nested_key or "", fail_untyped=False, required=required
            )
        elif issubclass(lightning_class, Trainer):
            added = self._add_trainer(lightning_class, nested_key)
        else:
            added = self.add_class_arguments(
                lightning_class, nested_key, fail_untyped=False, sub_configs=True
            )
        return list(added or ())

    def _add_trainer(self, kind: type[Trainer], nested_key: str | None) -> list[str]:
        """Add the arguments of a Trainer, and those of Lightning's, for files that have them.

        The Trainer says which of the latter hold. ``--help`` and new files leave them out.
        """
        added: list[str] = self.add_class_arguments(
            kind,
            nested_key,
            fail_untyped=False,
            instantiate=False,
            sub_configs=True,
            skip={"logger"},
        )
        prefix = f"{nested_key}." if nested_key else ""
        # An empty tuple cannot be written to a file, and the Trainer takes None for it.
        empty = {f"{prefix}{name}" for name in ("actors", "sinks")} & set(added)
        self.set_defaults(dict.fromkeys(empty))
        parameters = signature(kind).parameters
        if "logger" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            self.add_argument(
                f"--{prefix}logger",
                type=bool | Logger | Sink | list[Logger | Sink] | None,
                default=True,
                help="true adds a CSV sink unless there is one, false adds none; or loggers, sinks",
            )
        for name in FORMER_NAMES:
            self.add_argument(f"--{prefix}{name}", type=Any, default=SUPPRESS, help=SUPPRESS)
        return added

    def add_optimizer_args(
        self,
        optimizer_class: Classes = (Optimizer,),
        nested_key: str = "optimizer",
        link_to: str = AUTOMATIC,
    ) -> None:
        """Add the arguments of an optimizer.

        Args:
            optimizer_class: its class; a tuple also accepts any subclass of one of them.
            nested_key: first part of the arguments' names.
            link_to: the argument that gets the optimizer's configuration. By default the optimizer
                is what the module's ``configure_optimizers`` returns.

        Raises:
            UsageError: it is not a class of optimizers.
        """
        self._check_kind("add_optimizer_args", optimizer_class, (Optimizer,))
        self.optimizers[nested_key] = optimizer_class, link_to
        self._add_made_later(optimizer_class, nested_key, link_to, {"params"})

    def add_lr_scheduler_args(
        self,
        lr_scheduler_class: Classes = LRSchedulerTypeTuple,
        nested_key: str = "lr_scheduler",
        link_to: str = AUTOMATIC,
    ) -> None:
        """Add the arguments of a learning rate scheduler.

        Args:
            lr_scheduler_class: its class; a tuple also accepts any subclass of one of them.
            nested_key: first part of the arguments' names.
            link_to: the argument that gets the scheduler's configuration. By default the scheduler
                is what the module's ``configure_optimizers`` returns.

        Raises:
            UsageError: it is not a class of schedulers.
        """
        self._check_kind("add_lr_scheduler_args", lr_scheduler_class, (LRScheduler,))
        self.lr_schedulers[nested_key] = lr_scheduler_class, link_to
        self._add_made_later(lr_scheduler_class, nested_key, link_to, {"optimizer"})

    def _check_kind(self, method: str, given: Classes, kinds: tuple[type, ...]) -> None:
        for kind in given if isinstance(given, tuple) else (given,):
            if not (isinstance(kind, type) and issubclass(kind, kinds)):
                raise UsageError(
                    f"{method}() got {kind!r}; expected a subclass of {kinds[0].__qualname__}"
                )

    def _add_made_later(
        self, classes: Classes, nested_key: str, link_to: str, skip: set[str]
    ) -> None:
        """Add the arguments of classes whose first argument is known only when training begins."""
        if isinstance(classes, tuple):
            self.add_subclass_arguments(
                classes,
                nested_key,
                fail_untyped=False,
                instantiate=False,
                skip=skip,
                required=False,
            )
        else:
            self.add_class_arguments(
                classes,
                nested_key,
                fail_untyped=False,
                instantiate=False,
                sub_configs=True,
                skip=set(skip),
            )
        if link_to != AUTOMATIC:
            self.link_arguments(nested_key, link_to, compute_fn=described_as(classes))


def described_as(classes: Classes) -> Callable[[Any], dict[str, Any]]:
    """Return a function that turns what was parsed of a class into class_path and init_args.

    Args:
        classes: the class; for a tuple, what was parsed names the class already.
    """

    def describe(parsed: Any) -> dict[str, Any]:
        plain = parsed.as_dict() if isinstance(parsed, Namespace) else dict(parsed or {})
        if isinstance(classes, tuple):
            return plain
        return {"class_path": f"{classes.__module__}.{classes.__qualname__}", "init_args": plain}

    return describe
