"""A short form of fuzz_decoder.py; the long one has a million mutants."""

import json
from pathlib import Path

import fuzz_decoder
import pytest
from programs import run_program

SCRIPT = Path(fuzz_decoder.__file__)


def test_mutants_of_all_that_is_read_are_read_or_refused_with_our_own_errors() -> None:
    done = run_program(SCRIPT, "--mutants", "4000", "--seed", "5")

    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["findings"] == 0
    assert report["refused"] > 2_000
    assert len(report["kinds"]) == 8


def test_the_fuzzer_finds_an_error_that_is_not_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(folder: Path) -> None:
        raise IndexError("beyond the end")

    monkeypatch.setattr(fuzz_decoder, "read_checkpoint", broken)
    fuzzer = fuzz_decoder.Fuzzer(tmp_path, seed=5)

    fuzzer.run(first=0, number=40)

    assert {finding.what for finding in fuzzer.findings} == {"IndexError: beyond the end"}
    assert {finding.kind for finding in fuzzer.findings} == {"checkpoint"}
