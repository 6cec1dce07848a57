"""The site as text for language models: llms.txt, llms-full.txt, and each page's markdown."""

import inspect
import re
from pathlib import Path
from typing import Any

import site_reference
import yaml

import nightbus

ABOUT = """\
# nightbus

> A PyTorch trainer whose hooks, metrics, commands and faults are events in a log. Modules,
> datamodules, callbacks and loops work as in Lightning. A recorded run can be replayed to actors
> and sinks without the model or the data.

Each page below is markdown. [llms-full.txt](llms-full.txt) has all of them in one file.

"""


def api_texts() -> dict[str, str]:
    """Return the pages of the API reference as text: each name's signature and docstrings."""
    texts = {}
    for group in site_reference.GROUPS:
        names = site_reference.names_by_group()[group.page]
        entries = "\n\n".join(_entry(f"nightbus.{name}", getattr(nightbus, name)) for name in names)
        texts[f"api/{group.page}.md"] = f"# {group.title}\n\n{group.text}\n\n{entries}\n"
    return texts


def _entry(name: str, value: object) -> str:
    if not inspect.isclass(value) and not inspect.isfunction(value):
        return f"## {name}\n\n```text\n{value!r}\n```"
    inner = site_reference.inner_members(value) if inspect.isclass(value) else []
    members = [
        _member(f"{name}.{each}", getattr(value, each))
        for each, found in vars(value).items()
        if not each.startswith("_") and inspect.isfunction(found) and found.__doc__
        if each not in inner
    ]
    return "\n\n".join([_member(name, value, "##"), *members])


def _member(name: str, value: Any, heading: str = "###") -> str:
    try:
        signature = str(inspect.signature(value))
    except ValueError:  # of a class written in C
        signature = "(...)"
    doc = re.sub(r"(?m)^(\s*)::$", r"\1", inspect.getdoc(value) or "")
    # A default that is an object would be shown with its address.
    shown = re.sub(r" at 0x[0-9a-f]+", "", signature)
    return f"{heading} {name}\n\n```python\n{name.removeprefix('nightbus.')}{shown}\n```\n\n{doc}"


def _listed(nav: list[Any], heading: str = "") -> list[tuple[str, str, str]]:
    """Return the pages of a navigation in order: section, title and path."""
    found = []
    for entry in nav:
        (title, below), *_ = entry.items() if isinstance(entry, dict) else [("", entry)]
        if isinstance(below, list):
            found += _listed(below, f"{heading}: {title}" if heading else title)
        else:
            found.append((heading, title, below))
    return found


def in_one_file(configuration: Path, texts: dict[str, str]) -> dict[str, str]:
    """Return the list of all pages, and all pages in one, by the names of their files.

    Args:
        configuration: mkdocs.yml, whose navigation has the pages in order.
        texts: markdown by the page's path.
    """
    index, full = [ABOUT], [ABOUT]
    section = ""
    for heading, title, path in _listed(yaml.safe_load(configuration.read_text())["nav"]):
        if heading != section:
            index.append(f"\n## {heading}\n\n")
            section = heading
        named = title or texts[path].split("\n", 1)[0].removeprefix("# ")
        index.append(f"- [{named}]({path})\n")
        full.append(f"\n\n<!-- {path} -->\n\n{texts[path]}")
    return {"llms.txt": "".join(index), "llms-full.txt": "".join(full)}
