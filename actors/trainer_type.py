"""The Trainer, for annotations of methods that users override.

This is the only place below ``trainer/`` that names it; what a part of the trainer may use of it is
declared in ``run_context.py``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..trainer import Trainer as Trainer
