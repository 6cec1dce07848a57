"""What a dotted path into Lightning means."""

import re
from dataclasses import dataclass

from ..counterparts import HOME_OF, OTHER_NAME_OF, advice_for, name_within
from ..modules import is_flag, is_here, is_refused_when_used
from ..paths import NAMES_AT, ROOTS

COMPAT = "nightbus.compat"
DOTTED = re.compile(rf"(?<![\w.])(?:{'|'.join(sorted(ROOTS))})(?:\.[A-Za-z]\w*)+")
"""Finds paths into Lightning in a text."""
_INFORMATION = frozenset({"__version__"})


@dataclass(frozen=True)
class LightningName:
    """A name of Lightning, taken apart.

    Attributes:
        path: the module, as it is called in Lightning; empty if there is no such module here.
        name: the name in it; empty if the module itself is meant.
        rest: what follows, such as an attribute; empty if nothing does.
    """

    path: str
    name: str = ""
    rest: str = ""

    @property
    def is_here(self) -> bool:
        """Whether nightbus has it."""
        is_listed = self.name in NAMES_AT.get(self.path, ())
        return (is_listed and is_here(self.name)) or is_flag(self.path, self.name)

    @property
    def can_be_imported(self) -> bool:
        """Whether ``nightbus.compat`` has it, though it may be refused when it is used."""
        return self.is_here or is_refused_when_used(self.path, self.name)

    @property
    def is_in_facade(self) -> bool:
        """Whether it is in ``nightbus`` itself."""
        if is_flag(self.path, self.name):
            return False
        return self.is_here and name_within(self.path, self.name) not in HOME_OF

    @property
    def own_name(self) -> str:
        """What it is called in nightbus."""
        return OTHER_NAME_OF.get(self.name, self.name)

    @property
    def own_path(self) -> str:
        """Where it is in nightbus, as a dotted path."""
        if self.is_in_facade:
            return f"nightbus.{self.own_name}"
        return f"{COMPAT}.{self.path}.{self.name}"

    @property
    def advice(self) -> str:
        """What to do if nightbus does not have it, with its name; empty if nothing is to be done.

        ``__version__`` has a counterpart, but comparisons with it mean Lightning's.
        """
        if not self.name or self.is_here:
            return ""
        if self.name in _INFORMATION:
            return f"{self.name} is that of nightbus now; look what it is compared with"
        return f"{self.name}: {advice_for(self.path, self.name)}"


def lightning_name(dotted: str) -> LightningName | None:
    """Return what a dotted path means in Lightning; None if it does not lead there.

    Args:
        dotted: such as ``lightning.pytorch.callbacks.Timer``.
    """
    parts = dotted.split(".")
    if parts[0] not in ROOTS:
        return None
    for length in range(len(parts), 0, -1):
        path = ".".join(parts[:length])
        if path in NAMES_AT:
            name, *rest = [*parts[length:], ""]
            return LightningName(path, name, ".".join(filter(None, rest)))
    return LightningName("", parts[-1])
