"""``weights_only``, the argument of Lightning's functions that allows code in a file to run."""

from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger

_log = get_logger("nightbus.checkpoint", of_all_ranks=True)
_said: list[str] = []  # holds an entry once the warning was logged


def check_weights_only(function: str, given: bool | None) -> None:
    """Accept None and True, which mean the default, and warn once that False changes nothing.

    Args:
        function: name of the function with the argument.
        given: the value.

    Raises:
        UsageError: it is none of the three.
    """
    if given is None or given is True:
        return
    if given is not False:
        raise UsageError(
            f"{function}(weights_only={given!r}): expected True, False or None; the function "
            "decides which part of a checkpoint is used"
        )
    if not _said:
        _said.append(function)
        _log.warning(
            f"{function}(weights_only=False) changes nothing: a checkpoint of nightbus is data "
            "only, so all of it is read, and none of it is run; a file of Lightning or PyTorch is "
            "converted first, with nightbus import-ckpt"
        )
