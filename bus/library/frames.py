"""Columns as tables of other libraries, where these are installed."""

from abc import abstractmethod
from importlib import import_module
from typing import Any

from ..errors import MissingPackageError

Columns = dict[str, list[Any]]


class FramesOfColumns:
    """Something that has columns, and can be had as a table of pandas, polars or Arrow."""

    @abstractmethod
    def columns(self) -> Columns:
        """Return the columns by name, all of one length."""

    def to_pandas(self) -> Any:
        """Return a DataFrame of pandas.

        Raises:
            MissingPackageError: pandas is missing.
        """
        try:
            pandas = import_module("pandas")
        except ImportError:
            raise MissingPackageError("to_pandas()", "pandas", "") from None
        return pandas.DataFrame(self.columns())

    def to_polars(self) -> Any:
        """Return a DataFrame of polars.

        Raises:
            MissingPackageError: polars is missing.
        """
        try:
            polars = import_module("polars")
        except ImportError:
            raise MissingPackageError("to_polars()", "polars", "") from None
        return polars.DataFrame(self.columns(), strict=False)

    def to_arrow(self) -> Any:
        """Return a Table of pyarrow.

        Raises:
            MissingPackageError: pyarrow is missing.
        """
        try:
            pyarrow = import_module("pyarrow")
        except ImportError:
            raise MissingPackageError("to_arrow()", "pyarrow", "parquet") from None
        return pyarrow.table({name: _of_one_type(cells) for name, cells in self.columns().items()})


def _of_one_type(cells: list[Any]) -> list[Any]:
    """Return a column that Arrow takes: of mixed types, as texts."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if len(kinds) <= 1 or kinds <= {int, float}:
        return cells
    return [None if cell is None else str(cell) for cell in cells]
