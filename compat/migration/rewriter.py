"""Rewrites one Python source: its imports, uses of imported modules, arguments and texts."""

import ast
import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import libcst as cst
from libcst.helpers import get_full_name_for_node
from libcst.metadata import (
    MetadataWrapper,
    PositionProvider,
    QualifiedNameProvider,
    QualifiedNameSource,
)

from ..paths import NAMES_AT, ROOTS
from .arguments import migrated_arguments
from .lightning_names import COMPAT, DOTTED, LightningName, lightning_name

_LOAD = "load_checkpoint_or_file"  # in place of torch.load: a checkpoint of nightbus is a folder

_EVALUATION_LOADERS = {"val_dataloaders", "test_dataloaders", "predict_dataloaders"}
AS_GIVEN = (
    "loaders of a Trainer are what was given, as in Lightning 2: one loader, or the collection of "
    "loaders; in 1.x they were a list, and those of training in train_dataloader.loaders"
)
ENDING = ".ckpt"
_JOINING = {"join", "joinpath", "Path", "str", "fspath"}  # whose last argument ends the path
NO_ENDING = (
    "names of checkpoints have no ending, and they are folders: set "
    "nightbus.ModelCheckpoint.FILE_EXTENSION = '.ckpt', or look for folders"
)
SAVED_FILE = (
    "torch.save writes a file, which load_from_checkpoint and ckpt_path do not read: call "
    "nightbus.compat.install() before, or change what is saved in on_save_checkpoint"
)


class Note(NamedTuple):
    """Something that has no counterpart, and what to do.

    Attributes:
        line: where it is, from 1.
        text: what it is and what to do.
    """

    line: int
    text: str


class Rewritten(NamedTuple):
    """A source that has been rewritten.

    Attributes:
        text: the new source.
        notes: what is left to do, by line.
    """

    text: str
    notes: list[Note]


def rewrite(source: str) -> Rewritten:
    """Return a Python source with nightbus in place of Lightning.

    Args:
        source: the source.

    Raises:
        libcst.ParserSyntaxError: it is not Python of this version.
    """
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    rewriter = _Rewriter(source)
    module = wrapper.visit(rewriter)
    return Rewritten(module.code, sorted(set(rewriter.notes)))


class _Rewriter(cst.CSTTransformer):
    METADATA_DEPENDENCIES = (PositionProvider, QualifiedNameProvider)

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = source
        self._imports: dict[str, str] = {}  # name -> the module that it is to be imported from
        self._has_import = False  # at the top of the module
        self._docstring: cst.SimpleString | None = None  # the last one
        self.notes: list[Note] = []

    # Imports.

    def visit_Module(self, node: cst.Module) -> None:
        self._has_import = any(_imports_of(each, {*ROOTS, "torch"}) for each in node.body)

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:
        """Import the names that were attributes of modules, behind the first import of nightbus."""
        if not self._imports:
            return updated_node
        body = [*updated_node.body]
        found = (
            place
            for packages in ({"nightbus", *ROOTS}, {"torch"})
            for place, each in enumerate(body)
            if _imports_of(each, packages)
        )
        first = next(found)
        added = [_from_import(module, name) for name, module in sorted(self._imports.items())]
        return updated_node.with_changes(body=[*body[: first + 1], *added, *body[first + 1 :]])

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> Any:
        pairs = zip(original_node.body, updated_node.body, strict=True)
        statements = [each for old, new in pairs for each in self._statements(old, new)]
        if statements == list(updated_node.body):
            return updated_node
        if len(updated_node.body) > 1:  # they stand in one line, and go on to
            return updated_node.with_changes(body=statements)
        first, *others = [cst.SimpleStatementLine([each]) for each in statements]
        first = first.with_changes(leading_lines=updated_node.leading_lines)
        lines = [first, *others]
        lines[-1] = lines[-1].with_changes(trailing_whitespace=updated_node.trailing_whitespace)
        return cst.FlattenSentinel(lines)

    def _statements(
        self, original: cst.BaseSmallStatement, updated: cst.BaseSmallStatement
    ) -> list[cst.BaseSmallStatement]:
        if isinstance(original, cst.ImportFrom):
            return self._from_imports(original)
        if isinstance(original, cst.Import):
            names = [*map(self._import, original.names)]
            return [original.with_changes(names=names) if names != [*original.names] else updated]
        return [updated]

    def _import(self, alias: cst.ImportAlias) -> cst.ImportAlias:
        name = lightning_name(alias.evaluated_name)
        if name is None:
            return alias
        if name.name:  # a module that is not here
            self._note(alias, name.advice)
            return alias
        return alias.with_changes(name=cst.Name("nightbus"))

    def _from_imports(self, statement: cst.ImportFrom) -> list[cst.BaseSmallStatement]:
        module = get_full_name_for_node(statement.module) if statement.module else None
        if statement.relative or not module or module.partition(".")[0] not in ROOTS:
            return [statement]
        if isinstance(statement.names, cst.ImportStar):
            if module in NAMES_AT:
                return [statement.with_changes(module=_dotted(f"{COMPAT}.{module}"))]
            self._note(statement, f"import *: nightbus has no module {module}")
            return [statement]
        facade: list[cst.ImportAlias] = []
        others: list[cst.ImportAlias] = []
        left: list[cst.ImportAlias] = []
        modules: list[cst.BaseSmallStatement] = []
        for alias in statement.names:
            name = _imported(module, alias.evaluated_name)
            if name.is_in_facade:
                facade.append(_called(alias, name))
            elif name.can_be_imported:
                others.append(alias)
                if name.advice:
                    self._note(alias, name.advice)
            elif not name.name:
                modules.append(_module_import(alias))
            else:
                left.append(alias)
                self._note(alias, name.advice)
        if len(left) == len(statement.names):
            return [statement]
        return [
            *_of_names(statement, cst.Name("nightbus"), facade),
            *_of_names(statement, _dotted(f"{COMPAT}.{module}"), others),
            *modules,
            *_of_names(statement, statement.module, left),
        ]

    # Uses of imported modules.

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        name = self._meant(original_node)
        dotted = get_full_name_for_node(original_node)
        if name is None or name.rest or not name.name or dotted is None:
            return updated_node
        first = dotted.partition(".")[0]
        if self._meant_is_imported_by_name(original_node, name):
            return updated_node
        if name.advice:
            self._note(original_node, name.advice)
        base = "nightbus" if first in ROOTS else first
        if name.is_in_facade or name.name == "__version__":
            return cst.Attribute(cst.Name(base), cst.Name(name.own_name))
        if name.is_here and self._may_import(name.name):
            self._imports[name.name] = f"{COMPAT}.{name.path}"
            return cst.Name(name.name)
        if name.is_here:
            self._note(original_node, f"{name.name} is in {COMPAT}.{name.path}; import it there")
        return updated_node

    def _may_import(self, name: str) -> bool:
        """Whether the source has an import beside which one of this name is free."""
        return self._has_import and not re.search(rf"(?<![\w.]){name}\b", self._source)

    def _meant_is_imported_by_name(self, node: cst.Attribute, name: LightningName) -> bool:
        """Whether the attribute is one of a class or function that was imported by its name."""
        value = self._meant(node.value)
        return value is not None and bool(value.name)

    def _meant(self, node: cst.CSTNode) -> LightningName | None:
        dotted = self._imported_name(node)
        return None if dotted is None else lightning_name(dotted)

    def _imported_name(self, node: cst.CSTNode) -> str | None:
        """Return the dotted name of what was imported; None of anything else."""
        found = self.get_metadata(QualifiedNameProvider, node, frozenset())
        names = found() if callable(found) else found
        imported = (each.name for each in names if each.source is QualifiedNameSource.IMPORT)
        return next(imported, None)

    # Loaders of a Trainer.

    def visit_Subscript(self, node: cst.Subscript) -> None:
        if _is_of_trainer(node.value, _EVALUATION_LOADERS):
            self._note(node, AS_GIVEN)

    def visit_Attribute(self, node: cst.Attribute) -> None:
        if node.attr.value == "loaders" and _is_of_trainer(node.value, {"train_dataloader"}):
            self._note(node, AS_GIVEN)

    # Arguments.

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        name, imported = self._meant(original_node.func), self._imported_name(original_node.func)
        if imported == "torch.load" and self._may_import(_LOAD):
            self._imports[_LOAD] = f"{COMPAT}.torch_load"
            return updated_node.with_changes(func=cst.Name(_LOAD))
        method = (
            original_node.func.attr.value if isinstance(original_node.func, cst.Attribute) else ""
        )
        if method == "endswith" and any(_ends(arg.value) for arg in original_node.args):
            self._note(original_node, NO_ENDING)
        if imported == "torch.save" and any(_ends(arg.value) for arg in original_node.args[1:]):
            self._note(original_node, SAVED_FILE)
        if name is None or name.rest or not name.is_here:
            return updated_node
        given = [(each.keyword.value, each) for each in updated_node.args if each.keyword]
        values = {key: _literal(arg.value) for key, arg in given}
        migrated = migrated_arguments(name.own_name, values)
        for text in migrated.notes:
            self._note(original_node, text)
        if not migrated.changes:
            return updated_node
        arguments: list[cst.Arg] = []
        for each in updated_node.args:
            key = each.keyword.value if each.keyword else ""
            if key not in migrated.changes:
                arguments.append(each)
                continue
            for new, value in migrated.changes[key].items():
                shown = each.value if value is None else cst.parse_expression(value)
                arguments.append(each.with_changes(keyword=cst.Name(new), value=shown))
        return updated_node.with_changes(args=_without_last_comma(arguments, updated_node.args))

    # Paths in texts.

    def visit_Expr(self, node: cst.Expr) -> None:
        if isinstance(node.value, cst.SimpleString):
            self._docstring = node.value

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        value = node.evaluated_value
        if isinstance(value, str) and node is not self._docstring:
            self._note_pattern(node, value)

    def visit_FormattedStringText(self, node: cst.FormattedStringText) -> None:
        self._note_pattern(node, node.value)

    def _note_pattern(self, node: cst.CSTNode, text: str) -> None:
        """Note a text that finds files by their ending."""
        if text.endswith(ENDING) and "*" in text:
            self._note(node, NO_ENDING)

    def visit_ComparisonTarget(self, node: cst.ComparisonTarget) -> None:
        for compared in _literal(node.comparator):
            if compared == ENDING or (
                isinstance(compared, tuple | list | set) and ENDING in compared
            ):
                self._note(node, NO_ENDING)

    def leave_SimpleString(
        self, original_node: cst.SimpleString, updated_node: cst.SimpleString
    ) -> Any:
        value = original_node.evaluated_value
        if not isinstance(value, str) or not DOTTED.fullmatch(value):
            return updated_node
        name = lightning_name(value)
        if name is None or not name.name:
            return updated_node
        if name.advice:
            self._note(original_node, name.advice)
            return updated_node
        quote = original_node.quote
        rest = f".{name.rest}" if name.rest else ""
        return updated_node.with_changes(
            value=f"{original_node.prefix}{quote}{name.own_path}{rest}{quote}"
        )

    def _note(self, node: cst.CSTNode, text: str) -> None:
        position = self.get_metadata(PositionProvider, node)
        self.notes.append(Note(position.start.line, text))


def _ends(path: cst.BaseExpression) -> bool:
    """Return whether a path that is written out is that of a checkpoint of Lightning."""
    if isinstance(path, cst.BinaryOperation):  # folder + "/last.ckpt", folder / "last.ckpt"
        return _ends(path.right)
    if isinstance(path, cst.Tuple):  # of endings
        return any(_ends(each.value) for each in path.elements)
    if isinstance(path, cst.Call) and path.args:
        name = (get_full_name_for_node(path.func) or "").rpartition(".")[2]
        return name in _JOINING and _ends(path.args[-1].value)
    if isinstance(path, cst.FormattedString) and path.parts:
        last = path.parts[-1]
        return isinstance(last, cst.FormattedStringText) and last.value.endswith(ENDING)
    value = path.evaluated_value if isinstance(path, cst.SimpleString) else None
    return isinstance(value, str) and value.endswith(ENDING)


def _imports_of(statement: cst.CSTNode, packages: Collection[str]) -> bool:
    """Return whether a line imports one of some packages, or something in it."""
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    for part in statement.body:
        modules: list[cst.CSTNode] = []
        if isinstance(part, cst.Import):
            modules = [each.name for each in part.names]
        elif isinstance(part, cst.ImportFrom) and part.module and not part.relative:
            modules = [part.module]
        names = [get_full_name_for_node(each) or "" for each in modules]
        if any(name.partition(".")[0] in packages for name in names):
            return True
    return False


def _from_import(module: str, name: str) -> cst.SimpleStatementLine:
    names = [cst.ImportAlias(cst.Name(name))]
    return cst.SimpleStatementLine([cst.ImportFrom(_dotted(module), names)])


def _imported(module: str, name: str) -> LightningName:
    """Return what ``from module import name`` imports."""
    if f"{module}.{name}" in NAMES_AT:
        return LightningName(f"{module}.{name}")
    return LightningName(module, name)


def _called(alias: cst.ImportAlias, name: LightningName) -> cst.ImportAlias:
    """Return the import of a name as the source calls it."""
    if name.own_name == name.name:
        return alias
    asname = alias.asname or cst.AsName(cst.Name(name.name))
    return alias.with_changes(name=cst.Name(name.own_name), asname=asname)


def _module_import(alias: cst.ImportAlias) -> cst.Import:
    """Return ``import nightbus as callbacks`` for ``from lightning.pytorch import callbacks``."""
    asname = alias.asname or cst.AsName(cst.Name(alias.evaluated_name))
    return cst.Import([cst.ImportAlias(cst.Name("nightbus"), asname)])


def _of_names(
    statement: cst.ImportFrom, module: Any, names: list[cst.ImportAlias]
) -> list[cst.BaseSmallStatement]:
    """Return the import of some of a statement's names from a module; none if there are none."""
    if not names or isinstance(statement.names, cst.ImportStar):
        return []
    last = names[-1].with_changes(comma=_last_comma(names[-1].comma, statement.names[-1].comma))
    return [statement.with_changes(module=module, names=[*names[:-1], last])]


def _last_comma(comma: Any, of_statement: Any) -> Any:
    """Return the comma behind a name that is the last one now, with the comment behind it."""
    if not isinstance(of_statement, cst.Comma):
        return of_statement
    old, new = comma.whitespace_after, of_statement.whitespace_after
    is_lines = isinstance(old, cst.ParenthesizedWhitespace)
    if not is_lines or not isinstance(new, cst.ParenthesizedWhitespace):
        return of_statement
    return of_statement.with_changes(whitespace_after=new.with_changes(first_line=old.first_line))


def _is_of_trainer(node: cst.CSTNode, names: Collection[str]) -> bool:
    """Whether this is ``trainer.<name>`` or ends so."""
    *owners, name = (get_full_name_for_node(node) or "").split(".")
    return name in names and owners[-1:] == ["trainer"]


def _dotted(path: str) -> Any:
    return cst.parse_expression(path)


def _literal(node: cst.BaseExpression) -> tuple[Any, ...]:
    """Return the value of a literal in a tuple; an empty one for anything else."""
    try:
        return (ast.literal_eval(cst.Module([]).code_for_node(node)),)
    except (ValueError, SyntaxError):
        return ()


def _without_last_comma(new: Sequence[cst.Arg], old: Sequence[cst.Arg]) -> list[cst.Arg]:
    """Return arguments whose last one ends as the last one did."""
    if not new:
        return []
    last = new[-1].with_changes(
        comma=old[-1].comma, whitespace_after_arg=old[-1].whitespace_after_arg
    )
    return [*new[:-1], last]
