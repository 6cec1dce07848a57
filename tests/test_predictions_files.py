"""Files of predictions: what EvalResult.write was given comes back, and no file runs code."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from models import Small, loader, trainer

import nightbus as nb


class Writes(Small):
    """Writes what it is told."""

    def __init__(self, values: Any, filename: str = "predictions.pt") -> None:
        super().__init__()
        self.values, self.filename = values, filename

    def test_step(self, batch: Any, batch_idx: int) -> nb.EvalResult:
        result = nb.EvalResult()
        result.write("value", self.values(batch, batch_idx), self.filename)
        return result


def written_by(root: Path, module: Writes) -> Path:
    run = trainer(root)
    run.test(module, loader(6, 4), verbose=False)
    assert run.run_folder is not None
    return run.run_folder.path


VALUES: dict[str, Any] = {
    "scalars": lambda batch, _: batch[1],
    "rows": lambda batch, _: batch[0],
    "halves": lambda batch, _: batch[0].bfloat16(),
    "texts": lambda batch, _: [f"ä{i}" for i in range(len(batch[1]))],
    "numbers": lambda batch, _: [0.5] * len(batch[1]),
    "tuples": lambda batch, i: [(i, "a", None)] * len(batch[1]),
    "tensors of any shape": lambda batch, _: [torch.ones(i) for i in range(len(batch[1]))],
    "arrays": lambda batch, _: batch[0].numpy(),
    "another width in each batch": lambda batch, i: torch.ones(len(batch[1]), i + 1),
    "dicts": lambda batch, _: [{"box": torch.zeros(4), "label": 1}] * len(batch[1]),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_what_was_written_comes_back_sample_by_sample(tmp_path: Path, values: Any) -> None:
    path = written_by(tmp_path, Writes(values))

    samples = nb.load_predictions(path / "predictions_rank_0.safetensors")

    wanted = [entry for i, batch in enumerate(loader(6, 4)) for entry in values(batch, i)]
    assert len(samples) == 6
    for sample, entry in zip(samples, wanted, strict=True):
        same = sample["value"]
        assert type(same) is type(entry)
        if isinstance(entry, torch.Tensor):
            assert torch.equal(same, entry)
        elif isinstance(entry, np.ndarray):
            assert np.array_equal(same, entry)
        else:
            assert repr(same) == repr(entry)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("predictions.pt", "predictions_rank_0.safetensors"),
        ("out/mine.pth", "out/mine_rank_0.safetensors"),
        ("mine", "mine_rank_0.safetensors"),
        ("mine.v1.safetensors", "mine.v1_rank_0.safetensors"),
        ("mine.txt", "mine.txt_rank_0.safetensors"),
    ],
)
def test_a_file_is_found_by_the_name_that_was_given(
    tmp_path: Path, given: str, written: str
) -> None:
    path = written_by(tmp_path, Writes(VALUES["scalars"], given))

    assert (path / written).is_file()
    assert len(nb.load_predictions(path / given)) == 6


def test_the_tensors_can_be_read_by_safetensors_alone(tmp_path: Path) -> None:
    path = written_by(tmp_path, Writes(VALUES["rows"]))

    tensors = safetensors.torch.load_file(path / "predictions_rank_0.safetensors")

    assert [tensor.shape for name, tensor in tensors.items() if "value" in name] == [(6, 4)]


def test_the_file_is_for_its_owner_alone_and_where_to_read_it_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written_by(tmp_path, Writes(VALUES["rows"]))

    assert (path / "predictions_rank_0.safetensors").stat().st_mode & 0o777 == 0o600
    assert "nightbus.load_predictions(" in capfd.readouterr().err


def test_a_value_that_no_file_can_hold_is_refused_at_the_first_batch(tmp_path: Path) -> None:
    seen: list[int] = []

    def values(batch: Any, batch_idx: int) -> list[Any]:
        seen.append(batch_idx)
        return [object()] * len(batch[1])

    with pytest.raises(nb.UsageError, match=r"EvalResult.write to predictions\.pt: .* is object"):
        written_by(tmp_path, Writes(values))
    assert seen == [0]


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps([{"value": 1}]), b"\xff" * 100])
def test_a_file_of_another_kind_is_refused_and_not_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "predictions_rank_0.safetensors").write_bytes(content)

    with pytest.raises(nb.CheckpointError, match="is not a file of predictions"):
        nb.load_predictions(tmp_path / "predictions.pt")


def test_tensors_of_others_are_no_predictions(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")

    with pytest.raises(nb.CheckpointError, match="only tensors"):
        nb.load_predictions(tmp_path / "a.safetensors")


def test_predictions_that_are_not_there_are_an_error_that_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="pass the file, or the name"):
        nb.load_predictions(tmp_path / "predictions.pt")


def test_files_of_several_processes_are_read_in_their_order(tmp_path: Path) -> None:
    path = written_by(tmp_path, Writes(VALUES["scalars"]))
    file = path / "predictions_rank_0.safetensors"
    (path / "predictions_rank_10.safetensors").write_bytes(file.read_bytes())

    assert len(nb.load_predictions(path / "predictions.pt")) == 12
