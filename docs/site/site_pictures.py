"""Draws the pictures of the examples: runs each, and plots what it recorded.

python docs/site/site_pictures.py [NAME...]
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The metrics that a picture shows, where the example records more than a reader needs.
METRICS: dict[str, list[str]] = {}


def draw(name: str) -> None:
    """Run an example in a folder of its own, and plot the run that it started last.

    Args:
        name: of the example, without its ending.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SOURCE_DATE_EPOCH": "0",
            "MPLCONFIGDIR": folder,
        }
        (Path(folder) / "matplotlibrc").write_text("svg.hashsalt: nightbus\n")

        def run(*arguments: str) -> None:
            subprocess.run(
                [sys.executable, "-m", *arguments],
                cwd=folder,
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

        run(f"examples.{name}")
        chosen = [part for metric in METRICS.get(name, []) for part in ("--metric", metric)]
        picture = ROOT / "docs" / "images" / f"{name}.svg"
        run("nightbus", "plot", "last", "-o", str(picture), *chosen)


def main() -> None:
    """Draw the pictures of the examples that are named, or of all."""
    for name in sys.argv[1:] or sorted(path.stem for path in (ROOT / "examples").glob("*.py")):
        print(name)
        draw(name)


if __name__ == "__main__":
    main()
