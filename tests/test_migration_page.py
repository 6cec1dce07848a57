"""The examples of docs/migrate.md do the same in nightbus and in the library that they are from."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from nightbus.compat.migration.rewriter import rewrite

pytestmark = pytest.mark.long

PAGE = (Path(__file__).parent.parent / "docs/migrate.md").read_text()
BLOCKS = re.findall(r"^```(python|py)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
DATA = BLOCKS[0][1]  # `python` marks code of nightbus, and `py` that of another library


def block(language: str, containing: str) -> str:
    [found] = [code for kind, code in BLOCKS if kind == language and containing in code]
    return str(found)


def weights_after(*blocks: str) -> list[torch.Tensor]:
    names: dict[str, Any] = {"__name__": "documentation"}
    for code in (DATA, *blocks):
        exec(compile(code, "docs/migrate.md", "exec"), names)
    return [*names["module"].state_dict().values()]


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert len(ours) == len(theirs)
    assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_example_of_lightning_runs_when_it_is_migrated() -> None:
    migrated = rewrite(block("py", "import lightning"))

    assert migrated.notes == []
    assert len(weights_after(migrated.text)) == 2


@pytest.mark.filterwarnings("ignore")
def test_it_trains_the_weights_that_lightning_trains() -> None:
    pytest.importorskip("lightning")
    theirs = block("py", "import lightning")

    assert_same(weights_after(rewrite(theirs).text), weights_after(theirs))


@pytest.mark.filterwarnings("ignore")
def test_the_example_of_ignite_trains_the_same_weights_in_nightbus() -> None:
    pytest.importorskip("ignite")

    ours = weights_after("import nightbus as nb", block("python", "class Noted"))

    assert_same(ours, weights_after(block("py", "from ignite")))
