"""Tuner: finds a learning rate and a batch size for a trainer's training."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from ...actors.arguments import check_at_least, check_choice
from ...actors.data.rng import undrawn
from ...actors.loaders import Loaders
from ...actors.module import LightningModule
from ...bus.errors import MissingAttributeError, UsageError
from ...bus.system.logging_setup import get_logger
from ..parts import TrainerParts
from .attributes import get_attribute, has_attribute, set_attribute, warn_of_two
from .batch_size import BatchTooLarge, by_doubling, by_halving, free_memory, in_memory
from .lr_finder import LRFinder, Mode, RisingRate
from .trial import Data, trial_of, unchanged

_RATES = ("lr", "learning_rate")
_SEARCHES = {"power": by_doubling, "binsearch": by_halving}

_log = get_logger("nightbus.tuner")

Search = Literal["power", "binsearch"]


class Tuner:
    """Finds a learning rate and a batch size by short trials, before training.

    A trial trains the module with a Trainer of the same arguments that records nothing and has no
    callbacks of the user's; its ``setup`` and ``teardown`` hooks are called as in any run. Weights
    and random number generators are as before afterwards.

    Args:
        trainer: the trainer that will train.
    """

    def __init__(self, trainer: Any) -> None:
        if not isinstance(trainer, TrainerParts):
            raise UsageError(f"Tuner() expects a nightbus.Trainer, not {type(trainer).__name__}")
        self._trainer = trainer

    def lr_find(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        method: str = "fit",
        min_lr: float = 1e-8,
        max_lr: float = 1,
        num_training: int = 100,
        mode: Mode = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
    ) -> LRFinder | None:
        """Train with rising learning rates, and suggest the one where the loss falls most.

        Args:
            model: module to train; its weights are as before afterwards.
            train_dataloaders: as for ``fit``.
            val_dataloaders: as for ``fit``; not used.
            dataloaders: not used: learning rates are found by training.
            datamodule: as for ``fit``.
            method: ``fit``.
            min_lr: the first rate.
            max_lr: the last rate.
            num_training: number of steps.
            mode: raise the rate by the same factor in each step (``exponential``), or by the same
                amount (``linear``).
            early_stop_threshold: end the trial once the loss is so many times its best; None for
                never.
            update_attr: assign the suggestion to the module's ``lr`` or ``learning_rate``, or to
                that in ``hparams``.
            attr_name: name of another attribute.

        Returns:
            What was found; None with ``fast_dev_run``.

        Raises:
            UsageError: an argument is wrong, or the module has several optimizers.
            MissingAttributeError: the module has no such attribute.
        """
        check_choice("method", method, ("fit",))
        check_at_least("num_training", num_training, 1)
        if self._is_skipped("lr_find"):
            return None
        name = _name_of_rate(model, attr_name) if update_attr else ""
        found = LRFinder(mode, min_lr, max_lr, num_training)
        data = Data(train_dataloaders, None, dataloaders, datamodule).arguments("fit")
        rising = RisingRate(found, early_stop_threshold)
        trial = trial_of(self._trainer, [rising], max_steps=num_training, limit_val_batches=0)
        with unchanged(model, self._trainer):
            trial.fit(model, **data)
        self._show(trial.loaders, trial.datamodule)
        if update_attr and (rate := found.suggestion()) is not None:
            set_attribute(name, rate, model)
            _log.info("the learning rate was found", name=name, value=rate)
        return found

    def scale_batch_size(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        method: str = "fit",
        mode: Search = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
    ) -> int | None:
        """Find the largest batch size that fits into memory, and assign it.

        Args:
            model: module to run; its weights are as before afterwards.
            train_dataloaders: None or a datamodule: loaders keep their batch size.
            val_dataloaders: None.
            dataloaders: None or a datamodule.
            datamodule: as for ``fit``.
            method: ``fit``, ``validate``, ``test`` or ``predict``.
            mode: ``power`` doubles the size until it does not fit; ``binsearch`` halves the
                distance from then on.
            steps_per_trial: number of batches for each size.
            init_val: the first size.
            max_trials: number of sizes to try; with 0 it is ``init_val``.
            batch_arg_name: attribute of the module, of the datamodule, or of their ``hparams``,
                with which the dataloaders are made.
            margin: with ``binsearch``, share of the size to leave free.
            max_val: the largest size to try; the number of samples is never exceeded.

        Returns:
            The size; None with ``fast_dev_run``.

        Raises:
            UsageError: an argument is wrong, or no size fits.
            MissingAttributeError: there is no such attribute.
        """
        search = _SEARCHES[check_choice("mode", mode, tuple(_SEARCHES))]
        check_at_least("init_val", init_val, 1)
        check_at_least("max_trials", max_trials, 0)
        if self._is_skipped("scale_batch_size"):
            return None
        data = Data(train_dataloaders, val_dataloaders, dataloaders, datamodule)
        owners = (model, data.module_of_data)
        if data.has_loaders:
            raise UsageError(
                "scale_batch_size needs to make dataloaders of several batch sizes: give no "
                f"loaders, but a datamodule or a module whose dataloaders have {batch_arg_name!r}"
            )
        if not has_attribute(batch_arg_name, *owners):
            raise MissingAttributeError(
                f"neither the module nor the datamodule nor their hparams have {batch_arg_name!r}; "
                "have them make their dataloaders with it, or give batch_arg_name="
            )
        warn_of_two(batch_arg_name, *owners)
        before = get_attribute(batch_arg_name, *owners)
        tried: dict[int, Loaders] = {}
        trial = partial(self._fits, model, data, method, steps_per_trial, batch_arg_name, tried)
        try:
            size = init_val
            if max_trials > 0:
                size = _search(search, trial, init_val, max_trials, max_val)
        except BaseException:
            set_attribute(batch_arg_name, before, *owners)
            raise
        if mode == "binsearch":
            size = max(1, int(size * (1 - margin)))
        set_attribute(batch_arg_name, size, *owners)
        for last, loaders in tried.items():
            if size != last:
                with undrawn():
                    loaders.request_again()
            self._show(loaders, data.module_of_data)
        _log.info("the batch size was found", name=batch_arg_name, value=size)
        return size

    def _show(self, loaders: Loaders, datamodule: Any) -> None:
        """Have the trainer show the data that was tried, until it runs something."""
        self._trainer.loaders.show_those_of(loaders)
        self._trainer.datamodule = datamodule

    def _is_skipped(self, function: str) -> bool:
        if self._trainer.fast_dev_run:
            _log.warning(f"{function} is skipped: fast_dev_run has too few steps for it")
        return bool(self._trainer.fast_dev_run)

    def _fits(
        self,
        model: LightningModule,
        data: Data,
        method: str,
        steps: int,
        name: str,
        tried: dict[int, Loaders],
        size: int,
    ) -> int | None:
        """Run some batches of a size, and note its loaders if they fit.

        Returns:
            The number of samples, if it is known, or else a very large number; None if a batch
            does not fit into memory.
        """
        _log.info("trying a batch size", name=name, value=size)
        set_attribute(name, size, model, data.module_of_data)
        limits = {f"limit_{stage}_batches": steps for stage in ("val", "test", "predict")}
        trial = trial_of(self._trainer, [], max_steps=steps, **limits)
        loop = trial.loop_of(method)
        loop.run = in_memory(loop.run)
        try:
            with unchanged(model, self._trainer):
                options = {} if method in ("fit", "predict") else {"verbose": False}
                getattr(trial, method)(model, **data.arguments(method), **options)
        except BatchTooLarge:
            return None
        finally:
            free_memory()
        tried.clear()  # their workers may go on
        tried[size] = trial.loaders
        return _samples(trial, method)


def _search(
    search: Callable[..., int],
    trial: Callable[[int], int | None],
    first: int,
    trials: int,
    most: int,
) -> int:
    """Search, up to the number of samples, which the first trial that fits says."""
    samples = trial(first)
    known: dict[int, bool] = {first: samples is not None}

    def fits(size: int) -> bool:
        if size not in known:
            known[size] = trial(size) is not None
        return known[size]

    return search(fits, first, trials, max(first, min(most, samples or most)))


def _samples(trial: Any, method: str) -> int:
    """Return how many samples a trial's first loader has; a very large number if unknown."""
    loaders = {
        "fit": trial.train_dataloader,
        "validate": trial.val_dataloaders,
        "test": trial.test_dataloaders,
        "predict": trial.predict_dataloaders,
    }[method]
    first = loaders[0] if isinstance(loaders, list) else loaders
    try:
        return len(first.dataset)
    except (AttributeError, TypeError):
        return 2**62


def _name_of_rate(model: LightningModule, attr_name: str) -> str:
    names = (attr_name,) if attr_name else _RATES
    for name in names:
        if has_attribute(name, model):
            return name
    raise MissingAttributeError(
        f"neither {type(model).__name__} nor its hparams have {' or '.join(map(repr, names))} to "
        "assign the learning rate to; give attr_name=, or update_attr=False"
    )
