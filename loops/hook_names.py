"""HookNames: the hooks of the batches of validation, test and prediction."""

from typing import NamedTuple


class HookNames(NamedTuple):
    """Names of the hooks of a stage's batches, built once instead of for each batch."""

    batch_start: str
    step: str
    step_end: str
    batch_end: str

    @classmethod
    def of(cls, kind: str) -> "HookNames":
        """Return the names of a stage: ``validation``, ``test`` or ``predict``."""
        return cls(
            f"on_{kind}_batch_start", f"{kind}_step", f"{kind}_step_end", f"on_{kind}_batch_end"
        )


HOOK_NAMES = {kind: HookNames.of(kind) for kind in ("validation", "test", "predict")}
