"""How much the event-camera example learns in a third of its training, held to what it must.

    python tests/bench/event_accuracy.py [ROOT]

Trains for three epochs, over which the learning rate makes its whole cycle. ROOT holds the
recordings; they are made if they are missing. Ends with an error below 60 % of the labelled bins of
the validation recordings, and where the memory of the streams is worth nothing.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[2]))

import nightbus as nb
from examples.event_classification.data_module import ClassificationDataModule
from examples.event_classification.event_files import LABEL_MAP
from examples.event_classification.forgetful import ForgetfulModel
from examples.event_classification.hyperparameters import hyperparameters
from examples.event_classification.lightning_model import ClassificationModel
from examples.event_classification.simulate import make_recordings

EPOCHS = 3
LEAST = 0.6  # of the labelled bins


class Undrawn(ClassificationModel):
    """Puts no figures."""

    def figures(self, results: Any) -> dict[str, Any]:
        """Return none."""
        return {}


def main(root: Path, runs: str) -> None:
    """Train, and compare with what is expected."""
    torch.set_num_threads(1)
    if not (root / LABEL_MAP).exists():
        make_recordings(root)
    hparams = hyperparameters(dataset_path=str(root), root_dir=runs, epochs=EPOCHS)
    nb.seed_everything(hparams.seed)
    model, data = Undrawn(hparams), ClassificationDataModule(hparams)
    trainer = nb.Trainer(
        default_root_dir=runs, max_epochs=EPOCHS, gradient_clip_val=1.0, logger=False
    )
    trainer.fit(model, data)
    remembered = float(trainer.callback_metrics["val_acc"])

    forgetful = ForgetfulModel(hparams, "bin")
    forgetful.load_state_dict(model.state_dict())
    (found,) = trainer.validate(forgetful, data, verbose=False)
    forgotten = found["val_acc"]

    print(f"right after {EPOCHS} epochs: {remembered:.1%} of the labelled bins")
    print(f"with the memory emptied at each bin: {forgotten:.1%}")
    if remembered < LEAST:
        sys.exit(f"error: expected at least {LEAST:.0%}")
    if forgotten > remembered - 0.1:
        sys.exit("error: the memory of the streams is worth less than 10 points")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else folder), folder)
