"""Finds metrics that actors wait for by name and nobody put, mostly because of a typo."""

from collections.abc import Iterable
from difflib import get_close_matches

from ..bus.actor import Actor
from ..bus.events import Put
from ..bus.subscription import subscriptions_of

# Put in other functions than fit, for which a trainer keeps the same actors.
_OF_OTHER_RUNS = ("test", "predict")


def missed_names(actors: Iterable[Actor], put: Iterable[str]) -> list[str]:
    """Describe each metric that a handler waited for in a fit and that nobody put.

    Args:
        actors: actors that have the handlers.
        put: names that were put.

    Returns:
        A message for each metric.
    """
    known = sorted(put)
    handlers: dict[str, str] = {}
    for actor in actors:
        for entry in subscriptions_of(type(actor)):
            if entry.kind is Put and entry.name is not None and entry.name not in known:
                handlers.setdefault(entry.name, f"{type(actor).__name__}.{entry.method}")
    messages = []
    for name, handler in handlers.items():
        if name.startswith(_OF_OTHER_RUNS):
            continue
        near = get_close_matches(name, known)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        messages.append(
            f"{handler} waits for the metric {name!r}, which nobody put in this run{hint}"
        )
    return messages
