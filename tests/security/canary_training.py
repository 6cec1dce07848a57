"""Trains with umask 0, secrets in every place, and each sink that writes files.

    python canary_training.py FOLDER --api-token ... --password=... https://user:...@host

Prints as JSON the mode of each file and folder of the run, as it was seen in any step and at the
end.
"""

import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

from helpers import DEADLINE_S
from models import Small, loader, trainer

import nightbus as nb

# As a test gives them; none may be in any file.
HYPERPARAMETERS = {
    "rate": 0.1,
    "hub_token": "canary-hub-token",
    "storage": {"secretKey": "canary-nested-key", "region": "north"},
    "logins": [{"password": "canary-in-a-list"}],
    "pwd": 4711_4711_4711,
    "database": "postgres://me:canary-url@host/db",
    "max_tokens": 512,
    "tokenizer": "kept-bpe",
}


class Module(Small):
    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters(HYPERPARAMETERS)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.put("loss", loss)
        return loss


class Look(nb.Callback):
    """Notes each mode that a path ever has."""

    def __init__(self) -> None:
        self.modes: dict[str, set[int]] = {}

    def look(self, run: Path) -> None:
        for path in (run, *run.rglob("*")):
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if not stat.S_ISLNK(found.st_mode):
                name = str(path.relative_to(run))
                self.modes.setdefault(name, set()).add(stat.S_IMODE(found.st_mode))

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        run = trainer.run_folder.path
        self.look(run)
        deadline_s = time.monotonic() + DEADLINE_S
        while trainer.global_step == 1 and time.monotonic() < deadline_s:
            self.look(run)
            # What is made beside the step: wait for it, once.
            if {"control.sock", "metrics.sqlite-wal", "metrics.parquet.arrows"} <= set(self.modes):
                break
            time.sleep(0.01)  # so that the bus thread gets to make them


def main() -> None:
    os.umask(0)
    look = Look()
    run = trainer(
        Path(sys.argv[1]),
        max_epochs=2,
        callbacks=[look, nb.ModelCheckpoint(save_last=True)],
        sinks=[nb.CSV(), nb.JSONLines(), nb.SQLite(), nb.Parquet(), nb.TensorBoard()],
        run_name="trained",
    )
    run.fit(Module(), loader())
    assert run.run_folder is not None
    look.look(run.run_folder.path)
    print(json.dumps({name: sorted(modes) for name, modes in look.modes.items()}))


if __name__ == "__main__":
    main()
