"""A training process that is sent SIGQUIT.

python signalled_process.py FOLDER HOW

HOW: ``trains`` goes on until the file FOLDER/enough is there; ``stuck`` is in a call into C that
gives Python no chance to run a handler; ``workers`` does the former with a dataloader's workers.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from helpers import eventually
from models import QUIET, Small, dataset
from torch.utils.data import DataLoader

import nightbus as nb

FOLDER = Path(sys.argv[1])
HOW = sys.argv[2]


class Tells(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 3:
            print("batch 3", os.getpid(), flush=True)
            if HOW == "stuck":
                stuck_in_a_call()
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 4:
            eventually((FOLDER / "enough").exists)


def stuck_in_a_call() -> None:
    """Like a collective whose peer is gone: the mutex is taken, and nobody gives it back."""
    libc = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def main() -> None:
    trainer = nb.Trainer(
        max_epochs=1,
        default_root_dir=FOLDER,
        recording="off",
        enable_checkpointing=False,
        **QUIET,
    )
    workers = 2 if HOW == "workers" else 0
    trainer.fit(Tells(), DataLoader(dataset(), 4, num_workers=workers))
    print(f"ended {trainer.global_step}", flush=True)


if __name__ == "__main__":
    main()
