"""Where Lightning has its names: module by module, as users import them.

A name stands here whether nightbus has it or not. It leads to the name of the same spelling in
``nightbus``; if it is another, or lives elsewhere, `counterparts.py` says so, and what to do where
there is none. So a name that nightbus gets is found here by itself. A package has its own names
and those of the modules directly below it.
"""

_PYTORCH = {
    "": (
        "Callback EvalResult LightningDataModule LightningModule TrainResult Trainer _logger "
        "cli_lightning_logo seed_everything"
    ),
    "accelerators": "AcceleratorRegistry TPUAccelerator HPUAccelerator IPUAccelerator",
    "accelerators.accelerator": "Accelerator",
    "accelerators.cpu": "CPUAccelerator",
    "accelerators.cuda": "CUDAAccelerator find_usable_cuda_devices",
    "accelerators.gpu": "GPUAccelerator",
    "accelerators.mps": "MPSAccelerator",
    "accelerators.tpu": "TPUAccelerator",
    "accelerators.xla": "XLAAccelerator",
    "callbacks": "",
    "callbacks.base": "Callback",
    "callbacks.batch_size_finder": "BatchSizeFinder",
    "callbacks.callback": "Callback",
    "callbacks.checkpoint": "Checkpoint",
    "callbacks.device_stats_monitor": "DeviceStatsMonitor",
    "callbacks.early_stopping": "EarlyStopping EarlyStoppingReason",
    "callbacks.finetuning": "BackboneFinetuning BaseFinetuning multiplicative",
    "callbacks.gpu_stats_monitor": "GPUStatsMonitor",
    "callbacks.gradient_accumulation_scheduler": "GradientAccumulationScheduler",
    "callbacks.lambda_function": "LambdaCallback",
    "callbacks.lr_finder": "LearningRateFinder",
    "callbacks.lr_logger": "LearningRateLogger",
    "callbacks.lr_monitor": "LearningRateMonitor",
    "callbacks.model_checkpoint": "ModelCheckpoint",
    "callbacks.model_summary": "ModelSummary",
    "callbacks.on_exception_checkpoint": "OnExceptionCheckpoint",
    "callbacks.prediction_writer": "BasePredictionWriter WriteInterval",
    "callbacks.progress": "ProgressBar ProgressBarBase RichProgressBar TQDMProgressBar",
    "callbacks.progress.base": "ProgressBarBase",
    "callbacks.progress.progress_bar": "ProgressBar get_standard_metrics",
    "callbacks.progress.rich_progress": (
        "BatchesProcessedColumn CustomBarColumn CustomProgress CustomTimeColumn MetricsTextColumn "
        "ProcessingSpeedColumn RichProgressBar RichProgressBarTheme"
    ),
    "callbacks.progress.tqdm_progress": "TQDMProgressBar Tqdm convert_inf",
    "callbacks.pruning": "ModelPruning",
    "callbacks.quantization": "QuantizationAwareTraining",
    "callbacks.rich_model_summary": "RichModelSummary",
    "callbacks.spike": "SpikeDetection",
    "callbacks.stochastic_weight_avg": "StochasticWeightAveraging",
    "callbacks.throughput_monitor": "Throughput ThroughputMonitor",
    "callbacks.timer": "Interval Timer",
    "callbacks.weight_averaging": "EMAWeightAveraging WeightAveraging",
    "callbacks.xla_stats_monitor": "XLAStatsMonitor",
    "cli": (
        "ArgsType LRSchedulerCallable LRSchedulerTypeTuple LightningArgumentParser LightningCLI "
        "OptimizerCallable ReduceLROnPlateau SaveConfigCallback instantiate_class"
    ),
    "core": "",
    "core.datamodule": "LightningDataModule",
    "core.decorators": "auto_move_data",
    "core.hooks": "CheckpointHooks DataHooks ModelHooks",
    "core.lightning": "LightningModule",
    "core.memory": "ModelSummary get_model_size_mb",
    "core.mixins": "DeviceDtypeModuleMixin HyperparametersMixin",
    "core.mixins.hparams_mixin": "HyperparametersMixin",
    "core.module": "LightningModule",
    "core.step_result": "EvalResult TrainResult",
    "core.optimizer": "LightningOptimizer",
    "core.saving": (
        "get_filesystem "
        "load_hparams_from_tags_csv load_hparams_from_yaml save_hparams_to_tags_csv "
        "save_hparams_to_yaml"
    ),
    "demos": "",
    "demos.boring_classes": (
        "BoringDataModule BoringDataModuleNoLen BoringModel DemoModel IterableBoringDataModule "
        "ManualOptimBoringModel RandomDataset RandomDictDataset RandomIterableDataset "
        "RandomIterableDatasetWithLen"
    ),
    "demos.lstm": "LightningLSTM SequenceSampler SimpleLSTM",
    "demos.mnist_datamodule": "MNIST MNISTDataModule",
    "demos.transformer": "LightningTransformer Transformer WikiText2",
    "lite": "LightningLite",
    "loggers": "",
    "loggers.base": (
        "DummyExperiment DummyLogger LightningLoggerBase LoggerCollection rank_zero_experiment"
    ),
    "loggers.comet": "CometLogger",
    "loggers.csv_logs": "CSVLogger ExperimentWriter",
    "loggers.litlogger": "LitLogger",
    "loggers.logger": "DummyExperiment DummyLogger Logger rank_zero_experiment",
    "loggers.mlflow": "MLFlowLogger",
    "loggers.neptune": "NeptuneLogger",
    "loggers.tensorboard": "TensorBoardLogger",
    "loggers.test_tube": "TestTubeLogger",
    "loggers.wandb": "WandbLogger",
    "logging": (
        "CometLogger MLFlowLogger NeptuneLogger TensorBoardLogger TestTubeLogger WandbLogger"
    ),
    "logging.test_tube": "TestTubeLogger",
    "loops": "",
    "loops.base": "Loop",
    "loops.batch": "TrainingBatchLoop",
    "loops.batch.training_batch_loop": "TrainingBatchLoop",
    "loops.dataloader": "DataLoaderLoop EvaluationLoop PredictionLoop",
    "loops.dataloader.evaluation_loop": "EvaluationLoop",
    "loops.dataloader.prediction_loop": "PredictionLoop",
    "loops.epoch": "EvaluationEpochLoop PredictionEpochLoop TrainingEpochLoop",
    "loops.epoch.evaluation_epoch_loop": "EvaluationEpochLoop",
    "loops.epoch.prediction_epoch_loop": "PredictionEpochLoop",
    "loops.epoch.training_epoch_loop": "TrainingEpochLoop",
    "loops.evaluation_loop": "_EvaluationLoop",
    "loops.fit_loop": "FitLoop",
    "loops.optimization": "ManualOptimization OptimizerLoop",
    "loops.optimization.manual_loop": "ManualOptimization",
    "loops.optimization.optimizer_loop": "OptimizerLoop",
    "metrics": "Metric",
    "metrics.metric": "Metric",
    "overrides": "LightningDistributedModule",
    "overrides.base": "unwrap_lightning_module",
    "overrides.data_parallel": "LightningDataParallel LightningDistributedDataParallel",
    "overrides.distributed": "UnrepeatedDistributedSampler",
    "plugins": "",
    "plugins.ddp_plugin": "DDPPlugin",
    "plugins.environments": (
        "ClusterEnvironment KubeflowEnvironment LSFEnvironment LightningEnvironment "
        "MPIEnvironment SLURMEnvironment TorchElasticEnvironment XLAEnvironment"
    ),
    "plugins.environments.cluster_environment": "ClusterEnvironment",
    "plugins.environments.lightning_environment": "LightningEnvironment",
    "plugins.environments.slurm_environment": "SLURMEnvironment",
    "plugins.io": "AsyncCheckpointIO CheckpointIO TorchCheckpointIO XLACheckpointIO",
    "plugins.io.checkpoint_io": "CheckpointIO",
    "plugins.io.checkpoint_plugin": "CheckpointIO",
    "plugins.io.torch_io": "TorchCheckpointIO",
    "plugins.io.torch_plugin": "TorchCheckpointIO",
    "plugins.layer_sync": "LayerSync TorchSyncBatchNorm",
    "plugins.precision": (
        "ApexMixedPrecisionPlugin BitsandbytesPrecision DeepSpeedPrecision DoublePrecision "
        "FSDPPrecision HalfPrecision MixedPrecision MixedPrecisionPlugin "
        "NativeMixedPrecisionPlugin Precision PrecisionPlugin "
        "TransformerEnginePrecision XLAPrecision"
    ),
    "plugins.precision.amp": "MixedPrecision",
    "plugins.precision.native_amp": "NativeMixedPrecisionPlugin",
    "plugins.precision.precision": "Precision",
    "plugins.precision.precision_plugin": "PrecisionPlugin",
    "plugins.training_type": (
        "DDP2Plugin DDPFullyShardedPlugin DDPPlugin DDPShardedPlugin DDPSpawnPlugin "
        "DataParallelPlugin DeepSpeedPlugin ParallelPlugin SingleDevicePlugin TrainingTypePlugin"
    ),
    "plugins.training_type.ddp": "DDPPlugin",
    "profiler": (
        "AbstractProfiler AdvancedProfiler BaseProfiler PassThroughProfiler Profiler "
        "PyTorchProfiler SimpleProfiler XLAProfiler"
    ),
    "profilers": "",
    "profilers.advanced": "AdvancedProfiler",
    "profilers.base": "PassThroughProfiler",
    "profilers.profiler": "Profiler",
    "profilers.pytorch": "PyTorchProfiler",
    "profilers.simple": "SimpleProfiler",
    "profilers.xla": "XLAProfiler",
    "serve": "ServableModule ServableModuleValidator",
    "strategies": (
        "BaguaStrategy ColossalAIStrategy DDP2Strategy DDPFullyShardedNativeStrategy "
        "HPUParallelStrategy HivemindStrategy IPUStrategy SingleHPUStrategy SingleTPUStrategy "
        "StrategyRegistry TPUSpawnStrategy"
    ),
    "strategies.ddp": "DDPStrategy",
    "strategies.ddp_spawn": "DDPSpawnStrategy",
    "strategies.deepspeed": "DeepSpeedStrategy",
    "strategies.dp": "DataParallelStrategy",
    "strategies.fsdp": "FSDPStrategy",
    "strategies.fully_sharded": "DDPFullyShardedStrategy",
    "strategies.model_parallel": "ModelParallelStrategy",
    "strategies.parallel": "ParallelStrategy",
    "strategies.sharded": "DDPShardedStrategy",
    "strategies.single_device": "SingleDeviceStrategy",
    "strategies.strategy": "Strategy",
    "strategies.single_xla": "SingleDeviceXLAStrategy",
    "strategies.xla": "XLAStrategy",
    "trainer": "seed_everything",
    "trainer.connectors": "",
    "trainer.connectors.accelerator_connector": "_AcceleratorConnector",
    "trainer.connectors.logger_connector": "",
    "trainer.connectors.logger_connector.result": "_OUT_DICT",
    "trainer.states": "RunningStage TrainerFn TrainerState TrainerStatus",
    "trainer.supporters": "CombinedLoader CycleIterator",
    "trainer.trainer": "Trainer",
    "tuner": "",
    "tuner.lr_finder": "_LRFinder lr_find",
    "tuner.tuning": "Tuner",
    "utilities": "FLOAT16_EPSILON FLOAT32_EPSILON FLOAT64_EPSILON apply_to_collection",
    "utilities.apply_func": "apply_to_collection apply_to_collections move_data_to_device",
    "utilities.argparse": (
        "add_argparse_args from_argparse_args get_init_arguments_and_types parse_argparser "
        "str_to_bool str_to_bool_or_int str_to_bool_or_str"
    ),
    "utilities.cli": (
        "ArgsType CALLBACK_REGISTRY DATAMODULE_REGISTRY LOGGER_REGISTRY LRSchedulerCallable "
        "LRSchedulerTypeTuple LR_SCHEDULER_REGISTRY LightningArgumentParser LightningCLI "
        "MODEL_REGISTRY OPTIMIZER_REGISTRY OptimizerCallable ReduceLROnPlateau SaveConfigCallback "
        "instantiate_class"
    ),
    "utilities.cloud_io": "atomic_save get_filesystem load",
    "utilities.combined_loader": "CombinedLoader",
    "utilities.compile": "from_compiled to_uncompiled",
    "utilities.data": (
        "AttributeDict extract_batch_size has_iterable_dataset has_len sized_len "
        "suggested_max_num_workers"
    ),
    "utilities.deepspeed": "convert_zero_checkpoint_to_fp32_state_dict",
    "utilities.distributed": (
        "ReduceOp _get_rank distributed_available gather_all_tensors is_shared_filesystem "
        "rank_zero_debug rank_zero_info rank_zero_only rank_zero_warn"
    ),
    "utilities.enums": "GradClipAlgorithmType LightningEnum",
    "utilities.exceptions": "MisconfigurationException SIGTERMException",
    "utilities.grads": "grad_norm",
    "utilities.imports": "_module_available",
    "utilities.memory": (
        "garbage_collection_cuda get_model_size_mb is_cuda_out_of_memory is_cudnn_snafu "
        "is_oom_error is_out_of_cpu_memory recursive_detach"
    ),
    "utilities.metrics": "metrics_to_scalars",
    "utilities.migration": "migrate_checkpoint",
    "utilities.model_helpers": "get_torchvision_model is_overridden",
    "utilities.model_summary": (
        "LEFTOVER_PARAMS_NAME LayerSummary ModelSummary NOT_APPLICABLE UNKNOWN_SIZE "
        "get_formatted_model_size get_human_readable_count parse_batch_shape summarize"
    ),
    "utilities.model_summary.model_summary": (
        "LEFTOVER_PARAMS_NAME LayerSummary ModelSummary NOT_APPLICABLE UNKNOWN_SIZE "
        "get_formatted_model_size get_human_readable_count parse_batch_shape summarize"
    ),
    "utilities.model_utils": "is_overridden",
    "utilities.optimizer": "optimizer_to_device optimizers_to_device",
    "utilities.parameter_tying": "find_shared_parameters set_shared_parameters",
    "utilities.parsing": (
        "AttributeDict clean_namespace collect_init_args get_init_args is_picklable "
        "flatten_dict lightning_getattr lightning_hasattr lightning_setattr parse_class_init_keys "
        "save_hyperparameters str_to_bool str_to_bool_or_int str_to_bool_or_str"
    ),
    "utilities.rank_zero": (
        "LightningDeprecationWarning WarningCache _get_rank rank_prefixed_message rank_zero_debug "
        "rank_zero_deprecation rank_zero_info rank_zero_only rank_zero_warn"
    ),
    "utilities.seed": "isolate_rng pl_worker_init_function reset_seed seed_everything",
    "utilities.signature_utils": "is_param_in_hook_signature",
    "utilities.throughput": "measure_flops",
    "utilities.types": (
        "EPOCH_OUTPUT EVAL_DATALOADERS LRSchedulerConfig LRSchedulerPLType LRSchedulerType "
        "LRSchedulerTypeUnion OptimizerConfig OptimizerLRScheduler OptimizerLRSchedulerConfig "
        "STEP_OUTPUT TRAIN_DATALOADERS _EVALUATE_OUTPUT _METRIC _PREDICT_OUTPUT"
    ),
    "utilities.upgrade_checkpoint": "upgrade_checkpoint",
    "utilities.warnings": (
        "LightningDeprecationWarning PossibleUserWarning WarningCache "
        "disable_possible_user_warnings rank_zero_deprecation rank_zero_warn"
    ),
}
_FABRIC = {
    "": "Fabric is_wrapped seed_everything",
    "accelerators": _PYTORCH["accelerators.cpu"],
    "fabric": "Fabric",
    "loggers": "CSVLogger Logger TensorBoardLogger",
    "loggers.csv_logs": "CSVLogger",
    "loggers.logger": "Logger rank_zero_experiment",
    "loggers.tensorboard": "TensorBoardLogger",
    "plugins": "",
    "plugins.environments": _PYTORCH["plugins.environments"],
    "plugins.io": _PYTORCH["plugins.io"],
    "plugins.io.checkpoint_io": "CheckpointIO",
    "plugins.io.torch_io": "TorchCheckpointIO",
    "plugins.precision": _PYTORCH["plugins.precision"],
    "plugins.precision.precision": "Precision",
    "strategies": (
        "DDPStrategy DataParallelStrategy DeepSpeedStrategy FSDPStrategy ModelParallelStrategy "
        "SingleDeviceStrategy Strategy XLAStrategy"
    ),
    "utilities": "",
    "utilities.apply_func": (
        "apply_to_collection convert_tensors_to_scalars convert_to_tensors move_data_to_device"
    ),
    "utilities.cloud_io": "_load get_filesystem",
    "utilities.data": "AttributeDict has_iterable_dataset has_len suggested_max_num_workers",
    "utilities.device_dtype_mixin": "_DeviceDtypeModuleMixin",
    "utilities.distributed": "DistributedSamplerWrapper is_shared_filesystem",
    "utilities.enums": "LightningEnum",
    "utilities.exceptions": "MisconfigurationException",
    "utilities.imports": "",
    "utilities.rank_zero": _PYTORCH["utilities.rank_zero"],
    "utilities.seed": _PYTORCH["utilities.seed"],
    "utilities.spike": "TrainingSpikeException",
    "utilities.throughput": "Throughput get_available_flops measure_flops",
    "utilities.types": "LRScheduler Optimizable Steppable _DEVICE _MAP_LOCATION_TYPE _PATH",
    "utilities.warnings": "PossibleUserWarning disable_possible_user_warnings",
    "wrappers": "is_wrapped",
}
LIGHTNING = "lightning"
_PACKAGES = (
    (LIGHTNING, {"": f"{_PYTORCH['']} Fabric"}),
    (f"{LIGHTNING}.pytorch", _PYTORCH),
    (f"{LIGHTNING}.fabric", _FABRIC),
    ("pytorch_lightning", _PYTORCH),
    ("lightning_fabric", _FABRIC),
)
ROOTS = frozenset({LIGHTNING, "pytorch_lightning", "lightning_fabric"})
"""What Lightning has been imported as: 2.x, 1.x and, on its own, Fabric."""


def _table() -> dict[str, tuple[str, ...]]:
    table = {
        f"{package}.{path}".rstrip("."): tuple(names.split())
        for package, paths in _PACKAGES
        for path, names in paths.items()
    }
    packages = {package for package, _ in _PACKAGES}
    for path in sorted(table):  # a package before its modules
        parent = path.rpartition(".")[0]
        if parent and parent not in packages:
            table[parent] = (*table[parent], *table[path])
    return {path: tuple(sorted(set(names))) for path, names in table.items()}


NAMES_AT = _table()
"""Path of a module of Lightning -> the names in it."""
