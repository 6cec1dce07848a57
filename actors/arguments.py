"""Arguments of the Trainer that come in several forms, and those that are refused with a reason."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from ..bus.errors import UnsupportedArgumentError, UsageError
from ..bus.redaction import redact_setting, without_secrets

T = TypeVar("T")

_LIGHTNING = ("lightning", "pytorch_lightning")
_INSTEAD = {
    "gpus": "accelerator='gpu'",
    "auto_select_gpus": "accelerator='gpu'",
    "tpu_cores": "accelerator='cpu', 'gpu' or 'mps': TPUs are not supported",
    "ipus": "accelerator='cpu', 'gpu' or 'mps': IPUs are not supported",
    "num_processes": "nothing: one process is supported so far",
    "num_nodes": "nothing: one process is supported so far",
    "strategy": "nothing: one process is supported so far",
    "sync_batchnorm": "nothing: one process is supported so far",
    "use_distributed_sampler": "nothing: one process is supported so far",
    "replace_sampler_ddp": "nothing: one process is supported so far",
    "plugins": "precision= and accelerator=",
    "amp_backend": "precision='16-mixed' or 'bf16-mixed'",
    "amp_level": "precision='16-mixed' or 'bf16-mixed'",
    "profiler": "nothing: every hook's time is in the log, see `nightbus show RUN`",
    "weights_summary": "enable_model_summary=",
    "progress_bar_refresh_rate": "enable_progress_bar=; the bar paces itself",
    "process_position": "enable_progress_bar=",
    "checkpoint_callback": "enable_checkpointing=",
    "resume_from_checkpoint": "trainer.fit(..., ckpt_path=...)",
    "weights_save_path": "default_root_dir=",
    "auto_lr_find": "nothing: there is no tuner",
    "auto_scale_batch_size": "nothing: there is no tuner",
    "track_grad_norm": "an actor with @on('on_before_optimizer_step') that puts the norm",
    "terminate_on_nan": "detect_anomaly=, or an actor that tells 'fit' Stop",
    "flush_logs_every_n_steps": "nothing: sinks write beside training, as they come",
    "log_gpu_memory": "an actor that puts torch.cuda.memory_allocated()",
    "stochastic_weight_avg": "torch.optim.swa_utils in a callback",
    "reload_dataloaders_every_epoch": "reload_dataloaders_every_n_epochs=1",
    "move_metrics_to_cpu": "nothing: recorded values are numbers",
    "inference_mode": "nothing: evaluation runs without gradients",
    "barebones": "recording='off', logger=False, enable_progress_bar=False, "
    "enable_checkpointing=False",
    "truncated_bptt_steps": "truncated_bptt_steps on the LightningModule",
}


def refuse_unknown(arguments: Mapping[str, Any], known: list[str]) -> None:
    """Refuse arguments that the Trainer does not take, saying what to use instead.

    Raises:
        UnsupportedArgumentError: an argument that users know from Lightning.
        UsageError: any other.
    """
    import difflib

    for name in arguments:
        if name in _INSTEAD:
            raise UnsupportedArgumentError(
                f"Trainer({name}=...) is not taken; use instead: {_INSTEAD[name]}"
            )
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"Trainer has no argument {name!r}{hint}")


def listed(argument: str, given: Any, kind: type[T], what: str) -> list[T]:
    """What was given as a list; one object is a list of one.

    Args:
        argument: whose value it is.
        given: an object, several, or None.
        kind: what each has to be.
        what: the same for people.

    Raises:
        UsageError: something is not.
    """
    is_several = isinstance(given, Iterable) and not isinstance(given, str | kind)
    entries = list(given) if is_several else [] if given is None else [given]
    for entry in entries:
        if isinstance(entry, type):
            raise UsageError(
                f"{argument} has the class {entry.__name__}; give an object: {entry.__name__}()"
            )
        if not isinstance(entry, kind):
            raise UsageError(f"{argument}: expected {what}, not {described(entry)}")
    return entries


def described(given: object) -> str:
    """What something is, for an error; of what is Lightning's, what to take in its place."""
    name = type(given).__name__
    for base in type(given).__mro__:
        package = base.__module__.partition(".")[0]
        if package not in _LIGHTNING:
            continue
        if base is type(given):
            return f"{name}, which is that of {package}; import nightbus's own"
        return f"{name}, whose {base.__name__} is that of {package}; derive it from nightbus's own"
    return name


def check_devices(devices: Any) -> None:
    """Accept what means one process.

    Raises:
        UnsupportedArgumentError: it means more.
    """
    if devices in ("auto", 1, "1", None) or (isinstance(devices, list) and len(devices) == 1):
        return
    raise UnsupportedArgumentError(
        f"devices={devices!r}: one process with one device is supported so far; use devices=1"
    )


def parse_max_time(max_time: Any) -> float | None:
    """A time limit in seconds.

    Args:
        max_time: ``"DD:HH:MM:SS"``, a timedelta, or a dict of its arguments; None for no limit.

    Raises:
        UsageError: it is none of these.
    """
    if max_time is None:
        return None
    if isinstance(max_time, timedelta):
        return max_time.total_seconds()
    if isinstance(max_time, Mapping):
        try:
            return timedelta(**max_time).total_seconds()
        except TypeError:
            raise UsageError(
                f"max_time={dict(max_time)!r}: expected keys of timedelta, such as hours"
            ) from None
    parts = str(max_time).split(":")
    if len(parts) == 4 and all(part.isdigit() for part in parts):
        days, hours, minutes, seconds = map(int, parts)
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    raise UsageError(
        f"max_time={max_time!r}: expected 'DD:HH:MM:SS', a timedelta, or a dict such as "
        "{'hours': 8}"
    )


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """A value as given, if it is one of the choices.

    Raises:
        UsageError: it is not.
    """
    if value not in choices:
        shown = ", ".join(repr(choice) for choice in choices)
        raise UsageError(f"{name}={value!r}: expected one of {shown}")
    return value


def check_at_least(name: str, value: int | None, least: int) -> int | None:
    """A number as given, if it is an int of at least ``least``, or None.

    Raises:
        UsageError: it is not.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name}={value!r}: expected an int of at least {least}")
    return value


def check_not_negative(name: str, value: float | None) -> float | None:
    """A number as given, if it is one of at least 0, or None.

    Raises:
        UsageError: it is not.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise UsageError(f"{name}={value!r}: expected a number of at least 0, or None")
    return value


def check_seconds(name: str, value: float | None) -> float | None:
    """A time as given, if it is a positive number of seconds, or None.

    Raises:
        UsageError: it is not.
    """
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < float("inf"):
        raise UsageError(f"{name}={value!r}: expected a positive number of seconds, or None")
    return value


def as_plain(arguments: Mapping[str, Any]) -> dict[str, bool | int | float | str | None]:
    """Arguments as the log keeps them: plain values as they are, others by their class, and texts
    whose name says that they are secret struck out.
    """
    plain: dict[str, bool | int | float | str | None] = {}
    for name, value in redact_setting("", arguments).items():
        if value is None or isinstance(value, bool | int | float | str):
            plain[name] = value
        elif isinstance(value, list | tuple):
            plain[name] = ", ".join(_shown(entry) for entry in value)
        else:
            plain[name] = _shown(value)
    return plain


def _shown(value: Any) -> str:
    if isinstance(value, bool | int | float | str | timedelta | Mapping):
        return without_secrets(str(value))  # what objects in it say of themselves
    return type(value).__name__
