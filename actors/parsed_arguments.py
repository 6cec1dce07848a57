"""Options of argparse for arguments whose types are told by their defaults and by what is given."""

from argparse import ArgumentParser, _ArgumentGroup
from collections.abc import Callable, Collection, Mapping
from typing import Any

_WORDS = {"true": True, "yes": True, "false": False, "no": False, "none": None}


def add_options(
    parser: ArgumentParser,
    group: ArgumentParser | _ArgumentGroup,
    defaults: Mapping[str, Any],
    texts: Collection[str] = (),
) -> None:
    """Add an option for each argument, but for those that the parser has.

    An option whose default is True or False needs no value: alone, it means True.

    Args:
        parser: the parser.
        group: the parser, or a group of it, that lists the options.
        defaults: the arguments by name.
        texts: names of those that are texts whatever they look like.
    """
    taken = {option for action in parser._actions for option in action.option_strings}
    for name, default in defaults.items():
        if f"--{name}" in taken:
            continue
        reader: Callable[[str], Any] = str if name in texts else value_of
        if isinstance(default, bool):
            group.add_argument(f"--{name}", default=default, type=reader, nargs="?", const=True)
        else:
            group.add_argument(f"--{name}", default=default, type=reader)


def value_of(text: str) -> Any:
    """Return the number, the truth or None that a text means, or the text.

    Args:
        text: the text.
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
