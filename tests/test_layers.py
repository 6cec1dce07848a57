"""The layers and the arrows between them, read from the imports.

An import under ``if TYPE_CHECKING:`` counts, too: who names another part's types knows it. Only
libraries that a layer has to do without may be named so, since nothing is loaded.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent

TORCH = frozenset({"torch", "torchmetrics", "safetensors", "lightning"})


@dataclass(frozen=True)
class Layer:
    """What the files of one layer may import, besides themselves."""

    parts: frozenset[str]  # parts of the package
    without: frozenset[str] = frozenset()  # libraries it has to do without


# _lazy is the small helper of every facade: it knows nothing, so everyone may know it.
LAYERS = {
    "_lazy": Layer(frozenset(), without=TORCH),
    "_began_in": Layer(frozenset(), without=TORCH),
    "bus": Layer(frozenset({"_lazy"}), without=TORCH),
    "sinks": Layer(frozenset({"_lazy", "bus"}), without=TORCH),
    "cli": Layer(frozenset({"_lazy", "bus", "compat", "sinks"}), without=TORCH),
    "actors": Layer(frozenset({"_lazy", "bus"})),
    "loops": Layer(frozenset({"_lazy", "bus", "actors"})),
    "compat": Layer(frozenset({"_lazy", "bus", "actors"})),
    "loggers": Layer(frozenset({"_lazy", "bus", "actors", "sinks"})),
    "trainer": Layer(
        frozenset({"_began_in", "_lazy", "bus", "actors", "loggers", "loops", "sinks"})
    ),
}
# Rooms of a layer: what the files of one may import of the others. What lies in the layer itself
# is its "ground", which every room may know, and the rest, its "hall".
GROUND = {
    "bus": frozenset(
        {
            "clock",
            "copies",
            "errors",
            "event_kinds",
            "events",
            "media",
            "named_types",
            "shown_text",
            "statistics",
            "threads",
            "turns",
        }
    ),
    "actors": frozenset(
        {
            "arguments",
            "barebones",
            "former_arguments",
            "hook_arguments",
            "hyperparameter_values",
            "logging_mixin",
            "trainer_type",
            "trees",
        }
    ),
}
ROOMS = {
    "bus/system": frozenset[str](),
    "bus/secrets": frozenset[str](),
    "bus/log": frozenset({"system"}),
    "bus/runs": frozenset({"log", "secrets", "system"}),
    "bus/mail": frozenset[str](),
    "bus/ranks": frozenset[str](),
    "bus/control": frozenset({"mail", "system"}),
    "bus/hall": frozenset({"control", "log", "mail", "runs", "secrets", "system"}),
    "bus/crash": frozenset({"hall", "log", "runs", "secrets", "system"}),
    "bus/inspection": frozenset({"control", "log", "runs", "system"}),
    "bus/library": frozenset({"inspection", "log", "runs", "system"}),
    "bus/replay": frozenset({"hall", "inspection", "log", "mail", "runs", "system"}),
    "actors/process": frozenset({"ranks"}),
    "actors/checkpoints": frozenset[str](),
    "actors/optimization": frozenset[str](),
    "actors/data": frozenset[str](),
    "actors/profilers": frozenset[str](),
    "actors/ranks": frozenset[str](),
    "actors/metrics": frozenset({"checkpoints", "data", "ranks"}),
    "actors/hall": frozenset(
        {"checkpoints", "data", "metrics", "optimization", "process", "profilers", "ranks"}
    ),
    "actors/callbacks": frozenset(
        {"checkpoints", "data", "hall", "metrics", "optimization", "ranks"}
    ),
    "actors/saving": frozenset({"checkpoints", "data", "hall", "metrics", "ranks"}),
}
# Users annotate the methods that they override, and those are handed a Trainer.
NAMES_THE_TRAINER = "actors/trainer_type.py"
# Loaded from a folder on PYTHONPATH, in place of a package of Lightning.
IN_PLACE = "compat/in_place/"
# The only places that know all.
ROOT_MODULES = frozenset({"__init__", "__main__"})
OUTSIDE = frozenset({"tests", "examples"})
PARTS = frozenset(LAYERS) | ROOT_MODULES


@dataclass(frozen=True)
class Import:
    """One imported module: ``level`` leading dots, then a dotted ``name``."""

    level: int
    name: str
    line: int
    is_for_types: bool = False


def imports(source: str) -> Iterator[Import]:
    """Every import in ``source``, those inside functions too."""
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(source), False)]
    while waiting:
        node, is_for_types = waiting.pop()
        match node:
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                waiting.extend((each, True) for each in node.body)
                waiting.extend((each, is_for_types) for each in node.orelse)
            case ast.Import():
                for alias in node.names:
                    yield Import(0, alias.name, node.lineno, is_for_types)
            case ast.ImportFrom(module=None):
                for alias in node.names:
                    yield Import(node.level, alias.name, node.lineno, is_for_types)
            case ast.ImportFrom(module=str(module)):
                yield Import(node.level, module, node.lineno, is_for_types)
            case ast.expr():
                pass  # has no statements within
            case _:
                waiting.extend((each, is_for_types) for each in ast.iter_child_nodes(node))


def violations(path: str, source: str) -> list[str]:
    """What is wrong with the imports of the file at ``path``, a sentence each.

    Args:
        path: the file, relative to the root of the repository, with forward slashes.
        source: its text.
    """
    file = PurePosixPath(path)
    here = file.parts[0] if len(file.parts) > 1 else file.stem
    found = sorted(imports(source), key=lambda each: each.line)
    complaints = (_complaint(file, here, each) for each in found)
    return [
        f"{complaint}: {path}:{each.line}"
        for complaint, each in zip(complaints, found, strict=True)
        if complaint
    ]


def _complaint(file: PurePosixPath, here: str, imported: Import) -> str | None:
    first, *rest = imported.name.split(".")
    if imported.level == 0:
        if first in PARTS:
            return f"{here} may not import {first} as if it were a library of its own"
        is_of_package = here not in OUTSIDE and not file.as_posix().startswith(IN_PLACE)
        if is_of_package and first == "nightbus":
            return f"{here} may not import nightbus by its name, only relatively"
        if here == "examples" and first == "nightbus" and rest:
            return f"examples may not import {imported.name}, only nightbus itself"
        is_loaded = not imported.is_for_types
        if here in LAYERS and first in LAYERS[here].without and is_loaded:
            return f"{here} may not import {first}"
        return None

    if here in OUTSIDE:
        return f"{here} may not import relatively"
    folder = file.parent.parts  # of the package: () is its root
    if imported.level - 1 > len(folder):
        return f"{here} may not import from outside the package"
    path = (*folder[: len(folder) - imported.level + 1], *imported.name.split("."))
    target = path[0]
    if target == here:
        return _room_complaint(file, path)
    if here not in LAYERS or target in LAYERS[here].parts:
        return None
    if file.as_posix() == NAMES_THE_TRAINER and target == "trainer":
        return None
    if target not in PARTS:  # `from .. import Trainer`
        return f"{here} may not import the facade"
    return f"{here} may not import {target}"


def _room_complaint(file: PurePosixPath, target: tuple[str, ...]) -> str | None:
    """What is wrong with an import within a layer that has rooms."""
    layer = file.parts[0]
    if layer not in GROUND or file.name == "__init__.py" or len(target) < 2:
        return None
    here = _room(layer, file.with_suffix("").parts)
    there = _room(layer, target)
    if there in (here, "ground") or there in ROOMS.get(f"{layer}/{here}", ()):
        return None
    return f"{layer}/{here} may not import {layer}/{there}"


def _room(layer: str, module: tuple[str, ...]) -> str:
    if f"{layer}/{module[1]}" in ROOMS:
        return module[1]
    return "ground" if module[1] in GROUND[layer] else "hall"


def python_files() -> list[str]:
    """Every file the rules are for, relative to the root."""
    folders = [ROOT / name for name in (*LAYERS, *OUTSIDE)]
    found = [*ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]
    return sorted(file.relative_to(ROOT).as_posix() for file in found)


def test_imports_follow_the_arrows() -> None:
    wrong = [
        complaint
        for path in python_files()
        for complaint in violations(path, (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


def names_of(path: str) -> set[str]:
    """The files of the package that one of them names, for types alone too."""
    folder = PurePosixPath(path).parent.parts
    found = set()
    for each in imports((ROOT / path).read_text(encoding="utf-8")):
        if each.level:
            base = PurePosixPath(*folder[: len(folder) - each.level + 1], *each.name.split("."))
            inits = (base.with_suffix(".py"), base / "__init__.py")
            found |= {name.as_posix() for name in inits if (ROOT / name).is_file()}
    return found - {path}


def test_no_files_name_each_other_in_a_circle() -> None:
    waiting = {
        path: names_of(path)
        for path in python_files()
        if PurePosixPath(path).parts[0] in LAYERS and path != NAMES_THE_TRAINER
    }
    while free := [path for path, named in waiting.items() if not named & waiting.keys()]:
        for path in free:
            del waiting[path]
    assert not waiting, "these name each other: " + ", ".join(sorted(waiting))


def test_built_in_loops_know_the_run_only_by_their_context() -> None:
    files = [ROOT / path for path in python_files() if path.startswith("loops/")]
    found = [
        f"{file.name}:{node.lineno}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "trainer"
    ]
    assert not found, "loops use what LoopContext declares, not trainer: " + ", ".join(found)


def test_every_folder_and_root_module_has_a_place_in_the_layers() -> None:
    parts = {PurePosixPath(path).parts[0].removesuffix(".py") for path in python_files()}
    packages = {init.parent.name for init in ROOT.glob("*/__init__.py")}
    assert parts | packages <= PARTS | OUTSIDE


@pytest.mark.parametrize("package", ["nightbus", "nightbus.bus", "nightbus.cli", "nightbus.sinks"])
def test_reading_a_log_does_not_load_torch(package: str) -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        f"package = importlib.import_module({package!r})\n"
        f"if {package!r} != 'nightbus':\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        f"print(*sorted(sys.modules.keys() & {set(TORCH)!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("sinks/x.py", "a = 1\n\nfrom ..loops import FitLoop", "sinks may not import loops"),
        ("sinks/x.py", "from ..loops.fit import FitLoop", "sinks may not import loops"),
        ("sinks/x.py", "from .. import loops", "sinks may not import loops"),
        (
            "actors/x.py",
            "if TYPE_CHECKING:\n    from ..trainer import Trainer",
            "actors may not import trainer",
        ),
        ("sinks/x.py", "from ..actors import Callback", "sinks may not import actors"),
        ("sinks/x.py", "import torch.utils.tensorboard", "sinks may not import torch"),
        ("bus/x.py", "from ..trainer import Trainer", "bus may not import trainer"),
        ("trainer/x.py", "from ..cli.show import show", "trainer may not import cli"),
        ("bus/x.py", "from ..sinks import CSV", "bus may not import sinks"),
        ("bus/x.py", "from .. import Trainer", "bus may not import the facade"),
        ("bus/x.py", "from safetensors.torch import save", "bus may not import safetensors"),
        ("bus/log/x.py", "from ...actors import Callback", "bus may not import actors"),
        ("bus/log/x.py", "from ..runs.cursor import Cursor", "bus/log may not import bus/runs"),
        ("bus/log/x.py", "from ..bus import Bus", "bus/log may not import bus/hall"),
        ("bus/mail/x.py", "from ..log import codec", "bus/mail may not import bus/log"),
        ("bus/ranks/x.py", "from ..bus import Bus", "bus/ranks may not import bus/hall"),
        ("bus/errors.py", "from .actor import Actor", "bus/ground may not import bus/hall"),
        ("bus/x.py", "from .replay.pace import Pace", "bus/hall may not import bus/replay"),
        ("bus/runs/x.py", "from .. import actor", "bus/runs may not import bus/hall"),
        ("actors/x.py", "from ..loops import Loop", "actors may not import loops"),
        ("actors/callbacks/x.py", "from ...sinks import CSV", "actors may not import sinks"),
        ("loops/x.py", "from ..sinks.csv import CSV", "loops may not import sinks"),
        (
            "loops/x.py",
            "def f():\n    from ..trainer import Trainer",
            "loops may not import trainer",
        ),
        ("_lazy.py", "from .bus import Bus", "_lazy may not import bus"),
        ("loops/x.py", "from ...bus import Bus", "loops may not import from outside the package"),
        (
            "trainer/x.py",
            "from nightbus.bus import Bus",
            "trainer may not import nightbus by its name, only relatively",
        ),
        (
            "tests/test_x.py",
            "from bus.events import Put",
            "tests may not import bus as if it were a library of its own",
        ),
        ("tests/test_x.py", "from . import helpers", "tests may not import relatively"),
        (
            "examples/x.py",
            "from nightbus.bus import Bus",
            "examples may not import nightbus.bus, only nightbus itself",
        ),
    ],
)
def test_an_import_against_the_arrows_is_noticed(path: str, source: str, complaint: str) -> None:
    line = len(source.splitlines())
    assert violations(path, source) == [f"{complaint}: {path}:{line}"]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("bus/x.py", "import trio\nfrom .._lazy import lazy_names\nfrom .events import Put"),
        ("bus/runs/x.py", "from ..errors import UsageError\nfrom ..log.reader import LogReader"),
        ("bus/replay/x.py", "from ..inspection.report import summarise\nfrom ..bus import Bus"),
        ("sinks/x.py", "from ..bus.events import Put\nfrom .sink import Sink"),
        ("sinks/x.py", "if TYPE_CHECKING:\n    import torch"),
        (NAMES_THE_TRAINER, "if TYPE_CHECKING:\n    from ..trainer import Trainer as Trainer"),
        ("actors/x.py", "import torch\nfrom ..bus import Actor"),
        ("actors/callbacks/x.py", "from ...bus import Actor\nfrom ..callback import Callback"),
        ("loops/x.py", "import torch\nfrom ..actors import Callback\nfrom ..bus import Actor"),
        ("trainer/x.py", "from ..loops import FitLoop\nfrom ..sinks import CSV"),
        ("__main__.py", "def main():\n    from .trainer import Trainer"),
        ("tests/test_x.py", "import nightbus as nb\nfrom nightbus.bus.events import Put"),
        ("examples/x.py", "import torch\nimport nightbus as nb\nfrom nightbus import Trainer"),
    ],
)
def test_an_import_along_the_arrows_passes(path: str, source: str) -> None:
    assert violations(path, source) == []


def test_what_runs_when_types_are_not_checked_counts() -> None:
    source = "if typing.TYPE_CHECKING:\n    import torch\nelse:\n    import torchmetrics"
    assert violations("bus/x.py", source) == ["bus may not import torchmetrics: bus/x.py:4"]
