"""Installs a wheel into empty environments, one for each extra, and uses what the extra is for.

``python tests/release/try_wheel.py dist/nightbus-*.whl [--extra NAME ...]``; ``make release-check``
runs it for all. Each environment starts as a copy of one that has the wheel alone. An extra of
pyproject.toml without a program here is an error, so that none is forgotten.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NOT_USED = {"test", "dev", "docs"}  # of developers, from a checkout

BASE = """
import torch, nightbus as nb
from torch.utils.data import DataLoader

class Model(nb.LightningModule):
    def __init__(self, size=3):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(4, size)
    def forward(self, x):
        return self.net(x)
    def training_step(self, batch, batch_idx):
        loss = self.net(batch).square().mean()
        self.log("train_loss", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def data():
    return DataLoader(torch.randn(8, 4), 2)

def trained(**arguments):
    trainer = nb.Trainer(max_epochs=1, log_every_n_steps=1, enable_progress_bar=False, **arguments)
    trainer.fit(Model(), data())
    return trainer

"""
# What is done with nothing but the wheel.
ALONE = """
run = trained()
again = nb.Trainer(max_epochs=2, enable_progress_bar=False)
again.fit(Model(), data(), ckpt_path="last")
assert again.global_step == 8
seen = []
nb.replay(run.log_dir, sinks=[lambda put: seen.append(put)])
assert seen
Model.load_from_checkpoint(f"{run.log_dir}/checkpoints/last")
"""
# What an extra is for: fails without it with an error that names the extra, and works with it.
PROGRAMS = {
    "media": "class Shows(Model):\n"
    "    def on_train_start(self): self.put_image('x', torch.zeros(3, 4, 4))\n"
    "nb.Trainer(max_epochs=1, enable_progress_bar=False).fit(Shows(), data())",
    "device": "trained(callbacks=[nb.DeviceStatsMonitor(cpu_stats=True)])",
    "plot": "run = trained()\n"
    "from nightbus.__main__ import main\n"
    "assert main(['plot', str(run.log_dir), '-o', 'plot.png']) == 0",
    "board": "trained()\n"
    "from nightbus.sinks.board.packages import refuse_missing_packages\n"
    "from nightbus.__main__ import main\n"
    "assert main(['board', '--export', 'board.html']) == 0\n"
    "refuse_missing_packages()",
    "tensorboard": "trained(sinks=[nb.TensorBoard()])",
    "mlflow": "trained(sinks=[nb.MLflow(tracking_uri='file:mlruns')])",
    "wandb": "trained(sinks=[nb.WandB(mode='offline')])",
    "parquet": "trained(sinks=[nb.Parquet()])",
    "yaml": "run = trained()\n"
    "open('hparams.yaml', 'w').write('size: 3')\n"
    "Model.load_from_checkpoint(f'{run.log_dir}/checkpoints/last', hparams_file='hparams.yaml')",
    "onnx": "Model().to_onnx('model.onnx', torch.zeros(1, 4))",
    "cli": "args = ['--trainer.max_epochs=3']\n"
    "assert nb.LightningCLI(Model, run=False, args=args).trainer.max_epochs == 3",
    "top": "run = trained()\n"
    "from nightbus.__main__ import main\n"
    "assert main(['top', str(run.log_dir)]) == 2\n"  # no terminal
    "import nightbus.cli.top_screen",
    "migrate": "from nightbus.__main__ import main\n"
    "open('old.py', 'w').write('import pytorch_lightning as pl')\n"
    "assert main(['migrate', 'old.py']) == 0",
}
# Extras for other code than nightbus's, which has no error to give.
FOR_OTHERS = {
    "examples": "import sklearn.datasets, optuna",
    "events": "import sklearn.datasets, matplotlib.figure, PIL.Image",
    "hdf5": "import h5py",
    "video": "import av",
    "gpu": "import pynvml",
    "data": "from torchdata.stateful_dataloader import StatefulDataLoader\n"
    "loader = StatefulDataLoader(torch.randn(8, 4), 2)\n"
    "nb.Trainer(max_epochs=1, enable_progress_bar=False).fit(Model(), loader)",
}


def run(python: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder of its own, without what this process's environment says."""
    command = [str(python), "-I", "-c", BASE + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def pip(python: Path, *packages: str) -> None:
    """Install packages, with the versions of constraints.txt."""
    command = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*command, "-c", str(ROOT / "constraints.txt"), *packages], check=True)


def empty_environment(folder: Path, wheel: Path) -> Path:
    """Make an environment that has a wheel and what it requires; return it."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip(folder / "bin" / "python", str(wheel))
    return folder


def try_extra(extra: str, base: Path, wheel: Path, folder: Path) -> list[str]:
    """Use what an extra is for, without it and with it; return what went wrong."""
    environment, work = folder / extra, folder / f"{extra}-work"
    shutil.copytree(base, environment, symlinks=True, copy_function=_linked)
    work.mkdir()
    python, wrong = environment / "bin" / "python", []
    code = PROGRAMS.get(extra) or FOR_OTHERS[extra]
    without = run(python, code, work)
    if without.returncode == 0:
        wrong.append("works without it")
    elif extra in PROGRAMS and f"nightbus[{extra}]" not in without.stderr + without.stdout:
        wrong.append(f"without it, the error does not name it: {without.stderr.strip()[-300:]}")
    pip(python, f"{wheel}[{extra}]")
    done = run(python, code, work)
    if done.returncode != 0:
        wrong.append(f"does not work with it: {done.stderr.strip()[-600:]}")
    shutil.rmtree(environment)
    return wrong


def _linked(source: str, target: str) -> None:
    """Link a file instead of copying it: an environment takes a gigabyte."""
    Path(target).hardlink_to(source)


def main(arguments: list[str]) -> int:
    """Try a wheel; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--extra", action="append", help="only this one; may be repeated")
    options = parser.parse_args(arguments)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [e for e in project["optional-dependencies"] if e not in NOT_USED]
    if forgotten := [e for e in extras if e not in PROGRAMS and e not in FOR_OTHERS]:
        print(f"no program says what these extras are for: {', '.join(forgotten)}")
        return 1
    wheel, failed = options.wheel.resolve(), 0
    with tempfile.TemporaryDirectory(prefix="nightbus-wheel-") as name:
        folder = Path(name)
        base = empty_environment(folder / "base", wheel)
        (folder / "work").mkdir()
        alone = run(base / "bin" / "python", ALONE, folder / "work")
        results = {"the wheel alone": [alone.stderr[-600:]] if alone.returncode else []}
        for extra in options.extra or extras:
            results[extra] = try_extra(extra, base, wheel, folder)
        for what, wrong in results.items():
            print(f"{what}: {'; '.join(wrong) or 'fine'}")
            failed += bool(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
