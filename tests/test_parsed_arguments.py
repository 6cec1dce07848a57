"""A Trainer made of parsed arguments, as scripts for Lightning 1.x make one."""

from argparse import ArgumentParser, Namespace
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
