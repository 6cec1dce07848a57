"""nightbus under the names of Lightning, for code that was written for it.

``nightbus.compat.lightning.pytorch.callbacks`` and the like are modules with the names that
Lightning has there. Each is the thing of nightbus itself, not a wrapper. ``install`` puts them in
place of Lightning's own packages.
"""

import os
import sys
from importlib import import_module
from pathlib import Path

from ..bus.errors import UsageError
from ..bus.system.logging_setup import warn_with
from .modules import Finder
from .paths import ROOTS

IN_PLACE = str(Path(__file__).parent / "in_place")
"""A folder whose modules call ``install``: it reaches the processes that this one starts."""

_AS_LIGHTNING = Finder()
sys.meta_path.append(Finder(prefix=f"{__name__}."))


def install() -> None:
    """Put nightbus in place of Lightning, in this process and in those that it starts.

    From then on ``import lightning``, ``import pytorch_lightning`` and ``import lightning_fabric``
    give what ``nightbus.compat`` has under these names, whether Lightning is installed or not.
    Names of checkpoints end in ``.ckpt``, and ``torch.load`` reads them although they are folders;
    ``torch.save`` changes them, ``os.path.isfile`` is true of them, and ``os.remove`` and
    ``shutil.copy`` take them.
    Warnings are those of Python, of the categories PossibleUserWarning and RuntimeWarning; with the
    variable ``POSSIBLE_USER_WARNINGS=off``, as Lightning has it, those of the first are not shown.
    Call it before anything imports Lightning, such as in a ``conftest.py``. A second call changes
    nothing.

    Raises:
        UsageError: Lightning itself has been imported.
    """
    if _AS_LIGHTNING in sys.meta_path:
        return
    if imported := sorted(ROOTS & sys.modules.keys()):
        raise UsageError(
            f"{imported[0]} has been imported already; call nightbus.compat.install() before "
            "whatever imports it"
        )
    # They bring torch, which the other modules do not need.
    from .file_calls import take_checkpoints_for_files
    from .torch_load import look_like_files
    from .utilities import disable_possible_user_warnings, warn_in_python

    look_like_files()
    take_checkpoints_for_files()
    warn_with(warn_in_python)
    if os.environ.get("POSSIBLE_USER_WARNINGS", "").lower() in ("0", "off"):
        disable_possible_user_warnings()
    sys.meta_path.insert(0, _AS_LIGHTNING)
    # A spawned worker takes over sys.path, other processes take the variable.
    if IN_PLACE not in sys.path:
        sys.path.insert(0, IN_PLACE)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if IN_PLACE not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([IN_PLACE, *filter(None, paths)])


def take_the_place_of(name: str) -> None:
    """Install, and replace the module that is being imported; for those in the folder `in_place`.

    Args:
        name: its ``__name__``.
    """
    del sys.modules[name]
    install()
    import_module(name)
