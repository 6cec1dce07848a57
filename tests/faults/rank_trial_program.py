"""Trains on several ranks from its run's last checkpoint on; one of them may fail, as TRIAL says.

``rank_trial_start.py`` runs it.
Each rank writes its process id into ``pid-RANK`` when training begins, and its weights into
``final-RANK`` when it is complete.
"""

import json
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from models import QUIET, Small, loader
from two_machines import take_network_down

import nightbus as nb
from nightbus.actors.ranks import link

TRIAL: dict[str, Any] = json.loads(os.environ["TRIAL"])
SILENCE_S, HANG_S = 3.0, 15.0


class Trained(Small):
    """Fails on one rank, at a batch of training or validation."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def on_fit_start(self) -> None:
        Path(f"pid-{self.trainer.global_rank}").write_text(str(os.getpid()))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.at("training_step")
        loss = self.loss(batch)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.at("validation_step")
        self.log("val_loss", self.loss(batch))

    def at(self, where: str) -> None:
        """Fail, if it is here."""
        if self.trainer.sanity_checking:
            return
        self.batches += where == "training_step"
        is_here = where == TRIAL["where"] and self.batches >= TRIAL["batch"]
        if is_here and self.trainer.global_rank == TRIAL["culprit"]:
            TRIAL["culprit"] = -1
            self.fail(TRIAL["fault"])

    def fail(self, fault: str) -> None:
        """Do it."""
        if fault == "raise":
            raise ValueError("no such batch")
        if fault == "exit":
            sys.exit(3)
        if fault == "hang":
            threading.Event().wait()
        if fault == "disk full":
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (TRIAL["file_limit"], hard))
        if fault == "cut":  # what is left of a connection when its network is gone
            linked = self.trainer.group.link
            assert linked is not None
            for key in list(linked._selector.get_map().values()):
                held = key.fileobj
                if hasattr(held, "has_ended"):
                    held._socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        if fault == "network down":
            take_network_down()
        if fault.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[fault])


def main() -> None:
    """Train."""
    torch.set_num_threads(1)
    link.SILENCE_S = link.SILENCE_OF_MACHINES_S = SILENCE_S
    link.BEAT_S = SILENCE_S / 10
    nb.seed_everything(5)
    module = Trained()
    devices = {"devices": TRIAL["size"]} if TRIAL["launches"] else {}
    trainer = nb.Trainer(
        max_epochs=3,
        run_name="trial",
        hang_timeout=HANG_S if TRIAL["fault"] == "hang" else None,
        callbacks=[nb.ModelCheckpoint(every_n_train_steps=2, save_top_k=-1)],
        **devices,
        **QUIET,
    )
    trainer.fit(module, loader(32), loader(20), ckpt_path="last")
    if trainer.interrupted:
        sys.exit(130)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    weights = [float(w) for t in module.state_dict().values() for w in t.flatten()]
    Path(f"final-{trainer.global_rank}").write_text(json.dumps([trainer.global_step, *weights]))
