"""A Trainer made of parsed arguments, as scripts for Lightning 1.x make one."""

from argparse import ArgumentParser, Namespace
from importlib import import_module
from typing import Any

import pytest

import nightbus as nb


def parsed(*options: str) -> Namespace:
    parser = ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    return nb.Trainer.add_argparse_args(parser).parse_args(list(options))


@pytest.mark.parametrize(
    ("options", "argument", "value"),
    [
        (["--max_epochs", "3"], "max_epochs", 3),
        (["--limit_train_batches", "0.5"], "limit_train_batches", 0.5),
        (["--fast_dev_run"], "fast_dev_run", True),
        (["--fast_dev_run", "2"], "fast_dev_run", 2),
        (["--enable_progress_bar", "False"], "enable_progress_bar", False),
        (["--check_val_every_n_epoch", "None"], "check_val_every_n_epoch", None),
        (["--run_name", "7"], "run_name", "7"),
        (["--precision", "bf16-mixed"], "precision", "bf16-mixed"),
        (["--max_epochs", "1", "--reload_dataloaders_every_epoch", "True"],
         "reload_dataloaders_every_n_epochs", 1),
    ],
)  # fmt: skip
def test_an_option_is_an_argument(options: list[str], argument: str, value: Any) -> None:
    run = nb.Trainer.from_argparse_args(parsed(*options), accelerator="cpu")

    assert run.arguments[argument] == value


@pytest.mark.parametrize(
    ("options", "argument", "value"),
    [
        (["--auto_lr_find"], "auto_lr_find", True),
        (["--auto_lr_find", "rate"], "auto_lr_find", "rate"),
        (["--auto_scale_batch_size", "OFF"], "auto_scale_batch_size", False),
        (["--benchmark", "t"], "benchmark", True),
        (["--fast_dev_run", "0"], "fast_dev_run", False),
        (["--limit_val_batches", "0"], "limit_val_batches", 0),
        (["--stochastic_weight_avg", "1"], "stochastic_weight_avg", True),
    ],
)
def test_what_may_be_true_or_false_is_read_in_all_the_words_for_it(
    options: list[str], argument: str, value: Any
) -> None:
    found = vars(parsed(*options))[argument]

    assert (found, type(found)) == (value, type(value))


def test_names_of_lightning_before_1_0_have_no_option() -> None:
    found = vars(parsed())

    assert "gpus" in found
    assert not {"max_nb_epochs", "early_stop_callback", "use_amp"} & {*found}


def test_without_options_a_trainer_has_its_defaults() -> None:
    made = nb.Trainer.from_argparse_args(parsed(), accelerator="cpu")

    assert made.arguments == nb.Trainer(accelerator="cpu").arguments
    assert nb.Trainer.default_attributes()["val_check_interval"] == 1.0


def test_arguments_given_besides_take_precedence() -> None:
    given = parsed("--max_epochs", "3", "--lr", "1")

    assert nb.Trainer.from_argparse_args(given, max_epochs=5).max_epochs == 5
    assert nb.Trainer.from_argparse_args(Namespace(max_epochs=2, hidden=8)).max_epochs == 2
    assert nb.Trainer.parse_argparser(given).lr == 1.0


def test_an_option_of_the_script_is_left_as_it_is() -> None:
    parser = ArgumentParser()
    parser.add_argument("--max_epochs", type=str, default="many")

    assert nb.Trainer.add_argparse_args(parser).parse_args([]).max_epochs == "many"


def test_what_is_no_parser_is_refused() -> None:
    with pytest.raises(nb.UsageError, match=r"expects an argparse\.ArgumentParser, not dict"):
        nb.Trainer.add_argparse_args({})  # type: ignore[arg-type]


class Options:
    """Options of a script.

    Args:
        width: of a layer, 100 % of it.
    """

    def __init__(self, width: int = 4, name: str = "", deep: bool = False) -> None:
        self.given = (width, name, deep)


def test_any_class_has_its_arguments_on_a_command_line_under_lightnings_names() -> None:
    module: Any = import_module("nightbus.compat.pytorch_lightning.utilities.argparse")
    parser = ArgumentParser()

    assert module.add_argparse_args(Options, parser) is parser
    parsed = parser.parse_args(["--width", "8", "--name", "7", "--deep"])

    assert "of a layer, 100 % of it." in parser.format_help()
    assert module.from_argparse_args(Options, parsed).given == (8, "7", True)
    assert module.get_init_arguments_and_types(Options)[0] == ("width", (int,), 4)


def test_options_without_a_group_are_those_of_a_new_parser() -> None:
    module: Any = import_module("nightbus.compat.pytorch_lightning.utilities.argparse")
    former = ArgumentParser()
    former.add_argument("--lr", type=float)

    parser = module.add_argparse_args(Options, former, use_argument_group=False)
    parsed = module.parse_argparser(Options, parser.parse_args(["--lr", "0.5"]))

    assert (parsed.lr, parsed.width) == (0.5, 4)
    assert module.parse_argparser(Options, Namespace(deep=None)).deep is True
