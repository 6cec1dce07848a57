"""What to do about errors of PyTorch's that say what failed, but not why."""

import re
from typing import NamedTuple

from torch.nn import Module

from ..bus.actor import Actor
from ..bus.errors import NightbusError
from ..bus.log.place import Place


class _Known(NamedTuple):
    pattern: str  # of the error's text
    advice: str


_KNOWN = [
    _Known(
        r"does not require grad and does not have a grad_fn",
        "the loss has no gradient: it was detached, made a number with .item(), made under "
        "torch.no_grad() or of whole numbers (argmax, ==), or no parameter that requires gradients "
        "had a part in it; return the loss as the loss function gives it",
    ),
    _Known(
        r"grad can be implicitly created only for scalar outputs",
        "the loss is a tensor of several numbers: reduce it to one, with .mean() say, or use the "
        "loss function with reduction='mean'",
    ),
    _Known(
        r"Trying to backward through the graph a second time",
        "the loss was already differentiated: training_step returns it, and the trainer calls "
        "backward; leave loss.backward() out, or set self.automatic_optimization = False and do "
        "all of it yourself. A state that is kept from batch to batch has to be detached",
    ),
    _Known(
        r"optimizer got an empty parameter list",
        "the module has no parameters that the optimizer was given: layers belong into attributes "
        "of the module that are made in __init__ after super().__init__() (or in configure_model), "
        "several of them into nn.ModuleList or nn.ModuleDict, not into a list or dict",
    ),
    _Known(
        r"'(builtin_function_or_)?method' object is not (iterable|subscriptable)",
        "a method stands where what it returns belongs: call it, as in self.parameters()",
    ),
    _Known(
        r"Expected more than 1 value per channel when training",
        "batch norm cannot train on a batch of one, here most likely the last of the epoch: give "
        "the DataLoader drop_last=True, or another batch_size",
    ),
    _Known(
        r"is missing the required \"forward\" function",
        "the module is called, as predict does unless it has a predict_step; define forward() or "
        "predict_step()",
    ),
    _Known(
        r"(before|without) (calling )?Module\.__init__\(\)|has no attribute '_modules'",
        "call super().__init__() first in __init__",
    ),
    _Known(
        r"not on the expected device|[Ee]xpected all tensors to be on the same device",
        "a tensor is on another device than the module: batches are moved, but tensors that are "
        "made in a step are not: make them with device=self.device, register constants with "
        "register_buffer, and move batches of your own types in transfer_batch_to_device",
    ),
    _Known(
        r"must have the same dtype, but got|expected scalar type|have the same dtype"
        r"|[Ii]nput type .* should be the same",
        "a batch has another dtype than the weights: turn it into theirs, with .float() say, in "
        "the dataset or in the step",
    ),
    _Known(
        r"expected target dtype to be Long|expected scalar type Long",
        "class labels are whole numbers: give the loss function target.long(), or scores of the "
        "same shape as the output",
    ),
    _Known(
        r"shapes cannot be multiplied|size mismatch|must match the size of tensor"
        r"|to have \d+ channels, but got",
        "a batch has another shape than the layers were made for: compare them with batch[0].shape",
    ),
    _Known(
        r"Target \S+ is out of bounds",
        "a class label is as large as the number of outputs, or larger: labels are 0 to outputs - "
        "1",
    ),
    _Known(
        r"LoggingMixin\.log\(\) missing 1 required positional argument: 'value'",
        "log takes a name and a value; for a dict of them there is log_dict",
    ),
    _Known(
        r"modified by an inplace operation",
        "something that the loss needs was changed before backward: by an operation such as x += "
        "1, or by a step of another optimizer; detect_anomaly=True of the Trainer finds which",
    ),
    _Known(
        r"must be Tensor, not (list|tuple|dict)|indices must be integers",
        "a batch is what the DataLoader collates, most often a list such as [inputs, labels] or a "
        "dict: unpack it before the module gets it; predict_step by default calls self(batch)",
    ),
    _Known(
        r"Can't pickle|cannot pickle",
        "what goes to workers of a DataLoader must be importable: no lambdas and local classes; or "
        "give the DataLoader num_workers=0",
    ),
]


def add_advice(error: BaseException, place: Place, hook: str) -> None:
    """Add to an error of others where it was raised, and what to do about it, if that is known.

    Args:
        error: which ended the run.
        place: where training was.
        hook: which hook had begun; empty for none.
    """
    if not isinstance(error, Exception) or isinstance(error, NightbusError):
        return
    if hook:
        batch_idx, inner = place.batch_idx, place.failed_batch_idx
        if inner is not None and any(stage in hook for stage in ("validation", "test", "predict")):
            batch_idx = inner
        batch = f", batch {batch_idx}" if batch_idx >= 0 else ""
        error.add_note(f"nightbus: raised in {hook} of epoch {place.epoch}{batch}")
    text = str(error)
    for known in _KNOWN:
        if re.search(known.pattern, text):
            error.add_note(f"nightbus: {known.advice}")
            return
    if isinstance(error, AttributeError) and (owner := _not_set_up(error)):
        error.add_note(f"nightbus: {owner}.__init__ does not call super().__init__(); do so first")


def _not_set_up(error: AttributeError) -> str:
    """The class of the object that lacks an attribute because its parents were not set up."""
    kind = type(error.obj)
    made = kind.__init__
    code = getattr(made, "__code__", None)
    if not issubclass(kind, Actor | Module) or code is None or "__init__" in code.co_names:
        return ""
    return kind.__name__ if not kind.__module__.startswith("nightbus.") else ""
