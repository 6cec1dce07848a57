"""``nightbus export-ckpt CHECKPOINT -o FILE``: write a checkpoint as a file of Lightning."""

import argparse
from typing import Any

from ..bus.errors import UsageError
from ..bus.runs.checkpoint_folder import is_checkpoint, no_checkpoint
from ..bus.system.paths import as_path
from .conversion import convert


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "export-ckpt",
        help="write a checkpoint as a file that Lightning loads",
        description="Write a checkpoint of nightbus as a .ckpt file that Lightning 2 loads, and "
        "torch.load too: weights, hyperparameters, optimizers, schedulers, counters of loops, "
        "states of callbacks, and what hooks of the module added.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="the checkpoint, a folder")
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="the new file")
    parser.add_argument("--json", action="store_true", help="the report for programs")
    parser.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> int:
    source, out = as_path(options.checkpoint), as_path(options.out)
    if out.exists():
        raise UsageError(f"{out} exists already; name a new file")
    if source.is_dir() and not is_checkpoint(source):
        raise UsageError(no_checkpoint(source))
    return convert("export_checkpoint", source, out, "file", options.json)
