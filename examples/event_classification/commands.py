"""What the commands do."""

import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import nightbus as nb
from examples.event_classification.data_module import ClassificationDataModule
from examples.event_classification.errors import unknown_name
from examples.event_classification.event_files import LABEL_MAP
from examples.event_classification.forgetful import ForgetfulModel
from examples.event_classification.from_the_log import RightSoonEnough, TimesFromTheLog
from examples.event_classification.hyperparameters import DEFAULTS, hyperparameters
from examples.event_classification.kpis import figures_of, metrics_of, metrics_per_class
from examples.event_classification.labels import class_names
from examples.event_classification.lightning_model import ClassificationModel
from examples.event_classification.plotting import new_figure
from examples.event_classification.preprocess import channels_of
from examples.event_classification.results import Results
from examples.event_classification.simulate import ALL_RECORDINGS, make_recordings
from examples.event_classification.utils_metrics import unpack_metrics_dict

RUN_NAME = "event-classification"
SPLITS = ("train", "val", "test")


def run(options: Namespace) -> None:
    """Run the command that the options name.

    One thread computes: two take 2.4 times the processor time for a step of so small a model.

    Args:
        options: the parsed command line.
    """
    torch.set_num_threads(1)
    COMMANDS[options.command](options)


class DemoEvery(nb.Callback):
    """Writes a demo video of the test recordings every some epochs.

    Args:
        epochs: how many.
    """

    def __init__(self, epochs: int) -> None:
        if epochs < 1:
            raise nb.UsageError(f"a demo every {epochs} epochs is not possible; expected 1 or more")
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: nb.Trainer, module: nb.LightningModule) -> None:
        """Write the video."""
        if (trainer.current_epoch + 1) % self.epochs == 0:
            data: Any = trainer.datamodule
            model: Any = module
            model.demo_video(data.loader("test"), epoch=trainer.current_epoch, num_batches=10)


def make(options: Namespace) -> None:
    """Make recordings."""
    count = ALL_RECORDINGS if options.recordings is None else options.recordings
    root = Path(options.root)
    made = make_recordings(root, count, options.seed, options.workers, _Counter(count))
    print(
        f"{made.recordings} recordings in {root}: {made.events:,} events in {made.camera_s:.0f} s "
        "of camera time"
    )


class _Counter:
    """Says on stderr how many recordings are made."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __call__(self, done: int) -> None:
        end = "\n" if done == self._count or not sys.stderr.isatty() else ""
        print(f"\rrecordings made: {done} of {self._count}", end=end, file=sys.stderr, flush=True)


def train(options: Namespace) -> None:
    """Train a classifier, and say how good and how fast it is."""
    resumed = None if options.resume is None else _run_of(options.resume) / "checkpoints" / "last"
    if resumed is None:
        if not (Path(options.root) / LABEL_MAP).exists():
            make(Namespace(root=options.root, recordings=options.recordings, seed=0, workers=2))
        hparams = _hyperparameters(options)
    else:
        hparams = _hyperparameters_of(resumed)
    nb.seed_everything(hparams.seed, workers=True)
    model, data = ClassificationModel(hparams), ClassificationDataModule(hparams)
    if options.pretrained:
        common = model.load_pretrained(_checkpoint_of(options.pretrained))
        print(f"pretrained classes: {', '.join(common)}", file=sys.stderr)
    best = nb.ModelCheckpoint(
        monitor="val_acc", mode="max", filename="best", enable_version_counter=False
    )
    watch = [] if options.stop_below is None else [RightSoonEnough(options.stop_below)]
    demo = [] if options.demo_every is None else [DemoEvery(options.demo_every)]
    # here, so that there is no run if something is wrong with the data, or matplotlib is missing
    data.setup("fit")
    new_figure(5, 4)
    trainer = nb.Trainer(
        run_name=RUN_NAME,
        default_root_dir=hparams.root_dir,
        max_epochs=hparams.epochs,
        gradient_clip_val=1.0,
        callbacks=[best, *demo],
        actors=watch,
        enable_progress_bar=not options.no_bar,
    )
    trainer.fit(model, data, ckpt_path=resumed)
    if trainer.interrupted:
        print(f"stopped; go on with: train --resume {trainer.log_dir}")
        return
    trainer.test(model, datamodule=data, ckpt_path=best.best_model_path or None, verbose=False)
    if model.results is not None:
        _print_kpis("test", model.results)
    print(f"the run is in {trainer.log_dir}")


def evaluate(options: Namespace) -> None:
    """Print the KPIs of a run's model, and draw them."""
    model, data = _model_and_data(options)
    if options.forget:
        weights = model.state_dict()
        model = ForgetfulModel(data.settings, options.forget)
        model.load_state_dict(weights)
    with TemporaryDirectory() as root:  # a run of its own is not wanted
        trainer = nb.Trainer(default_root_dir=root, enable_progress_bar=False, logger=False)
        trainer.test(model, data.loader(options.split), verbose=False)
    if model.results is None:
        raise nb.UsageError(f"the recordings of {options.split} have no labels")
    _print_kpis(options.split, model.results)
    settings: Any = model.hparams
    values = unpack_metrics_dict(
        metrics_per_class(model.results, settings.num_classes), settings.classes
    )
    print(f"{'class':<12}{'precision':>10}{'recall':>10}{'f1':>10}")
    for name in settings.classes:
        row = [values[f"{metric}/{name}"] for metric in ("precision", "recall", "f1")]
        print(f"{name:<12}" + "".join(f"{value:>10.3f}" for value in row))
    if options.figures:
        folder = Path(options.figures)
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures_of(model.results, settings, options.slowest).items():
            figure.savefig(folder / f"{name}.png")
        print(f"the figures are in {folder}")


def demo(options: Namespace) -> None:
    """Write a demo video."""
    model, data = _model_and_data(options, options.root_dir)
    file = model.demo_video(
        data.loader(options.split),
        epoch=options.epoch,
        num_batches=options.num_batches,
        show_video=options.show,
        show_pred=not options.no_pred,
        fps=options.fps,
    )
    print(f"the video is {file}")


def replay(options: Namespace) -> None:
    """Print times to prediction that are computed from the log of a run alone."""
    folder = _run_of(options.run)
    sink = TimesFromTheLog()
    limit = [] if options.stop_below is None else [RightSoonEnough(options.stop_below)]
    replayed = nb.replay(folder, sinks=[sink], actors=limit)
    print(f"{'step':>8}{'mean ms':>10}{'median ms':>11}{'never right':>13}")
    for each in sink.times():
        print(
            f"{each.step:>8}{each.mean_ms:>10.1f}{each.median_ms:>11.1f}{each.never_right:>13.1%}"
        )
    stops = [told for told in replayed.commands if isinstance(told.command, nb.Stop)]
    if stops:
        print(f"a limit of {options.stop_below:g} ms would have stopped it at step {stops[0].step}")
    elif options.stop_below is not None:
        print(f"a limit of {options.stop_below:g} ms would not have stopped it")


def _hyperparameters(options: Namespace) -> Namespace:
    names = [name for name in DEFAULTS if name not in ("dataset_path", "classes", "num_classes")]
    chosen = {name: getattr(options, name) for name in names if hasattr(options, name)}
    names_of_data = class_names(Path(options.root))
    classes = options.classes or [names_of_data[id_] for id_ in sorted(names_of_data)]
    return hyperparameters(
        **chosen,
        dataset_path=options.root,
        classes=classes,
        num_classes=len(classes),
        cin=channels_of(options.preprocess),
    )


def _hyperparameters_of(checkpoint: Path) -> Namespace:
    return hyperparameters(**nb.load_checkpoint(checkpoint)["hyper_parameters"])


def _model_and_data(
    options: Namespace, root_dir: str | None = None
) -> tuple[ClassificationModel, ClassificationDataModule]:
    if options.split not in SPLITS:
        raise unknown_name("split", options.split, SPLITS)
    checkpoint = _checkpoint_of(options.run)
    hparams = _hyperparameters_of(checkpoint)
    hparams.dataset_path = options.data or hparams.dataset_path
    hparams.root_dir = root_dir or hparams.root_dir
    model = ClassificationModel.load_from_checkpoint(checkpoint, hparams=hparams)
    return model, ClassificationDataModule(hparams)


def _checkpoint_of(given: str) -> Path:
    """Return the checkpoint at a path, or the best one of a run."""
    if (Path(given) / "state.msgpack").exists():
        return Path(given)
    folder = _run_of(given) / "checkpoints"
    best = folder / "best"
    return best if best.exists() else folder / "last"


def _run_of(given: str) -> Path:
    """Return a run's folder: by its path, by the begin of its name below runs, or the newest."""
    if (Path(given) / "run.json").exists():
        return Path(given)
    begin = RUN_NAME if given == "last" else given
    found = [file.parent for file in Path("runs").glob("*/run.json")]
    matching = [folder for folder in found if folder.name.startswith(begin)]
    if not matching:
        raise nb.UsageError(f"there is no run or checkpoint {given!r}; look with: nightbus ls")
    return max(matching, key=lambda folder: (folder / "run.json").stat().st_mtime)


def _print_kpis(split: str, results: Results) -> None:
    kpis = metrics_of(results)
    print(f"{split}: {kpis['acc']:.1%} of the labelled bins are right")
    if "never_right" in kpis:
        median_ms, mean_ms = kpis["median_time_to_prediction_ms"], kpis["time_to_prediction_ms"]
        print(f"showings: {kpis['showings_acc']:.1%} are right by vote")
        print(f"time to prediction: median {median_ms:.0f} ms, mean {mean_ms:.0f} ms")
        print(f"never right: {kpis['never_right']:.1%} of the showings")


COMMANDS: dict[str, Callable[[Namespace], None]] = {
    "make": make,
    "train": train,
    "eval": evaluate,
    "demo": demo,
    "replay": replay,
}
