"""A training process that tests steer from outside: it says when it is ready and how it ended.

python steered_process.py FOLDER [--umask OCTAL] [--min-steps N] [--resume]
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

from models import QUIET, Small, loader

import nightbus as nb


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


class Tells(Small):
    """Says each batch, and the run's folder."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        time.sleep(0.002)  # the work of a step: it leaves the processor to those who steer it
        say(f"batch {self.trainer.global_step} {self.trainer.log_dir}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--umask", type=lambda text: int(text, 8))
    parser.add_argument("--min-steps", type=int)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    if options.umask is not None:
        os.umask(options.umask)
    trainer = nb.Trainer(
        max_epochs=-1,
        min_steps=options.min_steps,
        default_root_dir=options.folder,
        **QUIET,
    )
    trainer.fit(Tells(), loader(), loader(8), ckpt_path="last" if options.resume else None)
    say(f"ended {trainer.stop_reason}")


if __name__ == "__main__":
    main()
