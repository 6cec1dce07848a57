"""The processes that rank 0 starts: what they do before they have joined is told to it."""

import os
import sys
from queue import Queue

from helpers import DEADLINE_S

from nightbus.actors.ranks.world import STARTED_BY
from nightbus.trainer.launch import OtherRanks


def test_a_rank_whose_script_ends_before_it_has_joined_is_told_to_rank_0() -> None:
    told = Queue[tuple[int, str]]()
    environment = {**os.environ, STARTED_BY: str(os.getpid())}
    others = OtherRanks(
        [sys.executable, "-I", "-S", "-c", "pass"],
        environment,
        lambda rank, how: told.put((rank, how)),
    )
    others.start(1)
    rank, how = told.get(timeout=DEADLINE_S)
    others.kill()

    assert rank == 1
    assert how.startswith("has ended its script without joining: all ranks have to call")
