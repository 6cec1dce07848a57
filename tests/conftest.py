"""What pytest needs to know of a repository whose root is itself the package."""

from pathlib import Path

import pytest


class RootIsNotAPackage:
    """Keep pytest from importing the root ``__init__.py`` under the checkout's folder name."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(
        self, path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        if path == parent.config.rootpath:
            return pytest.Dir.from_parent(parent, path=path)
        return None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RootIsNotAPackage())
