"""Answers that put runs side by side: what ``nightbus compare`` and ``diff`` say of them."""

import threading
from collections import OrderedDict
from typing import Any

import msgspec
from starlette.requests import Request

from ...bus.errors import UsageError
from ...bus.inspection.compare import compare_runs, in_words, ranks_of_both
from ...bus.library.differences import differences
from ...bus.runs.run_folder import RunFolder
from ...bus.runs.run_summary import RunSummary
from .answers import open_folder
from .asked import keys_of
from .plain_values import plain
from .shelf import Shelf

MAX_METRICS = 500
MAX_KEPT = 50
MAX_MISSING = 20


class CompareQuestions:
    """Answers about several runs together.

    Args:
        shelf: the runs.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._firsts: OrderedDict[tuple[str, str, int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def compare(self, request: Request) -> bytes:
        """Answer in what the set-ups of runs differ, and with their metrics side by side.

        Args:
            request: the question.

        Raises:
            UsageError: there are fewer than two runs.
            UnknownRunError: there is no such run.
        """
        runs = [self._shelf.run(key) for key in keys_of(request)]
        if len(runs) < 2:
            raise UsageError("two runs or more can be compared")
        names = list(dict.fromkeys(name for run in runs for name in run.metrics))
        answer = {
            "differences": [
                {"kind": each.kind, "name": plain(each.name), "values": plain(each.values)}
                for each in differences(runs)
            ],
            "metrics": [
                {"name": plain(name), "totals": [_total(run, name) for run in runs]}
                for name in names[:MAX_METRICS]
            ],
            "more_metrics": max(len(names) - MAX_METRICS, 0),
        }
        return msgspec.json.encode(answer)

    def first_difference(self, request: Request) -> bytes:
        """Answer with the first events of two runs that differ, times aside.

        Args:
            request: the question.

        Raises:
            UsageError: these are not two runs, or cannot be compared.
            UnknownRunError: there is no such run.
            LogError: a log cannot be read.
        """
        runs = [self._shelf.run(key) for key in keys_of(request)]
        if len(runs) != 2:
            raise UsageError("two runs can be compared event by event")
        left, right = (open_folder(run) for run in runs)
        place = str(left.path), str(right.path), runs[0].size_bytes, runs[1].size_bytes
        is_over = not any(run.is_running for run in runs)
        with self._lock:  # of two at once, the second would only make both slower
            if (kept := self._firsts.get(place)) is not None:
                return kept
            answer = msgspec.json.encode(_first_difference(left, right))
            if is_over:
                self._firsts[place] = answer
                while len(self._firsts) > MAX_KEPT:
                    self._firsts.popitem(last=False)
            return answer


def _total(run: RunSummary, name: str) -> list[Any] | None:
    total = run.metrics.get(name)
    return None if total is None else plain([total.last, total.low, total.high])


def _first_difference(left: RunFolder, right: RunFolder) -> dict[str, Any]:
    equal, missing = 0, list[str]()
    ranks = ranks_of_both(left, right)
    for rank in ranks:
        found = compare_runs(left, right, rank=rank)
        equal += found.equal
        missing += found.missing
        if (first := found.difference) is not None:
            said = [None if each is None else plain(in_words(each)) for each in first[1:]]
            return _answer(equal, rank, said, missing)
    return _answer(equal, 0, [None, None], missing)


def _answer(equal: int, rank: int, said: list[Any], missing: list[str]) -> dict[str, Any]:
    answer = {"equal": equal, "rank": rank, "left": said[0], "right": said[1]}
    return {**answer, "missing": plain(missing[:MAX_MISSING])}
