"""What the sources may not contain, read from their syntax."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("bus", "actors", "loops", "sinks", "cli")

UNSAFE_MODULES = frozenset(
    ["pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"]
)
UNSAFE_CALLS = frozenset(["eval", "exec", "compile", "__import__"])
# Method or function of a library, by its last two names.
UNSAFE_METHODS = frozenset(
    [
        "torch.save",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "numpy.load",
        "np.load",
        "os.system",
        "os.popen",
        "pandas.read_pickle",
        "sqlite3.enable_load_extension",
    ]
)


def findings(path: str, source: str) -> Iterator[str]:
    """What is unsafe in a file, as ``file: what``."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                names = [alias.name.split(".")[0] for alias in node.names]
                yield from (f"{path}: import {name}" for name in names if name in UNSAFE_MODULES)
            case ast.ImportFrom(module=str(module), level=0):
                if module.split(".")[0] in UNSAFE_MODULES:
                    yield f"{path}: import {module}"
                full = [f"{module.split('.')[-1]}.{alias.name}" for alias in node.names]
                yield from (f"{path}: {name}" for name in full if name in UNSAFE_METHODS)
            case ast.Call(func=ast.Name(name)) if name in UNSAFE_CALLS:
                yield f"{path}: {name}"
            case ast.Call(func=ast.Attribute(value=ast.Name(owner), attr=name)):
                if f"{owner}.{name}" in UNSAFE_METHODS:
                    yield f"{path}: {owner}.{name}"
                if f"{owner}.{name}" == "torch.load" and not _loads_weights_only(node):
                    yield f"{path}: torch.load"
            case ast.keyword(arg="shell", value=ast.Constant(True)):
                yield f"{path}: shell=True"
            case ast.keyword(arg="allow_pickle", value=ast.Constant(True)):
                yield f"{path}: allow_pickle=True"


def _loads_weights_only(call: ast.Call) -> bool:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    value = given.get("weights_only")
    return isinstance(value, ast.Constant) and value.value is True


# Each in a process of its own: one writes for Lightning, the other runs code, if told --run-code.
ALLOWED = [
    "actors/checkpoints/export_checkpoint.py: torch.save",
    "actors/checkpoints/import_checkpoint.py: torch.load",
]


def test_no_source_reads_pickles_or_runs_text() -> None:
    paths = [*ROOT.glob("*.py"), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))]
    found = sorted(
        finding
        for path in paths
        for finding in findings(path.relative_to(ROOT).as_posix(), path.read_text())
    )

    assert len(paths) > 80
    assert found == ALLOWED


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "import pickle"),
        ("from marshal import loads", "import marshal"),
        ("def f():\n    import dill.source", "import dill"),
        ("eval('1')", "eval"),
        ("__import__('x')", "__import__"),
        ("torch.load(path)", "torch.load"),
        ("torch.load(path, weights_only=False)", "torch.load"),
        ("yaml.load(text)", "yaml.load"),
        ("from yaml import load", "yaml.load"),
        ("np.load(path)", "np.load"),
        ("os.system('true')", "os.system"),
        ("run('true', shell=True)", "shell=True"),
    ],
)
def test_what_is_unsafe_is_found(source: str, what: str) -> None:
    assert list(findings("x.py", source)) == [f"x.py: {what}"]


@pytest.mark.parametrize(
    "source", ["torch.load(path, weights_only=True)", "re.compile('x')", "module.eval()"]
)
def test_what_only_looks_like_it_is_not(source: str) -> None:
    assert list(findings("x.py", source)) == []
