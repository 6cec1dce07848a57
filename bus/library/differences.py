"""What differs between the set-ups of runs: hyperparameters, arguments, code, machine, packages."""

from collections.abc import Mapping, Sequence

import msgspec

from ..events import Plain
from ..runs.run_summary import RunSummary

_CODE = ("git.commit", "git.branch", "git.dirty", "script", "command")
_LEFT_OUT = ("pid", "job", "run_name", "tags", "notes", "group", "default_root_dir")


class Difference(msgspec.Struct, frozen=True):
    """One thing in which runs differ.

    Attributes:
        kind: ``hparams``, ``config``, ``code``, ``environment`` or ``versions``.
        name: what differs.
        values: of each run, in their order; None where a run has none.
    """

    kind: str
    name: str
    values: list[Plain]


def differences(runs: Sequence[RunSummary]) -> list[Difference]:
    """Return in what the set-ups of runs differ, the most telling first.

    Args:
        runs: the runs, as they were started.
    """
    kinds: dict[str, list[Mapping[str, Plain]]] = {
        "hparams": [run.hparams for run in runs],
        "config": [run.config for run in runs],
        "code": [_part(run.environment, True) for run in runs],
        "environment": [_part(run.environment, False) for run in runs],
        "versions": [run.versions for run in runs],
    }
    found = []
    for kind, mappings in kinds.items():
        for name in dict.fromkeys(name for mapping in mappings for name in mapping):
            values = [mapping.get(name) for mapping in mappings]
            # A package that one run has not loaded says nothing about its set-up.
            told = [value for value in values if value is not None or kind != "versions"]
            if name not in _LEFT_OUT and len(set(map(repr, told))) > 1:
                found.append(Difference(kind, name, values))
    return found


def _part(environment: Mapping[str, Plain], is_code: bool) -> dict[str, Plain]:
    return {name: value for name, value in environment.items() if (name in _CODE) == is_code}
