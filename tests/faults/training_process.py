"""A training process for fault tests: trains until it is stopped, and says where it is.

python training_process.py FOLDER [--epochs N] [--blocks S] [--files]
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from models import QUIET, Small, loader

import nightbus as nb


def say(line: str) -> None:
    """Print a line in one piece, though two threads do."""
    os.write(1, f"{line}\n".encode())


class Tells(Small):
    """Prints each batch before it is worked on."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        say(f"batch {self.global_step}")


class Echoes(nb.Sink):
    """Prints the sequence number of each event it sees; blocks if it is told to."""

    destination = None
    poll_interval_s = 0.01

    def __init__(self, blocks_s: float) -> None:
        self.blocks_s = blocks_s

    def write(self, batch: list[Any]) -> None:
        for event in batch:
            say(f"saw {event.seq}")
            time.sleep(self.blocks_s)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--epochs", type=int, default=-1)
    parser.add_argument("--blocks", type=float, default=0.0)
    parser.add_argument("--files", action="store_true", help="write each step's metrics to files")
    options = parser.parse_args()
    sinks: list[nb.Sink] = [Echoes(options.blocks)]
    if options.files:
        sinks += [nb.CSV(), nb.JSONLines(), nb.TensorBoard()]
    trainer = nb.Trainer(
        max_epochs=options.epochs,
        default_root_dir=options.folder,
        sinks=sinks,
        log_every_n_steps=1 if options.files else 50,
        **QUIET,
    )
    trainer.fit(Tells(), loader())
    say(f"ended {trainer.interrupted}")


if __name__ == "__main__":
    main()
