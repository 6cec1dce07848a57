"""DeviceStatsMonitor: records the load and memory use of the machine as metrics."""

import importlib
from typing import TYPE_CHECKING, Any

import torch

from ...bus.errors import MissingPackageError
from ..arguments import check_choice
from ..callback import Callback
from .without_sinks import say_without_sinks

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

_CUDA_STATS = (
    "allocated_bytes.all.current",
    "allocated_bytes.all.peak",
    "reserved_bytes.all.current",
    "reserved_bytes.all.peak",
    "active_bytes.all.current",
    "num_alloc_retries",
    "num_ooms",
)


class DeviceStatsMonitor(Callback):
    """Records the use of the device.

    It does so every ``log_every_n_steps`` steps of training, and every as many batches of
    evaluation,
    counted over epochs, after the batch.

    Metrics are called ``DeviceStatsMonitor.on_train_batch_end/NAME``. On a GPU, names are those
    of ``torch.cuda.memory_stats``, in bytes. For the CPU they are ``cpu_percent``, over all cores
    since the value before, ``cpu_vm_percent`` and ``cpu_swap_percent``; these need psutil, the
    extra ``device``.

    Args:
        cpu_stats: record the CPU too; by default only if there is no GPU.

    Raises:
        UsageError: cpu_stats is neither a bool nor None.
    """

    why_not_replayed = (
        "it reads the device, not the log; its measurements are among the run's metrics"
    )

    def __init__(self, cpu_stats: bool | None = None) -> None:
        check_choice("cpu_stats", cpu_stats, (None, True, False))
        self._cpu_stats = cpu_stats
        self._cpu: _CpuStats | None = None
        self._evaluated = 0  # batches of evaluation

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Choose the source of the numbers.

        Raises:
            MissingPackageError: the CPU's numbers are wanted, and psutil is not installed.
        """
        say_without_sinks(self, trainer)
        on_cpu = trainer.device.device.type == "cpu"
        wants_cpu = on_cpu if self._cpu_stats is None else self._cpu_stats
        self._cpu = _CpuStats() if wants_cpu else None

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.metrics.is_due:
            self._record(trainer, "on_train_batch_end")

    def on_validation_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._record_evaluation(trainer, "on_validation_batch_end")

    def on_test_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._record_evaluation(trainer, "on_test_batch_end")

    def _record_evaluation(self, trainer: "Trainer", hook: str) -> None:
        if trainer.sanity_checking:
            return
        self._evaluated += 1
        if self._evaluated % trainer.metrics.log_every_n_steps == 0:
            self._record(trainer, hook)

    def _record(self, trainer: "Trainer", hook: str) -> None:
        stats: dict[str, float] = {}
        device = trainer.device.device
        if device.type == "cuda":
            known = torch.cuda.memory_stats(device)
            stats = {name: known.get(name, 0) for name in _CUDA_STATS}
        if self._cpu is not None:
            stats |= self._cpu.read()
        for name, value in stats.items():
            self.put(f"DeviceStatsMonitor.{hook}/{name}", value, ("callbacks", "loggers"))


class _CpuStats:
    def __init__(self) -> None:
        try:
            self._psutil: Any = importlib.import_module("psutil")
        except ImportError:
            raise MissingPackageError("DeviceStatsMonitor", "psutil", "device") from None
        self._psutil.cpu_percent()  # the first call only says from when on

    def read(self) -> dict[str, float]:
        return {
            "cpu_percent": self._psutil.cpu_percent(),
            "cpu_vm_percent": self._psutil.virtual_memory().percent,
            "cpu_swap_percent": self._psutil.swap_memory().percent,
        }
