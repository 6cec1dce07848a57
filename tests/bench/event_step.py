"""What a training step of the event-camera example costs over the same step in a plain loop.

    python tests/bench/event_step.py ROOT

ROOT holds the recordings, as `python -m examples.event_classification make ROOT` makes them. Blocks
of steps of the plain loop and of nightbus alternate, on the same loader's batches, within one
training; compared are neighbouring blocks, in processor time. Reading an epoch's batches alone is
timed at the end.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from by_turns import Turns
from torch.nn import functional as F

sys.path.append(str(Path(__file__).parents[2]))

import nightbus as nb
from examples.event_classification.data_module import ClassificationDataModule
from examples.event_classification.hyperparameters import hyperparameters
from examples.event_classification.lightning_model import ClassificationModel

CLIP = 1.0


def plain_steps(data: ClassificationDataModule, hparams: argparse.Namespace) -> Iterator[None]:
    """Make a step of the plain loop each time that one is asked for."""
    torch.manual_seed(hparams.seed)
    model = ClassificationModel(hparams).model
    optimizer = torch.optim.AdamW(model.parameters(), hparams.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    while True:
        for batch in data.train_dataloader():
            model.reset(batch["mask_keep_memory"])
            logits = model(batch["inputs"])
            is_labelled = batch["frame_is_labeled"]
            loss = F.cross_entropy(logits[is_labelled], batch["labels"][is_labelled])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            yield


class TakesTurns(nb.Callback):
    """Lets the plain loop have its turn between steps, where its time counts for nobody else."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Be told that another batch is over."""
        self._turns.on_batch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("root", help="folder of the recordings")
    parser.add_argument("--steps", type=int, default=480, help="of nightbus (480)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    hparams = hyperparameters(dataset_path=options.root, data_aug=True)
    data = ClassificationDataModule(hparams)
    turns = Turns(plain_steps(data, hparams))
    with tempfile.TemporaryDirectory() as folder:
        trainer = nb.Trainer(
            default_root_dir=folder,
            max_steps=options.steps,
            limit_val_batches=0,
            gradient_clip_val=CLIP,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=[TakesTurns(turns)],
        )
        trainer.fit(ClassificationModel(hparams), data)
    ratios = sorted(own / raw for raw, own in turns.pairs)
    raw_ms, own_ms = (statistics.median(each) / 1000 for each in zip(*turns.pairs, strict=True))
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"plain loop {raw_ms:.2f} ms, nightbus {own_ms:.2f} ms a step, of processor time")
    print(f"ratio {middle:.4f}, quartiles {low:.4f} to {high:.4f}, of {len(ratios)} blocks")
    begin_s = time.process_time()
    batches = sum(1 for _ in data.train_dataloader())
    reading_s = time.process_time() - begin_s
    print(f"reading the {batches} batches of an epoch: {reading_s:.2f} s of processor time")


if __name__ == "__main__":
    main()
