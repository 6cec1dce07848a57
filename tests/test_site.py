"""The site: it is built without a warning, every public name has its place, nothing is requested
from elsewhere.
"""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import site_checks
import site_reference
import site_texts

import nightbus as nb
from nightbus.bus.events import EVENT_TYPES

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: warnings, broken links and anchors are errors."""
    folder = tmp_path_factory.mktemp("site") / "site"
    program = [sys.executable, str(ROOT / "docs/site/site_build.py"), str(folder)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(program, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def anchors(site: Path) -> set[str]:
    return {
        anchor
        for page in (site / "api").glob("*.html")
        for anchor in site_checks.read_page(page).anchors
    }


def test_every_public_name_has_an_entry_in_the_api_reference(site: Path) -> None:
    assert {f"nightbus.{name}" for name in (*nb.__all__, *nb._OF_EXTRAS)} - anchors(site) == set()


def test_every_argument_of_the_trainer_is_on_its_page(site: Path) -> None:
    arguments = list(inspect.signature(nb.Trainer).parameters)
    listed = anchors(site)

    assert [name for name in arguments if f"nightbus.Trainer({name})" not in listed] == []


def test_what_only_other_parts_of_nightbus_call_is_not_in_the_reference() -> None:
    inner = set(site_reference.inner_members(nb.Trainer))
    pages = site_reference.api_pages(), site_texts.api_texts()

    assert {"enrol", "enter_run", "count_point", "safe_point"} <= inner
    assert not {"fit", "tell", "current_epoch", "should_stop", "sanity_checking"} & inner
    assert "|enter_run|" in pages[0]["api/trainer.md"]
    assert "Trainer.fit\n" in pages[1]["api/trainer.md"]
    assert "Trainer.enter_run" not in pages[1]["api/trainer.md"]


def test_every_event_and_field_has_a_type_and_a_meaning() -> None:
    page = site_reference.event_page()
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    common = sections["Fields of every event"]

    for kind in EVENT_TYPES.values():
        for name in kind.__struct_fields__:
            rows = f"{common}\n{sections[kind.__name__]}".split("\n")
            (row,) = (row for row in rows if row.startswith(f"| `{name}` |"))
            _, _, type_, _, meaning, _ = row.replace("\\|", "").split("|")
            assert type_.strip(), row
            assert meaning.strip(), row


def test_every_verb_has_its_section_and_its_options() -> None:
    page = site_reference.verb_page()

    for verb in ("ls", "show", "send", "replay", "import-ckpt"):
        assert f"\n## {verb}\n" in page
    assert "`--rate R`" in page


def test_no_page_requests_anything_from_elsewhere(site: Path) -> None:
    assert site_checks.requests_elsewhere(site) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<script src="https://example.org/a.js"></script>'),
        ("b.html", '<link rel="stylesheet" href="//example.org/b.css">'),
        ("c.html", '<p style="background: url(https://example.org/c.png)">'),
        ("d.css", '@import "https://example.org/d.css";'),
        ("e.css", "p { background: url( 'http://example.org/e.png') }"),
        ("f.js", 'fetch("https://example.org/f.json")'),
        ("g.html", '<pre class="mermaid">graph</pre>'),
    ],
)
def test_a_page_that_would_request_something_is_found(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)

    assert len(site_checks.requests_elsewhere(tmp_path)) == 1


def test_a_link_that_a_reader_clicks_may_lead_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="https://example.org/">there</a>')

    assert site_checks.requests_elsewhere(tmp_path) == []


def test_a_link_to_a_missing_page_or_anchor_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="#top">1</a><a href="b.html">2</a><a href="#end">3</a>'
    )

    assert site_checks.broken_links(tmp_path) == [
        "a.html: b.html: there is no such file",
        "a.html: #end: there is no such anchor",
    ]


def test_the_text_for_language_models_has_every_page(site: Path) -> None:
    pages = [path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")]
    named = (site / "llms.txt").read_text()
    full = (site / "llms-full.txt").read_text()

    for page in pages:
        if page.name != "404.md":
            assert (site / page).is_file()
            assert f"({page})" in named
            assert f"<!-- {page} -->" in full
    assert "max_epochs" in (site / "api/trainer.md").read_text()
