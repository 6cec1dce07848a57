"""Imports libraries during a run without changing the random numbers of the run."""

import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def random_numbers_elsewhere() -> Iterator[None]:
    """While it is entered, imported libraries draw random bits from the system.

    rich draws some from Python's global generator when it is imported, which happens when there is
    something to show. Without this, a message or a progress bar would change the training of
    everybody who uses that generator.
    """
    draw = random.getrandbits
    random.getrandbits = random.SystemRandom().getrandbits
    try:
        yield
    finally:
        random.getrandbits = draw
