"""``replay`` as users call it: sinks may be functions, as for the Trainer."""

import functools
from collections.abc import Callable
from typing import ParamSpec

from ..bus.actor import Actor
from ..bus.replay.replay import Replayed, several
from ..bus.replay.replay import replay as replay_into_actors
from .factory import sink_of

Arguments = ParamSpec("Arguments")


def _taking_functions(replay: Callable[Arguments, Replayed]) -> Callable[Arguments, Replayed]:
    """Wrap replay so that a sink may be whatever the Trainer takes for one."""

    @functools.wraps(replay)
    def replay_into(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Replayed:
        kwargs["sinks"] = [
            entry if isinstance(entry, Actor) else sink_of(entry, "sinks")
            for entry in several(kwargs.get("sinks", ()))
        ]
        return replay(*args, **kwargs)

    return replay_into


replay = _taking_functions(replay_into_actors)
