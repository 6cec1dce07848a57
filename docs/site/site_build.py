"""Builds the site: writes its sources, renders them, adds the text form, and checks it all.

python docs/site/site_build.py [SITE]       build it into the folder SITE, by default build/site
python docs/site/site_build.py --serve      build its sources and serve the site on this machine

Its sources are written beside it, into SITE-work.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import site_checks
import site_reference
import site_texts

ROOT = site_reference.ROOT
HERE = Path(__file__).resolve().parent
NO_REFERENCE = {"cli", "compat", "tests", "examples"}  # folders without names of the reference

# How links read in the repository, and in the site.
_LINKS = (
    (r"\]\((?:\.\./)?README\.md", "](index.md"),
    (r"\]\((?:\.\./)?ARCHITECTURE\.md", "](architecture.md"),
    (r"\]\((?:\.\./)?BENCHMARKS\.md", "](benchmarks.md"),
    (r"\]\((?:\.\./)?CHANGELOG\.md", "](changelog.md"),
    (r"\]\(\.\./examples/(\w+)(?:\.py|/README\.md)", r"](examples/\1.md"),
    (r"\]\(docs/", "]("),
)


def site_links(markdown: str, titles: dict[str, str]) -> str:
    """Return a page's text with its links as they are in the site.

    Args:
        markdown: the text as it is in the repository.
        titles: the title of each page by its path; it takes the place of the name of a file.
    """
    for pattern, put in _LINKS:
        markdown = re.sub(pattern, put, markdown)
    return re.sub(
        r"\[(?:docs/)?[\w-]+\.md\]\(([\w-]+\.md)",
        lambda link: f"[{titles.get(link[1], link[1])}]({link[1]}",
        markdown,
    )


def lay_out_package(work: Path) -> None:
    """Lay out the package's files for mkdocstrings, which reads them without importing them.

    The root of the repository is the package, but contains tests and environments too. Links to the
    parts of the package keep mkdocstrings from reading those.

    Args:
        work: the folder for it.
    """
    package = work / "package" / "nightbus"
    package.mkdir(parents=True)
    rooms = {init.parent for init in ROOT.glob("[a-z]*/__init__.py")}
    for part in [*ROOT.glob("*.py"), *(room for room in rooms if room.name not in NO_REFERENCE)]:
        (package / part.name).symlink_to(part)


def write_sources(work: Path) -> dict[str, str]:
    """Write what the site is rendered from; return the text of each page by its path.

    Args:
        work: the folder for it.
    """
    for name in ("mkdocs.yml", "site_docstrings.py"):
        shutil.copy(HERE / name, work / name)
    sources = work / "sources"
    shutil.copytree(ROOT / "docs", sources, ignore=shutil.ignore_patterns("site"))
    written = {path.name: path.read_text() for path in sources.glob("*.md")}
    found = written | site_reference.all_pages()
    titles = {path: text.split("\n", 1)[0].removeprefix("# ") for path, text in found.items()}
    texts = {path: site_links(text, titles) for path, text in found.items()}
    for path, text in texts.items():
        (sources / path).parent.mkdir(parents=True, exist_ok=True)
        (sources / path).write_text(text)
    return texts


def render(work: Path, *arguments: str | Path) -> None:
    """Run mkdocs on the sources; end this process if it fails.

    Args:
        work: the folder with the sources.
        *arguments: what mkdocs is to do.
    """
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # an advertisement, not a warning
    program = [sys.executable, "-m", "mkdocs", *arguments]
    done = subprocess.run(program, cwd=work, env=environment)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> int:
    """Build or serve the site; return the exit code."""
    named = [argument for argument in sys.argv[1:] if argument != "--serve"]
    site = Path(named[0] if named else ROOT / "build" / "site").resolve()
    work = site.with_name(f"{site.name}-work")
    shutil.rmtree(work, ignore_errors=True)
    lay_out_package(work)
    texts = write_sources(work)
    for_models = texts | site_texts.api_texts()
    for name, text in site_texts.in_one_file(HERE / "mkdocs.yml", for_models).items():
        (work / "sources" / name).write_text(text)
    if "--serve" in sys.argv:
        render(work, "serve")
        return 0
    render(work, "build", "--strict", "--quiet", "--site-dir", site)
    for path, text in for_models.items():  # beside the HTML, and not rendered
        (site / path).write_text(text)
    shutil.rmtree(site / "assets/javascripts/lunr")  # search in languages that no page has
    return site_checks.report(site)


if __name__ == "__main__":
    sys.exit(main())
