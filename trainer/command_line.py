"""The Trainer's arguments on a command line of argparse, as scripts for Lightning 1.x have them."""

from argparse import ArgumentParser, Namespace
from inspect import Parameter, signature
from typing import Any, Self

from ..actors.former_arguments import FORMER_NAMES
from ..actors.parsed_arguments import add_options, check_parser

_OBJECTS = ("callbacks", "actors", "sinks")  # which no text describes
_TEXTS = ("run_name", "notes", "group", "default_root_dir")
# Of Lightning before 1.0, whose options nothing has.
_OF_0_X = (
    "default_save_path",
    "early_stop_callback",
    "log_save_interval",
    "max_nb_epochs",
    "min_nb_epochs",
    "nb_sanity_val_steps",
    "num_tpu_cores",
    "overfit_pct",
    "row_log_interval",
    "show_progress_bar",
    "test_percent_check",
    "train_percent_check",
    "use_amp",
    "val_percent_check",
)
_TRUTHS = (
    "auto_lr_find",
    "auto_scale_batch_size",
    "auto_select_gpus",
    "benchmark",
    "checkpoint_callback",
    "deterministic",
    "move_metrics_to_cpu",
    "reload_dataloaders_every_epoch",
    "replace_sampler_ddp",
    "stochastic_weight_avg",
    "terminate_on_nan",
)


class CommandLine:
    """Adds a Trainer's arguments to a parser, and makes a Trainer of what was parsed.

    Lightning 2 has jsonargparse for this; scripts for 1.x have these methods.
    """

    @classmethod
    def default_attributes(cls) -> dict[str, Any]:
        """Return the Trainer's arguments, and the defaults that they have."""
        return {
            name: parameter.default
            for name, parameter in signature(cls.__init__).parameters.items()
            if parameter.kind is Parameter.KEYWORD_ONLY
        }

    @classmethod
    def add_argparse_args(
        cls, parent_parser: ArgumentParser, use_argument_group: bool = True
    ) -> ArgumentParser:
        """Add an option for each argument of the Trainer, those of 1.x included.

        Args:
            parent_parser: parser that gets the options.
            use_argument_group: list them in a group of their own.

        Returns:
            The same parser.

        Raises:
            UsageError: it is not a parser.
        """
        check_parser(parent_parser)
        group = parent_parser.add_argument_group("Trainer") if use_argument_group else parent_parser
        defaults = {**dict.fromkeys(FORMER_NAMES), **cls.default_attributes()}
        left_out = {*_OBJECTS, *_OF_0_X}
        shown = {name: defaults[name] for name in sorted(defaults) if name not in left_out}
        add_options(parent_parser, group, shown, _TEXTS, _TRUTHS)
        return parent_parser

    @classmethod
    def parse_argparser(cls, arg_parser: ArgumentParser | Namespace) -> Namespace:
        """Return what was parsed, with the Trainer's defaults for what is not there.

        Args:
            arg_parser: a parser, which reads the command line, or what one has returned.
        """
        parsed = arg_parser.parse_args() if isinstance(arg_parser, ArgumentParser) else arg_parser
        return Namespace(**{**cls.default_attributes(), **vars(parsed)})

    @classmethod
    def from_argparse_args(cls, args: ArgumentParser | Namespace, **kwargs: Any) -> Self:
        """Make a Trainer of parsed arguments; those that it does not have are left out.

        Args:
            args: a parser, which reads the command line, or what one has returned.
            **kwargs: further arguments, which take precedence.

        Returns:
            The Trainer.
        """
        own = cls.default_attributes()
        given = {
            name: value
            for name, value in vars(cls.parse_argparser(args)).items()
            if (value != own[name] if name in own else name in FORMER_NAMES and value is not None)
        }
        return cls(**{**given, **kwargs})
