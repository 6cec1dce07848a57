"""Docstrings of public functions have Args, Returns and Raises.

ruff checks their form (its rules D, in Google's convention), and these tests, which read the
sources, what ruff cannot check. A name is public if neither it nor the names around it begin with
an underscore. Types are in annotations only, never in a docstring.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parent.parent
NO_PRODUCT = frozenset({"tests", "examples", "build", "dist", "runs"})
NOTHING = frozenset({"None", "Never", "NoReturn"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Public:
    """A public function or method, or a class for its ``__init__``."""

    where: str
    function: Function
    owner: ast.ClassDef | None = None
    bases: list[ast.ClassDef] = field(default_factory=list)

    @property
    def is_init(self) -> bool:
        return self.function.name == "__init__"

    @property
    def doc(self) -> str:
        """Its docstring; that of the class for ``__init__``."""
        documented = self.owner if self.is_init and self.owner is not None else self.function
        return ast.get_docstring(documented) or ""

    @property
    def arguments(self) -> list[str]:
        args = self.function.args
        named = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        return [arg.arg for arg in named if arg is not None and arg.arg not in ("self", "cls")]

    @property
    def overrides(self) -> bool:
        """Whether a base class within the package has it too, with its documentation."""
        return not self.is_init and any(self.function.name in _methods(base) for base in self.bases)


def _sources() -> list[Path]:
    folders = [p for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".")]
    parts = [folder.rglob("*.py") for folder in folders if folder.name not in NO_PRODUCT]
    return sorted([*ROOT.glob("*.py"), *chain(*parts)])


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


@cache
def _methods(owner: ast.ClassDef) -> set[str]:
    return {member.name for member in owner.body if isinstance(member, Function)}


def _all_bases(
    owner: ast.ClassDef, classes: dict[str, list[ast.ClassDef]], protocols: list[ast.ClassDef]
) -> Iterator[ast.ClassDef]:
    """The base classes within the package, and the protocols that a class has all methods of."""
    for base in owner.bases:
        for known in classes.get(_name(base), []):
            if known is not owner:
                yield known
                yield from _all_bases(known, classes, protocols)
    for known in protocols:
        if known is not owner and _methods(known) and _methods(known) <= _methods(owner):
            yield known


@cache
def public_functions() -> list[Public]:
    trees = {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in _sources()}
    classes: dict[str, list[ast.ClassDef]] = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(node)
    known = (owner for owners in classes.values() for owner in owners)
    protocols = [owner for owner in known if "Protocol" in map(_name, owner.bases)]

    def found(path: str, body: list[ast.stmt], owner: ast.ClassDef | None) -> Iterator[Public]:
        bases = list(_all_bases(owner, classes, protocols)) if owner else []
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from found(path, node.body, node)
            elif isinstance(node, Function):
                if node.name.startswith(("_", "test_")) and node.name != "__init__":
                    continue
                if {"overload", "setter", "deleter"} & set(map(_name, node.decorator_list)):
                    continue
                name = f"{owner.name}.{node.name}" if owner else node.name
                yield Public(f"{path}:{node.lineno} {name}", node, owner, bases)

    return [each for path, tree in trees.items() for each in found(path, tree.body, None)]


def with_arguments() -> list[Public]:
    """Functions whose docstrings have sections: an override is documented where it is first
    defined, a single argument in the first line.
    """
    return [f for f in public_functions() if len(f.arguments) > 1 and not f.overrides]


def _section(doc: str, *names: str) -> str:
    """The text below a heading like ``Args:``, up to the next line that is not indented."""
    found = re.search(rf"^(?:{'|'.join(names)}):\n((?:[ ]+.*\n|\n)*)", f"{doc}\n", re.MULTILINE)
    return found[1] if found else ""


def _documented(each: Public) -> set[str]:
    """The arguments that a function's docstring explains, or its class for all of its hooks."""
    texts = [_section(each.doc, "Args")]
    if each.owner is not None and not each.is_init:
        texts.append(_section(ast.get_docstring(each.owner) or "", "Arguments of hooks"))
    names = [re.findall(r"^ {4}\*{0,2}(\w+(?:, \*{0,2}\w+)*):", text, re.M) for text in texts]
    listed = (name for found in names for each_line in found for name in each_line.split(", "))
    return {name.lstrip("*") for name in listed}


def test_every_public_function_has_a_docstring() -> None:
    missing = [
        each.where
        for each in public_functions()
        if not each.doc and not each.overrides and not each.is_init
    ]
    assert missing == []


def test_args_of_a_docstring_are_the_arguments() -> None:
    missing = {
        each.where: sorted(set(each.arguments) - _documented(each))
        for each in with_arguments()
        if not set(each.arguments) <= _documented(each)
    }
    assert missing == {}


def test_what_is_returned_is_said() -> None:
    def says(doc: str) -> bool:
        return doc.startswith(("Return ", "Yield ")) or bool(_section(doc, "Returns", "Yields"))

    missing = [
        each.where
        for each in with_arguments()
        if each.function.returns is not None and not each.is_init
        if ast.unparse(each.function.returns) not in NOTHING and not says(each.doc)
    ]
    assert missing == []


def test_errors_raised_are_said() -> None:
    ours = {
        node.name
        for node in ast.parse((ROOT / "bus/errors.py").read_text()).body
        if isinstance(node, ast.ClassDef)
    }

    def raised(each: Public) -> set[str]:
        calls = [
            node.exc.func
            for node in ast.walk(each.function)
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        ]
        return {_name(call) for call in calls} & ours

    missing = {
        each.where: sorted(unsaid)
        for each in with_arguments()
        if (unsaid := {n for n in raised(each) if f"{n}:" not in _section(each.doc, "Raises")})
    }
    assert missing == {}
