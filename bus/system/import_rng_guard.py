"""Loading libraries in the middle of a run without touching what the run computes."""

import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def random_numbers_elsewhere() -> Iterator[None]:
    """While it is entered, what is imported draws its random bits from the system.

    rich draws some from Python's global generator when it is loaded, which happens when there is
    something to show: without this, a message or a progress bar would change the training of
    everybody who uses that generator.
    """
    draw = random.getrandbits
    random.getrandbits = random.SystemRandom().getrandbits
    try:
        yield
    finally:
        random.getrandbits = draw
