"""Sets the rank for ``rank_zero_only`` of lightning_utilities, a decorator in many projects."""

from importlib.util import find_spec


def announce_rank() -> None:
    """Set the rank to that of the first process, unless it is set.

    Importing Lightning does so, and the decorator raises without a rank.
    """
    if find_spec("lightning_utilities") is None:
        return
    from lightning_utilities.core.rank_zero import rank_zero_only

    if getattr(rank_zero_only, "rank", None) is None:
        rank_zero_only.rank = 0  # type: ignore[attr-defined]
