"""The Trainer, for annotations of what users override: their methods are handed one.

The one place below ``trainer/`` that names it; what a part of the trainer may use of it is declared
in ``run_context.py``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..trainer import Trainer as Trainer
