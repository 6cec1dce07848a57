"""Answers about the table of runs, kept until the table changes."""

import threading
from collections.abc import Callable

from .shelf import Table

MAX_BYTES = 8 * 2**20


class KeptAnswers:
    """What has been answered about a table: pages ask the same of it each time they are opened.

    Any thread may ask. Of two that ask the same at once, both make the answer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = -1
        self._answers: dict[str, bytes] = {}
        self._bytes = 0

    def answer(self, table: Table, question: str, make: Callable[[], bytes]) -> bytes:
        """Return the answer to a question, which is made where it is not known.

        Args:
            table: what is asked about.
            question: the whole question.
            make: makes the answer.
        """
        with self._lock:
            if self._number == table.number and question in self._answers:
                return self._answers[question]
        answer = make()
        with self._lock:
            size = len(question) + len(answer)
            if self._number != table.number or self._bytes + size > MAX_BYTES:
                self._number, self._answers, self._bytes = table.number, {}, 0
            if question not in self._answers and size <= MAX_BYTES:
                self._answers[question] = answer
                self._bytes += size
        return answer
