"""Checks a built site: links, anchors, and that reading it requests nothing from elsewhere."""

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser loads by itself; a link that a reader clicks is not among it.
LOADED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
# Addresses that the theme's scripts name and, in this site, do not request: namespaces and
# licences in comments, the library of diagrams, which only a page with one would load, and the
# facts of a repository, which only a site with repo_url would show.
NOT_REQUESTED = re.compile(
    r"https?://(www\.w3\.org/|unpkg\.com/(mermaid@|resize-observer-polyfill)|"
    r"api\.github\.com/(repos|users)/|\$\{e\}/api/v4/projects/|github\.com/|lunrjs\.com|mths\.be|"
    r"tartarus\.org/|bit\.ly/2s3ChXG|www\.opensource\.org|opensource\.org|clipboardjs\.com|"
    r"docs\.python\.org|squidfunk\.github\.io)"
)


@dataclass
class Read:
    """What a page has and names.

    Attributes:
        anchors: ids and names to which a link can lead.
        links: targets of links to click.
        loads: addresses that a browser requests when the page is opened.
        diagrams: whether it has a diagram, for which the theme would load a library.
    """

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    diagrams: bool = False


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.read = Read()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.read.anchors |= {named[key] for key in ("id", "name") if key in named}
        self.read.diagrams |= "mermaid" in named.get("class", "").split()
        if tag == "a" and "href" in named:
            self.read.links.append(named["href"])
        self.read.loads += [named[key] for key in LOADED.get(tag, ()) if key in named]
        self.read.loads += re.findall(r"url\(['\"]?([^'\")]+)", named.get("style", ""))


def read_page(path: Path) -> Read:
    """Return what a page has and names."""
    reader = _Reader()
    reader.feed(path.read_text())
    return reader.read


def is_elsewhere(address: str) -> bool:
    """Return whether an address leads out of the site."""
    return bool(re.match(r"(?:https?:|wss?:)?//", address.strip(), re.IGNORECASE))


def broken_links(site: Path) -> list[str]:
    """Return the links of a site that lead to no file or to no anchor in it.

    Args:
        site: the folder of the built site.
    """
    pages = {path.resolve(): read_page(path) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            wanted = unquote(parts.fragment)
            if not target.exists():
                broken.append(f"{path.name}: {link}: there is no such file")
            elif wanted and target in pages and wanted not in pages[target].anchors:
                broken.append(f"{path.name}: {link}: there is no such anchor")
    return broken


def requests_elsewhere(site: Path) -> list[str]:
    """Return what a browser would request from elsewhere when a page is read.

    Args:
        site: the folder of the built site.
    """
    found = []
    for path in sorted(site.rglob("*.html")):
        page = read_page(path)
        found += [f"{path.name}: {each}" for each in page.loads if is_elsewhere(each)]
        if page.diagrams:
            found.append(f"{path.name}: a diagram, for which the theme loads a library")
    for path in sorted([*site.rglob("*.css"), *site.rglob("*.svg")]):
        text = path.read_text()
        named = re.findall(r"(?:url\(\s*['\"]?|@import\s+['\"]|href=['\"])([^'\")]+)", text)
        found += [f"{path.name}: {each}" for each in named if is_elsewhere(each)]
    for path in sorted(site.rglob("*.js")):
        named = re.findall(r"https?://[^\s'\"`)<>]+", path.read_text())
        found += [f"{path.name}: {each}" for each in named if not NOT_REQUESTED.match(each)]
    return found


def report(site: Path) -> int:
    """Print what is wrong with a site to stderr; return 1 if anything is.

    Args:
        site: the folder of the built site.
    """
    wrong = broken_links(site) + requests_elsewhere(site)
    for each in wrong:
        print(each, file=sys.stderr)
    return 1 if wrong else 0
