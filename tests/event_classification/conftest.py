"""The examples are found from the repository's root, as `python -m examples...` finds them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
