"""Tells ``rank_zero_only`` of lightning_utilities, which projects decorate with, who this is."""

from importlib.util import find_spec


def announce_rank() -> None:
    """Say that this is the first process, as nobody else has said which it is: importing Lightning
    does so, and the decorator raises without.
    """
    if find_spec("lightning_utilities") is None:
        return
    from lightning_utilities.core.rank_zero import rank_zero_only

    if getattr(rank_zero_only, "rank", None) is None:
        rank_zero_only.rank = 0  # type: ignore[attr-defined]
