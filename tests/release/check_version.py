"""Checks that a tag, the package and CITATION.cff agree on the version.

``python tests/release/check_version.py v0.2.0``
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def versions() -> dict[str, str]:
    """Return the version that each file tells."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    changes = re.search(r"^## (\S+?),", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    return {
        "pyproject.toml": project["version"],
        "CITATION.cff": cited[1] if cited else "none",
        "CHANGELOG.md": changes[1] if changes else "none",
    }


def main(tag: str) -> int:
    """Compare; return the exit code."""
    wrong = {file: told for file, told in versions().items() if f"v{told}" != tag}
    for file, told in wrong.items():
        print(f"{file} says {told}, the tag is {tag}", file=sys.stderr)
    if "unreleased" in (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1].splitlines()[0]:
        print("CHANGELOG.md calls this version unreleased: give the date", file=sys.stderr)
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
