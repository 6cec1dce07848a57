"""What mkdocstrings shows of docstrings: their literal blocks and links as markdown."""

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Turns the form of docstrings into that of the pages."""

    def on_object(self, *, obj: griffe.Object, **given: Any) -> None:
        """Rewrite an object's docstring.

        Args:
            obj: what has been read of the sources.
            **given: what else griffe gives.
        """
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(doc: str) -> str:
    """Return a docstring with fenced code, and with links for the names of pages."""
    doc = re.sub(r"(?m)^::\n\n((?:    .*\n|\n)*(?:    .*\n?))", _fenced, doc)
    return re.sub(r"(?<!\[)\bdocs/([\w-]+)\.md\b", r"[\1](../\1.html)", doc)


def _fenced(block: re.Match[str]) -> str:
    lines = [line.removeprefix("    ") for line in block[1].rstrip("\n").split("\n")]
    return "```python\n" + "\n".join(lines) + "\n```\n"
