"""Exports a module for use without its code: ONNX, TorchScript."""

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from torch import nn

from ..bus.errors import MissingPackageError, UsageError

if TYPE_CHECKING:
    from torch.jit import ScriptModule


class ExportMixin:
    """Defines ``to_onnx`` and ``to_torchscript``; both export the module in eval mode."""

    @property
    def example_input_array(self) -> Any:
        """An input of ``forward``, for exports and other tools; set it in ``__init__``.

        A tuple has the arguments by position, a dict by name, and anything else is the only one.
        """
        return self.__dict__.get("_example_input_array")

    @example_input_array.setter
    def example_input_array(self, value: Any) -> None:
        object.__setattr__(self, "_example_input_array", value)

    def to_onnx(
        self,
        file_path: str | os.PathLike[str] | IO[bytes] | None = None,
        input_sample: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Export the module to ONNX, with ``torch.onnx.export``.

        Args:
            file_path: the file to write; None for none, or a binary file that is open.
            input_sample: input of ``forward``, as in ``example_input_array``, which is the default.
            **kwargs: options of ``torch.onnx.export``.

        Returns:
            What ``torch.onnx.export`` returned.

        Raises:
            UsageError: there is no input.
            MissingPackageError: onnx or onnxscript is missing.
        """
        for package in ("onnx", "onnxscript"):
            try:
                importlib.import_module(package)
            except ImportError:
                raise MissingPackageError("to_onnx", package, "onnx") from None
        by_place, by_name = self._nightbus_export_inputs("to_onnx", "input_sample", input_sample)
        target: Any = Path(file_path) if isinstance(file_path, str) else file_path
        with as_exported(self) as module:
            return torch.onnx.export(module, by_place, target, kwargs=by_name, **kwargs)

    def to_torchscript(
        self,
        file_path: str | os.PathLike[str] | None = None,
        method: str | None = "script",
        example_inputs: Any = None,
        **kwargs: Any,
    ) -> "ScriptModule | dict[str, ScriptModule]":
        """Compile the module to TorchScript, which PyTorch has deprecated for ``torch.export``.

        Override it to return several modules, in a dict.

        Args:
            file_path: the file to write; None for none.
            method: ``script`` compiles ``forward`` and what it calls; ``trace`` records what
                ``forward`` does with one input.
            example_inputs: that input, as in ``example_input_array``, which is the default.
            **kwargs: options of ``torch.jit.script`` or ``torch.jit.trace``.

        Returns:
            The compiled module.

        Raises:
            UsageError: method is neither, or there is no input to trace with.
        """
        if method not in ("script", "trace"):
            raise UsageError(f"to_torchscript(method={method!r}): expected 'script' or 'trace'")
        with as_exported(self) as module:
            if method == "script":
                found = torch.jit.script(module, **kwargs)
            else:
                by_place, by_name = self._nightbus_export_inputs(
                    "to_torchscript(method='trace')", "example_inputs", example_inputs
                )
                inputs: dict[str, Any] = {"example_inputs": by_place}
                if by_name:
                    inputs = {"example_kwarg_inputs": by_name}
                found = torch.jit.trace(module, **inputs, **kwargs)
        if file_path is not None:
            torch.jit.save(found, os.fspath(file_path))
        return found  # type: ignore[no-any-return]

    def to_tensorrt(self, *args: Any, **kwargs: Any) -> None:
        """Refused: TensorRT has a compiler of its own for modules.

        Args:
            *args: those of Lightning's method.
            **kwargs: those of Lightning's method.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "to_tensorrt() is not supported; call torch_tensorrt.compile(module.eval(), inputs=...)"
            " yourself, or give TensorRT the file that to_onnx() writes"
        )

    def _nightbus_export_inputs(
        self, function: str, argument: str, given: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of ``forward``, on the module's device, as batches are moved."""
        module: Any = self
        sample = module.example_input_array if given is None else given
        if sample is None:
            raise UsageError(
                f"{function} needs an input of forward(): pass {argument}=, or set "
                "self.example_input_array in __init__"
            )
        sample = module.on_before_batch_transfer(sample, 0)
        sample = module.transfer_batch_to_device(sample, module.device, 0)
        sample = module.on_after_batch_transfer(sample, 0)
        if isinstance(sample, Mapping):
            return (), dict(sample)
        return (sample if isinstance(sample, tuple) else (sample,)), {}


@contextmanager
def as_exported(module: Any) -> Iterator[nn.Module]:
    """Have a module in eval mode and without gradients for a while, attached or not."""
    modes = [(part, part.training) for part in module.modules()]
    readable = [part for part in module.modules() if isinstance(part, ExportMixin)]
    try:
        for part in readable:
            object.__setattr__(part, "_is_exported", True)
        with torch.no_grad():
            yield module.eval()
    finally:
        for part in readable:
            object.__delattr__(part, "_is_exported")
        for part, mode in modes:
            part.training = mode
