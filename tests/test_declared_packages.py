"""What the code imports is what pyproject.toml requires, so that a fresh environment has it."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = ("*.py", "[abcltsed]*/**/*.py")
"""Of the root, and of the folders of the code, tests, examples and the documentation."""
WITHOUT_STUBS = "ignore_missing_imports"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pyproject() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return found


def named(requirement: str) -> str:
    """The distribution that a requirement is of."""
    return normal(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])


def required() -> set[str]:
    """The distributions that nightbus or one of its extras requires, and what these require."""
    project = pyproject()["project"]
    assert isinstance(project, dict)
    declared = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    found, following = set[str](), {named(line) for line in declared}
    while following:
        found |= following
        following = {name for each in following for name in requirements(each)} - found
    return found


def requirements(distribution: str) -> set[str]:
    """What an installed distribution requires, without its extras."""
    try:
        lines = requires(distribution) or []
    except PackageNotFoundError:
        return set()
    return {named(line) for line in lines if "extra ==" not in line}


def may_be_missing() -> set[str]:
    """The modules that the type checker passes where they are not installed."""
    tool = pyproject()["tool"]
    assert isinstance(tool, dict)
    overrides = tool["mypy"]["overrides"]
    return {
        name.split(".")[0] for each in overrides if WITHOUT_STUBS in each for name in each["module"]
    }


def imported(tree: ast.AST) -> Iterator[str]:
    """The top level names of modules that are imported absolutely."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]


def test_each_imported_package_is_required_or_may_be_missing() -> None:
    of_module = packages_distributions()
    known = required()
    files = sorted({path for pattern in SOURCES for path in ROOT.glob(pattern)})
    own = {path.stem for path in files} | {path.parent.name for path in files} | {"nightbus"}
    passed = own | set(sys.stdlib_module_names) | may_be_missing()
    undeclared = {
        f"{name} in {path.relative_to(ROOT)}"
        for path in files
        for name in imported(ast.parse(path.read_text()))
        if name not in passed
        and not any(normal(found) in known for found in of_module.get(name, []))
    }
    assert not undeclared
