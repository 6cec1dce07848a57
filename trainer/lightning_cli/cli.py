"""LightningCLI: trains by a command line and configuration files, made of signatures."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from inspect import getdoc, signature
from typing import Any

import yaml
from jsonargparse import Namespace
from jsonargparse.typing import class_from_function
from torch.optim import Optimizer

from ...actors.callback import Callback
from ...actors.data.rng import seed_everything
from ...actors.datamodule import LightningDataModule
from ...actors.module import LightningModule
from ...actors.process.versions import package_versions
from ..trainer import Trainer
from .checkpoint_arguments import with_hyperparameters_of
from .configured_hyperparameters import instantiator_for
from .former_arguments import with_former
from .optimizers import override_configure_optimizers
from .parser import LightningArgumentParser
from .registries import fill_registries
from .save_config import SaveConfigCallback
from .types import ArgsType, LRSchedulerTypeUnion, ReduceLROnPlateau

_DATA_OF = {
    "fit": {"train_dataloaders", "val_dataloaders"},
    "validate": {"dataloaders"},
    "test": {"dataloaders"},
    "predict": {"dataloaders"},
}


class LightningCLI:
    """Reads a command line and configuration files, makes what they describe, and runs it.

    The arguments are those of the Trainer, the module and the datamodule, from their signatures
    and docstrings.

    Args:
        model_class: a LightningModule's class, or a function that returns one. None lets
            ``--model`` name a class.
        datamodule_class: a LightningDataModule's class, or a function that returns one. None lets
            ``--data`` name a class.
        save_config_callback: class of the callback that keeps the configuration in the run's
            folder; None keeps none.
        save_config_kwargs: further arguments of that callback.
        trainer_class: a Trainer's class, or a function that returns one.
        trainer_defaults: defaults of the Trainer's arguments. Callbacks among them are always
            there, whatever a configuration says.
        seed_everything_default: default of ``--seed_everything``: True for any seed, False or
            None for none, or a seed.
        parser_kwargs: arguments of the parser; or, for a subcommand's parser, under its name.
        parser_class: class of the parser.
        subclass_mode_model: let ``--model`` name a subclass of ``model_class``.
        subclass_mode_data: let ``--data`` name a subclass of ``datamodule_class``.
        args: arguments instead of those of ``sys.argv``: a list, or a dict or Namespace such as a
            configuration file has.
        run: run the subcommand; False only makes the objects, and has no subcommands.
        auto_configure_optimizers: have ``--optimizer`` and ``--lr_scheduler``, which replace the
            module's ``configure_optimizers`` when they are given.
        load_from_checkpoint_support: keep arguments that are objects in checkpoints, as the
            configuration describes them.
        **former: arguments of Lightning 1.x: ``save_config_filename``, ``save_config_overwrite``
            and ``save_config_multifile`` go to ``save_config_kwargs``; ``description``,
            ``env_prefix`` and ``env_parse`` to ``parser_kwargs``. ``auto_registry=True`` puts
            all subclasses into the registries; they are found by their names anyway.

    Attributes:
        config: what was read.
        config_init: the objects that were made of it.
        model: the module.
        datamodule: the datamodule; None if there is none.
        trainer: the trainer.
        parser: the parser.

    Raises:
        UsageError: an argument is of the wrong kind.
    """

    def __init__(
        self,
        model_class: type[LightningModule] | Callable[..., LightningModule] | None = None,
        datamodule_class: type[LightningDataModule]
        | Callable[..., LightningDataModule]
        | None = None,
        save_config_callback: type[SaveConfigCallback] | None = SaveConfigCallback,
        save_config_kwargs: dict[str, Any] | None = None,
        trainer_class: type[Trainer] | Callable[..., Trainer] = Trainer,
        trainer_defaults: dict[str, Any] | None = None,
        seed_everything_default: bool | int | None = True,
        parser_kwargs: dict[str, Any] | dict[str, dict[str, Any]] | None = None,
        parser_class: type[LightningArgumentParser] = LightningArgumentParser,
        subclass_mode_model: bool = False,
        subclass_mode_data: bool = False,
        args: ArgsType = None,
        run: bool = True,
        auto_configure_optimizers: bool = True,
        load_from_checkpoint_support: bool = True,
        **former: Any,
    ) -> None:
        given = with_former(former, save_config_kwargs, parser_kwargs)
        fill_registries(with_all=bool(former.get("auto_registry")))
        self.save_config_callback = save_config_callback
        self.save_config_kwargs = given.save_config_kwargs
        self.trainer_class = trainer_class
        self.trainer_defaults = trainer_defaults or {}
        self.seed_everything_default = seed_everything_default
        self.parser_kwargs = given.parser_kwargs
        self.parser_class = parser_class
        self.auto_configure_optimizers = auto_configure_optimizers
        self.load_from_checkpoint_support = load_from_checkpoint_support
        self.model_class = model_class
        self.subclass_mode_model = model_class is None or subclass_mode_model
        self.datamodule_class = datamodule_class
        self.subclass_mode_data = datamodule_class is None or subclass_mode_data
        self.subcommand: str | None = None
        self.datamodule: LightningDataModule | None = None
        self._method_arguments: dict[str, list[str]] = {}
        self._subparsers: dict[str, LightningArgumentParser] = {}
        self.parser = self._make_parser(run)
        self.config: Namespace = self.parse_arguments(self.parser, args)
        self.subcommand = self.config["subcommand"] if run else None
        self._seed()
        self.before_instantiate_classes()
        self.instantiate_classes()
        self.after_instantiate_classes()
        if self.subcommand is not None:
            self._run_subcommand(self.subcommand)

    # -- parsers -----------------------------------------------------------------------------

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Return a parser without arguments.

        Args:
            **kwargs: arguments of the parser's class.
        """
        kwargs.setdefault("dump_header", [f"nightbus=={package_versions().get('nightbus')}"])
        return self.parser_class(**kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add arguments of your own, links between arguments, and defaults; override it.

        Args:
            parser: the parser, or each subcommand's parser.
        """

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the subcommands, methods of the Trainer, and which arguments are no options."""
        return {name: {"model", "datamodule"} | data for name, data in _DATA_OF.items()}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the arguments of the Trainer, the module and the datamodule.

        Args:
            parser: the parser, or each subcommand's parser.
        """
        parser.add_argument(
            "--seed_everything",
            type=bool | int | None,
            default=self.seed_everything_default,
            help="seed of the random number generators; true for any seed, false for none",
        )
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults(
            {
                f"trainer.{name}": value
                for name, value in self.trainer_defaults.items()
                if name != "callbacks"
            }
        )
        parser.add_lightning_class_args(
            self.model_class or LightningModule, "model", subclass_mode=self.subclass_mode_model
        )
        if self.datamodule_class is not None:
            parser.add_lightning_class_args(
                self.datamodule_class, "data", subclass_mode=self.subclass_mode_data
            )
        else:
            parser.add_lightning_class_args(
                LightningDataModule, "data", subclass_mode=True, required=False
            )

    def _make_parser(self, run: bool) -> LightningArgumentParser:
        of_subcommands = {
            name: kwargs
            for name, kwargs in self.parser_kwargs.items()
            if name in self.subcommands() and isinstance(kwargs, dict)
        }
        parser = self.init_parser(
            **{k: v for k, v in self.parser_kwargs.items() if k not in of_subcommands}
        )
        if not run:
            self._add_arguments(parser)
            return parser
        group = parser.add_subcommands()
        trainer_class = self.trainer_class
        if not isinstance(trainer_class, type):
            trainer_class = class_from_function(trainer_class)
        for name, left_out in self.subcommands().items():
            subparser = self.init_parser(**of_subcommands.get(name, {}))
            self._add_arguments(subparser)
            self._method_arguments[name] = subparser.add_method_arguments(
                trainer_class, name, skip=set(left_out)
            )
            self._subparsers[name] = subparser
            help = (getdoc(getattr(trainer_class, name)) or "").partition("\n")[0]
            group.add_subcommand(name, subparser, help=help)
        return parser

    def _add_arguments(self, parser: LightningArgumentParser) -> None:
        self.add_core_arguments_to_parser(parser)
        self.add_arguments_to_parser(parser)
        if self.auto_configure_optimizers:
            if not parser.optimizers:
                parser.add_optimizer_args((Optimizer,))
            if not parser.lr_schedulers:
                parser.add_lr_scheduler_args()

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> Namespace:
        """Return what the command line, configuration files and environment variables say.

        Args:
            parser: the parser.
            args: what was passed to the constructor.
        """
        if args is not None and len(sys.argv) > 1:
            warnings.warn(
                "LightningCLI's args parameter stands for a command line, and this process has "
                f"one too, which is not read: {sys.argv[1:]}",
                stacklevel=3,
            )
        if isinstance(args, dict | Namespace):
            config = parser.parse_object(args)
        else:
            _warn_of_replaced_callbacks(sys.argv[1:] if args is None else args)
            config = parser.parse_args(args)
        return with_hyperparameters_of(config, parser, self.subclass_mode_model)

    # -- objects -----------------------------------------------------------------------------

    def _seed(self) -> None:
        config = self._of_subcommand(self.config)
        wanted = config["seed_everything"]
        if wanted is False or wanted is None:
            return
        config["seed_everything"] = seed_everything(
            None if wanted is True else wanted, workers=True
        )

    def before_instantiate_classes(self) -> None:
        """Called before the objects are made, with ``self.config`` read; override it."""

    def instantiate_classes(self) -> None:
        """Make the module, the datamodule, further objects, and the trainer."""
        parser = self._parser()
        config = self._of_subcommand(self.config)
        self.config_init: Namespace = self.parser.instantiate(
            self.config, instantiators=self._instantiators()
        )
        made = self._of_subcommand(self.config_init)
        self.datamodule = made.get("data")
        self.model: LightningModule = made.get("model")
        override_configure_optimizers(
            self.model, parser, config, self.configure_optimizers, type(self).__name__
        )
        self.trainer = self.instantiate_trainer()

    def _instantiators(self) -> list[tuple[Callable[..., Any], type, bool]]:
        """Return what constructs the module and the datamodule; empty for the usual way."""
        if not self.load_from_checkpoint_support:
            return []
        text = self.parser.dump(self.config, skip_unset=False, skip_link_targets=False)
        plain = yaml.safe_load(text)
        plain = plain if self.subcommand is None else plain[self.subcommand]
        return [
            (instantiator_for(plain.get(key) or {}), kind, True)
            for key, kind in (("model", LightningModule), ("data", LightningDataModule))
        ]

    def after_instantiate_classes(self) -> None:
        """Called when the objects are made, before anything runs; override it."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Return a trainer as configured, with its callbacks.

        Args:
            **kwargs: arguments that take precedence over the configuration.
        """
        made = self._of_subcommand(self.config_init)
        callbacks = [made[key] for key in self._parser().callback_keys]
        config = {**_shallow(made.get("trainer") or {}), **kwargs}
        takes = signature(self.trainer_class).parameters
        forced = [_instantiated(entry) for entry in _listed(self.trainer_defaults.get("callbacks"))]
        if "callbacks" not in takes and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            if callbacks or forced:
                warnings.warn(
                    f"The `{self.trainer_class.__qualname__}` class does not expose the "
                    "`callbacks` argument, so they are not used",
                    stacklevel=2,
                )
            return self.trainer_class(**config)
        callbacks = [*_listed(config.get("callbacks")), *callbacks, *forced]
        if self.save_config_callback is not None and not config.get("fast_dev_run", False):
            saved = self._of_subcommand(self.config)
            callbacks.append(
                self.save_config_callback(self._parser(), saved, **self.save_config_kwargs)
            )
        return self.trainer_class(**{**config, "callbacks": callbacks})

    @staticmethod
    def configure_optimizers(
        lightning_module: LightningModule,
        optimizer: Optimizer,
        lr_scheduler: LRSchedulerTypeUnion | None = None,
    ) -> Any:
        """Return what the module's ``configure_optimizers`` returns; override it.

        Args:
            lightning_module: the module.
            optimizer: the optimizer of the command line.
            lr_scheduler: its learning rate scheduler; None if there is none.

        Returns:
            The optimizer and the scheduler.
        """
        if lr_scheduler is None:
            return optimizer
        if isinstance(lr_scheduler, ReduceLROnPlateau):
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": lr_scheduler, "monitor": lr_scheduler.monitor},
            }
        return [optimizer], [lr_scheduler]

    # -- running -----------------------------------------------------------------------------

    def _run_subcommand(self, name: str) -> None:
        """Call ``before_fit``, ``fit`` and ``after_fit``, or those of another subcommand.

        A method of the command line itself stands for that of the trainer.
        """
        self._call(f"before_{name}")
        run = getattr(self, name, None) or getattr(self.trainer, name)
        config = self._of_subcommand(self.config_init)
        arguments = {key: config[key] for key in self._method_arguments[name]}
        arguments["model"] = self.model
        if self.datamodule is not None:
            arguments["datamodule"] = self.datamodule
        run(**arguments)
        self._call(f"after_{name}")

    def _call(self, name: str) -> None:
        method = getattr(self, name, None)
        if callable(method):
            method()

    def _parser(self) -> LightningArgumentParser:
        """Return the parser that has the arguments: the subcommand's, if there is one."""
        return self.parser if self.subcommand is None else self._subparsers[self.subcommand]

    def _of_subcommand(self, config: Namespace) -> Namespace:
        found: Namespace = config if self.subcommand is None else config[self.subcommand]
        return found


def _warn_of_replaced_callbacks(args: Sequence[str]) -> None:
    """Warn if callbacks are given several times: Lightning 1.x puts them together."""
    option = "--trainer.callbacks"
    given = sum(each == option or each.startswith(f"{option}=") for each in args)
    if given > 1:
        warnings.warn(
            f"{option} is given {given} times, and each time it replaces the callbacks before it; "
            f"to add to them, write {option}+=...",
            stacklevel=4,
        )


def _shallow(config: Any) -> dict[str, Any]:
    """Return the items of a Namespace, whose values stay as they are."""
    return dict(vars(config)) if isinstance(config, Namespace) else dict(config)


def _listed(given: Any) -> list[Any]:
    """Return several things as a list: one, a sequence of them, or None for none."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def _instantiated(callback: Callback | Mapping[str, Any]) -> Callback:
    """Return a callback of the defaults, which may be described by class_path and init_args."""
    if isinstance(callback, Callback):
        return callback
    parser = LightningArgumentParser()
    parser.add_subclass_arguments(Callback, "callback")
    made: Callback = parser.instantiate(parser.parse_object({"callback": callback}))["callback"]
    return made
