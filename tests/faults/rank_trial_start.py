"""Starts a rank of a trial, on its machine if there are two, without the time that imports take.

The ranks of ``devices=`` are forked here, before there are threads, and wait until it starts them.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from forked_ranks import fork_other_ranks
from two_machines import MACHINE, enter

TRIAL: dict[str, Any] = json.loads(os.environ["TRIAL"])


def main() -> None:
    """Train."""
    if MACHINE in os.environ:
        enter(int(os.environ[MACHINE]))
    if TRIAL["forks"]:
        fork_other_ranks(TRIAL["size"] - 1)
    import rank_trial_program

    rank_trial_program.main()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
