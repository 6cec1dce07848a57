"""The bus: events, their log, actors, and replay, without torch.

Names are loaded on first use, so that reading a log loads neither trio nor anything else it does
not need.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .actor import Actor as Actor
    from .actor import Supervision as Supervision
    from .bus import Bus as Bus
    from .replay.replay import replay as replay
    from .runs.run_folder import RunFolder as RunFolder
    from .subscription import on as on

__getattr__ = lazy_names(
    __name__,
    {
        "Actor": ".actor",
        "Bus": ".bus",
        "RunFolder": ".runs.run_folder",
        "Supervision": ".actor",
        "on": ".subscription",
        "replay": ".replay.replay",
    },
)
__all__ = ["Actor", "Bus", "RunFolder", "Supervision", "on", "replay"]
