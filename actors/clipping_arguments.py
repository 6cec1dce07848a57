"""Arguments of ``configure_gradient_clipping`` by place, which has two forms in Lightning."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

_Hook = TypeVar("_Hook", bound=Callable[..., None])
_OF_LIGHTNING_2 = ("gradient_clip_val", "gradient_clip_algorithm")


def may_lack_idx(hook: _Hook) -> _Hook:
    """Let the hook be called as in Lightning 2, too, where there is no ``optimizer_idx``.

    Args:
        hook: the method, with the parameters of Lightning 1.x.

    Returns:
        The method, which takes those of Lightning 2 by place.
    """

    @functools.wraps(hook)
    def called(self: Any, optimizer: Any, *args: Any, **given: Any) -> None:
        if given.keys() & {"optimizer_idx", "gradient_clip_val"} or not _lack_idx(
            args, "gradient_clip_algorithm" in given
        ):
            hook(self, optimizer, *args, **given)
        else:
            hook(self, optimizer, **dict(zip(_OF_LIGHTNING_2, args, strict=False)), **given)

    return cast(_Hook, called)


def _lack_idx(args: tuple[Any, ...], has_algorithm: bool) -> bool:
    """Return whether arguments by place begin with the value to clip at."""
    if len(args) == 1:
        return has_algorithm or isinstance(args[0], float)
    if len(args) == 2 and not has_algorithm:
        return isinstance(args[0], float) or args[1] is None or isinstance(args[1], str)
    return False
