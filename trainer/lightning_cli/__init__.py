"""Command lines and configuration files made of the signatures of modules and of the Trainer."""

from ...bus.errors import MissingPackageError

try:
    import jsonargparse as jsonargparse
except ImportError as error:
    raise MissingPackageError("LightningCLI", "jsonargparse", "cli") from error
