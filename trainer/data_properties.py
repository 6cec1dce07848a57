"""Properties of a Trainer about its data: loaders, and their numbers of batches."""

from abc import abstractmethod
from typing import Any

from ..loops.context import LoopContext
from .stages import Function
from .state import TrainerState

Batches = int | float
"""A number of batches; inf if the loader has no length."""


class DataProperties(LoopContext):
    """What a trainer says of its loaders.

    Those of the function that runs are requested when they are asked for; others are those of the
    last run that read them.
    """

    state: TrainerState

    @property
    @abstractmethod
    def function(self) -> Function | None:
        """The running function: ``fit``, ``validate``, ``test`` or ``predict``; None if none is."""

    # -- loaders -----------------------------------------------------------------------------

    @property
    def train_dataloader(self) -> Any:
        """The training loaders, one or the collection that was given; None if there are none."""
        return self._collection("train")

    @property
    def val_dataloaders(self) -> Any:
        """The validation loaders, one or the collection that was given; None if there are none."""
        return self._collection("validate")

    @property
    def test_dataloaders(self) -> Any:
        """The test loaders, one or the collection that was given; None if there are none."""
        return self._collection("test")

    @property
    def predict_dataloaders(self) -> Any:
        """The prediction loaders, one or the collection that was given; None if there are none."""
        return self._collection("predict")

    def _collection(self, stage: str) -> Any:
        return self.loaders.collection(stage, requests=self.function is not None)

    def reset_train_dataloader(self, module: Any = None) -> None:
        """Request a new training loader before the next time that it is read.

        Args:
            module: not needed; the one that runs.
        """
        self.loaders.forget("train")

    def reset_val_dataloader(self, module: Any = None) -> None:
        """Request new validation loaders before the next time that they are read.

        Args:
            module: not needed; the one that runs.
        """
        self.loaders.forget("validate")

    def reset_test_dataloader(self, module: Any = None) -> None:
        """Request new test loaders before the next time that they are read.

        Args:
            module: not needed; the one that runs.
        """
        self.loaders.forget("test")

    def reset_predict_dataloader(self, module: Any = None) -> None:
        """Request new prediction loaders before the next time that they are read.

        Args:
            module: not needed; the one that runs.
        """
        self.loaders.forget("predict")

    # -- numbers of batches ------------------------------------------------------------------

    @property
    def num_training_batches(self) -> Batches:
        """Number of training batches in an epoch; inf if it has no length, or before any run."""
        if self.function is None and not self.loaders.is_known("train", requests=False):
            return float("inf")
        return _or_inf(self.loaders.num_training_batches)

    @property
    def val_check_batch(self) -> Batches | None:
        """Training batches between two validations; inf if an epoch of unknown length ends first.

        None before any run, and if validation is due by time.
        """
        if not self.loaders.is_known("train", requests=self.function is not None):
            return None
        number = self.num_training_batches
        return self.loaders.schedule.batches_between(number)

    @property
    def num_val_dataloaders(self) -> int:
        """Number of validation loaders."""
        return len(self.num_val_batches)

    @property
    def num_val_batches(self) -> list[Batches]:
        """Number of batches of each validation loader; inf if it has no length."""
        return self._numbers("validate")

    @property
    def num_sanity_val_batches(self) -> list[Batches]:
        """Number of batches of each validation loader in the sanity check of ``fit``."""
        loaders = self.loaders
        if not (loaders.sanity_checking or loaders.is_known("train", requests=False)):
            return []  # there was no fit
        most = self.loaders.num_sanity_steps
        numbers = self._numbers("validate")
        return numbers if most < 0 else [min(most, number) for number in numbers]

    @property
    def num_test_batches(self) -> list[Batches]:
        """Number of batches of each test loader; inf if it has no length."""
        return self._numbers("test")

    @property
    def num_predict_batches(self) -> list[Batches]:
        """Number of batches of each prediction loader; inf if it has no length."""
        return self._numbers("predict")

    def _numbers(self, stage: str) -> list[Batches]:
        loaders = self.loaders
        if not loaders.is_known(stage, requests=self.function is not None):
            return []
        return [_or_inf(number) for number in loaders.numbers_of_batches(stage)]

    @property
    def enable_validation(self) -> bool:
        """True if ``fit`` validates, or did last: there is a validation_step, and data for it."""
        return self.state.fn is not None and self.loaders.can_validate


def _or_inf(number: int | None) -> Batches:
    return float("inf") if number is None else number
