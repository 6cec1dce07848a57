"""Names that a Trainer of Lightning 1.x has, beyond those of Lightning 2."""

import os
from typing import Any

from ..actors.callbacks.gradient_accumulation_scheduler import GradientAccumulationScheduler
from ..actors.callbacks.prediction_writer import BasePredictionWriter
from ..actors.module import LightningModule
from .accelerator_connector import AcceleratorConnector
from .parts import TrainerParts
from .stages import Function


class FormerNames(TrainerParts):
    """What scripts and callbacks for Lightning 1.x read off a Trainer."""

    _given_formerly: dict[str, Any]
    _used_checkpoints: dict[Function, str]

    def get_model(self) -> LightningModule:
        """Return ``lightning_module``."""
        return self.lightning_module

    def call_hook(self, hook_name: str, *args: Any) -> Any:
        """Run a hook of callbacks and module, as ``Loop.hook`` does.

        Args:
            hook_name: the hook.
            *args: its arguments.

        Returns:
            The hook's result.

        Raises:
            UsageError: there is no such hook, and its name does not begin with ``on_``.
        """
        return self.wiring.call_hook_of_loop(hook_name, *args)

    @property
    def training_type_plugin(self) -> Any:
        """The same as ``strategy``."""
        return self.collectives

    @property
    def should_rank_save_checkpoint(self) -> bool:
        """The same as ``is_global_zero``."""
        return self.is_global_zero

    # -- devices -----------------------------------------------------------------------------

    @property
    def _accelerator_connector(self) -> AcceleratorConnector:
        """What Lightning keeps of devices: private there, and read by packages all the same."""
        return AcceleratorConnector(
            self.accelerator.argument,
            self.arguments["devices"],
            self.strategy,
            self.loaders.use_distributed_sampler,
        )

    @property
    def accumulation_scheduler(self) -> GradientAccumulationScheduler:
        """The callback that sets ``accumulate_grad_batches``; without one, what it would be."""
        for entry in self.callbacks:
            if isinstance(entry, GradientAccumulationScheduler):
                return entry
        return GradientAccumulationScheduler({0: self.accumulate_grad_batches})

    @property
    def num_processes(self) -> int:
        """Number of processes of this machine; the same as ``num_devices``."""
        return self.num_devices

    @property
    def gpus(self) -> Any:
        """``Trainer(gpus=...)`` as it was given, or ``devices`` with GPUs."""
        given = self._given_formerly.get("gpus")
        return self.arguments["devices"] if given is None and self._is_on_gpu else given

    @property
    def num_gpus(self) -> int:
        """Number of GPUs of this machine that train."""
        return self.num_devices if self._is_on_gpu else 0

    @property
    def root_gpu(self) -> int | None:
        """Index of the GPU of this process; None without one."""
        return (self.device.device.index or 0) if self._is_on_gpu else None

    @property
    def data_parallel_device_ids(self) -> list[int] | None:
        """Indices of the GPUs of this machine that train; None without one."""
        return self.device_ids if self._is_on_gpu else None

    @property
    def data_parallel(self) -> bool:
        """True if several processes train."""
        return self.world_size > 1

    use_ddp = data_parallel

    @property
    def use_tpu(self) -> bool:
        """False: nothing trains on TPUs."""
        return False

    @property
    def tpu_cores(self) -> None:
        """None: nothing trains on TPUs."""
        return None

    @property
    def distributed_sampler_kwargs(self) -> dict[str, int]:
        """Arguments for a DistributedSampler of your own."""
        return {"num_replicas": self.world_size, "rank": self.global_rank}

    @property
    def _is_on_gpu(self) -> bool:
        return self.device.device.type == "cuda"

    @property
    def use_amp(self) -> bool:
        """True with mixed precision."""
        return self.device.precision.endswith("-mixed")

    @property
    def scaler(self) -> Any:
        """The GradScaler of ``precision="16-mixed"``, otherwise None."""
        return self.device.scaler

    @property
    def slurm_job_id(self) -> int | None:
        """Number of the job in SLURM's queue; None outside of one, and in an interactive one."""
        number = os.environ.get("SLURM_JOB_ID", "")
        is_interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
        return int(number) if number.isdecimal() and not is_interactive else None

    # -- what is trained and shown -----------------------------------------------------------

    @property
    def lr_schedulers(self) -> list[dict[str, Any]]:
        """The schedulers and their options, each as a dict; see ``lr_scheduler_configs``."""
        return [
            {name: getattr(config, name) for name in config.__struct_fields__}
            for config in self.lr_scheduler_configs
        ]

    @property
    def optimizer_frequencies(self) -> list[int]:
        """Number of consecutive batches for each optimizer; empty if all are used on each."""
        return self.optimization.frequencies

    @property
    def progress_bar_dict(self) -> dict[str, float]:
        """The same as ``progress_bar_metrics``."""
        return self.progress_bar_metrics

    @property
    def running_sanity_check(self) -> bool:
        """The same as ``sanity_checking``."""
        return self.sanity_checking

    @property
    def prediction_writer_callbacks(self) -> list[BasePredictionWriter]:
        """The callbacks that write predictions."""
        return [each for each in self.callbacks_in_order if isinstance(each, BasePredictionWriter)]

    # -- data and checkpoints ----------------------------------------------------------------

    def reset_train_val_dataloaders(self, model: Any = None) -> None:
        """Request new loaders for training and validation before they are read again.

        Args:
            model: not needed; the one that runs.
        """
        self.reset_train_dataloader()
        self.reset_val_dataloader()

    @property
    def weights_save_path(self) -> str:
        """The same as ``default_root_dir``."""
        return self.default_root_dir

    @property
    def validated_ckpt_path(self) -> str | None:
        """The checkpoint whose weights were validated last; None if they were the module's own."""
        return self._used_checkpoints.get("validate")

    @property
    def tested_ckpt_path(self) -> str | None:
        """The checkpoint whose weights were tested last; None if they were the module's own."""
        return self._used_checkpoints.get("test")

    @property
    def predicted_ckpt_path(self) -> str | None:
        """The checkpoint whose weights predicted last; None if they were the module's own."""
        return self._used_checkpoints.get("predict")

    def note_checkpoint(self, function: Function, path: str | None) -> None:
        self._used_checkpoints.pop(function, None)
        self.ckpt_path = path
        if path is not None:
            self._used_checkpoints[function] = path
