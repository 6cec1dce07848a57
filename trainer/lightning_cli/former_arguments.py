"""Arguments of LightningCLI of Lightning 1.x, in terms of those that it has now."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...bus.errors import ArgumentTypeError

# Former name -> the argument that takes it in a dict, and its name there.
_NOW_IN = {
    "save_config_filename": ("save_config_kwargs", "config_filename"),
    "save_config_overwrite": ("save_config_kwargs", "overwrite"),
    "save_config_multifile": ("save_config_kwargs", "multifile"),
    "description": ("parser_kwargs", "description"),
    "env_prefix": ("parser_kwargs", "env_prefix"),
    "env_parse": ("parser_kwargs", "default_env"),
}
_OF_REGISTRIES = "auto_registry"  # which LightningCLI itself reads


class Arguments(NamedTuple):
    """Those that take the former ones.

    Attributes:
        save_config_kwargs: of the callback that keeps the configuration.
        parser_kwargs: of the parser.
    """

    save_config_kwargs: dict[str, Any]
    parser_kwargs: dict[str, Any]


def with_former(
    former: Mapping[str, Any],
    save_config_kwargs: Mapping[str, Any] | None,
    parser_kwargs: Mapping[str, Any] | None,
) -> Arguments:
    """Return the arguments with the former ones in their places.

    Args:
        former: what was given beside the arguments of today.
        save_config_kwargs: as given; takes precedence.
        parser_kwargs: as given; takes precedence.

    Raises:
        ArgumentTypeError: an argument is unknown.
    """
    arguments = Arguments({}, {})
    for name, value in former.items():
        if name == _OF_REGISTRIES:
            continue
        if name not in _NOW_IN:
            raise ArgumentTypeError(
                f"LightningCLI.__init__() got an unexpected keyword argument {name!r}"
            )
        argument, key = _NOW_IN[name]
        getattr(arguments, argument)[key] = value
    arguments.save_config_kwargs.update(save_config_kwargs or {})
    arguments.parser_kwargs.update(parser_kwargs or {})
    return arguments
