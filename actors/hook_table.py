"""The table of hooks: their names, their arguments, and who has them."""

from collections.abc import Mapping
from typing import NamedTuple


class HookSpec(NamedTuple):
    """The arguments of a hook, and who has it.

    Attributes:
        arguments: names of its objects, in order; callbacks get trainer and module before them.
        callback: callbacks have it.
        module: the module has it.
        datamodule: the datamodule has it.
        instead: only one handler runs: the datamodule's if it has one, otherwise the module's.
    """

    arguments: tuple[str, ...] = ()
    callback: bool = True
    module: bool = True
    datamodule: bool = False
    instead: bool = False


def _specs() -> dict[str, HookSpec]:
    both = HookSpec()
    callback_only = HookSpec(module=False)
    module_only = HookSpec(callback=False)
    specs = {
        "prepare_data": HookSpec(callback=False, datamodule=True),
        "setup": HookSpec(("stage",), datamodule=True),
        "teardown": HookSpec(("stage",), datamodule=True),
        "on_before_accelerator_backend_setup": callback_only,
        "on_configure_sharded_model": callback_only,
        "configure_sharded_model": module_only,
        "configure_model": module_only,
        "on_post_move_to_device": module_only,
        "configure_callbacks": module_only,
        "configure_optimizers": module_only,
        "on_sanity_check_start": callback_only,
        "on_sanity_check_end": callback_only,
        "on_batch_start": callback_only,
        "on_batch_end": callback_only,
        "on_exception": HookSpec(("exception",), module=False, datamodule=True),
        "on_validation_model_zero_grad": module_only,
        "on_before_batch_transfer": _data("batch", "dataloader_idx"),
        "transfer_batch_to_device": _data("batch", "device", "dataloader_idx"),
        "on_after_batch_transfer": _data("batch", "dataloader_idx"),
        "on_before_zero_grad": HookSpec(("optimizer",)),
        "optimizer_zero_grad": HookSpec(
            ("epoch", "batch_idx", "optimizer", "optimizer_idx"), callback=False
        ),
        "on_before_backward": HookSpec(("loss",)),
        "backward": HookSpec(("loss", "optimizer", "optimizer_idx"), callback=False),
        "on_after_backward": both,
        "on_before_optimizer_step": HookSpec(("optimizer", "optimizer_idx")),
        "configure_gradient_clipping": HookSpec(
            ("optimizer", "optimizer_idx", "gradient_clip_val", "gradient_clip_algorithm"),
            callback=False,
        ),
        "optimizer_step": HookSpec(
            ("epoch", "batch_idx", "optimizer", "optimizer_idx", "optimizer_closure"),
            callback=False,
        ),
        "lr_scheduler_step": HookSpec(("scheduler", "optimizer_idx", "metric"), callback=False),
        "on_save_checkpoint": HookSpec(("checkpoint",), datamodule=True),
        "on_load_checkpoint": HookSpec(("checkpoint",), datamodule=True),
    }
    return {**specs, **_specs_by_stage()}


def _specs_by_stage() -> dict[str, HookSpec]:
    """Return the hooks whose names differ by stage alone."""
    batch = ("batch", "batch_idx", "dataloader_idx")
    both, module_only = HookSpec(), HookSpec(callback=False)
    specs: dict[str, HookSpec] = {}
    for name in ("fit", "pretrain_routine", "train", "validation", "test", "predict"):
        specs[f"on_{name}_start"] = specs[f"on_{name}_end"] = both
    for name in ("", "train_", "validation_", "test_", "predict_"):
        specs[f"on_{name}epoch_start"] = specs[f"on_{name}epoch_end"] = both
    specs["on_predict_epoch_end"] = specs["on_train_epoch_end"] = HookSpec(("outputs",))
    for name in ("train", "validation", "test", "predict"):
        arguments = batch[:2] if name == "train" else batch
        specs[f"on_{name}_batch_start"] = HookSpec(arguments)
        specs[f"on_{name}_batch_end"] = HookSpec(("outputs", *arguments))
        specs[f"{name}_dataloader" if name != "validation" else "val_dataloader"] = _data()
    for name in ("validation", "test", "predict"):
        specs[f"on_{name}_model_eval"] = specs[f"on_{name}_model_train"] = module_only
    for name in ("training", "validation", "test", "predict"):
        step = ("batch", "batch_idx") if name == "training" else batch
        specs[f"{name}_step"] = HookSpec(step, callback=False)
        specs[f"{name}_step_end"] = HookSpec(("step_output",), callback=False)
        specs[f"{name}_epoch_end"] = HookSpec(("outputs",), callback=False)
    return specs


def _data(*arguments: str) -> HookSpec:
    return HookSpec(arguments, callback=False, datamodule=True, instead=True)


HOOKS: Mapping[str, HookSpec] = _specs()
"""Every hook by name."""

# Hooks that only the older interface has: a method of the same name with other parameters is a
# helper of the user's own.
OLDER_HOOKS = frozenset(
    [
        "on_batch_start",
        "on_batch_end",
        "on_epoch_start",
        "on_epoch_end",
        "on_pretrain_routine_start",
        "on_pretrain_routine_end",
        "on_post_move_to_device",
        "on_before_accelerator_backend_setup",
        "on_configure_sharded_model",
        "configure_sharded_model",
        *(f"{kind}_step_end" for kind in ("training", "validation", "test", "predict")),
        *(f"{kind}_epoch_end" for kind in ("training", "validation", "test", "predict")),
    ]
)
