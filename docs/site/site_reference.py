"""Pages that are made from the code: names, events, commands, verbs and examples."""

import argparse
import ast
import inspect
import os
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

import nightbus
from nightbus import __main__ as command_line
from nightbus.bus import events

ROOT = Path(__file__).resolve().parents[2]

# Units of fields whose names do not end in one.
UNITS = {
    "attempts": "attempts",
    "batch_idx": "batches, from 0",
    "completed": "iterations",
    "count": "events or commands",
    "data": "bytes",
    "dead": "commands",
    "delivered": "commands",
    "dropped": "commands",
    "epoch": "epochs, from 0",
    "events": "events",
    "faults": "failures",
    "lag": "events",
    "most_waiting": "commands",
    "now": "ranks",
    "point": "safe points",
    "restart": "restarts",
    "restarts": "restarts",
    "sent": "commands",
    "seq": "events, from 0",
    "step": "optimizer steps",
    "total": "iterations",
    "was": "ranks",
    "world_size": "ranks",
}
SUFFIXES = {"_ns": "ns", "_s": "s", "_bytes": "bytes", "_seq": "events, from 0"}


@dataclass(frozen=True)
class Group:
    """A page of the API reference.

    Attributes:
        page: the page's name, without its ending.
        title: its heading.
        text: what stands above the names.
        has: whether a name belongs here; it gets the name and the module that defines it.
    """

    page: str
    title: str
    text: str
    has: Callable[[str, str], bool]


def _names(*names: str) -> Callable[[str, str], bool]:
    return lambda name, module: name in names


def _within(*modules: str) -> Callable[[str, str], bool]:
    return lambda name, module: module.startswith(modules)


GROUPS = (
    Group(
        "trainer",
        "Trainer",
        "All arguments of the Trainer, its methods, and what can be read off it.",
        _names("Trainer"),
    ),
    Group(
        "module",
        "Module and data",
        "What a model and its data derive from. [Metrics](../metrics.md), "
        "[hooks](../hooks.md) and [optimization](../optimization.md) show them at work.",
        _names(
            "LightningModule",
            "LightningDataModule",
            "CombinedLoader",
            "LightningOptimizer",
            "TrainResult",
            "EvalResult",
            "load_predictions",
            "seed_everything",
            "HOOKS",
        ),
    ),
    Group(
        "callbacks",
        "Callbacks",
        "The base class and the callbacks that nightbus has. "
        "[The guide](../callbacks.md) has examples.",
        lambda name, module: name == "Callback" or module.startswith(".actors.callbacks"),
    ),
    Group(
        "actors",
        "Actors",
        "Actors, their subscriptions and their mailboxes. The guides are "
        "[actors and commands](../supervision.md) and [events of your own](../events.md).",
        _names("Actor", "on", "Supervision", "MailboxLimit", "BusMonitor", "Alert", "monotonic"),
    ),
    Group(
        "sinks",
        "Sinks and replay",
        "Destinations of metrics, and the function that delivers a recorded run again. The "
        "guides are [sinks](../sinks.md) and [replay](../replay.md).",
        lambda name, module: name == "RunFolder" or module.startswith(".sinks"),
    ),
    Group(
        "loops",
        "Loops",
        "The loops of a run, and the base class of your own. [The guide](../loops.md) "
        "explains when each of them ends.",
        _within(".loops"),
    ),
    Group(
        "cli",
        "LightningCLI",
        "A command line and configuration files made of signatures. "
        "[The guide](../lightning-cli.md) has examples.",
        _within(".trainer.lightning_cli"),
    ),
    Group(
        "events",
        "Events and commands",
        "What `@nb.on` can subscribe to and `tell` can send. [Event types](../event-types.md) "
        "has the fields in tables.",
        _within(".bus.events"),
    ),
    Group(
        "errors",
        "Errors",
        "Every error that nightbus raises on purpose derives from `NightbusError`.",
        _within(".bus.errors"),
    ),
    Group(
        "more",
        "Several processes, and more",
        "Names that belong to no other page. The guide to several devices is "
        "[here](../distributed.md).",
        lambda name, module: True,
    ),
)


def home_of(name: str) -> str:
    """Return the module that a public name is loaded from, relative to the package."""
    return {**nightbus._HOME_OF, **nightbus._OF_EXTRAS}.get(name, ".bus.events")


def names_by_group() -> dict[str, list[str]]:
    """Return the public names of each page of the API reference."""
    found: dict[str, list[str]] = {group.page: [] for group in GROUPS}
    for name in (*nightbus.__all__, *nightbus._OF_EXTRAS):
        group = next(group for group in GROUPS if group.has(name, home_of(name)))
        found[group.page].append(name)
    return found


def api_pages() -> dict[str, str]:
    """Return the pages of the API reference, by their path: headings for mkdocstrings."""
    return {
        f"api/{group.page}.md": f"# {group.title}\n\n{group.text}\n\n"
        + "\n".join(_directive(name) for name in names_by_group()[group.page])
        for group in GROUPS
    }


# Called across rooms of the package without a declaration of it.
NOT_DECLARED = {"Trainer": {"agreed", "find_epoch_counter", "loop_of"}}
# What users derive from or call most: their inherited methods are shown too.
WITH_INHERITED = ("Trainer", "LightningModule", "LightningDataModule")


def _directive(name: str) -> str:
    value, options = getattr(nightbus, name), ""
    if home_of(name) == ".bus.events":  # fields stand in the docstring of their class
        options = "      members: false\n"
    elif isinstance(value, type):
        options = "      inherited_members: true\n" * (name in WITH_INHERITED)
        options += "      parameter_headings: true\n" * (name == "Trainer")
        if inner := inner_members(value):
            options += f'      filters: ["!^_", "!^({"|".join(inner)})$"]\n'
    return f"::: nightbus.{name}\n" + (f"    options:\n{options}" if options else "")


def inner_members(kind: type) -> list[str]:
    """Return the members of a class that are for other parts of nightbus, not for users.

    These are the ones that its base classes declare as abstract, for the parts that call them, or
    that NOT_DECLARED lists, and that no guide mentions.
    """
    declared = {name for base in kind.__mro__ for name in getattr(base, "__abstractmethods__", ())}
    declared |= NOT_DECLARED.get(kind.__name__, set())
    guides = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    owner = f"(?:{kind.__name__.lower()}\\.|self\\.|`)"
    return sorted(
        name
        for name in declared
        if not name.startswith("_") and not re.search(rf"{owner}{name}\b", guides)
    )


def attributes_of(doc: str) -> dict[str, str]:
    """Return what the section Attributes of a docstring says of each name."""
    found = re.search(r"^Attributes:\n((?:[ ]+.*\n|\n)*)", f"{doc}\n", re.MULTILINE)
    entries = re.split(r"^    (?=\w)", found[1] if found else "", flags=re.MULTILINE)
    meanings = {}
    for entry in filter(str.strip, entries):
        names, _, text = entry.partition(":")
        for name in names.split(","):
            meanings[name.strip()] = " ".join(text.split())
    return meanings


def meanings_of(kind: type) -> dict[str, str]:
    """Return what the docstrings of a struct and its bases say of its fields."""
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        meanings |= attributes_of(_doc_of(base))
    return meanings


def _doc_of(kind: type) -> str:
    return inspect.cleandoc(kind.__dict__.get("__doc__") or "")


def _type(annotation: object) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f'"{value}"' for value in typing.get_args(annotation))
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return "None" if annotation is type(None) else annotation.__name__
    inner, origin = typing.get_args(annotation), typing.get_origin(annotation)
    if origin is dict or origin is tuple or origin is list:
        parts = ", ".join("..." if each is ... else _type(each) for each in inner)
        return f"{origin.__name__}[{parts}]"
    return " or ".join(_type(each) for each in inner) if inner else str(annotation)


def _unit(name: str) -> str:
    ending = next((unit for suffix, unit in SUFFIXES.items() if name.endswith(suffix)), "")
    return UNITS.get(name, ending)


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _fields(kind: type, names: list[str]) -> Iterator[str]:
    meanings = meanings_of(kind)
    types = typing.get_type_hints(kind)
    yield "| field | type | unit | meaning |\n| --- | --- | --- | --- |"
    for name in names:
        cells = (f"`{name}`", _cell(_type(types[name])), _unit(name), _cell(meanings[name]))
        yield f"| {' | '.join(cells)} |"


def event_page() -> str:
    """Return the page with every event type, every command, and their fields."""
    base = [field.name for field in msgspec.structs.fields(events.Event)]
    text = [
        "# Event types",
        "Every event is one of these types. The number is its tag in the log, as in "
        "[log-format.md](log-format.md). `nightbus tail RUN --kind TYPE` shows the events of a "
        "type, and `@nb.on(nb.TYPE)` subscribes to them. [Events of your own](events.md) are "
        "recorded as `PlainUserEvent`.",
        "## Fields of every event",
        "\n".join(_fields(events.Event, base)),
    ]
    for tag, kind in events.EVENT_TYPES.items():
        names = [field.name for field in msgspec.structs.fields(kind) if field.name not in base]
        text += [f"## {kind.__name__}", f"Tag {tag}. {_summary(kind)}"]
        text += ["\n".join(_fields(kind, names))] if names else []
    text += ["## Fork", _summary(events.Fork)]
    fork = [field.name for field in msgspec.structs.fields(events.Fork)]
    text += ["\n".join(_fields(events.Fork, fork)), *_commands()]
    return "\n\n".join(text) + "\n"


def _commands() -> Iterator[str]:
    yield "## Commands"
    yield (
        "A command is a request to an actor; the actor `fit` is the run's loop. The log records "
        "each that an actor takes as [`CommandTaken`](#commandtaken)."
    )
    for kind in events.Command.__subclasses__():
        if kind.__module__ != events.__name__:
            continue
        yield f"### {kind.__name__}"
        yield _summary(kind)
        names = [field.name for field in msgspec.structs.fields(kind)]
        if names:
            yield "\n".join(_fields(kind, names))


def _summary(kind: type) -> str:
    """Return a class's docstring without its sections."""
    text = re.split(r"^(?:Attributes|Args):$|::$", _doc_of(kind), flags=re.MULTILINE)[0]
    return _cell(text.strip())


def verb_page() -> str:
    """Return the page with every verb of the command line and every option."""
    os.environ["COLUMNS"] = "100"  # argparse breaks lines to fit the terminal
    parser = command_line._parser()
    (verbs,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    text = [
        "# Verbs and options",
        "Every verb of the command line with all of its options. "
        "[The command line](command-line.md) shows them at work.",
        f"```text\n{parser.epilog}```",
    ]
    for name, verb in verbs.choices.items():
        usage = verb.format_usage().removeprefix("usage: ").rstrip()
        text += [f"## {name}", verb.description, f"```text\n{usage}\n```", _options(verb)]
    return "\n\n".join(text) + "\n"


def _options(verb: argparse.ArgumentParser) -> str:
    rows = ["| argument | meaning |", "| --- | --- |"]
    for action in verb._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        value = action.metavar or (action.choices and "{" + ",".join(action.choices) + "}")
        takes = value or (action.dest.upper() if action.nargs != 0 else "")
        takes = " ".join(takes) if isinstance(takes, tuple) else takes
        names = ", ".join(f"`{each} {takes}`".replace(" `", "`") for each in action.option_strings)
        formatter = argparse.HelpFormatter(verb.prog)
        meaning = formatter._expand_help(action) if action.help else ""
        rows.append(f"| {_cell(names or f'`{takes}`')} | {_cell(meaning)} |")
    return "\n".join(rows)


def example_pages() -> dict[str, str]:
    """Return a page for each example, with what it says of itself, its picture and its source."""
    pages = {}
    for path in sorted((ROOT / "examples").glob("*.py")):
        source = path.read_text()
        doc = ast.get_docstring(ast.parse(source)) or ""
        lines = [line for line in doc.split("\n") if not line.startswith("python -m ")]
        runs = [line for line in doc.split("\n") if line.startswith("python -m ")]
        title, *rest = "\n".join(lines).strip().replace("``", "`").split("\n")
        picture = Path("images") / f"{path.stem}.svg"
        shown = f"![the metrics that {path.stem} recorded](../{picture})\n\n"
        pages[f"examples/{path.stem}.md"] = (
            f"# {path.stem}\n\n{title}\n"
            + "\n".join(rest)
            + "\n\n```console\n"
            + "".join(f"$ .venv/bin/{run}\n" for run in runs)
            + f"```\n\n{shown if (ROOT / 'docs' / picture).exists() else ''}"
            + f"The whole of `examples/{path.name}`:\n\n```python\n{source}```\n"
        )
    for readme in sorted((ROOT / "examples").glob("*/README.md")):
        text = readme.read_text().replace("](../../docs/", "](../")
        pages[f"examples/{readme.parent.name}.md"] = text
    return pages


def root_pages() -> dict[str, str]:
    """Return the pages that lie in the repository's root, by their path in the site."""
    return {
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(),
        "architecture.md": (ROOT / "ARCHITECTURE.md").read_text(),
        "benchmarks.md": (ROOT / "BENCHMARKS.md").read_text(),
    }


def all_pages() -> dict[str, str]:
    """Return every page that is not a file in ``docs``, by its path in the site."""
    return {
        **api_pages(),
        "event-types.md": event_page(),
        "verbs.md": verb_page(),
        **example_pages(),
        **root_pages(),
    }
