"""ModuleSummary: the parts of a module, their sizes, and what passes through them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.utils.hooks import RemovableHandle

from ..bus.errors import UsageError
from ..bus.system.logging_setup import get_logger
from .data.rng import undrawn

_log = get_logger("nightbus.module_summary")
_UNITS = (" ", "K", "M", "B", "T")
UNKNOWN_SIZE = "?"
LEFTOVER_PARAMS_NAME = "other params"
NOT_APPLICABLE = "n/a"
Columns = list[tuple[str, list[str]]]


class LayerSummary:
    """What is known of a part of a module.

    The sizes of its input and output are those of the first forward pass after this was made.

    Args:
        module: the part.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._in_size: str | list[Any] = UNKNOWN_SIZE
        self._out_size: str | list[Any] = UNKNOWN_SIZE
        self._hook_handle: RemovableHandle | None = None
        if not isinstance(module, torch.jit.ScriptModule):  # which takes no such hook
            self._hook_handle = module.register_forward_hook(self._take, with_kwargs=True)

    def _take(self, _: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        given = (*args, *kwargs.values())
        self._in_size = parse_batch_shape(given[0] if len(given) == 1 else given) or UNKNOWN_SIZE
        self._out_size = parse_batch_shape(output) or UNKNOWN_SIZE
        self.detach_hook()

    def detach_hook(self) -> None:
        """Look at no further forward pass."""
        if self._hook_handle is not None:
            self._hook_handle.remove()

    @property
    def in_size(self) -> str | list[Any]:
        """Shape of the input; a list of shapes of several; ``?`` if it is not known."""
        return self._in_size

    @property
    def out_size(self) -> str | list[Any]:
        """Shape of the output; a list of shapes of several; ``?`` if it is not known."""
        return self._out_size

    @property
    def layer_type(self) -> str:
        """The name of its class."""
        return type(self._module).__name__

    @property
    def num_parameters(self) -> int:
        """Number of values of its parameters; 0 of those of a lazy module that was not used yet."""
        return sum(map(_size, self._module.parameters()))

    @property
    def training(self) -> bool:
        """Whether it is in train mode."""
        return self._module.training


class ModuleSummary:
    """The parts of a module and their sizes.

    If the module has an ``example_input_array``, its forward is called with it, in eval mode and
    without gradients, for the sizes of inputs and outputs and the number of operations; random
    numbers are put back. ``str`` of it is a table.

    Args:
        model: the module, attached to a Trainer or not.
        max_depth: levels of nested parts: 1 for children only, -1 for all, 0 for none.

    Raises:
        UsageError: max_depth is not such a number.
    """

    def __init__(self, model: nn.Module, max_depth: int = 1) -> None:
        if isinstance(max_depth, bool) or not isinstance(max_depth, int) or max_depth < -1:
            raise UsageError(f"max_depth={max_depth!r}: expected an int of at least -1")
        self._model = model
        self._max_depth = max_depth
        self._operations: dict[str, int] = {}
        self._layers = self.summarize()

    def summarize(self) -> dict[str, LayerSummary]:
        """Look at the module anew.

        Returns:
            Name -> what is known of the part.
        """
        layers = {name: LayerSummary(part) for name, part in self.named_modules}
        try:
            if self._model.example_input_array is not None:
                self._run_example()
        finally:
            for layer in layers.values():
                layer.detach_hook()
        return layers

    def _run_example(self) -> None:
        from torch.utils.flop_counter import FlopCounterMode

        model: Any = self._model
        given = model.on_before_batch_transfer(model.example_input_array, 0)
        given = model.transfer_batch_to_device(given, model.device, 0)
        given = model.on_after_batch_transfer(given, 0)
        trainer = model._trainer
        precision = nullcontext() if trainer is None else trainer.device.forward_context()
        counter = FlopCounterMode(display=False)
        with undrawn(), _in_eval_mode(model), torch.no_grad(), precision, counter:
            if isinstance(given, list | tuple):
                model(*given)
            elif isinstance(given, dict):
                model(**given)
            else:
                model(given)
        root = type(model).__name__
        self._operations = {
            name.removeprefix(f"{root}."): sum(counts.values())
            for name, counts in counter.get_flop_counts().items()
        }
        self._operations[""] = counter.get_total_flops()

    @property
    def named_modules(self) -> list[tuple[str, nn.Module]]:
        """Name and part, of those that are shown."""
        return [
            (name, part)
            for name, part in self._model.named_modules()
            if name and (self._max_depth < 0 or name.count(".") < self._max_depth)
        ]

    @property
    def layer_names(self) -> list[str]:
        """The parts' names."""
        return [*self._layers]

    @property
    def layer_types(self) -> list[str]:
        """The names of their classes."""
        return [layer.layer_type for layer in self._layers.values()]

    @property
    def in_sizes(self) -> list[str | list[Any]]:
        """The shapes of their inputs; ``?`` for those that are not known."""
        return [layer.in_size for layer in self._layers.values()]

    @property
    def out_sizes(self) -> list[str | list[Any]]:
        """The shapes of their outputs; ``?`` for those that are not known."""
        return [layer.out_size for layer in self._layers.values()]

    @property
    def param_nums(self) -> list[int]:
        """Number of values of each part's parameters."""
        return [layer.num_parameters for layer in self._layers.values()]

    @property
    def training_modes(self) -> list[bool]:
        """Whether each part is in train mode."""
        return [layer.training for layer in self._layers.values()]

    @property
    def total_training_modes(self) -> dict[str, int]:
        """Number of parts at all levels in ``train`` and in ``eval`` mode, without the module."""
        modes = [part.training for part in self._model.modules()][1:]
        return {"train": modes.count(True), "eval": modes.count(False)}

    @property
    def total_parameters(self) -> int:
        """Number of values of all parameters; a warning is logged if there are lazy ones."""
        parameters = list(self._model.parameters())
        lazy = sum(isinstance(each, UninitializedParameter) for each in parameters)
        if lazy:
            _log.warning(
                "parameters of lazy modules have no size before the first forward pass, and are "
                "not counted",
                parameters=lazy,
            )
        return sum(map(_size, parameters))

    @property
    def trainable_parameters(self) -> int:
        """Number of values of those that require gradients."""
        return sum(_size(each) for each in self._model.parameters() if each.requires_grad)

    @property
    def total_layer_params(self) -> int:
        """Number of values of the parameters of the parts that are shown."""
        return sum(self.param_nums)

    @property
    def model_size(self) -> float:
        """Size of all parameters, in MB."""
        sizes = (_size(each) and each.nbytes for each in self._model.parameters())
        return sum(sizes) / 1e6

    @property
    def total_flops(self) -> int:
        """Number of floating-point operations of a forward pass; 0 without an example input."""
        return self._operations.get("", 0)

    @property
    def flops(self) -> list[int]:
        """Those of each part."""
        return [self._operations.get(name, 0) for name in self._layers]

    def columns(self) -> Columns:
        """Return titles and cells of the table; the first column has the rows' numbers."""
        has_sizes = self._model.example_input_array is not None
        columns = [
            (" ", [str(number) for number in range(len(self._layers))]),
            ("Name", self.layer_names),
            ("Type", self.layer_types),
            ("Params", [get_human_readable_count(number) for number in self.param_nums]),
            ("Mode", ["train" if mode else "eval" for mode in self.training_modes]),
            ("FLOPs", [get_human_readable_count(number) for number in self.flops]),
        ]
        if has_sizes:
            columns += [
                ("In sizes", [str(size) for size in self.in_sizes]),
                ("Out sizes", [str(size) for size in self.out_sizes]),
            ]
        left = sum(
            _size(each)
            for name, each in self._model.named_parameters()
            if not any(name.startswith(f"{part}.") for part in self._layers)
        )
        if self._layers and left:
            row = [" ", LEFTOVER_PARAMS_NAME, NOT_APPLICABLE, get_human_readable_count(left)]
            for (_, cells), cell in zip(columns, [*row, *[NOT_APPLICABLE] * 4], strict=False):
                cells.append(cell)
        return columns

    def __str__(self) -> str:
        return as_text(
            self.columns(),
            self.total_parameters,
            self.trainable_parameters,
            self.model_size,
            self.total_training_modes,
            self.total_flops,
        )

    def __repr__(self) -> str:
        return str(self)


def summarize(lightning_module: nn.Module, max_depth: int = 1) -> ModuleSummary:
    """Return a summary of a module.

    Args:
        lightning_module: the module.
        max_depth: levels of nested parts: 1 for children only, -1 for all, 0 for none.
    """
    return ModuleSummary(lightning_module, max_depth)


def as_text(
    columns: Columns,
    total: int,
    trainable: int,
    size_mb: float,
    modes: Mapping[str, int],
    flops: int,
) -> str:
    """Return a summary as text: a line for each part, then totals.

    Args:
        columns: titles and cells.
        total: number of values of all parameters.
        trainable: number of those that require gradients.
        size_mb: size of all, in MB.
        modes: number of parts in ``train`` and in ``eval`` mode.
        flops: operations of a forward pass; 0 if they were not counted.
    """
    says_nothing = {" ", *(() if flops else ("FLOPs",)), *(() if modes["eval"] else ("Mode",))}
    shown = [(title, cells) for title, cells in columns if title not in says_nothing]
    widths = [max(map(len, (title, *cells))) for title, cells in shown]
    rows = [*zip(*(cells for _, cells in shown), strict=True)]
    table = [tuple(title for title, _ in shown), *rows] if rows else []
    lines = ["  ".join(["", *map(str.ljust, row, widths)]).rstrip() for row in table]
    return "\n".join([*lines, "  " + totals(total, trainable, size_mb, modes, flops)])


def totals(total: int, trainable: int, size_mb: float, modes: Mapping[str, int], flops: int) -> str:
    """Return the last line of a summary.

    Args:
        total: number of values of all parameters.
        trainable: number of those that require gradients.
        size_mb: size of all, in MB.
        modes: number of parts in ``train`` and in ``eval`` mode.
        flops: operations of a forward pass; 0 if they were not counted.
    """
    size = get_formatted_model_size(size_mb)
    said = [f"{total:,} parameters, {trainable:,} of them trainable, {size} MB"]
    if modes["eval"]:
        said.append(f"{modes['eval']} of {modes['train'] + modes['eval']} parts in eval mode")
    if flops:
        said.append(f"{get_human_readable_count(flops).strip()} FLOPs")
    return "; ".join(said)


def get_human_readable_count(number: int) -> str:
    """Return a count with three digits and K, M, B or T: ``1.2 K``.

    Args:
        number: the count, at least 0.
    """
    unit, shown = 0, float(number)
    while shown >= 1000 and unit < len(_UNITS) - 1:
        unit, shown = unit + 1, shown / 1000
    is_whole = unit == 0 or shown >= 100
    return f"{int(shown):,d} {_UNITS[unit]}" if is_whole else f"{shown:,.1f} {_UNITS[unit]}"


def get_formatted_model_size(total_model_size: float) -> str:
    """Return a size in MB with three decimals.

    Args:
        total_model_size: the size.
    """
    return f"{total_model_size:,.3f}"


def parse_batch_shape(batch: Any) -> str | list[Any]:
    """Return the shape of a batch; a list of shapes for several tensors; ``?`` if it has none.

    Args:
        batch: a tensor, or a list or tuple of them.
    """
    if hasattr(batch, "shape"):
        return list(batch.shape)
    if isinstance(batch, list | tuple):
        return [parse_batch_shape(entry) for entry in batch]
    return UNKNOWN_SIZE


def _size(parameter: nn.Parameter) -> int:
    return 0 if isinstance(parameter, UninitializedParameter) else parameter.numel()


@contextmanager
def _in_eval_mode(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for part, mode in modes:
            part.training = mode
