"""The profiler that ``Trainer(profiler=...)`` means."""

from typing import Any

from ...bus.errors import UsageError
from .advanced import AdvancedProfiler
from .profiler import PassThroughProfiler, Profiler
from .pytorch import PyTorchProfiler
from .simple import SimpleProfiler

_BY_NAME: dict[str, type[Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}


def parse_profiler(profiler: Any) -> Profiler:
    """Return the profiler that an argument means.

    Args:
        profiler: ``simple``, ``advanced``, ``pytorch``, a Profiler, or None for none; True, as in
            Lightning 1.0, is ``simple``.

    Raises:
        UsageError: it is none of these.
    """
    if not profiler:
        return PassThroughProfiler()
    if profiler is True:
        return SimpleProfiler()
    if isinstance(profiler, Profiler):
        return profiler
    if isinstance(profiler, str) and profiler.lower() in _BY_NAME:
        return _BY_NAME[profiler.lower()]()
    expected = ", ".join(map(repr, _BY_NAME))
    raise UsageError(f"profiler={profiler!r}: expected {expected}, a nightbus.Profiler, or None")
