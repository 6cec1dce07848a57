"""Trains with a secret in every shape, with each sink that writes files, and then crashes with
secrets in the exception's text.

    python secret_training.py FOLDER ARGUMENTS...
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import secret_shapes
from models import Small, loader, trainer

import nightbus as nb


class Module(Small):
    def __init__(self, hparams: dict[str, Any], fails: bool) -> None:
        super().__init__()
        self.save_hyperparameters(hparams)
        self.save_hyperparameters({"token_dim": 64, "author": "kept-author"})
        self.fails = fails

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("loss", loss)
        if self.fails and self.global_step == 1:
            secrets = secret_shapes.SECRETS
            told = [secrets[name] for name in ("hub_token", "dbpass", "config_of_fields", "url")]
            in_an_error = secrets["an error's message"]
            raise ConnectionError(
                f"cannot log in with {told}, {os.environ['HUB_TOKEN']}, "
                f"https://me:{in_an_error}@host"
            )
        return loss


def sinks(folder: Path) -> list[nb.Sink]:
    found: list[nb.Sink] = [
        nb.CSV(),
        nb.JSONLines(),
        nb.SQLite(),
        nb.Parquet(),
        nb.TensorBoard(),
    ]
    if importlib.util.find_spec("wandb"):
        found.append(nb.WandB(mode="offline"))
    if importlib.util.find_spec("mlflow"):
        found.append(nb.MLflow(tracking_uri=(folder / "mlruns").as_uri()))
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    secret_shapes.register()
    hparams = secret_shapes.hyperparameters()
    for fails in (False, True):
        run = trainer(
            folder,
            max_epochs=2,
            callbacks=[nb.ModelCheckpoint(save_last=True)],
            sinks=sinks(folder),
            run_name="trained",
        )
        try:
            run.fit(Module(hparams, fails), loader())
        except ConnectionError:
            continue


if __name__ == "__main__":
    main()
