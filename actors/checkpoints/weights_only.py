"""``weights_only``, by which Lightning's functions are told whether to run code out of a file."""

from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger

_log = get_logger("nightbus.checkpoint")
_said: list[str] = []  # that it was, in this process


def check_weights_only(function: str, given: bool | None) -> None:
    """None and True mean what is done anyway; what False means is said, once.

    Args:
        function: who was given it.
        given: the value.

    Raises:
        UsageError: it is none of the three.
    """
    if given is None or given is True:
        return
    if given is not False:
        raise UsageError(
            f"{function}(weights_only={given!r}): expected True, False or None; which part of a "
            "checkpoint is taken is up to the function"
        )
    if not _said:
        _said.append(function)
        _log.warning(
            f"{function}(weights_only=False) changes nothing: a checkpoint of nightbus is data "
            "only, so all of it is read, and none of it is run; a file of Lightning or PyTorch is "
            "converted first, with nightbus import-ckpt"
        )
