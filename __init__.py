"""nightbus: PyTorch training as actors on a message bus, every run a log that can be replayed.

From bottom to top: ``bus`` (events, log, actors, replay; no torch), ``sinks`` (where events go)
and ``actors`` (module, data, callbacks), ``loops``, and the Trainer, which knows them all.
Names are loaded on first use, so that reading a log never loads torch.
"""

from typing import TYPE_CHECKING

from . import _began_in as _began_in  # before the script may change to another folder
from ._lazy import lazy_names

if TYPE_CHECKING:
    from .actors import HOOKS as HOOKS
    from .actors import Callback as Callback
    from .actors import CombinedLoader as CombinedLoader
    from .actors import LightningDataModule as LightningDataModule
    from .actors import LightningModule as LightningModule
    from .actors.alert import Alert as Alert
    from .actors.bus_monitor import BusMonitor as BusMonitor
    from .actors.callbacks import EMA as EMA
    from .actors.callbacks import BackboneFinetuning as BackboneFinetuning
    from .actors.callbacks import BaseFinetuning as BaseFinetuning
    from .actors.callbacks import BasePredictionWriter as BasePredictionWriter
    from .actors.callbacks import Checkpoint as Checkpoint
    from .actors.callbacks import DeviceStatsMonitor as DeviceStatsMonitor
    from .actors.callbacks import EarlyStopping as EarlyStopping
    from .actors.callbacks import EarlyStoppingReason as EarlyStoppingReason
    from .actors.callbacks import EMAWeightAveraging as EMAWeightAveraging
    from .actors.callbacks import GradientAccumulationScheduler as GradientAccumulationScheduler
    from .actors.callbacks import LambdaCallback as LambdaCallback
    from .actors.callbacks import LearningRateMonitor as LearningRateMonitor
    from .actors.callbacks import ModelCheckpoint as ModelCheckpoint
    from .actors.callbacks import ModelPruning as ModelPruning
    from .actors.callbacks import ModelSummary as ModelSummary
    from .actors.callbacks import OnExceptionCheckpoint as OnExceptionCheckpoint
    from .actors.callbacks import ProgressBarBase as ProgressBarBase
    from .actors.callbacks import RichModelSummary as RichModelSummary
    from .actors.callbacks import RichProgressBar as RichProgressBar
    from .actors.callbacks import RichProgressBarTheme as RichProgressBarTheme
    from .actors.callbacks import SpikeDetection as SpikeDetection
    from .actors.callbacks import StochasticWeightAveraging as StochasticWeightAveraging
    from .actors.callbacks import ThroughputMonitor as ThroughputMonitor
    from .actors.callbacks import Timer as Timer
    from .actors.callbacks import TQDMProgressBar as TQDMProgressBar
    from .actors.callbacks import TrainingSpikeError as TrainingSpikeError
    from .actors.callbacks import WeightAveraging as WeightAveraging
    from .actors.checkpoints.format import load_checkpoint as load_checkpoint
    from .actors.checkpoints.values import register_type as register_type
    from .actors.data.rng import seed_everything as seed_everything
    from .actors.hyperparameters import HyperparametersMixin as HyperparametersMixin
    from .actors.metrics.predictions import load_predictions as load_predictions
    from .actors.metrics.results import EvalResult as EvalResult
    from .actors.metrics.results import TrainResult as TrainResult
    from .actors.optimization.lightning_optimizer import LightningOptimizer as LightningOptimizer
    from .actors.process.rank_zero import is_main as is_main
    from .actors.process.rank_zero import rank_zero_only as rank_zero_only
    from .actors.profilers.advanced import AdvancedProfiler as AdvancedProfiler
    from .actors.profilers.profiler import PassThroughProfiler as PassThroughProfiler
    from .actors.profilers.profiler import Profiler as Profiler
    from .actors.profilers.pytorch import PyTorchProfiler as PyTorchProfiler
    from .actors.profilers.simple import SimpleProfiler as SimpleProfiler
    from .actors.ranks.strategy import DDPStrategy as DDPStrategy
    from .bus.actor import Actor as Actor
    from .bus.actor import Supervision as Supervision
    from .bus.clock import monotonic as monotonic
    from .bus.errors import ActorRaisedError as ActorRaisedError
    from .bus.errors import ActorStoppedError as ActorStoppedError
    from .bus.errors import AskTimeoutError as AskTimeoutError
    from .bus.errors import CheckpointError as CheckpointError
    from .bus.errors import CommandDroppedError as CommandDroppedError
    from .bus.errors import DeliveryError as DeliveryError
    from .bus.errors import MailboxFullError as MailboxFullError
    from .bus.errors import MissingPackageError as MissingPackageError
    from .bus.errors import NightbusError as NightbusError
    from .bus.errors import NobodyInReplayError as NobodyInReplayError
    from .bus.errors import NotRecorded as NotRecorded
    from .bus.errors import UnhandledCommandError as UnhandledCommandError
    from .bus.errors import UnknownActorError as UnknownActorError
    from .bus.errors import UsageError as UsageError
    from .bus.events import ActorBacklogs as ActorBacklogs
    from .bus.events import ActorRestarted as ActorRestarted
    from .bus.events import ActorStarted as ActorStarted
    from .bus.events import ActorStopped as ActorStopped
    from .bus.events import ActorTotals as ActorTotals
    from .bus.events import Agreed as Agreed
    from .bus.events import AlertSent as AlertSent
    from .bus.events import CheckpointSaved as CheckpointSaved
    from .bus.events import ClockOffset as ClockOffset
    from .bus.events import Command as Command
    from .bus.events import CommandsDropped as CommandsDropped
    from .bus.events import CommandTaken as CommandTaken
    from .bus.events import ConsoleLine as ConsoleLine
    from .bus.events import DeadLetter as DeadLetter
    from .bus.events import Event as Event
    from .bus.events import Fault as Fault
    from .bus.events import Gap as Gap
    from .bus.events import Hook as Hook
    from .bus.events import LoopAdvanced as LoopAdvanced
    from .bus.events import LoopEnded as LoopEnded
    from .bus.events import LoopStarted as LoopStarted
    from .bus.events import Media as Media
    from .bus.events import Pause as Pause
    from .bus.events import PlainUserEvent as PlainUserEvent
    from .bus.events import Put as Put
    from .bus.events import RankLost as RankLost
    from .bus.events import RankStarted as RankStarted
    from .bus.events import Resharded as Resharded
    from .bus.events import Resume as Resume
    from .bus.events import Resumed as Resumed
    from .bus.events import RunEnded as RunEnded
    from .bus.events import RunStarted as RunStarted
    from .bus.events import RunValidation as RunValidation
    from .bus.events import SaveCheckpoint as SaveCheckpoint
    from .bus.events import Stop as Stop
    from .bus.events import SystemMetrics as SystemMetrics
    from .bus.events import UserEvent as UserEvent
    from .bus.library.run import Run as Run
    from .bus.library.series import Series as Series
    from .bus.library.table import Runs as Runs
    from .bus.library.table import open_run as open_run
    from .bus.library.table import runs as runs
    from .bus.mail.mailbox import MailboxLimit as MailboxLimit
    from .bus.runs.run_folder import RunFolder as RunFolder
    from .bus.subscription import on as on
    from .loggers import CSVLogger as CSVLogger
    from .loggers import Logger as Logger
    from .loggers import MLFlowLogger as MLFlowLogger
    from .loggers import TensorBoardLogger as TensorBoardLogger
    from .loggers import WandbLogger as WandbLogger
    from .loops import EvaluationEpochLoop as EvaluationEpochLoop
    from .loops import EvaluationLoop as EvaluationLoop
    from .loops import FitLoop as FitLoop
    from .loops import Loop as Loop
    from .loops import ManualOptimization as ManualOptimization
    from .loops import OptimizerLoop as OptimizerLoop
    from .loops import PredictionEpochLoop as PredictionEpochLoop
    from .loops import PredictionLoop as PredictionLoop
    from .loops import Progress as Progress
    from .loops import TrainingBatchLoop as TrainingBatchLoop
    from .loops import TrainingEpochLoop as TrainingEpochLoop
    from .sinks.board.run_board import Board as Board
    from .sinks.csv import CSV as CSV
    from .sinks.function_sink import FunctionSink as FunctionSink
    from .sinks.json_lines import JSONLines as JSONLines
    from .sinks.mlflow import MLflow as MLflow
    from .sinks.parquet import Parquet as Parquet
    from .sinks.progress_bar import ProgressBar as ProgressBar
    from .sinks.replay import replay as replay
    from .sinks.sink import Sink as Sink
    from .sinks.sqlite import SQLite as SQLite
    from .sinks.tensorboard import TensorBoard as TensorBoard
    from .sinks.wandb import WandB as WandB
    from .trainer import Trainer as Trainer
    from .trainer.lightning_cli.cli import LightningCLI as LightningCLI
    from .trainer.lightning_cli.parser import LightningArgumentParser as LightningArgumentParser
    from .trainer.lightning_cli.save_config import SaveConfigCallback as SaveConfigCallback
    from .trainer.lightning_cli.types import ArgsType as ArgsType
    from .trainer.lightning_cli.types import LRSchedulerCallable as LRSchedulerCallable
    from .trainer.lightning_cli.types import OptimizerCallable as OptimizerCallable
    from .trainer.state import RunningStage as RunningStage
    from .trainer.state import TrainerFn as TrainerFn
    from .trainer.state import TrainerState as TrainerState
    from .trainer.state import TrainerStatus as TrainerStatus
    from .trainer.tuner.callbacks import BatchSizeFinder as BatchSizeFinder
    from .trainer.tuner.callbacks import LearningRateFinder as LearningRateFinder
    from .trainer.tuner.lr_finder import LRFinder as LRFinder
    from .trainer.tuner.tuner import Tuner as Tuner

_CALLBACKS = [
    "EMAWeightAveraging",
    "EarlyStoppingReason",
    "ModelPruning",
    "ProgressBarBase",
    "RichModelSummary",
    "RichProgressBar",
    "RichProgressBarTheme",
    "SpikeDetection",
    "TQDMProgressBar",
    "TrainingSpikeError",
    "BackboneFinetuning",
    "BaseFinetuning",
    "BasePredictionWriter",
    "Checkpoint",
    "DeviceStatsMonitor",
    "EMA",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "LambdaCallback",
    "LearningRateMonitor",
    "ModelCheckpoint",
    "ModelSummary",
    "OnExceptionCheckpoint",
    "StochasticWeightAveraging",
    "ThroughputMonitor",
    "Timer",
    "WeightAveraging",
]
_LOOPS = [
    "EvaluationEpochLoop",
    "EvaluationLoop",
    "FitLoop",
    "Loop",
    "ManualOptimization",
    "OptimizerLoop",
    "PredictionEpochLoop",
    "PredictionLoop",
    "Progress",
    "TrainingBatchLoop",
    "TrainingEpochLoop",
]
_DELIVERY_ERRORS = [
    "ActorRaisedError",
    "ActorStoppedError",
    "AskTimeoutError",
    "CommandDroppedError",
    "DeliveryError",
    "MailboxFullError",
    "NobodyInReplayError",
    "UnhandledCommandError",
    "UnknownActorError",
]
_LOGGERS = ["CSVLogger", "Logger", "MLFlowLogger", "TensorBoardLogger", "WandbLogger"]
_STATES = ["RunningStage", "TrainerFn", "TrainerState", "TrainerStatus"]
_HOME_OF = {
    **dict.fromkeys(_CALLBACKS, ".actors.callbacks"),
    **dict.fromkeys(_LOOPS, ".loops"),
    **dict.fromkeys(_DELIVERY_ERRORS, ".bus.errors"),
    **dict.fromkeys(_LOGGERS, ".loggers"),
    **dict.fromkeys(_STATES, ".trainer.state"),
    "Actor": ".bus.actor",
    "AdvancedProfiler": ".actors.profilers.advanced",
    "PassThroughProfiler": ".actors.profilers.profiler",
    "Profiler": ".actors.profilers.profiler",
    "PyTorchProfiler": ".actors.profilers.pytorch",
    "SimpleProfiler": ".actors.profilers.simple",
    "BatchSizeFinder": ".trainer.tuner.callbacks",
    "Alert": ".actors.alert",
    "BusMonitor": ".actors.bus_monitor",
    "Board": ".sinks.board.run_board",
    "CSV": ".sinks.csv",
    "Callback": ".actors",
    "CombinedLoader": ".actors",
    "DDPStrategy": ".actors.ranks.strategy",
    "EvalResult": ".actors.metrics.results",
    "HOOKS": ".actors",
    "HyperparametersMixin": ".actors.hyperparameters",
    "JSONLines": ".sinks.json_lines",
    "LRFinder": ".trainer.tuner.lr_finder",
    "LearningRateFinder": ".trainer.tuner.callbacks",
    "LightningDataModule": ".actors",
    "LightningModule": ".actors",
    "LightningOptimizer": ".actors.optimization.lightning_optimizer",
    "MailboxLimit": ".bus.mail.mailbox",
    "MissingPackageError": ".bus.errors",
    "NightbusError": ".bus.errors",
    "NotRecorded": ".bus.errors",
    "ProgressBar": ".sinks.progress_bar",
    "RunFolder": ".bus.runs.run_folder",
    "FunctionSink": ".sinks.function_sink",
    "MLflow": ".sinks.mlflow",
    "Parquet": ".sinks.parquet",
    "SQLite": ".sinks.sqlite",
    "TensorBoard": ".sinks.tensorboard",
    "WandB": ".sinks.wandb",
    "Sink": ".sinks.sink",
    "Supervision": ".bus.actor",
    "TrainResult": ".actors.metrics.results",
    "Trainer": ".trainer",
    "Tuner": ".trainer.tuner.tuner",
    "UsageError": ".bus.errors",
    "on": ".bus.subscription",
    "CheckpointError": ".bus.errors",
    "is_main": ".actors.process.rank_zero",
    "load_predictions": ".actors.metrics.predictions",
    "rank_zero_only": ".actors.process.rank_zero",
    "load_checkpoint": ".actors.checkpoints.format",
    "register_type": ".actors.checkpoints.values",
    "monotonic": ".bus.clock",
    "Run": ".bus.library.run",
    "Runs": ".bus.library.table",
    "Series": ".bus.library.series",
    "open_run": ".bus.library.table",
    "runs": ".bus.library.table",
    "replay": ".sinks.replay",
    "seed_everything": ".actors.data.rng",
}
_OF_EXTRAS = {
    **dict.fromkeys(
        ("ArgsType", "LRSchedulerCallable", "OptimizerCallable"), ".trainer.lightning_cli.types"
    ),
    "LightningArgumentParser": ".trainer.lightning_cli.parser",
    "LightningCLI": ".trainer.lightning_cli.cli",
    "SaveConfigCallback": ".trainer.lightning_cli.save_config",
}
__version__ = "0.1.0"


def _instead_of(name: str) -> str:
    from .compat.counterparts import instead_of

    return instead_of(name)


# Events and commands, which are listed nowhere but in bus/events.py, and __all__ come from here.
__getattr__ = lazy_names(__name__, _HOME_OF, _instead_of, ".bus.events", _OF_EXTRAS)


def __dir__() -> list[str]:
    """Return the public names, which are loaded on first use."""
    return sorted({*globals(), *__getattr__("__all__"), *_OF_EXTRAS})
