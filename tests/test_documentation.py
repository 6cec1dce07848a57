"""Every code block of the documentation runs, and every link leads somewhere."""

import re
from pathlib import Path

import pytest
import site_reference

ROOT = Path(__file__).parent.parent
MADE = {"llms.txt", "llms-full.txt", *site_reference.all_pages()}  # with the site, from the code
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def code_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.long
@pytest.mark.parametrize("page", [p for p in PAGES if code_blocks(p)], ids=lambda p: p.name)
def test_the_code_blocks_of_a_page_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["page.py"])
    names: dict[str, object] = {"__name__": "documentation"}

    for block in code_blocks(page):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    local = [link for link in links if "://" not in link and link not in MADE]

    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_architecture_page_names_only_files_that_exist() -> None:
    table = (ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`((?:bus|actors|loops|sinks|docs|tests)/[\w./-]*)`", table)

    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_architecture_page_names_every_file_in_its_room() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = dict(re.findall(r"^\*\*`([\w/]+)/`\*\*: (.+?)\n\n", page, re.MULTILINE | re.DOTALL))
    folders = {init.parent for init in ROOT.glob("[a-z]*/**/__init__.py")}
    there = {
        folder.relative_to(ROOT).as_posix(): {
            file.name for file in folder.glob("*.py") if file.name != "__init__.py"
        }
        for folder in folders
        if folder.relative_to(ROOT).parts[0] not in ("examples", "tests", "build")
    }

    assert {room: set(re.findall(r"`([\w]+\.py)`", text)) for room, text in rooms.items()} == there
