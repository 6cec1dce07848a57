"""What a release tells about itself, in several files."""

import tomllib
from pathlib import Path

import check_version
import pytest
import try_versions
import try_wheel

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_all_files_tell_the_same_version() -> None:
    assert set(check_version.versions().values()) == {PROJECT["version"]}


def test_a_tag_of_another_version_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_version.main("v9.9.9") == 1
    assert "CITATION.cff says" in capsys.readouterr().err


def test_a_wheel_is_tried_with_each_extra_for_users() -> None:
    extras = set(PROJECT["optional-dependencies"]) - try_wheel.NOT_USED
    assert extras == set(try_wheel.PROGRAMS) | set(try_wheel.FOR_OTHERS)


def test_the_oldest_versions_are_those_that_are_required() -> None:
    lines = try_versions.constraints("oldest", ["torch"])

    assert "trio==0.27" in lines
    assert not any(line.startswith("torch==2.6") for line in lines)
    assert [line for line in lines if line.startswith("trio==")] == ["trio==0.27"]
