"""Backward without what ``Tensor.backward`` does around torch's engine."""

import logging
from typing import Any

import torch
from torch import Tensor, autograd
from torch.autograd import graph
from torch.overrides import has_torch_function_unary

Root = tuple[Tensor, Tensor]
"""A leaf, and what is added to its gradient."""

_METHOD: object = Tensor.backward
_FUNCTION: object = autograd.backward
_log: logging.Logger = graph.log
_engine: Any = autograd.Variable._execution_engine
# What torch's own call of the engine is made of. Around it, it keeps the context for threads of
# devices, and looks whether to log.
_CALL = {"Variable", "_execution_engine", "run_backward"}
_AROUND = {
    *("log", "getEffectiveLevel", "logging", "DEBUG", "_register_logging_hooks_on_whole_graph"),
    *("torch", "_C", "_stash_obj_in_tls", "contextvars", "copy_context", "_remove_obj_from_tls"),
}


def knows_torch() -> bool:
    """Return whether this version of torch calls its engine as this module does.

    No more is known of functions that were patched before this was imported.
    """
    is_torchs = all(
        getattr(each, "__module__", "").startswith("torch.") for each in (_METHOD, _FUNCTION)
    )
    code = getattr(graph._engine_run_backward, "__code__", None)
    return is_torchs and code is not None and _CALL <= set(code.co_names) <= _CALL | _AROUND


_knows_torch = knows_torch()


def run_backward(loss: Tensor, root: Root | None = None) -> None:
    """Do what ``loss.backward()`` does.

    torch's own method looks for the many things that it may be given, makes a gradient of one for
    each root, and keeps a copy of the context for threads of devices: 33 calls, here 7. That is
    needed for no number on the CPU. If the method is another, or somebody listens, it is called.

    Args:
        loss: of shape ().
        root: a leaf whose gradient is computed, too; its hooks run as if the loss depended on it.
    """
    if (
        not _knows_torch
        or Tensor.backward is not _METHOD
        or autograd.backward is not _FUNCTION
        or has_torch_function_unary(loss)
        or loss.dim()
        or not (loss.is_cpu and loss.is_floating_point())
        or _log.isEnabledFor(logging.DEBUG)
    ):
        loss.backward()
        if root is not None:
            autograd.backward(*root)
        return
    roots, gradients = (loss,), (torch.ones_like(loss),)
    if root is not None:
        roots, gradients = (loss, root[0]), (gradients[0], root[1])  # type: ignore[assignment]
    # retain_graph and create_graph are False; all inputs.
    _engine.run_backward(
        roots, gradients, False, False, (), allow_unreachable=True, accumulate_grad=True
    )
