"""Loaders: the dataloaders of a run, the numbers of batches to read, and when to validate."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import RandomSampler

from ..bus.errors import ArgumentTypeError, RankMismatchError, UsageError
from ..bus.routes import Routes
from ..bus.system.logging_setup import get_logger
from .arguments import check_at_least, check_choice
from .data.combined_loader import (
    COMBINE_MODES,
    CombinedLoader,
    CombineMode,
    check_loader,
    like,
    num_batches,
    read,
)
from .data.position import (
    end_new_workers,
    end_workers,
    generators_of,
    is_warm,
    keep_warm,
    samplers_of,
    set_epoch,
)
from .data.prepared_loaders import (
    as_given,
    check_limit,
    evaluation_loaders,
    is_read_once,
    knows_its_length,
    limited,
    training_loader,
    without_shuffling,
)
from .data.rng import undrawn_from
from .data.shard_sampler import samples_a_batch, sharded
from .data.validation_schedule import Interval, ValidationSchedule
from .data.worker_seeds import workers_seed
from .hooks import similar_method
from .overrides import is_overridden
from .ranks.common_end import CommonEnd
from .ranks.group import AloneGroup, Group

if TYPE_CHECKING:
    from .datamodule import LightningDataModule
    from .module import LightningModule

_log = get_logger("nightbus.loaders")
_log_of_all = get_logger("nightbus.loaders", of_all_ranks=True)
_STEPS = {"validate": "validation_step", "test": "test_step"}


def _not_yet() -> Routes:
    raise UsageError(
        "the dataloaders and their numbers of batches are known only during fit, validate, test "
        "and predict; ask in a hook, such as configure_optimizers"
    )


class Loaders:
    """Requests dataloaders when they are needed, and knows how much of them to read.

    Args:
        limits: by stage, a number of batches (int) or a share of them (float).
        overfit_batches: overrides the limits of train and validate, with a fixed order; 0 to
            disable.
        val_check_interval: batches between two validations; see ValidationSchedule.
        check_val_every_n_epoch: epochs between two validations; see ValidationSchedule.
        num_sanity_val_steps: validation batches before training; -1 for all.
        reload_every_n_epochs: epochs between two requests of new dataloaders; 0 for never.
        combine_mode: how several training loaders are combined; see CombinedLoader.

    Attributes:
        given: loaders that the user passed to the function that runs, by stage.
        schedule: when to validate within training.
        num_sanity_steps: validation batches before training; -1 for all.
        sanity_checking: the limits of the sanity check apply now.
        common_end: of the epoch on several ranks, if the data of one may end unexpectedly.
        use_distributed_sampler: each of several ranks reads its part of the data; otherwise,
            what its loaders give.
        in_parts: the training data has an order on which ranks agree, also if there is only one
            rank, because the run that is resumed had several.
    """

    def __init__(
        self,
        limits: Mapping[str, float],
        overfit_batches: float,
        val_check_interval: Interval | None,
        check_val_every_n_epoch: int | None,
        num_sanity_val_steps: int,
        reload_every_n_epochs: int,
        combine_mode: CombineMode,
    ) -> None:
        self._combine_mode = check_choice("multiple_trainloader_mode", combine_mode, COMBINE_MODES)
        self._overfit = check_limit("overfit_batches", overfit_batches)
        self._limits = {stage: check_limit(_name(stage), limits[stage]) for stage in limits}
        if self._overfit:
            self._limits["train"] = self._limits["validate"] = self._overfit
        self.schedule = ValidationSchedule(val_check_interval, check_val_every_n_epoch)
        self.set_sanity_steps(num_sanity_val_steps)
        self.reload_every(reload_every_n_epochs)
        self.sanity_checking = False
        self.given: Mapping[str, Any] = {}
        self._routes: Callable[[], Routes] = _not_yet
        self._evaluation: dict[str, list[Any]] = {}
        self._collections: dict[str, Any] = {}  # the loaders of each stage as they were returned
        self._training: Any = None
        self._whole: Any = None  # the loader of which this rank trains on a part
        self._num_training_batches: int | None = None
        self._workers_seed: int | None = None
        self.in_parts = False
        self.use_distributed_sampler = True
        self._group: Group = AloneGroup()
        self._order_seed = 0
        self.common_end: CommonEnd | None = None
        self._is_compared = False  # the training loader's length, with those of other ranks
        self._passes = 0  # over the training loader begun so far
        self._reported_length = self._reported_unread = False
        self._reported_empty: set[str] = set()  # stages with an empty loader
        self._reported_none: set[str] = set()
        self._reported_unvalidated = False
        self._epoch = 0
        self._validation_since: int | None = None  # epoch for whose validation they were requested

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the loaders in copies, because they belong to a run; limits are copied."""
        return {
            **vars(self),
            "sanity_checking": False,
            "given": {},
            "_group": AloneGroup(),
            "common_end": None,
            "_routes": _not_yet,
            "_module": None,
            "_datamodule": None,
            "_evaluation": {},
            "_collections": {},
            "_training": None,
            "_whole": None,
        }

    def set_limit(self, stage: str, limit: float | None) -> None:
        """Limit the batches of a stage, from its next pass on.

        Args:
            stage: the stage.
            limit: a number of batches (int), a share of them (float), or None for all.
        """
        self._limits[stage] = check_limit(_name(stage), 1.0 if limit is None else limit)
        if stage == "train" and self._training is not None:
            self._count_training()

    def validate_at(self, interval: Interval | None, every_n_epochs: int | None) -> None:
        """Validate at other times than before; see ValidationSchedule.

        Args:
            interval: batches between two validations.
            every_n_epochs: epochs between two validations.
        """
        self.schedule = ValidationSchedule(interval, every_n_epochs)
        self.schedule.begin()
        if self._training is not None:
            self._count_training()

    def set_sanity_steps(self, number: float | None) -> None:
        """Set the number of validation batches before training; -1 and inf for all."""
        steps: Any = -1 if number == float("inf") else number
        self.num_sanity_steps = check_at_least("num_sanity_val_steps", steps, -1) or 0

    def reload_every(self, epochs: int | None) -> None:
        """Set the number of epochs between two requests of new dataloaders; 0 for never."""
        self._reload_every = check_at_least("reload_dataloaders_every_n_epochs", epochs, 0) or 0

    def run_batches(self, number: int) -> None:
        """Limit everything to some batches, validate after them, and skip the sanity check."""
        self._limits = dict.fromkeys(self._limits, number)
        self.schedule = ValidationSchedule(1.0, 1)
        self.num_sanity_steps = 0

    def begin(
        self,
        given: Mapping[str, Any],
        module: "LightningModule",
        datamodule: "LightningDataModule | None",
        routes: Callable[[], Routes],
    ) -> None:
        """Start over for a run.

        Args:
            given: dataloaders by stage that the user passed instead of defining hooks.
            module: the module with data hooks.
            datamodule: the datamodule, whose data hooks come first.
            routes: returns the run's routes.
        """
        self.given, self._module, self._datamodule, self._routes = (
            given,
            module,
            datamodule,
            routes,
        )
        for stage in given:
            self.forget(stage)
        self._workers_seed = workers_seed()
        self._reported_length = self._reported_unread = False
        self._reported_empty.clear()
        self._reported_none.clear()
        self._reported_unvalidated = False
        self._epoch, self._validation_since = 0, None

    def read_parts(self, group: Group) -> None:
        """Read this rank's part of the data from now on, in an order that all ranks agree on.

        Args:
            group: the ranks.
        """
        self._group = group
        self.in_parts = self.use_distributed_sampler and not group.world.is_alone
        self._order_seed = group.broadcast("the seed of the data's order", torch.initial_seed())

    def _part(self, loader: Any, trains: bool) -> Any:
        """Return the loader of this rank's part."""
        world = self._group.world
        if not self.in_parts or (world.is_alone and not trains):
            return loader

        def part(each: Any) -> Any:
            return sharded(each, world.rank, world.size, self._order_seed, trains)

        return loader.with_each(part) if isinstance(loader, CombinedLoader) else part(loader)

    # -- training ----------------------------------------------------------------------------

    @property
    def training(self) -> Any:
        """The training loader."""
        self.request_training()
        return self._training

    @property
    def num_training_batches(self) -> int | None:
        """Batches of an epoch; None if the loader does not know."""
        self.request_training()
        return self._num_training_batches

    def request_training(self) -> None:
        """Request the training loader, unless it has been.

        Raises:
            UsageError: there is no training data.
        """
        if self._training is None:
            self._load_training()

    def _load_training(self) -> None:
        given = self.given.get("train")
        found = self._routes().call("train_dataloader") if given is None else given
        if found is None:
            raise ArgumentTypeError(
                "there is no training data: pass train_dataloaders or a datamodule to fit(), or "
                "define train_dataloader()"
                + similar_method(self._datamodule or self._module, "train_dataloader")
            )
        loader = check_loader(training_loader(found, self._combine_mode), "train_dataloader")
        loader = without_shuffling(loader) if self._overfit else loader
        self._whole, self._training = loader, self._part(loader, trains=True)
        self._collections["train"] = _in_training(found, _parts(self._training))
        self._is_compared = False
        if num_batches(loader) == 0:
            _log_of_all.warning("the training dataloader is empty, so there is nothing to train")
        self._count_training()

    def _count_training(self) -> None:
        total = num_batches(self._training)
        self._num_training_batches = limited(total, self._limits["train"], _name("train"))
        self.schedule.fit_to(self._num_training_batches, self.can_validate)

    @property
    def order_seed(self) -> int:
        """The seed of the training data's order, the same on all ranks."""
        return self._order_seed

    @property
    def samples_a_batch(self) -> int | None:
        """Samples of a rank's training batch; None if those of other ranks do not follow from it.

        None as well if no training loader has been requested.
        """
        if self._training is None or not (self.in_parts or self._group.world.is_alone):
            return None
        return samples_a_batch(self._training)

    def read_training(self, rank: int, state: Mapping[str, Any] | None) -> Any:
        """Begin or continue a pass over the training loader.

        Args:
            rank: of this process.
            state: of the pass to continue; None begins one.

        Returns:
            An iterator over batches.
        """
        if state is not None:
            return read(self.training, state)
        # Passes are counted, not epochs, because loops may restart their epochs.
        number, self._passes = self._passes, self._passes + 1
        seed = self._workers_seed
        return read(self.training, key=None if seed is None else (seed, rank, number))

    @property
    def may_end_early(self) -> bool:
        """True if the training loader may have fewer batches than it says."""
        return not all(map(knows_its_length, _parts(self.training)))

    def report_early_end(self, batches: int) -> None:
        """Warn, once a run, that the training data had fewer batches than the loader announced.

        Batches that only a limit made one expect are not missing.
        """
        loader = self.training
        said = num_batches(loader)
        if said is None or batches >= said or self._reported_length:
            return
        if any(num_batches(part) is None for part in _parts(loader)):
            return  # the shortest of several, one of which has no length
        self._reported_length = True
        _log.warning(
            f"the training dataloader says that it has {said} batches, but had {batches}; the "
            "epoch ends with the data. Correct the length of its dataset or sampler; "
            "workers that read a stream with drop_last=True each drop their own rest"
        )

    def report_unread(self, batches: int, epoch: int, left: str) -> None:
        """Warn, once a run, that an epoch of several ranks ended with the data of one of them.

        Args:
            batches: of the epoch.
            epoch: its number.
            left: which ranks have left how many unread.
        """
        if left and not self._reported_unread and self._group.world.rank == 0:
            self._reported_unread = True
            _log.warning(
                f"after {batches} training batches of epoch {epoch}, {left}; give all ranks the "
                "same number of batches to use all of them"
            )

    def report_empty(self, what: str, loader: Any, where: str = "") -> None:
        """Warn, once a run, that a loader had no batches.

        Args:
            what: the stage it is for.
            loader: the loader.
            where: a place for the message.
        """
        if what in self._reported_empty:
            return
        self._reported_empty.add(what)
        used_up = [part for part in _parts(loader) if is_read_once(part)]
        why = (
            f"; a {type(used_up[0]).__name__} can be read only once: use one that can be read "
            "again, such as a DataLoader, a list or an object whose __iter__ starts over"
            if used_up
            else ""
        )
        _log.warning(f"the {what} dataloader had no batches{where}{why}")

    def report_none(self, stage: str) -> None:
        """Warn, once a run and stage, that a batch is None."""
        if stage not in self._reported_none:
            self._reported_none.add(stage)
            _log.warning(
                f"a {stage} batch is None, and skipped; if that is intended, as by a "
                "collate_fn that found nothing to use, ignore this"
            )

    def begin_epoch(self, epoch: int, resumes: bool = False) -> None:
        """Prepare an epoch of training: new dataloaders if due, and its number for samplers.

        Args:
            epoch: its number, from 0.
            resumes: the epoch continues with the loaders that it had.
        """
        if not resumes and self._reload_every and epoch and epoch % self._reload_every == 0:
            self.forget("train")
        if not resumes and self._reload_every and self._validation_is_old(epoch):
            self.forget("validate")
        self._epoch = epoch
        self.set_epoch("train", epoch)
        if not self._is_compared:
            self._is_compared = True
            self._compare_lengths()

    @property
    def requests_validation_late(self) -> bool:
        """True if validation dataloaders are requested for validations, not when fit begins."""
        return self._reload_every > 0

    def _validation_is_old(self, epoch: int) -> bool:
        """Return whether validation dataloaders are requested again for an epoch's validation."""
        since = self._validation_since
        return since is None or epoch - since >= self._reload_every

    def _compare_lengths(self) -> None:
        """Check that all ranks have the same number of training batches.

        If it is unknown, or one may have fewer, they end their epochs together.

        Raises:
            RankMismatchError: they have not, so that some would wait for others for ever.
        """
        self.common_end = None
        if self._group.world.is_alone:
            return
        number = self.num_training_batches
        is_certain = number is not None and not self.may_end_early
        found = self._group.gather("the number of training batches", [number, is_certain])
        numbers = [each[0] for each in found]
        if not all(each[1] for each in found):
            self.common_end = CommonEnd(self._group)
        if len(set(numbers)) > 1:
            counted = ", ".join(f"rank {rank}: {n}" for rank, n in enumerate(numbers))
            raise RankMismatchError(
                f"ranks have different numbers of training batches ({counted}), and would wait for "
                "each other for ever; give all the same number, or limit_train_batches="
                f"{min((n for n in numbers if n is not None), default=1)}"
            )

    def set_epoch(self, stage: str, epoch: int) -> None:
        """Pass the epoch of training to the samplers of a stage's loaders that take it.

        Args:
            stage: the stage.
            epoch: the epoch, from 0.
        """
        for loader in [self.training] if stage == "train" else self.evaluation(stage):
            for part in _parts(loader):
                set_epoch(part, epoch)

    def forget(self, stage: str) -> None:
        """Request a stage's loaders again before they are read next."""
        self._collections.pop(stage, None)
        if stage == "train":
            self._training = self._whole = None
        else:
            self._evaluation.pop(stage, None)

    def request_again(self) -> None:
        """Request all loaders that were requested once more, as their batch size has changed."""
        for stage in list(self._collections):
            self.forget(stage)
            if stage == "train":
                self.request_training()
            else:
                self.evaluation(stage)

    # -- validation --------------------------------------------------------------------------

    @property
    def can_validate(self) -> bool:
        """Return whether fit validates: there is a validation_step, and there is data for it."""
        owner = self._datamodule or self._module
        has_data = self.given.get("validate") is not None or is_overridden(owner, "val_dataloader")
        has_step = is_overridden(self._module, "validation_step")
        gave_none = self._evaluation.get("validate") == []  # as val_dataloader said
        return has_data and has_step and not gave_none and self._limits["validate"] > 0

    def check_validation(self) -> None:
        """Warn if fit cannot validate though there is a step without data, or data without a step.

        ``limit_val_batches=0`` states that this is intended.
        """
        if self._limits["validate"] == 0 or self._reported_unvalidated:
            return
        module, owner = self._module, self._datamodule or self._module
        given = self.given.get("validate") is not None
        has_data = given or is_overridden(owner, "val_dataloader")
        has_step = is_overridden(module, "validation_step")
        name = type(module).__name__
        if has_data and not has_step:
            what = f"there is validation data, but {name} has no validation_step()"
            hint = similar_method(module, "validation_step")
        elif has_step and not has_data:
            what = f"{name} has a validation_step(), but there is no validation data"
            hint = similar_method(owner, "val_dataloader")
        elif has_step and not given and not self._evaluation.get("validate", True):
            what = f"{type(owner).__name__}.val_dataloader() returned no dataloader"
            hint = ""
        else:
            return
        self._reported_unvalidated = True
        _log_of_all.warning(
            f"{what}: nothing is validated; limit_val_batches=0 states that this is intended{hint}"
        )

    @property
    def wants_sanity_check(self) -> bool:
        """True if validation batches are run before training."""
        return self.num_sanity_steps != 0 and self.can_validate

    # -- evaluation --------------------------------------------------------------------------

    def evaluation(self, stage: str) -> list[Any]:
        """Return the loaders of a stage, which are requested once.

        Raises:
            UsageError: an object is not a loader, or the module has no step for this stage.
        """
        if stage not in self._evaluation:
            given = self.given.get(stage)
            hook = {"validate": "val_dataloader"}.get(stage, f"{stage}_dataloader")
            found = self._routes().call(hook) if given is None else given
            loaders = [check_loader(entry, hook) for entry in evaluation_loaders(found)]
            if stage == "validate" and self._overfit:
                loaders = [without_shuffling(loader) for loader in loaders]
            step = _STEPS.get(stage)
            alone = stage in self.given and "train" not in self.given
            if loaders and step is not None and alone and not is_overridden(self._module, step):
                hint = similar_method(self._module, step)
                raise UsageError(
                    f"{type(self._module).__name__} must define {step}() to {stage}{hint}"
                )
            _warn_of_shuffling(loaders, hook)
            self._evaluation[stage] = [self._part(each, trains=False) for each in loaders]
            self._collections[stage] = as_given(found, self._evaluation[stage])
            if stage == "validate" and not alone:
                self.check_validation()
                if not self.sanity_checking or self.schedule.is_due_in(self._epoch):
                    self._validation_since = self._epoch
        return self._evaluation[stage]

    def collection(self, stage: str, requests: bool) -> Any:
        """Return a stage's loaders in the collection in which they were given or returned.

        Args:
            stage: the stage.
            requests: request them first, if the function that runs reads them.

        Returns:
            A loader or a collection of them; None if no run has read any.
        """
        if requests and stage in self.given:
            if stage == "train":
                self.training  # noqa: B018  requests it
            else:
                self.evaluation(stage)
        return self._collections.get(stage)

    def show_those_of(self, other: "Loaders") -> None:
        """Return the loaders of a trial as ``collection``, until a run reads others."""
        self._collections.update(other._collections)

    def is_known(self, stage: str, requests: bool) -> bool:
        """Return whether a stage's loaders were requested, or can be.

        Args:
            stage: the stage.
            requests: a function runs, whose loaders can be requested.
        """
        is_there = self._training is not None if stage == "train" else stage in self._evaluation
        return is_there or (requests and stage in self.given)

    def limits(self, stage: str) -> list[int | None]:
        """Return how many batches of each loader of a stage to read; None for all."""
        limits = [
            limited(num_batches(loader), self._limits[stage], _name(stage))
            for loader in self.evaluation(stage)
        ]
        most = self.num_sanity_steps
        if self.sanity_checking and most >= 0:
            return [most if limit is None else min(limit, most) for limit in limits]
        return limits

    def numbers_of_batches(self, stage: str) -> list[int | None]:
        """Return ``limits``, or those of each part if the loaders of a stage are read together.

        Args:
            stage: ``validate``, ``test`` or ``predict``.
        """
        loaders = self.evaluation(stage)
        if len(loaders) != 1 or not isinstance(loaders[0], CombinedLoader):
            return self.limits(stage)
        return [
            limited(num_batches(part), self._limits[stage], _name(stage))
            for part in loaders[0].flat
        ]

    @contextmanager
    def unread(self, stage: str) -> Iterator[None]:
        """Restore, at its end, random number generators and workers of a stage's loaders.

        That includes generators of the loaders, of their samplers and of their datasets.
        """
        parts = [part for loader in self.evaluation(stage) for part in _parts(loader)]
        datasets = [dataset for part in parts for dataset in _datasets_of(part)]
        samplers = [sampler for part in parts for sampler in samplers_of(part)]
        end = end_new_workers(parts)
        with undrawn_from([*parts, *samplers, *datasets]):
            try:
                yield
            finally:
                end()

    def end_workers(self) -> None:
        """End workers that would stay for another pass; called at a run's end."""
        training = [] if self._training is None else [self._training]
        for loader in [*training, *chain.from_iterable(self._evaluation.values())]:
            for part in _parts(loader):
                end_workers(part)

    # -- checkpoints -------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the requested loaders.

        These are the states of their own random number generators, whether their workers exist, and
        the seeds of workers.
        """
        loaded = {"train": None if self._training is None else [self._training]}
        loaded["validate"] = self._evaluation.get("validate")
        states = {
            stage: None if loaders is None else [_state_of(loader) for loader in loaders]
            for stage, loaders in loaded.items()
        }
        return {
            **states,
            "workers_seed": self._workers_seed,
            "passes": self._passes,
            "order_seed": self._order_seed,
            "in_parts": self.in_parts,
            "schedule": self.schedule.state_dict(),
            "validation_since": self._validation_since,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Request the loaders of the state, and restore what ``state_dict`` returned."""
        self._passes = state_dict.get("passes", 0)
        self._take_over_order(state_dict)
        self.schedule.load_state_dict(state_dict.get("schedule", {}))
        if (seed := state_dict.get("workers_seed")) is not None:
            self._workers_seed = seed
        for stage in ("train", "validate"):
            saved = state_dict.get(stage)
            if saved is None or (stage == "validate" and not self.can_validate):
                continue
            loaders = [self.training] if stage == "train" else self.evaluation(stage)
            for loader, state in zip(loaders, saved, strict=False):
                for generator, known in zip(_generators(loader), state["generators"], strict=False):
                    generator.set_state(known)
                for part, has_workers in zip(_parts(loader), state["warm"], strict=False):
                    if has_workers:
                        keep_warm(part)
        self._validation_since = state_dict.get("validation_since")

    def _take_over_order(self, state_dict: Mapping[str, Any]) -> None:
        """Read the training data in the order of the run that is resumed."""
        if not state_dict.get("in_parts", not self._group.world.is_alone):
            return
        self._order_seed = state_dict.get("order_seed", self._order_seed)
        self.in_parts = self.use_distributed_sampler
        if self._training is not None:  # requested before, perhaps for its length
            self._training = self._part(self._whole, trains=True)
            self._count_training()


def _parts(loader: Any) -> list[Any]:
    return loader.flat if isinstance(loader, CombinedLoader) else [loader]


def _in_training(given: Any, loaders: Iterable[Any]) -> Any:
    """Return training loaders in the collection in which they were given."""
    return like(given.loaders if isinstance(given, CombinedLoader) else given, iter(loaders))


def _datasets_of(loader: Any) -> Iterator[Any]:
    """Yield a loader's dataset, and the datasets that it is a part of or made of."""
    waiting = [getattr(loader, "dataset", None)]
    while waiting:
        dataset = waiting.pop()
        if dataset is not None:
            yield dataset
            waiting.append(getattr(dataset, "dataset", None))  # of a Subset
            waiting.extend(getattr(dataset, "datasets", None) or ())  # of a ConcatDataset


def _generators(loader: Any) -> list[torch.Generator]:
    return [generator for part in _parts(loader) for generator in generators_of(part)]


def _state_of(loader: Any) -> dict[str, Any]:
    return {
        "generators": [generator.get_state() for generator in _generators(loader)],
        "warm": [is_warm(part) for part in _parts(loader)],
    }


def _warn_of_shuffling(loaders: Iterable[Any], hook: str) -> None:
    """Warn that an evaluation reads in random order, so that its batches differ each time."""
    for loader in loaders:
        if isinstance(getattr(loader, "sampler", None), RandomSampler):
            _log_of_all.warning(
                f"{hook} has a DataLoader that shuffles, so its batches differ each time it is "
                "read; set shuffle=False"
            )
            return


def _name(stage: str) -> str:
    """Return the Trainer's argument that limits a stage."""
    return {"validate": "limit_val_batches"}.get(stage, f"limit_{stage}_batches")
