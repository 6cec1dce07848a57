"""What nightbus has for a name of Lightning, or what to do where it has nothing.

A name that nightbus has under the same spelling needs no line. The facade asks here too, for names
that users try on it.
"""

from .paths import NAMES_AT

HOME_OF = {
    "TestTubeLogger": ".loggers.test_tube_logger",
    "Tqdm": "tqdm",  # of the package of this name, for bars that users draw
    **dict.fromkeys(
        (
            "BoringDataModule",
            "BoringDataModuleNoLen",
            "BoringModel",
            "DemoModel",
            "IterableBoringDataModule",
            "ManualOptimBoringModel",
            "RandomDataset",
            "RandomDictDataset",
            "RandomIterableDataset",
            "RandomIterableDatasetWithLen",
        ),
        ".compat.boring_classes",
    ),
    **dict.fromkeys(
        (
            "EPOCH_OUTPUT",
            "_DEVICE",
            "_EVALUATE_OUTPUT",
            "_METRIC",
            "_OUT_DICT",
            "_PREDICT_OUTPUT",
            "FLOAT16_EPSILON",
            "FLOAT32_EPSILON",
            "FLOAT64_EPSILON",
            "Interval",
            "Optimizable",
            "Steppable",
            "EVAL_DATALOADERS",
            "LRSchedulerPLType",
            "LRSchedulerType",
            "LRSchedulerTypeUnion",
            "GradClipAlgorithmType",
            "LightningDeprecationWarning",
            "LightningEnum",
            "OptimizerConfig",
            "OptimizerLRScheduler",
            "OptimizerLRSchedulerConfig",
            "PossibleUserWarning",
            "STEP_OUTPUT",
            "TRAIN_DATALOADERS",
            "WarningCache",
            "apply_to_collection",
            "apply_to_collections",
            "disable_possible_user_warnings",
            "_get_rank",
            "_logger",
            "is_overridden",
            "is_param_in_hook_signature",
            "rank_prefixed_message",
            "rank_zero_debug",
            "rank_zero_deprecation",
            "rank_zero_info",
            "rank_zero_only",
            "rank_zero_warn",
        ),
        ".compat.utilities",
    ),
    **dict.fromkeys(
        (
            "clean_namespace",
            "collect_init_args",
            "get_init_args",
            "is_picklable",
            "lightning_getattr",
            "lightning_hasattr",
            "lightning_setattr",
            "parse_class_init_keys",
        ),
        ".compat.attributes",
    ),
    **dict.fromkeys(
        (
            "garbage_collection_cuda",
            "get_model_size_mb",
            "is_cuda_out_of_memory",
            "is_cudnn_snafu",
            "is_oom_error",
            "is_out_of_cpu_memory",
            "recursive_detach",
        ),
        ".compat.memory",
    ),
    **dict.fromkeys(
        (
            "find_shared_parameters",
            "grad_norm",
            "measure_flops",
            "set_shared_parameters",
        ),
        ".compat.model_numbers",
    ),
    **dict.fromkeys(
        (
            "LEFTOVER_PARAMS_NAME",
            "LayerSummary",
            "ModuleSummary",
            "NOT_APPLICABLE",
            "UNKNOWN_SIZE",
            "get_formatted_model_size",
            "get_human_readable_count",
            "parse_batch_shape",
            "summarize",
        ),
        ".actors.module_summary",
    ),
    **dict.fromkeys(
        (
            "extract_batch_size",
            "has_iterable_dataset",
            "has_len",
            "isolate_rng",
            "sized_len",
            "suggested_max_num_workers",
        ),
        ".compat.loaders",
    ),
    **dict.fromkeys(
        (
            "auto_move_data",
            "convert_inf",
            "convert_tensors_to_scalars",
            "convert_to_tensors",
            "flatten_dict",
            "get_torchvision_model",
            "distributed_available",
            "metrics_to_scalars",
            "move_data_to_device",
            "multiplicative",
            "optimizer_to_device",
            "optimizers_to_device",
            "str_to_bool",
            "str_to_bool_or_int",
            "str_to_bool_or_str",
        ),
        ".compat.conversions",
    ),
    "cli_lightning_logo": ".compat.utilities",
    "_module_available": ".compat.availability",
    **dict.fromkeys(("MNIST", "MNISTDataModule", "WikiText2"), ".compat.demo_data"),
    **dict.fromkeys(("LightningTransformer", "Transformer"), ".compat.demo_transformer"),
    "Throughput": ".actors.throughput",
    "WriteInterval": ".actors.callbacks.prediction_writer",
    "Metric": "torchmetrics",
    "ReduceOp": "torch.distributed",
    "gather_all_tensors": "torchmetrics.utilities.distributed",
    "AttributeDict": ".actors.hyperparameter_values",
    "DummyExperiment": ".sinks.silent_logger",
    "DummyLogger": ".sinks.silent_logger",
    "ExperimentWriter": ".loggers.experiment_writer",
    **dict.fromkeys(
        (
            "ArgsType",
            "LRSchedulerCallable",
            "LRSchedulerTypeTuple",
            "OptimizerCallable",
            "ReduceLROnPlateau",
            "instantiate_class",
        ),
        ".trainer.lightning_cli.types",
    ),
    **dict.fromkeys(
        (
            "CALLBACK_REGISTRY",
            "DATAMODULE_REGISTRY",
            "LOGGER_REGISTRY",
            "LR_SCHEDULER_REGISTRY",
            "MODEL_REGISTRY",
            "OPTIMIZER_REGISTRY",
        ),
        ".trainer.lightning_cli.registries",
    ),
    **dict.fromkeys(
        (
            "add_argparse_args",
            "from_argparse_args",
            "get_init_arguments_and_types",
            "parse_argparser",
        ),
        ".actors.parsed_arguments",
    ),
    "reset_seed": ".actors.data.rng",
    "get_standard_metrics": ".actors.callbacks.progress_bar",
    **dict.fromkeys(
        ("Accelerator", "CPUAccelerator", "CUDAAccelerator", "GPUAccelerator", "MPSAccelerator"),
        ".actors.accelerators",
    ),
    "find_usable_cuda_devices": ".compat.accelerators",
    **dict.fromkeys(("AcceleratorRegistry", "StrategyRegistry"), ".compat.registries"),
    **dict.fromkeys(
        (
            "get_filesystem",
            "load_hparams_from_yaml",
            "save_hparams_to_tags_csv",
            "_PATH",
            "_MAP_LOCATION_TYPE",
        ),
        ".compat.files",
    ),
    "HyperparametersMixin": ".actors.hyperparameters",
    "LRSchedulerConfig": ".actors.optimization.lr_schedulers",
    "LRScheduler": "torch.optim.lr_scheduler",
    "LightningArgumentParser": ".trainer.lightning_cli.parser",
    "LightningCLI": ".trainer.lightning_cli.cli",
    "SaveConfigCallback": ".trainer.lightning_cli.save_config",
    **dict.fromkeys(("_load", "load"), ".compat.torch_load"),
    "_AcceleratorConnector": ".trainer.accelerator_connector",
    "_EvaluationLoop": ".loops.inner_evaluation",
    "_LRFinder": ".trainer.tuner.lr_finder",
    "TorchCheckpointIO": ".compat.checkpoint_io",
    "load_hparams_from_tags_csv": ".actors.hyperparameter_file",
    "rank_zero_experiment": ".loggers.logger",
    "save_hparams_to_yaml": ".loggers.hyperparameter_yaml",
}
"""Name -> the module that has it, for what is not in ``nightbus`` itself."""

OTHER_NAME_OF = {
    "Tqdm": "tqdm",
    "_module_available": "module_available",
    "AttributeDict": "Hyperparameters",
    "_AcceleratorConnector": "AcceleratorConnector",
    "_EvaluationLoop": "InnerEvaluationLoop",
    **dict.fromkeys(("_load", "load"), "load_checkpoint_or_file"),
    "load_hparams_from_tags_csv": "read_hyperparameters",
    "AbstractProfiler": "Profiler",
    "BaseProfiler": "Profiler",
    "DDPPlugin": "DDPStrategy",
    "DummyExperiment": "SilentLogger",
    "GPUAccelerator": "CUDAAccelerator",
    "DummyLogger": "SilentLogger",
    "LearningRateLogger": "LearningRateMonitor",
    "_LRFinder": "LRFinder",
    "LightningLoggerBase": "Logger",
    "metrics_to_scalars": "convert_tensors_to_scalars",
    "MisconfigurationException": "UsageError",
    "ProgressBar": "ProgressBarBase",
    "TrainingSpikeException": "TrainingSpikeError",
}
"""Name -> what the same thing is called in ``nightbus``."""

_OTHERWISE_IN = {
    ("core.memory", "ModelSummary"): "ModuleSummary",
    ("utilities.model_summary", "ModelSummary"): "ModuleSummary",
}
"""A package and a name that means something else in it -> the name of that."""

_ALL_HERE = "everything is in nightbus itself: use nightbus"
_IMPORT_CKPT = "use `nightbus import-ckpt model.ckpt`, which makes a checkpoint of nightbus of it"
_DDP = "use Trainer(devices=..., strategy='ddp')"
_COPIES = f"{_DDP}, which keeps a copy of the module on each device: nothing is sharded"
_STARTS = f"{_DDP}, which starts the script again: nothing is forked, nor pickled"
_PRECISION = (
    "use Trainer(precision=...): 'bf16-mixed', '16-mixed', 'bf16-true', '16-true' or '64-true'"
)
_ENVIRONMENT = (
    "leave it out: torchrun, srun and mpirun are recognised; Trainer(slurm_requeue=True) has a job "
    "of SLURM go on"
)
_CHECKPOINT_IO = (
    "leave it out: checkpoints are written while training goes on, in one format; ModelCheckpoint "
    "has where and when"
)
_ACCELERATOR = "use Trainer(accelerator='cpu'), 'gpu' or 'mps', and devices="
_DRAWN = (
    "the bar is drawn from the log: override get_metrics of TQDMProgressBar or RichProgressBar, or "
    "derive a bar of your own from ProgressBarBase"
)
_INSTEAD = {
    "GPUStatsMonitor": "use DeviceStatsMonitor",
    "XLAStatsMonitor": "use DeviceStatsMonitor",
    "QuantizationAwareTraining": "use torch.ao.quantization in a callback of your own",
    "lr_find": "use Tuner(trainer).lr_find(module)",
    "LoggerCollection": "give a list of loggers to logger=",
    **dict.fromkeys(
        ("CometLogger", "NeptuneLogger", "LitLogger"),
        "use a subclass of Logger that calls its library, or give Lightning's own to logger=",
    ),
    "cli": f"{_ALL_HERE}.LightningCLI, .SaveConfigCallback, .LightningArgumentParser",
    "Fabric": "use Trainer with a loop of your own (Loop), or manual optimization",
    **dict.fromkeys(
        ("LightningLite", "lite"),
        "use Trainer with a loop of your own (Loop), or manual optimization",
    ),
    **dict.fromkeys(
        ("rank_zero_info", "rank_zero_warn", "rank_zero_debug"),
        "use `if nightbus.is_main():`, or the decorator nightbus.rank_zero_only",
    ),
    "MisconfigurationException": "use UsageError",
    "SIGTERMException": "catch SystemExit: SIGTERM saves the run, and ends the process with 143",
    **dict.fromkeys(
        ("upgrade_checkpoint", "consolidate_checkpoint", "migration", "migrate_checkpoint"),
        _IMPORT_CKPT,
    ),
    **dict.fromkeys(
        ("deepspeed", "convert_zero_checkpoint_to_fp32_state_dict"),
        "nothing is sharded, so that each checkpoint has the whole weights",
    ),
    **dict.fromkeys(
        (
            "CheckpointHooks",
            "DataHooks",
            "DeviceDtypeModuleMixin",
            "ModelHooks",
            "_DeviceDtypeModuleMixin",
        ),
        "use LightningModule or LightningDataModule, which have these methods",
    ),
    **dict.fromkeys(
        ("from_compiled", "to_uncompiled"),
        "give trainer.fit what torch.compile returns; names of weights are plain nevertheless",
    ),
    **dict.fromkeys(
        (
            "LightningDataParallel",
            "LightningDistributedDataParallel",
            "LightningDistributedModule",
            "unwrap_lightning_module",
        ),
        "use the module itself: it is not wrapped",
    ),
    "save_hyperparameters": "call self.save_hyperparameters() in __init__",
    "is_shared_filesystem": "nothing asks for it: rank 0 writes checkpoints",
    "is_wrapped": "nothing is wrapped: it is of Fabric",
    "load": "use nightbus.load_checkpoint(path)",
    "pl_worker_init_function": (
        "use seed_everything(seed, workers=True), which seeds the workers of training loaders"
    ),
    "DistributedSamplerWrapper": "use the Trainer, which shards a loader with any sampler",
    "UnrepeatedDistributedSampler": "use the Trainer, which shards loaders without repeating",
    "atomic_save": "use pathlib and torch.save: files are local",
    **dict.fromkeys(
        (
            *NAMES_AT["lightning.pytorch.plugins.training_type"],
            *NAMES_AT["lightning.pytorch.strategies"],
        ),
        _COPIES,
    ),
    **{
        name: instead
        for module, instead in (
            ("environments", _ENVIRONMENT),
            ("io", _CHECKPOINT_IO),
            ("precision", _PRECISION),
        )
        for name in NAMES_AT[f"lightning.pytorch.plugins.{module}"]
    },
    **dict.fromkeys(("DDPSpawnStrategy", "DDPSpawnPlugin", "launchers"), _STARTS),
    "DDPPlugin": "use DDPStrategy, which has the same options",
    "SingleDeviceStrategy": "leave it out: it is what Trainer(devices=1) does",
    **dict.fromkeys(
        ("Strategy", "ParallelStrategy"),
        "leave it out, or use DDPStrategy: there are no strategies of your own; a loop of your own "
        "(Loop) changes how a module is trained",
    ),
    **dict.fromkeys(
        ("LayerSync", "TorchSyncBatchNorm", "layer_sync"), "use Trainer(sync_batchnorm=True)"
    ),
    **dict.fromkeys(
        ("CustomProgress", "MetricsTextColumn", "CustomBarColumn", "CustomTimeColumn"),
        _DRAWN,
    ),
    "ThroughputMonitor": "use Throughput, or the callback nightbus.ThroughputMonitor in a Trainer",
    "SpikeDetection": "use the callback nightbus.SpikeDetection in a Trainer",
    "get_available_flops": "give available_flops= yourself: it stands in the device's data sheet",
    **dict.fromkeys(
        ("ServableModule", "ServableModuleValidator", "serve"),
        "export the module (to_onnx, to_torchscript) and serve that",
    ),
    **dict.fromkeys(
        ("model_registry", "find_model_local_ckpt_path", "download_model_from_registry"),
        "use a callback that copies checkpoints where you want them",
    ),
    **dict.fromkeys(
        ("profiler", "profilers"),
        f"{_ALL_HERE}.SimpleProfiler, .AdvancedProfiler, .PyTorchProfiler",
    ),
    "callbacks": f"{_ALL_HERE}.ModelCheckpoint",
    "callback": f"{_ALL_HERE}.Callback",
    "core": f"{_ALL_HERE}.LightningModule",
    "pytorch": f"{_ALL_HERE}.Trainer",
    "utilities": f"{_ALL_HERE}.CombinedLoader, .UsageError, .seed_everything",
    "tuner": f"{_ALL_HERE}.Tuner",
    "overrides": f"{_ALL_HERE}.LightningModule",
    "fabric": "use Trainer with a loop of your own (Loop), or manual optimization",
    "strategies": f"{_ALL_HERE}.DDPStrategy",
    "accelerators": _ACCELERATOR,
    "plugins": f"{_PRECISION}; launchers are recognised, and checkpoints have one format",
    "demos": "use the scripts in examples/",
    "metrics": "use the package torchmetrics",
    "load_from_checkpoint": "use YourModule.load_from_checkpoint(path)",
    "log": "use self.log in a module or callback",
    "put": "use self.put in a module, callback or actor",
    "nn": "use torch.nn",
    "Module": "use LightningModule",
    "DataModule": "use LightningDataModule",
}
_INSTEAD_WITHIN = {
    "plugins.environments": _ENVIRONMENT,
    "plugins.io": _CHECKPOINT_IO,
    "plugins.precision": _PRECISION,
    "strategies.launchers": _STARTS,
    **{
        package: _INSTEAD[package]
        for package in ("accelerators", "lite", "plugins", "profiler", "profilers", "strategies")
    },
}
"""A package -> what to use instead of any other name in it; what is within another comes first."""


def name_within(path: str, name: str) -> str:
    """Return the name under which the tables above have a name of Lightning.

    Args:
        path: the module that has it in Lightning; two modules may use one name for two things.
        name: the name.
    """
    for (package, other), own in _OTHERWISE_IN.items():
        if name == other and f".{package}." in f".{path}.":
            return own
    return name


def instead_of(name: str) -> str:
    """Return what to use instead of a name that ``nightbus`` does not have; empty if unknown."""
    return _INSTEAD.get(name, "")


def advice_for(path: str, name: str) -> str:
    """Return what to do about a name of Lightning that has no counterpart.

    Args:
        path: the module that has it in Lightning.
        name: the name, or that of a module.
    """
    if name in _INSTEAD:
        return _INSTEAD[name]
    for package, instead in _INSTEAD_WITHIN.items():
        if f".{package}." in f".{path}.{name}.":
            return instead
    if name.startswith("_"):
        return "it is internal to Lightning, and nightbus has no counterpart"
    return "nightbus has no counterpart"
