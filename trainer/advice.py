"""Advice on errors of PyTorch that say what failed, but not why."""

import os
import re
from typing import NamedTuple

from torch.nn import Module

from ..bus.actor import Actor
from ..bus.errors import NightbusError
from ..bus.log.place import Place
from ..bus.runs.checkpoint_folder import is_checkpoint
from ..bus.system.paths import as_path


class _Known(NamedTuple):
    pattern: str  # of the error's text
    advice: str


_KNOWN = [
    _Known(
        r"does not require grad and does not have a grad_fn",
        "the loss has no gradient: it was detached, converted with .item(), computed under "
        "torch.no_grad() or from integers (argmax, ==), or no parameter that requires gradients "
        "had a part in it; return the loss as the loss function returns it",
    ),
    _Known(
        r"grad can be implicitly created only for scalar outputs",
        "the loss is a tensor of several numbers: reduce it to one, for example with .mean(), or "
        "use the loss function with reduction='mean'",
    ),
    _Known(
        r"Trying to backward through the graph a second time",
        "the loss was already differentiated: training_step returns it, and the trainer calls "
        "backward; leave loss.backward() out, or set self.automatic_optimization = False and do "
        "all of it yourself. A state that is kept from batch to batch must be detached",
    ),
    _Known(
        r"optimizer got an empty parameter list",
        "the module has no parameters for the optimizer: assign layers to attributes of the "
        "module, in __init__ after super().__init__() or in configure_model; put several layers "
        "into nn.ModuleList or nn.ModuleDict, not into a list or dict",
    ),
    _Known(
        r"'(builtin_function_or_)?method' object is not (iterable|subscriptable)",
        "a method was passed where its result is expected: call it, as in self.parameters()",
    ),
    _Known(
        r"Expected more than 1 value per channel when training",
        "batch norm cannot train on a batch of one sample, here most likely the last batch of the "
        "epoch: give the DataLoader drop_last=True, or another batch_size",
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
        "a tensor is on another device than the module: batches are moved, but tensors created in "
        "a step are not: create them with device=self.device, register constants with "
        "register_buffer, and move batches of your own types in transfer_batch_to_device",
    ),
    _Known(
        r"Duplicate GPU detected",
        "two ranks are on one GPU, which NCCL refuses: start as many ranks as there are GPUs, or "
        'give strategy=nb.DDPStrategy(process_group_backend="gloo")',
    ),
    _Known(
        r"must have the same dtype, but got|expected scalar type|have the same dtype"
        r"|[Ii]nput type .* should be the same",
        "a batch has another dtype than the weights: convert it, for example with .float(), in the "
        "dataset or in the step",
    ),
    _Known(
        r"expected target dtype to be Long|expected scalar type Long",
        "class labels must be integers: give the loss function target.long(), or probabilities of "
        "the same shape as the output",
    ),
    _Known(
        r"shapes cannot be multiplied|size mismatch|must match the size of tensor"
        r"|to have \d+ channels, but got",
        "a batch has another shape than the layers were made for: compare them with batch[0].shape",
    ),
    _Known(
        r"Target \S+ is out of bounds",
        "a class label is not less than the number of outputs: labels must be 0 to outputs - 1",
    ),
    _Known(
        r"LoggingMixin\.log\(\) missing 1 required positional argument: 'value'",
        "log takes a name and a value; use log_dict for a dict of them",
    ),
    _Known(
        r"modified by an inplace operation",
        "a tensor that backward needs was changed before: by an operation such as x += 1, or by a "
        "step of another optimizer; Trainer(detect_anomaly=True) shows which operation needed it",
    ),
    _Known(
        r"must be Tensor, not (list|tuple|dict)|indices must be integers",
        "a batch is what the DataLoader collates, most often a list such as [inputs, labels] or a "
        "dict: unpack it before you call the module; predict_step by default calls self(batch). "
        "next(dataloader_iter) returns the batch, its index and that of its dataloader",
    ),
    _Known(
        r"object has no attribute 'loaders'|'\w*Loader\w*' object is not subscriptable",
        "trainer.val_dataloaders, test_dataloaders and train_dataloader are what was given, as in "
        "Lightning 2: one loader, or the collection of loaders; leave out [0] or .loaders",
    ),
    _Known(
        r"Can't pickle|cannot pickle",
        "objects that are sent to workers of a DataLoader must be importable, so not lambdas or "
        "local classes; or give the DataLoader num_workers=0",
    ),
]


def add_advice(error: BaseException, place: Place, hook: str) -> None:
    """Add notes to an error of user code or PyTorch: where it was raised, and known advice.

    Args:
        error: exception that ended the run; errors of nightbus are left alone.
        place: where training was.
        hook: name of the hook that was running; empty for none.
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
    if advice := advice_on_folder(error):
        error.add_note(f"nightbus: {advice}")
    if isinstance(error, AttributeError) and (owner := _not_set_up(error)):
        error.add_note(f"nightbus: {owner}.__init__ does not call super().__init__(); do so first")


def advice_on_folder(error: BaseException) -> str:
    """Return what to do if a checkpoint, which is a folder, was taken for a file; or nothing.

    Args:
        error: exception that ends the run or the process.
    """
    if isinstance(error, IsADirectoryError | PermissionError):
        path = error.filename
        if not isinstance(path, str | os.PathLike) or not is_checkpoint(as_path(path)):
            return ""
        which = f"{os.fspath(path)} is a checkpoint"
    elif "open file failed with strerror: Is a directory" in str(error):  # of torch.save
        which = "if the path is that of a checkpoint"
    else:
        return ""
    return (
        f"{which}, which is a folder: nightbus.load_checkpoint(path) reads it, "
        "shutil.copytree(path, to) copies it, shutil.rmtree(path) removes it, os.path.isdir(path) "
        "tells whether it is there; `nightbus export-ckpt` makes a file of it"
    )


def _not_set_up(error: AttributeError) -> str:
    """Return the user's class whose ``__init__`` does not call that of its base; "" for none."""
    kind = type(error.obj)
    made = kind.__init__
    code = getattr(made, "__code__", None)
    if not issubclass(kind, Actor | Module) or code is None or "__init__" in code.co_names:
        return ""
    return kind.__name__ if not kind.__module__.startswith("nightbus.") else ""
