"""LightningCLI: command lines and configuration files made of signatures."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from models import Small, loader
from torch.optim.lr_scheduler import StepLR

import nightbus as nb
from nightbus.trainer.lightning_cli.registries import (
    CALLBACK_REGISTRY,
    OPTIMIZER_REGISTRY,
    Registry,
)

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


class Sized(Small):
    """A module with arguments.

    Args:
        width: of its layer.
        activation: what follows it.
    """

    def __init__(self, width: int = 4, activation: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.width = width

    def train_dataloader(self) -> Any:
        return loader()

    def test_dataloader(self) -> Any:
        return loader()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("width", float(self.width))


class Data(nb.LightningDataModule):
    """Data of which a module has to know something.

    Args:
        batch_size: of a batch.
    """

    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.width = 7


@pytest.fixture(autouse=True)
def no_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.chdir(tmp_path)


def made(*args: str, kind: type[nb.LightningCLI] | None = None, **kwargs: Any) -> nb.LightningCLI:
    """The objects of a command line that runs nothing."""
    options: dict[str, Any] = {"model_class": Sized, "seed_everything_default": False}
    return (kind or nb.LightningCLI)(args=list(args), run=False, **(options | kwargs))


def ran(*args: str, **kwargs: Any) -> nb.LightningCLI:
    options: dict[str, Any] = {"trainer_defaults": {"max_steps": 1, "max_epochs": 1}}
    return nb.LightningCLI(Sized, args=[args[0], *QUIET, *args[1:]], **(options | kwargs))


def saved_by(trainer: nb.Trainer) -> str:
    callback: Any = trainer.checkpoint_callback
    return str(callback.best_model_path)


def printed(capsys: pytest.CaptureFixture[str], args: Sequence[str], **kwargs: Any) -> str:
    with pytest.raises(SystemExit):
        made(*args, **kwargs)
    return capsys.readouterr().out


def test_arguments_of_the_module_and_the_trainer_are_options() -> None:
    cli = made("--model.width=6", "--trainer.limit_train_batches=2", "--trainer.precision=64-true")

    assert isinstance(cli.model, Sized)
    assert cli.model.width == 6
    assert cli.trainer.limit_train_batches == 2
    assert cli.trainer.precision == "64-true"
    assert cli.config.model.width == 6


def test_help_shows_what_docstrings_say(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, ["--help"])

    assert "of its layer" in shown
    assert "maximum number of epochs" in shown
    assert "--trainer.logger" in shown
    assert "tpu_cores" not in shown  # Lightning's, which only its files have


def test_a_configuration_file_is_overridden_by_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "given.yaml"
    file.write_text("model: {width: 5}\ntrainer: {max_epochs: 3, min_epochs: 2}\n")

    cli = made(f"--config={file}", "--trainer.max_epochs=9")

    assert (cli.config.model.width, cli.trainer.max_epochs, cli.trainer.min_epochs) == (5, 9, 2)


def test_a_file_that_lightning_wrote_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "of_lightning.yaml"
    file.write_text(
        "trainer: {max_epochs: 3, logger: null, precision: null, limit_train_batches: null, "
        "profiler: null, plugins: null, enable_autolog_hparams: true, model_registry: null}\n"
    )

    assert made(f"--config={file}").trainer.max_epochs == 3


def test_what_lightning_has_and_nightbus_has_not_is_refused() -> None:
    with pytest.raises(nb.UsageError, match=r"Trainer\(use_amp=True\) is not"):
        made("--trainer.use_amp=true")


def test_print_config_shows_a_file_that_gives_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shown = printed(capsys, ["--model.width=6", "--optimizer=SGD", "--print_config"])
    (tmp_path / "printed.yaml").write_text(shown)

    with pytest.warns(UserWarning, match="configure_optimizers is not called"):
        cli = made("--config=printed.yaml")

    assert shown.startswith("# nightbus==")
    assert cli.config.model.width == 6
    assert cli.config.optimizer.class_path == "torch.optim.SGD"


def test_arguments_that_a_logger_passes_on_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    given = ["--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=logs"]

    shown = printed(capsys, [*given, "--trainer.logger.comment=mine", "--print_config"])

    assert "comment: mine" in shown


def test_callbacks_are_known_by_their_short_names() -> None:
    cli = made(
        "--trainer.callbacks+=EarlyStopping",
        "--trainer.callbacks.monitor=loss",
        "--trainer.callbacks+=LearningRateMonitor",
        "--trainer.callbacks.logging_interval=epoch",
    )

    stopping, rates = cli.trainer.callbacks[:2]
    assert isinstance(stopping, nb.EarlyStopping)
    assert stopping.monitor == "loss"
    assert isinstance(rates, nb.LearningRateMonitor)


@pytest.mark.parametrize("name", ["ModelSummary", "RichModelSummary"])
def test_a_summary_needs_no_arguments_but_its_own(name: str) -> None:
    cli = made(f"--trainer.callbacks+={name}", "--trainer.callbacks.max_depth=2")

    summary = next(each for each in cli.trainer.callbacks if isinstance(each, nb.ModelSummary))
    assert summary.max_depth == 2


def test_sinks_are_known_by_their_short_names() -> None:
    cli = made("--trainer.logger=JSONLines", "--trainer.sinks=[{class_path: TensorBoard}]")

    assert {type(sink) for sink in cli.trainer.sinks} == {nb.JSONLines, nb.TensorBoard}


def test_loggers_are_known_by_their_short_names() -> None:
    cli = made("--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=logs")

    assert isinstance(cli.trainer.logger, nb.TensorBoardLogger)
    assert cli.trainer.logger.save_dir == "logs"


def test_callbacks_among_the_defaults_are_always_there() -> None:
    described = {"class_path": "nightbus.Timer", "init_args": {"duration": "00:01:00:00"}}

    cli = made(
        "--trainer.callbacks=LearningRateMonitor",
        trainer_defaults={"callbacks": [nb.EarlyStopping("loss"), described]},
    )

    kinds = {type(callback) for callback in cli.trainer.callbacks}
    assert {nb.EarlyStopping, nb.Timer, nb.LearningRateMonitor} <= kinds


def test_callbacks_with_options_of_their_own() -> None:
    class CLI(nb.LightningCLI):
        def add_arguments_to_parser(self, parser: nb.LightningArgumentParser) -> None:
            parser.add_lightning_class_args(nb.EarlyStopping, "stopping")
            parser.set_defaults({"stopping.monitor": "loss", "stopping.patience": 5})

    cli = made("--stopping.patience=9", kind=CLI)

    (stopping,) = [c for c in cli.trainer.callbacks if isinstance(c, nb.EarlyStopping)]
    assert (stopping.monitor, stopping.patience) == ("loss", 9)


def test_a_trainer_without_callbacks_says_that_none_are_used() -> None:
    class Plain(nb.Trainer):
        def __init__(self) -> None:
            super().__init__()

    with pytest.warns(UserWarning, match="`callbacks` argument, so they are not used"):
        made(trainer_class=Plain, trainer_defaults={"callbacks": nb.Timer()})


def test_a_function_that_makes_the_trainer_needs_no_argument_of_the_name_logger() -> None:
    def build(max_epochs: int, callbacks: list[nb.Callback] | None = None) -> nb.Trainer:
        return nb.Trainer(max_epochs=max_epochs, callbacks=callbacks)

    assert made("--trainer.max_epochs=3", trainer_class=build).trainer.max_epochs == 3


def test_callbacks_that_are_given_twice_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"given 2 times.*write --trainer\.callbacks\+=\.\.\."):
        made(
            "--trainer.callbacks=nightbus.Timer", "--trainer.callbacks=nightbus.LearningRateMonitor"
        )


def test_arguments_of_lightning_1_do_what_they_did(capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"save_config_filename": "a.yaml", "save_config_overwrite": True}
    cli = made(seed_everything_default=None, auto_registry=True, **options)
    (saving,) = [c for c in cli.trainer.callbacks if isinstance(c, nb.SaveConfigCallback)]

    assert (saving.config_filename, saving.overwrite) == ("a.yaml", True)
    assert cli.config.seed_everything is None
    assert "Mine" in printed(capsys, ["--help"], description="Mine")
    with pytest.raises(TypeError, match="unexpected keyword argument 'save_config_name'"):
        made(save_config_name="a.yaml")


def test_a_registry_has_classes_by_the_names_that_they_were_given() -> None:
    registry = Registry()

    @registry
    class Mine(Small):
        pass

    registry(Sized, key="Other")
    registry(Small, key="Mine")

    assert registry.names == ["Mine", "Other"]
    assert registry.classes == (Mine, Sized)
    assert registry(Small, key="Mine", override=True) is registry["Mine"] is Small
    assert {"SGD", "Adam"} <= {*OPTIMIZER_REGISTRY}
    CALLBACK_REGISTRY.clear()  # of what other tests have added
    made(auto_registry=False)
    assert "Timer" in CALLBACK_REGISTRY
    assert "SaveConfigCallback" not in CALLBACK_REGISTRY
    made(auto_registry=True)
    assert "SaveConfigCallback" in CALLBACK_REGISTRY


def test_the_module_may_be_any_class_that_the_command_line_names() -> None:
    room = Sized.__module__  # other tests have classes of these names
    named = f"--model={room}.Sized", "--model.width=3", f"--data={room}.Data"
    cli = made(*named, model_class=None)

    assert isinstance(cli.model, Sized)
    assert isinstance(cli.datamodule, Data)


def test_links_lead_values_from_parsing_and_from_objects() -> None:
    class OfBatches(Sized):
        def __init__(self, width: int, batch_size: int) -> None:
            super().__init__(width)
            self.batch_size = batch_size

    class CLI(nb.LightningCLI):
        def add_arguments_to_parser(self, parser: nb.LightningArgumentParser) -> None:
            parser.link_arguments("data.batch_size", "model.batch_size")
            parser.link_arguments("data.width", "model.width", apply_on="instantiate")

    cli = made("--data.batch_size=2", kind=CLI, model_class=OfBatches, datamodule_class=Data)

    assert isinstance(cli.model, OfBatches)
    assert (cli.model.batch_size, cli.model.width) == (2, 7)


def test_an_optimizer_and_a_scheduler_replace_the_modules_own() -> None:
    with pytest.warns(UserWarning, match="configure_optimizers is not called"):
        cli = made(
            "--optimizer=Adam",
            "--optimizer.lr=0.25",
            "--lr_scheduler=StepLR",
            "--lr_scheduler.step_size=2",
        )

    [optimizer], [scheduler] = cli.model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert isinstance(scheduler, StepLR)


def test_a_scheduler_that_watches_a_value_has_an_option_for_it() -> None:
    with pytest.warns(UserWarning, match="configure_optimizers is not called"):
        cli = made(
            "--optimizer=Adam", "--lr_scheduler=ReduceLROnPlateau", "--lr_scheduler.monitor=loss"
        )

    assert cli.model.configure_optimizers()["lr_scheduler"]["monitor"] == "loss"


def test_without_an_optimizer_the_module_keeps_its_own() -> None:
    assert "configure_optimizers" not in vars(made().model)


def test_an_optimizer_that_waits_for_its_parameters_is_an_argument() -> None:
    class Optimized(Sized):
        def __init__(self, optimizer: nb.OptimizerCallable = torch.optim.SGD) -> None:
            super().__init__()
            self.optimizer = optimizer

    cli = made(
        "--model.optimizer=Adam",
        "--model.optimizer.lr=0.5",
        model_class=Optimized,
        auto_configure_optimizers=False,
    )

    assert isinstance(cli.model, Optimized)
    made_of_it = cli.model.optimizer(cli.model.parameters())
    assert isinstance(made_of_it, torch.optim.Adam)
    assert made_of_it.defaults["lr"] == 0.5


def test_two_optimizers_without_a_place_are_refused() -> None:
    class CLI(nb.LightningCLI):
        def add_arguments_to_parser(self, parser: nb.LightningArgumentParser) -> None:
            parser.add_optimizer_args(torch.optim.SGD, "first")
            parser.add_optimizer_args(torch.optim.SGD, "second")

    with pytest.raises(nb.UsageError, match="first and second would both go to"):
        made(kind=CLI)


@pytest.mark.parametrize(("option", "seed"), [("false", False), ("12", 12)])
def test_seed_everything_is_an_option(option: str, seed: object) -> None:
    assert made(f"--seed_everything={option}").config.seed_everything == seed


def test_environment_variables_are_read_where_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PL_MODEL__WIDTH", "11")

    assert made().config.model.width == 4
    assert made(parser_kwargs={"default_env": True}).config.model.width == 11


def test_a_dict_takes_the_place_of_a_command_line() -> None:
    cli = nb.LightningCLI(
        Sized, args={"model": {"width": 3}}, run=False, seed_everything_default=False
    )

    assert cli.config.model.width == 3


def test_arguments_beside_a_command_line_are_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--model.width=1"])

    with pytest.warns(UserWarning, match="LightningCLI's args parameter"):
        made("--model.width=2")


def test_a_subcommand_runs_with_what_is_around_it() -> None:
    called = []

    class CLI(nb.LightningCLI):
        def before_fit(self) -> None:
            called.append("before")

        def after_fit(self) -> None:
            called.append(f"after {self.trainer.global_step}")

    defaults = {"max_steps": 1, "max_epochs": 1}
    cli = CLI(Sized, trainer_defaults=defaults, args=["fit", *QUIET])

    assert called == ["before", "after 1"]
    assert cli.trainer.log_dir is not None
    saved = yaml.safe_load((Path(cli.trainer.log_dir) / "config.yaml").read_text())
    assert saved["model"]["width"] == 4
    assert saved["trainer"]["max_steps"] == 1


def test_a_checkpoint_gives_the_module_its_arguments() -> None:
    fitted = ran("fit", "--model.width=6")
    path = saved_by(fitted.trainer)

    tested = ran("test", f"--ckpt_path={path}")

    assert isinstance(tested.model, Sized)
    assert tested.model.width == 6


def test_arguments_that_are_objects_are_kept_as_they_are_described() -> None:
    fitted = ran("fit", "--model.activation=torch.nn.ReLU")
    path = saved_by(fitted.trainer)

    assert nb.load_checkpoint(path)["hyper_parameters"]["activation"] == {
        "class_path": "torch.nn.ReLU",
        "init_args": {"inplace": False},
    }
    with pytest.raises(nb.UsageError, match=r"are objects.*activation .*torch\.nn\.ReLU"):
        Sized.load_from_checkpoint(path)
    assert Sized.load_from_checkpoint(path, activation=torch.nn.ReLU()).width == 4


class Keyed(Sized):
    """A module with a secret.

    Args:
        api_key: a key.
    """

    def __init__(self, api_key: str = "") -> None:
        super().__init__()


def test_the_saved_configuration_has_no_secrets(tmp_path: Path) -> None:
    cli = made("--model.api_key=of-much-worth", model_class=Keyed)
    (callback,) = [c for c in cli.trainer.callbacks if isinstance(c, nb.SaveConfigCallback)]

    callback._write(tmp_path, 0)

    assert "of-much-worth" not in (tmp_path / "config.yaml").read_text()


def test_a_configuration_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    cli = made()
    (callback,) = [c for c in cli.trainer.callbacks if isinstance(c, nb.SaveConfigCallback)]

    with pytest.raises(RuntimeError, match="Aborting to avoid overwriting"):
        callback._write(tmp_path, 0)
    callback._write(tmp_path, 1)

    assert (tmp_path / "config.1.yaml").exists()


def test_a_callback_that_would_save_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="`save_to_log_dir=False` only makes sense"):
        made(save_config_kwargs={"save_to_log_dir": False})


def test_the_package_is_named_where_it_is_missing() -> None:
    code = (
        "import sys; sys.modules['jsonargparse'] = None; import nightbus\n"
        "try: nightbus.LightningCLI\n"
        "except nightbus.UsageError as error: print(error)"
    )

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "pip install 'nightbus[cli]'" in shown.stdout
