"""Classes of Lightning that nightbus has nothing for: imported they are, and refused when used.

Code imports more than it uses, names in annotations what it may be given, and asks whether an
object is of a class. None of that needs the thing itself.
"""

from abc import ABCMeta
from collections.abc import Callable
from functools import cache
from typing import Any

from ..actors.collectives import Collectives
from ..actors.device import Device
from ..actors.ranks.strategy import DDPStrategy
from ..bus.errors import UsageError


def _is_strategy(value: Any) -> bool:
    return isinstance(value, Collectives | DDPStrategy)


def _is_of_one_device(value: Any) -> bool:
    return _is_strategy(value) and not isinstance(value, DDPStrategy)


def _is_of_precision(*names: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Device) and value.precision in names


_IS_MIXED = _is_of_precision("16-mixed", "bf16-mixed")
_WHAT_IS: dict[str, Callable[[Any], bool]] = {
    "Strategy": _is_strategy,
    "TrainingTypePlugin": _is_strategy,
    "ParallelPlugin": lambda value: isinstance(value, DDPStrategy),
    "SingleDevicePlugin": _is_of_one_device,
    "ParallelStrategy": lambda value: isinstance(value, DDPStrategy),
    "SingleDeviceStrategy": lambda value: (
        _is_strategy(value) and not isinstance(value, DDPStrategy)
    ),
    "Precision": lambda value: isinstance(value, Device),
    "PrecisionPlugin": lambda value: isinstance(value, Device),
    "MixedPrecision": _IS_MIXED,
    "MixedPrecisionPlugin": _IS_MIXED,
    "NativeMixedPrecisionPlugin": _IS_MIXED,
    "HalfPrecision": _is_of_precision("16-true", "bf16-true"),
    "DoublePrecision": _is_of_precision("64-true"),
}
"""A class of Lightning -> whether ``trainer.strategy`` or ``trainer.precision_plugin`` is that."""


class _Absent(ABCMeta):
    """The class of classes that are not there; those derived from one are not there either."""

    _advice = ""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        raise UsageError(cls._refusal("()"))

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):  # asked for by Python and its tools
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        raise AttributeError(cls._refusal(f".{name}"))

    def __instancecheck__(cls, instance: Any) -> bool:
        is_it = cls.__dict__.get("_is_it")
        return is_it is not None and bool(is_it(instance))

    def _refusal(cls, use: str) -> str:
        own = next(each.__name__ for each in cls.__mro__ if "_is_it" in each.__dict__)
        is_of = "is" if own == cls.__name__ else f"derives from {own}, which is"
        return f"{cls.__name__}{use}: {is_of} of Lightning, and nightbus has none; {cls._advice}"


# What code asks of an accelerator before it uses it.
_OF_ACCELERATORS = {
    "is_available": staticmethod(lambda: False),
    "auto_device_count": staticmethod(lambda: 0),
}


@cache
def stand_in(name: str, advice: str) -> Any:
    """Return what can be imported in place of a class, and says what to do when used.

    Args:
        name: what Lightning calls it.
        advice: what to do instead.
    """
    is_it = staticmethod(_WHAT_IS.get(name, lambda _: False))
    answers = _OF_ACCELERATORS if name.endswith("Accelerator") else {}
    return _Absent(name, (), {"_advice": advice, "_is_it": is_it, "__doc__": advice, **answers})
