"""nightbus doctor --self: what a bug report needs."""

import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from nightbus.__main__ import main


def report(capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(["doctor", "--self", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_tells_the_versions_of_what_nightbus_requires_and_of_its_extras(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = report(capsys)

    assert told["nightbus"].startswith(version("nightbus"))
    assert platform.python_version() in told["python"]
    assert told["packages"]["torch"] == version("torch")
    assert told["extras"]["media"] == {"pillow": version("pillow")}
    assert not told["extras"].keys() & {"dev", "test"}


def test_a_missing_package_of_an_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import nightbus.cli.self_report as module

    monkeypatch.setattr(module, "requires", lambda _: ["torch>=2", "nosuch>=1; extra == 'more'"])
    assert main(["doctor", "--self"]) == 0

    assert "extra more: nosuch missing" in capsys.readouterr().out


def test_of_the_environment_it_tells_what_changes_a_run_and_no_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTBUS_LOG", "debug")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("NIGHTBUS_URL", "https://me:hunter22@somewhere/")
    monkeypatch.setenv("MY_PROJECT", "mine")

    variables = report(capsys)["variables"]

    assert variables["NIGHTBUS_LOG"] == "debug"
    assert variables["OMP_NUM_THREADS"] == "3"
    assert "hunter22" not in variables["NIGHTBUS_URL"]
    assert "MY_PROJECT" not in variables


def test_gpus_are_told_as_nvidia_smi_tells_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA X1, 570.1, 80 MiB'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert report(capsys)["gpus"] == ["NVIDIA X1, 570.1, 80 MiB"]

    tool.write_text("#!/bin/sh\nexit 9\n")
    [told] = report(capsys)["gpus"]
    assert told.startswith("nvidia-smi failed")


@pytest.mark.parametrize("arguments", [[], ["some-run", "--self"]])
def test_it_is_a_run_or_this_machine(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", *arguments])
    assert "--self" in capsys.readouterr().err


def test_it_does_not_load_torch() -> None:
    code = (
        "import sys; from nightbus.__main__ import main; main(['doctor', '--self']); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0
