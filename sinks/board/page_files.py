"""The built page: a fixed dictionary of files, so that no path is ever looked up on the disk."""

from pathlib import Path
from typing import NamedTuple

from ...bus.errors import UsageError

BUILT = Path(__file__).parent / "built"
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


class PageFile(NamedTuple):
    """One file of the page."""

    content: bytes
    media_type: str


def page_files(folder: Path | None = None) -> dict[str, PageFile]:
    """Return the files of the page by their path in an address.

    Args:
        folder: where the page was built; where ``make board-page`` does if not given.

    Raises:
        UsageError: it was not built.
    """
    folder = folder or BUILT
    if not (folder / "index.html").is_file():
        raise UsageError(
            f"the page is not built: {folder / 'index.html'} is missing. Packages of nightbus have "
            "it; in a checkout, build it with: make board-page"
        )
    files = {
        f"/{path.relative_to(folder).as_posix()}": PageFile(path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in _TYPES
    }
    return {**files, "/": files["/index.html"]}
