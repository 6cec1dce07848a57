"""What ``nightbus.`` has, and what it says of names that it does not have."""

import subprocess
import sys

import pytest

import nightbus as nb

ELSEWHERE = [
    "CometLogger",
    "Fabric",
    "MisconfigurationException",
    "accelerators",
    "callbacks",
    "plugins",
    "profilers",
    "pytorch",
    "rank_zero_warn",
    "strategies",
    "utilities",
]


def test_dir_has_every_public_name() -> None:
    assert set(nb.__all__) <= set(dir(nb))


def test_looking_what_there_is_loads_nothing() -> None:
    code = "import sys, nightbus; dir(nightbus); print(sorted({'torch', 'trio'} & {*sys.modules}))"

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout == "[]\n"


def test_a_name_is_looked_up_once() -> None:
    assert nb.UsageError is vars(nb)["UsageError"]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_that_users_know_says_what_to_use(name: str) -> None:
    with pytest.raises(AttributeError, match=f"nightbus' has no attribute '{name}'; .*use "):
        getattr(nb, name)

    assert not hasattr(nb, name)


def test_so_does_importing_it() -> None:
    with pytest.raises(ImportError, match="subclass of Logger"):
        exec("from nightbus import CometLogger")


def test_parts_of_the_package_can_be_imported_from_it() -> None:
    exec("from nightbus import actors, bus, cli, loops, sinks, trainer")


def test_a_misspelt_name_says_which_are_near() -> None:
    with pytest.raises(AttributeError, match="did you mean EarlyStopping"):
        nb.EarlyStoping  # noqa: B018
