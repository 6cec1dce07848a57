"""Options of argparse for arguments whose types are told by their defaults and by what is given."""

import re
from argparse import ArgumentParser, Namespace, _ArgumentGroup
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter, signature
from typing import Any

from ..bus.errors import UsageError

_WORDS = {"true": True, "yes": True, "false": False, "no": False, "none": None}
_TRUTHS = {
    **dict.fromkeys(("t", "y", "on", "1"), True),
    **dict.fromkeys(("f", "n", "off", "0"), False),
}


def add_options(
    parser: ArgumentParser,
    group: ArgumentParser | _ArgumentGroup,
    defaults: Mapping[str, Any],
    texts: Collection[str] = (),
    truths: Collection[str] = (),
    helps: Mapping[str, str | None] | None = None,
) -> None:
    """Add an option for each argument, but for those that the parser has.

    An option that may be True or False needs no value: alone, it means True.

    Args:
        parser: the parser.
        group: the parser, or a group of it, that lists the options.
        defaults: the arguments by name.
        texts: names of those that are texts whatever they look like.
        truths: names of those that may be True or False, beside those whose default is.
        helps: what ``--help`` says of them.
    """
    taken = {option for action in parser._actions for option in action.option_strings}
    for name, default in defaults.items():
        if f"--{name}" in taken:
            continue
        reader: Callable[[str], Any] = str if name in texts else value_of
        options: dict[str, Any] = {"default": default, "help": (helps or {}).get(name)}
        if isinstance(default, bool) or name in truths:
            group.add_argument(
                f"--{name}", type=truth_or_value_of, nargs="?", const=True, **options
            )
        else:
            group.add_argument(f"--{name}", type=reader, **options)


def truth_or_value_of(text: str) -> Any:
    """Return the truth that a text means, where 1 and 0 are truths too, or what it means else.

    Args:
        text: the text.
    """
    return _TRUTHS[text.lower()] if text.lower() in _TRUTHS else value_of(text)


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


def get_init_arguments_and_types(cls: Any) -> list[tuple[str, tuple[Any, ...], Any]]:
    """Return the name, the types and the default of each argument of a class's ``__init__``.

    Args:
        cls: the class.
    """
    return [(p.name, (p.annotation,), p.default) for p in _parameters(cls)]


def check_parser(parser: object) -> None:
    """Refuse what is not a parser.

    Args:
        parser: what ``add_argparse_args`` was given.

    Raises:
        UsageError: it is not one of argparse.
    """
    if not isinstance(parser, ArgumentParser):
        raise UsageError(
            f"add_argparse_args() expects an argparse.ArgumentParser, not {type(parser).__name__}"
        )


def add_argparse_args(
    cls: Any, parent_parser: ArgumentParser, use_argument_group: bool = True
) -> ArgumentParser:
    """Add an option for each argument of a class's ``__init__``; its docstring is their help.

    Args:
        cls: the class.
        parent_parser: parser that gets the options.
        use_argument_group: list them in a group of their own, named as the class.

    Returns:
        The same parser; without a group a new one, which has its options too.

    Raises:
        UsageError: it is not a parser.
    """
    check_parser(parent_parser)
    parameters = _parameters(cls)
    defaults = {p.name: None if p.default is Parameter.empty else p.default for p in parameters}
    texts = [p.name for p in parameters if p.annotation in (str, "str")]
    described = f"{cls.__doc__}\n{cls.__init__.__doc__}"
    helps = {name: _described(name, described) for name in defaults}
    if use_argument_group:
        group = parent_parser.add_argument_group(cls.__name__)
        add_options(parent_parser, group, defaults, texts, helps=helps)
        return parent_parser
    parser = ArgumentParser(parents=[parent_parser], add_help=False)
    add_options(parser, parser, defaults, texts, helps=helps)
    return parser


def parse_argparser(cls: Any, arg_parser: ArgumentParser | Namespace) -> Namespace:
    """Return what was parsed; an argument that is True or False, given without a value, is True.

    Args:
        cls: the class whose arguments they are.
        arg_parser: a parser, which reads the command line, or what one has returned.
    """
    parsed = arg_parser.parse_args() if isinstance(arg_parser, ArgumentParser) else arg_parser
    flags = {p.name for p in _parameters(cls) if isinstance(p.default, bool)}
    return Namespace(
        **{n: True if v is None and n in flags else v for n, v in vars(parsed).items()}
    )


def from_argparse_args(cls: Any, args: ArgumentParser | Namespace, **kwargs: Any) -> Any:
    """Make an object of parsed arguments; those that its class does not have are left out.

    Args:
        cls: the class.
        args: a parser, which reads the command line, or what one has returned.
        **kwargs: further arguments, which take precedence.

    Returns:
        The object.
    """
    parsed = parse_argparser(cls, args)
    names = [p.name for p in _parameters(cls)]
    given = {name: value for name, value in vars(parsed).items() if name in names}
    return cls(**{**given, **kwargs})


def _parameters(cls: Any) -> list[Parameter]:
    several = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [p for p in signature(cls).parameters.values() if p.kind not in several]


def _described(name: str, docstring: str) -> str | None:
    """Return the first line that a docstring has of an argument."""
    found = re.search(rf"^\s+{name}(?: \(.*\))?: (.+)$", docstring, re.MULTILINE)
    return found and found[1].replace("%", "%%")
