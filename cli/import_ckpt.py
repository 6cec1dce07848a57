"""``nightbus import-ckpt FILE -o OUT``: convert a checkpoint of PyTorch or Lightning."""

import argparse
from typing import Any

from ..bus.errors import UsageError
from ..bus.runs.checkpoint_folder import is_checkpoint
from ..bus.runs.checkpoint_kind import kind_of_file
from ..bus.system.paths import as_path
from .conversion import convert
from .text import REFUSED, print_note


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "import-ckpt",
        help="convert a checkpoint file of PyTorch or Lightning",
        description="Write the weights in a .pt, .pth or .ckpt file as a nightbus checkpoint; of a "
        "Lightning checkpoint also optimizers, schedulers, counters and hyperparameters, so that "
        "training can go on from it. Such files are pickles, which can be made to run code.",
    )
    parser.add_argument("file", metavar="FILE", help="the file")
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="the new checkpoint")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="confirm that you know the file's origin; required",
    )
    parser.add_argument(
        "--run-code",
        action="store_true",
        help="run the code that the file names, in the process that converts it: for files with "
        "objects of other classes among their hyperparameters",
    )
    parser.add_argument("--json", action="store_true", help="the report for programs")
    parser.set_defaults(command=_import)


def _import(options: argparse.Namespace) -> int:
    source, out = as_path(options.file), as_path(options.out)
    if out.exists():
        raise UsageError(f"{out} exists already; name a new folder")
    if source.is_dir():
        is_ours = is_checkpoint(source)
        what = "a checkpoint of nightbus already" if is_ours else "a folder; give the file in it"
        raise UsageError(f"{source} is {what}")
    if not source.is_file():
        raise UsageError(f"there is no file {source}")
    kind = kind_of_file(source)
    if not kind.is_torchs:
        raise UsageError(f"{source} is {kind.what}, no checkpoint of PyTorch; {kind.advice}")
    if not options.trust:
        print_note(
            f"{source} is a pickle, which can be made to run code on this machine when it is read. "
            "If you know where it comes from, add --trust"
        )
        return REFUSED
    more = ["--run-code"] if options.run_code else []
    return convert("import_checkpoint", source, out, "checkpoint", options.json, *more)
