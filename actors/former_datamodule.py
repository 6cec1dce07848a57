"""What datamodules for Lightning 1.x have: transforms, sizes, and arguments of a command line."""

from argparse import ArgumentParser, Namespace
from typing import Any, Self, cast

from .parsed_arguments import (
    add_argparse_args,
    from_argparse_args,
    get_init_arguments_and_types,
)


class FormerDataModule:
    """Keeps what 1.x gave to a datamodule, and makes one of parsed arguments.

    Args:
        train_transforms: kept as an attribute, for the datamodule's own use.
        val_transforms: the same.
        test_transforms: the same.
        dims: shape of a sample, which ``size`` returns.
    """

    # Of the class, for datamodules that do not call ``super().__init__``.
    train_transforms: Any = None
    val_transforms: Any = None
    test_transforms: Any = None
    dims: Any = ()

    def __init__(
        self,
        train_transforms: Any = None,
        val_transforms: Any = None,
        test_transforms: Any = None,
        dims: Any = None,
    ) -> None:
        super().__init__()
        given = {
            "train_transforms": train_transforms,
            "val_transforms": val_transforms,
            "test_transforms": test_transforms,
            "dims": dims,
        }
        vars(self).update({name: value for name, value in given.items() if value is not None})

    def _size(self, dim: int | None = None) -> Any:
        """Return the shape of a sample, or one of its dimensions.

        Args:
            dim: which; all if None.
        """
        return self.dims if dim is None else self.dims[dim]

    size: Any = _size  # of any type, because datamodules have attributes of this name

    @classmethod
    def get_init_arguments_and_types(cls) -> list[tuple[str, tuple[Any, ...], Any]]:
        """Return the name, the types and the default of each argument of ``__init__``."""
        return get_init_arguments_and_types(cls)

    @classmethod
    def add_argparse_args(cls, parent_parser: ArgumentParser, **kwargs: Any) -> ArgumentParser:
        """Add an option for each argument of ``__init__``.

        Args:
            parent_parser: parser that gets the options.
            **kwargs: accepted for code written for Lightning, without effect.

        Returns:
            The same parser.
        """
        return add_argparse_args(cls, parent_parser)

    @classmethod
    def from_argparse_args(cls, args: ArgumentParser | Namespace, **kwargs: Any) -> Self:
        """Make a datamodule of parsed arguments; those that it does not have are left out.

        Args:
            args: a parser, which reads the command line, or what one has returned.
            **kwargs: further arguments, which take precedence.

        Returns:
            The datamodule.
        """
        return cast("Self", from_argparse_args(cls, args, **kwargs))
