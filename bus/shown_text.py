"""Shows texts from a run, which may be a stranger's, to people.

Characters that would steer a terminal, or are invisible, are escaped: control characters of both
kinds, characters that change the direction of writing or have no width, line separators, lone
surrogates.
"""

import os
import shlex
import unicodedata
from pathlib import Path

_ESCAPED = frozenset(["Cc", "Cf", "Cs", "Zl", "Zp"])
# Invisible letters and marks.
_INVISIBLE = frozenset(
    [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0]
)


class _Escapes(dict[int, int | str]):
    """For ``str.translate``: each character as it is shown, computed on first use."""

    def __missing__(self, code: int) -> int | str:
        shown: int | str = code
        if code in _INVISIBLE or unicodedata.category(chr(code)) in _ESCAPED:
            shown = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
            if code > 0xFFFF:
                shown = f"\\U{code:08x}"
        self[code] = shown
        return shown


_ESCAPES = _Escapes()


def plain(text: str) -> str:
    """Return the text with invisible characters and those that steer a terminal escaped."""
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)


def quoted(word: str | Path) -> str:
    """Return a file name or another word in a form to be pasted into a shell.

    A word that begins with a dash is not taken for an option, and one with a newline or the like is
    written as ``$'...'``, which bash, zsh and ksh read.
    """
    text = str(word)
    if text.startswith("-"):
        text = f"./{text}"
    if plain(text) == text:
        return shlex.quote(text)
    return f"$'{''.join(map(_in_quotes, os.fsencode(text)))}'"


def _in_quotes(byte: int) -> str:
    if byte in b"\\'":
        return f"\\{chr(byte)}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"
