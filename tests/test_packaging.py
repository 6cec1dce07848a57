"""What users install: built from what a clean checkout would hold, then used from elsewhere."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path, PurePosixPath

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
FOLDERS = ("bus", "actors", "cli", "compat", "loggers", "loops", "sinks", "trainer")
NOT_SHIPPED = ("tests", "examples", "docs")
PAGE = ("index.html", "page.js", "page.css", "licenses.txt")


@dataclass(frozen=True)
class Built:
    """The distributions of one source tree."""

    wheel: Path
    wheel_from_sdist: Path
    sdist: Path


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def checkout_files() -> list[str]:
    """The files that a clean checkout holds, once what is here has been committed."""
    if not (ROOT / ".git").exists():
        pytest.skip("only a git checkout tells which files belong to the project")
    listed = run("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=ROOT).split("\0")
    return sorted(name for name in set(listed) if name and os.path.lexists(ROOT / name))


def modules_of_the_package() -> set[str]:
    """The Python files that belong into the wheel, by their path there."""
    return {
        f"nightbus/{name}"
        for name in checkout_files()
        if name.endswith(".py") and PurePosixPath(name).parts[0] not in NOT_SHIPPED
    }


def copy_checkout(to: Path) -> Path:
    for name in checkout_files():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name, follow_symlinks=False)
    return to


def with_page(source: Path) -> Path:
    """A checkout in which the page of the board was built."""
    for name in PAGE:
        (source / "sinks/board/built").mkdir(exist_ok=True)
        (source / "sinks/board/built" / name).write_text("built")
    return source


def files_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both ways to a wheel, each from its own copy: a build reads what an earlier one left.

    The page of the board is built by ``make build``, before the package.
    """
    out = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--no-isolation")
    source = with_page(copy_checkout(tmp_path_factory.mktemp("source")))
    run(*build, "--outdir", out / "by-sdist", cwd=source)
    source = with_page(copy_checkout(tmp_path_factory.mktemp("source")))
    run(*build, "--wheel", "--outdir", out / "direct", cwd=source)
    [wheel_from_sdist] = (out / "by-sdist").glob("*.whl")
    [sdist] = (out / "by-sdist").glob("*.tar.gz")
    [wheel] = (out / "direct").glob("*.whl")
    return Built(wheel=wheel, wheel_from_sdist=wheel_from_sdist, sdist=sdist)


@dataclass(frozen=True)
class Installed:
    """The wheel in a folder of its own, and a way to run Python with it from elsewhere."""

    target: Path
    elsewhere: Path

    def python(self, *arguments: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(self.target)}
        return run(sys.executable, *arguments, cwd=self.elsewhere, env=env)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    target = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", "--target", target, built.wheel, cwd=target)
    return Installed(target=target, elsewhere=tmp_path_factory.mktemp("elsewhere"))


def test_every_folder_that_is_a_package_is_listed_in_pyproject() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    inits = [init for folder in FOLDERS for init in (ROOT / folder).rglob("__init__.py")]
    found = {".".join(("nightbus", *init.parent.relative_to(ROOT).parts)) for init in inits}
    assert set(pyproject["tool"]["setuptools"]["packages"]) == {"nightbus"} | found


def test_every_folder_with_modules_is_a_package() -> None:
    modules = [module for folder in FOLDERS for module in (ROOT / folder).rglob("*.py")]
    assert [m for m in modules if not (m.parent / "__init__.py").exists()] == []


def test_the_wheel_holds_every_module_of_the_package_and_no_other(built: Built) -> None:
    in_wheel = {name for name in files_in(built.wheel) if name.endswith(".py")}
    assert in_wheel == modules_of_the_package()


def test_the_wheel_puts_nothing_beside_nightbus(built: Built) -> None:
    top_level = {PurePosixPath(name).parts[0] for name in files_in(built.wheel)}
    [dist_info] = [name for name in top_level if name.endswith(".dist-info")]
    assert top_level == {"nightbus", dist_info}


def test_the_wheel_holds_the_page_of_the_board_as_it_was_built(built: Built) -> None:
    there = {name for name in files_in(built.wheel) if "/sinks/board/" in name}
    assert {f"nightbus/sinks/board/built/{name}" for name in PAGE} <= there
    assert not [name for name in there if "/page/" in name or "node_modules" in name]


def test_the_wheel_says_that_it_is_typed(built: Built) -> None:
    assert "nightbus/py.typed" in files_in(built.wheel)


def test_the_wheel_holds_neither_tests_nor_examples(built: Built) -> None:
    second_level = {PurePosixPath(name).parts[1] for name in files_in(built.wheel)}
    assert second_level.isdisjoint(NOT_SHIPPED)


def test_the_wheel_carries_the_licence(built: Built) -> None:
    [licence] = [name for name in files_in(built.wheel) if name.endswith("/licenses/LICENSE")]
    with zipfile.ZipFile(built.wheel) as archive:
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_the_sdist_builds_the_same_wheel(built: Built) -> None:
    assert files_in(built.wheel_from_sdist) == files_in(built.wheel)


def test_the_sdist_holds_neither_tests_nor_examples(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        paths = [PurePosixPath(name).parts for name in archive.getnames()]
    assert {parts[1] for parts in paths if len(parts) > 1}.isdisjoint(NOT_SHIPPED)


def test_the_installed_wheel_is_imported_without_the_source_and_has_every_name_it_promises(
    installed: Installed,
) -> None:
    modules = ["nightbus", *(f"nightbus.{folder}" for folder in FOLDERS)]
    code = (
        "import importlib, nightbus\n"
        f"for module in {modules}:\n"
        "    print(importlib.import_module(module).__file__)\n"
        "for name in nightbus.__all__:\n"
        "    getattr(nightbus, name)\n"
    )
    paths = [installed.target.joinpath(*module.split("."), "__init__.py") for module in modules]
    assert installed.python("-c", code).splitlines() == [str(path) for path in paths]


def test_the_command_line_starts_from_elsewhere(installed: Installed) -> None:
    assert "nightbus" in installed.python("-m", "nightbus", "--help")


def test_the_package_and_its_metadata_agree_on_the_version(installed: Installed) -> None:
    [metadata] = installed.target.glob("nightbus-*.dist-info/METADATA")
    promised = message_from_string(metadata.read_text(encoding="utf-8"))["Version"]
    told = installed.python("-c", "import nightbus; print(nightbus.__version__)").strip()
    assert told == promised
