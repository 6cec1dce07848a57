"""What is declared to happen whole or not at all: its bytecode has no place for anything else."""

import dis
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nightbus.bus
import nightbus.bus.log
from nightbus.bus.system.uninterrupted import uninterrupted

# Where CPython looks for signals and for other threads, or may run anything.
LOOKS = ("CALL", "FOR_ITER", "SEND", "YIELD", "IMPORT", "WITH", "AWAIT", "RAISE")


def declared() -> dict[str, Callable[..., Any]]:
    """All functions of bus/ that are declared so, by their qualified names."""
    return {
        f"{module.__name__.removeprefix('nightbus.')}.{name}": function
        for module in modules()
        for name, function in functions(module)
        if getattr(function, "is_uninterrupted", False)
    }


def modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(nightbus.bus.__path__, "nightbus.bus."):
        yield importlib.import_module(found.name)


def functions(module: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions and methods that a module defines itself."""
    for name, found in vars(module).items():
        if getattr(found, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(found):
            yield name, found
        elif inspect.isclass(found):
            methods = inspect.getmembers(found, inspect.isfunction)
            yield from ((f"{name}.{each}", method) for each, method in methods)


def looks(function: Callable[..., Any]) -> list[str]:
    """Instructions of a function at which something else may run."""
    return [
        instruction.opname
        for instruction in dis.get_instructions(function)
        if instruction.opname.startswith(LOOKS) or "JUMP_BACKWARD" in instruction.opname
    ]


def test_what_is_declared_so_neither_calls_nor_loops() -> None:
    found = declared()

    assert {name: looks(function) for name, function in found.items() if looks(function)} == {}
    assert "bus.log.writer.LogWriter._commit_frame" in found
    assert "bus.log.fast_flush.FastLogWriter._commit_known" in found


@uninterrupted
def calls(values: list[int]) -> None:
    values.append(1)


@uninterrupted
def loops(values: list[int]) -> None:
    while values:
        del values[0]


@pytest.mark.parametrize("function", [calls, loops])
def test_a_call_and_a_loop_are_found(function: Callable[..., Any]) -> None:
    assert looks(function)
