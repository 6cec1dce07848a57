"""The command line: its arguments, and what is said when something is wrong.

Results go to stdout, messages to stderr.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import nightbus as nb
from examples.event_classification.hyperparameters import DEFAULTS

ERROR, USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: of the command line; those of the process by default.

    Returns:
        The exit code: 0 fine, 1 error, 2 the call or the data is wrong.
    """
    try:
        options = _parser().parse_args(arguments)
        from examples.event_classification.commands import run  # --help does not wait for torch

        run(options)
    except (nb.NightbusError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return USAGE if isinstance(error, nb.UsageError) else ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise nb.UsageError(f"{message}; see {self.prog} --help")  # one line, as for all else


def _from(lowest: int) -> Callable[[str], int]:
    """Return what reads a whole number, this one or a larger."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if number < lowest:
            raise argparse.ArgumentTypeError(f"{text}: expected {lowest} or more")
        return number

    return read


def _above_0(text: str) -> float:
    """Read a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: expected more than 0")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m examples.event_classification",
        description="Classify what an event camera sees, in each time bin of streams.",
        epilog="Every command has --help. Times are in us or ms, as each option says.",
    )
    commands = parser.add_subparsers(
        required=True, dest="command", metavar="COMMAND", parser_class=_Parser
    )
    _add_make(commands)
    _add_train(commands)
    _add_eval(commands)
    _add_demo(commands)
    _add_replay(commands)
    return parser


if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[_Parser]


def _add_make(commands: "Commands") -> None:
    make = commands.add_parser("make", help="make recordings with a simulated event camera")
    _add_root(make)
    make.add_argument(
        "--recordings", type=int, metavar="N", help="number of recordings, 3 to 359 (all)"
    )
    make.add_argument("--seed", type=_from(0), default=0, help="of the camera's ways and noise (0)")
    make.add_argument("--workers", type=_from(0), default=2, help="processes (2)")


def _add_train(commands: "Commands") -> None:
    train = commands.add_parser(
        "train", help="train a classifier, making the recordings if they are missing"
    )
    _add_root(train)
    _add_hyperparameters(train)
    train.add_argument(
        "--recordings", type=int, metavar="N", help="number of recordings to make, 3 to 359 (all)"
    )
    train.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with a run that was stopped, with its options: its folder, or last",
    )
    train.add_argument(
        "--pretrained", metavar="CKPT", help="begin with these weights; classes are moved by name"
    )
    train.add_argument(
        "--stop-below", type=float, metavar="MS", help="stop at a mean time to prediction below, ms"
    )
    train.add_argument(
        "--demo-every",
        type=_from(1),
        metavar="N",
        help="write videos/video#EPOCH.mp4 every N epochs",
    )
    train.add_argument("--no-bar", action="store_true", help="show no progress bar")


def _add_hyperparameters(train: argparse.ArgumentParser) -> None:
    # argument, type, what it is; the hyperparameter has the argument's name, with underscores
    options: list[tuple[str, Callable[[str], str | int | float], str]] = [
        ("--root-dir", str, "parent of runs/ and videos/"),
        ("--models", str, "name of the model: ConvRNNClassifier, LeNetClassifier, ..."),
        ("--base", _from(1), "channels of the model's first convolution"),
        ("--cout", _from(1), "width before the model's last layer"),
        ("--epochs", _from(1), "number of epochs"),
        ("--batch-size", _from(1), "number of streams"),
        ("--num-tbins", _from(1), "time bins of a sequence, over which gradients go back"),
        ("--delta-t", _from(1), "duration of a time bin, us"),
        ("--label-delta-t", _from(1), "take labels at multiples of this time only, us"),
        ("--preprocess", str, "event tensor: histo, diff, timesurface, event_cube, ..."),
        ("--lr", _above_0, "highest learning rate"),
        ("--seed", _from(0), "of weights, order and augmentation"),
        ("--num-workers", _from(0), "processes of each loader"),
    ]
    for argument, kind, text in options:
        default = DEFAULTS[argument[2:].replace("-", "_")]
        shown = "all" if default is None else default
        train.add_argument(argument, type=kind, default=default, help=f"{text} ({shown})")
    train.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="names of the classes to learn (those there are)",
    )


def _add_eval(commands: "Commands") -> None:
    evaluate = commands.add_parser("eval", help="print the KPIs of a run, and draw them")
    _add_run(evaluate)
    evaluate.add_argument("--figures", metavar="DIR", help="write the figures there, as PNG")
    evaluate.add_argument(
        "--slowest", type=_from(0), default=8, help="recordings to draw, slowest first (8)"
    )
    evaluate.add_argument(
        "--forget", choices=["batch", "bin"], help="empty the model's memory at each of these"
    )


def _add_demo(commands: "Commands") -> None:
    demo = commands.add_parser("demo", help="write a video of what a run's model says of streams")
    _add_run(demo)
    demo.add_argument("--num-batches", type=_from(1), default=100, help="batches at most (100)")
    demo.add_argument("--no-pred", action="store_true", help="show the input and the truth alone")
    demo.add_argument("--show", action="store_true", help="show it in a window too, with OpenCV")
    demo.add_argument("--fps", type=_from(1), default=30, help="frames in a second (30)")
    demo.add_argument("--root-dir", metavar="DIR", help="parent of videos/ (as in training)")
    demo.add_argument("--epoch", type=_from(0), default=0, help="number in the video's name (0)")


def _add_replay(commands: "Commands") -> None:
    replay = commands.add_parser(
        "replay", help="compute times to prediction again from a run's log alone"
    )
    replay.add_argument("run", help="folder of the run, its name below runs/, or last")
    replay.add_argument(
        "--stop-below",
        type=float,
        metavar="MS",
        help="say when this limit would have stopped it, ms",
    )


def _add_root(parser: argparse.ArgumentParser) -> None:
    default = DEFAULTS["dataset_path"]
    parser.add_argument(
        "root", nargs="?", default=default, help=f"folder of the recordings ({default})"
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", help="a checkpoint, or a run's folder, its name below runs/, or last: its best one"
    )
    parser.add_argument(
        "--split", default="test", help="recordings to read: train, val, test (test)"
    )
    parser.add_argument("--data", metavar="ROOT", help="their folder (where the run had them)")
