"""DeviceStatsMonitor: records the load and memory use of the machine as metrics."""

from typing import TYPE_CHECKING, Any

from ..accelerators import CPUAccelerator, CUDAAccelerator
from ..arguments import check_choice
from ..callback import Callback
from .without_sinks import say_without_sinks

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer


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
        self._cpu: CPUAccelerator | None = None
        self._evaluated = 0  # batches of evaluation

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Choose the source of the numbers.

        Raises:
            MissingPackageError: the CPU's numbers are wanted, and psutil is not installed.
        """
        say_without_sinks(self, trainer)
        on_cpu = trainer.device.device.type == "cpu"
        wants_cpu = on_cpu if self._cpu_stats is None else self._cpu_stats
        self._cpu = CPUAccelerator() if wants_cpu else None
        if self._cpu is not None:
            self._cpu.get_device_stats()  # the first reading only says from when on

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
            stats = CUDAAccelerator().get_device_stats(device)
        if self._cpu is not None:
            stats |= self._cpu.get_device_stats()
        for name, value in stats.items():
            self.put(f"DeviceStatsMonitor.{hook}/{name}", value, ("callbacks", "loggers"))
