"""What a release tells about itself, in several files."""

import re
import tomllib
from pathlib import Path

import check_version
import pytest
import try_versions
import try_wheel

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

VERSIONS_PAGE = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")


def test_all_files_tell_the_same_version() -> None:
    assert set(check_version.versions().values()) == {PROJECT["version"]}


def test_a_tag_of_another_version_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_version.main("v9.9.9") == 1
    assert "CITATION.cff says" in capsys.readouterr().err


def test_a_wheel_is_tried_with_each_extra_for_users() -> None:
    extras = set(PROJECT["optional-dependencies"]) - try_wheel.NOT_USED
    assert extras == set(try_wheel.PROGRAMS) | set(try_wheel.FOR_OTHERS)


def test_a_package_is_kept_as_the_other_tests_have_it() -> None:
    (kept,) = try_versions.constraints("oldest", ["torch"])

    assert kept.startswith("torch==")
    assert kept in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_a_package_that_is_not_pinned_cannot_be_kept() -> None:
    with pytest.raises(SystemExit, match="does not pin torhc"):
        try_versions.constraints("oldest", ["torhc"])


def test_the_page_of_versions_says_what_is_required_and_tested() -> None:
    rows = [line.split("|") for line in VERSIONS_PAGE.splitlines() if line.startswith("| ")]
    told = {row[1].strip(): (row[2].strip(), row[3].strip()) for row in rows}
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()

    for package in try_versions.required():
        if package not in told:
            continue
        lowest, tested = told[package]
        assert f"{package}>={lowest}" in PROJECT["dependencies"]
        assert any(line.startswith(f"{package}=={tested}.") for line in pinned)
    assert {"torch", "torchmetrics", "trio", "msgspec", "numpy"} <= set(told)


def test_what_names_the_pythons_agrees() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))

    assert re.findall(r'python: "(3\.\d+)"', workflow) == named
    assert re.findall(r"^\| (3\.\d+) \|", VERSIONS_PAGE, re.MULTILINE) == named
