"""Trains and puts an image at each batch; from one batch to another it has no file descriptor.

python starved_images.py FOLDER FIRST LAST
"""

import contextlib
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from models import Small, loader, trainer
from trial_shortages import no_descriptors


class PutsImages(Small):
    """Is without file descriptors from the batch ``first`` up to the batch before ``last``."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first, self.last = first, last
        self.starved = contextlib.ExitStack()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == self.first:
            self.starved.enter_context(no_descriptors())
        if batch_idx == self.last:
            self.starved.close()
        self.put_image("picture", torch.full((4, 4), batch_idx / 10))
        return super().training_step(batch, batch_idx)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run = trainer(Path(sys.argv[1]), max_epochs=1)
    run.fit(PutsImages(int(sys.argv[2]), int(sys.argv[3])), loader())
    print(run.log_dir)
