"""Trains on several ranks, one of which does what FAULT says in its 20th step.

It writes the time into ``at`` before; each rank writes into ``named-RANK`` whom it takes for lost,
and when.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from models import Small, loader

import nightbus as nb
from nightbus.actors.ranks import last_act, link

FAULT, CULPRIT = os.environ["FAULT"], int(os.environ["CULPRIT"])
AT_STEP = 20


class Failing(Small):
    """Does what it is to do, in the middle of training."""

    def training_step(self, batch: object, batch_idx: int) -> object:
        """Train, or fail."""
        time.sleep(0.005)
        if self.trainer.global_step == AT_STEP and self.trainer.global_rank == CULPRIT:
            Path("at").write_text(str(time.time()))
            self.fail()
        return super().training_step(batch, batch_idx)

    def fail(self) -> None:
        """Do it."""
        trainer = self.trainer
        if FAULT == "raises":
            raise ValueError("no such batch")
        if FAULT == "exits":
            sys.exit(3)
        if FAULT == "hangs":
            threading.Event().wait()
        if FAULT == "stops":
            trainer.should_stop = True
        if FAULT == "tells":
            trainer.tell("fit", nb.Stop(reason="enough"))
        if FAULT.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[FAULT])


class Ended(nb.Callback):
    """Says how training ends."""

    def on_exception(self, trainer: nb.Trainer, module: object, error: BaseException) -> None:
        """Say which exception ends it."""
        print(type(error).__name__, flush=True)


def watch(begin: object) -> object:
    """Note when the culprit is named."""

    def named(self: object, word: object, now_s: float) -> None:
        Path(f"named-{os.environ['RANK']}").write_text(f"{time.time()} {word}")
        begin(self, word, now_s)  # type: ignore[operator]

    return named


if __name__ == "__main__":
    link.SILENCE_S = 2.0
    # As usual a tenth of that: whoever looks around less often than twice in that time takes itself
    # for starved, and counts no silence.
    link.BEAT_S = link.SILENCE_S / 10
    last_act.LastAct.begin = watch(last_act.LastAct.begin)  # type: ignore[assignment,method-assign]
    trainer = nb.Trainer(
        max_steps=int(os.environ.get("MAX_STEPS", "300")),
        max_epochs=-1,
        accelerator=os.environ.get("RANKS_ON", "cpu"),
        strategy=nb.DDPStrategy(process_group_backend="gloo"),
        hang_timeout=5 if FAULT == "hangs" else None,
        callbacks=[Ended()],
        run_name="failing",
        enable_progress_bar=FAULT == "SIGSTOP",
        enable_checkpointing="CHECKPOINTS" in os.environ,
    )
    trainer.fit(Failing(), loader())
    print("steps", trainer.global_step, trainer.interrupted)
