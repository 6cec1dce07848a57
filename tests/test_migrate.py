"""nightbus migrate: code that was written for Lightning, rewritten."""

import json
from pathlib import Path
from textwrap import dedent

import pytest

from nightbus.__main__ import main
from nightbus.compat.migration.project import migrate
from nightbus.compat.migration.rewriter import AS_GIVEN, rewrite


def rewritten(source: str) -> str:
    return rewrite(source).text


def notes(source: str) -> list[tuple[int, str]]:
    return [(note.line, note.text) for note in rewrite(source).notes]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import lightning as L", "import nightbus as L"),
        ("import lightning.pytorch as pl", "import nightbus as pl"),
        ("import os, pytorch_lightning as pl", "import os, nightbus as pl"),
        ("from pytorch_lightning import Trainer as T", "from nightbus import Trainer as T"),
        ("from lightning.pytorch import callbacks as c", "import nightbus as c"),
        ("from lightning.pytorch import loggers", "import nightbus as loggers"),
        (
            "from pytorch_lightning.utilities.exceptions import MisconfigurationException",
            "from nightbus import UsageError as MisconfigurationException",
        ),
        (
            "from lightning.pytorch.utilities.imports import _RICH_AVAILABLE",
            "from nightbus.compat.lightning.pytorch.utilities.imports import _RICH_AVAILABLE",
        ),
        (
            "from lightning.pytorch.demos.boring_classes import BoringModel",
            "from nightbus.compat.lightning.pytorch.demos.boring_classes import BoringModel",
        ),
        (
            "from pytorch_lightning.callbacks import *",
            "from nightbus.compat.pytorch_lightning.callbacks import *",
        ),
        ("import numpy; from torch import nn", "import numpy; from torch import nn"),
    ],
)
def test_an_import_becomes_one_of_nightbus(before: str, after: str) -> None:
    assert rewritten(before) == after


def test_names_without_a_counterpart_are_imported_from_what_refuses_their_use() -> None:
    before = """
        from pytorch_lightning.callbacks import (
            EarlyStopping,
            ModelCheckpoint,  # the best
            GPUStatsMonitor,
        )
        """
    after = """
        from nightbus import (
            EarlyStopping,
            ModelCheckpoint,  # the best
        )
        from nightbus.compat.pytorch_lightning.callbacks import (
            GPUStatsMonitor,
        )
        """

    assert rewritten(dedent(before)) == dedent(after)
    assert notes(dedent(before)) == [(5, "GPUStatsMonitor: use DeviceStatsMonitor")]


def test_names_that_only_compat_has_are_imported_from_there_without_a_note() -> None:
    before = "from pytorch_lightning.utilities import rank_zero_info\n"
    after = "from nightbus.compat.pytorch_lightning.utilities import rank_zero_info\n"

    assert rewritten(before) == after
    assert notes(before) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import pytorch_lightning as pl\npl.callbacks.Timer()", "pl.Timer()"),
        ("import lightning as L\nL.pytorch.Trainer.fit", "L.Trainer.fit"),
        ("import pytorch_lightning\npytorch_lightning.Trainer()", "nightbus.Trainer()"),
        ("import lightning.pytorch\nlightning.pytorch.callbacks.Timer", "nightbus.Timer"),
        (
            "import lightning as L\nL.pytorch.utilities.exceptions.MisconfigurationException",
            "L.UsageError",
        ),
        ("def f(pl):\n    return pl.callbacks.Timer", "    return pl.callbacks.Timer"),
    ],
)
def test_a_name_of_an_imported_module_becomes_the_one_in_nightbus(before: str, after: str) -> None:
    assert rewritten(before).splitlines()[-1] == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Trainer(max_nb_epochs=epochs)", "Trainer(max_epochs=epochs)"),
        ("Trainer(gpus=2, max_steps=1)", "Trainer(accelerator='gpu', devices=2, max_steps=1)"),
        ("Trainer(gpus=0)", "Trainer(accelerator='cpu')"),
        ("Trainer(weights_summary=None)", "Trainer(enable_model_summary=False)"),
        ("ModelCheckpoint(period=2)", "ModelCheckpoint(every_n_epochs=2)"),
        ("Trainer(max_epochs=1)", "Trainer(max_epochs=1)"),
        ("Trainer(**options)", "Trainer(**options)"),
    ],
)
def test_a_former_argument_becomes_the_one_that_nightbus_has(before: str, after: str) -> None:
    imports = "from pytorch_lightning import Trainer\n"
    imports += "from pytorch_lightning.callbacks import ModelCheckpoint\n"

    assert rewritten(imports + before).splitlines()[-1] == after


def test_the_layout_of_a_call_is_kept() -> None:
    before = "import lightning as L\nL.Trainer(\n    gpus=1,\n    max_steps=5,  # few\n)\n"

    assert rewritten(before).endswith(
        "L.Trainer(\n    accelerator='gpu',\n    devices=1,\n    max_steps=5,  # few\n)\n"
    )


@pytest.mark.parametrize(
    ("use", "note"),
    [
        ("pl.loggers.CometLogger()", "CometLogger: use a subclass of Logger"),
        ("pl.Trainer(gpus=args.gpus)", "use instead: accelerator='gpu', devices="),
        ("pl.__version__ >= '2'", "__version__ is that of nightbus now"),
        ("from pytorch_lightning.strategies.launchers import A", "A: use Trainer(devices="),
        ("import pytorch_lightning.serve.x as x", "x: nightbus has no counterpart"),
        ("from lightning.pytorch.x import *", "no module lightning.pytorch.x"),
        ("'lightning.pytorch.loggers.CometLogger'", "CometLogger: use a subclass of Logger"),
    ],
)
def test_what_has_no_counterpart_is_listed_with_its_line(use: str, note: str) -> None:
    [(line, text)] = notes(f"import pytorch_lightning as pl\n\n{use}\n")

    assert line == 3
    assert note in text


@pytest.mark.parametrize(
    ("use", "is_listed"),
    [
        ("self.trainer.val_dataloaders[0].dataset", True),
        ("trainer.test_dataloaders[0]", True),
        ("trainer.train_dataloader.loaders", True),
        ("trainer.train_dataloader.dataset", False),
        ("self.val_dataloaders[0]", False),
        ("combined.loaders", False),
    ],
)
def test_loaders_that_are_taken_for_those_of_1_x_are_listed(use: str, is_listed: bool) -> None:
    assert notes(f"\nx = {use}\n") == ([(2, AS_GIVEN)] if is_listed else [])


def test_a_class_that_is_named_in_a_text_becomes_that_of_nightbus() -> None:
    assert rewritten("a = 'lightning.pytorch.callbacks.Timer'") == "a = 'nightbus.Timer'"


def test_a_class_that_is_named_in_yaml_becomes_that_of_nightbus(tmp_path: Path) -> None:
    config = tmp_path / "trainer.yaml"
    config.write_text(
        "_target_: lightning.pytorch.Trainer  # of lightning.pytorch\nx: a.lightning.b"
    )

    [file] = migrate(tmp_path)

    assert file.after == "_target_: nightbus.Trainer  # of lightning.pytorch\nx: a.lightning.b"


def test_a_file_that_cannot_be_read_is_listed_and_left(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import lightning\nprint 'x'")
    (tmp_path / "b.py").write_bytes(b"import lightning # \xff")

    files = migrate(tmp_path)

    assert [file.is_changed for file in files] == [False, False]
    assert [file.notes[0].line for file in files] == [2, 1]


def test_hidden_folders_and_environments_are_left_out(tmp_path: Path) -> None:
    for folder in (".git", "venv", "site-packages"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("import lightning")

    assert migrate(tmp_path) == []


def test_a_terminal_is_told_which_file_of_how_many_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("import lightning as L\n")
    monkeypatch.setattr("nightbus.cli.migrate.is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "200")

    assert main(["migrate", str(tmp_path)]) == 0

    drawn = capsys.readouterr().err.split("\r\x1b[2K")
    assert drawn[1] == f"file 1 of 2: {tmp_path / 'a.py'}"
    assert drawn[2] == f"file 2 of 2: {tmp_path / 'b.py'}"
    assert drawn[3].startswith("nightbus: 2 files would change")  # on the line that was erased


def test_a_diff_is_shown_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train.py"
    script.write_text("import lightning as L\n")

    assert main(["migrate", str(tmp_path)]) == 0

    shown = capsys.readouterr()
    assert "-import lightning as L\n+import nightbus as L\n" in shown.out
    assert "1 file would change; write the changes with --write" in shown.err
    assert script.read_text() == "import lightning as L\n"


def test_write_changes_the_files_and_what_is_left_has_a_code_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(b"import lightning as L\r\nL.Fabric()\r\n")

    assert main(["migrate", "--write", str(script)]) == 3

    assert script.read_bytes() == b"import nightbus as L\r\nL.Fabric()\r\n"


def test_a_path_without_a_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "nowhere"]) == 2

    assert "there is no nowhere" in capsys.readouterr().err


def test_without_libcst_it_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nightbus.cli.migrate.find_spec", lambda name: None)

    assert main(["migrate", "."]) == 2

    assert "pip install 'nightbus[migrate]'" in capsys.readouterr().err


def test_programs_get_the_report_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text("import pytorch_lightning as pl\npl.loggers.CometLogger()\n")

    assert main(["migrate", str(tmp_path), "--json"]) == 3

    report = json.loads(capsys.readouterr().out)
    assert report["changed"] == [str(tmp_path / "a.py")]
    assert not report["written"]
    [left] = report["left"]
    assert (left["path"], left["line"]) == (str(tmp_path / "a.py"), 2)
    assert left["what"].startswith("CometLogger")


def test_what_only_compat_has_is_imported_where_it_was_an_attribute_of_a_module() -> None:
    before = """\
    from __future__ import annotations
    import warnings
    import pytorch_lightning as pl
    from lightning.pytorch import Trainer, callbacks

    warnings.simplefilter("ignore", pl.utilities.warnings.PossibleUserWarning)
    """
    after = """\
    from __future__ import annotations
    import warnings
    import nightbus as pl
    from nightbus.compat.pytorch_lightning.utilities.warnings import PossibleUserWarning
    from nightbus import Trainer
    import nightbus as callbacks

    warnings.simplefilter("ignore", PossibleUserWarning)
    """

    assert rewritten(dedent(before)) == dedent(after)
    assert notes(dedent(before)) == []


def test_it_is_left_to_do_where_its_name_is_taken() -> None:
    source = """\
    import pytorch_lightning as pl
    PossibleUserWarning = pl.utilities.warnings.PossibleUserWarning
    """

    assert [line for line, _ in notes(dedent(source))] == [2]


def test_what_torch_loads_may_be_a_checkpoint() -> None:
    before = "import torch, pytorch_lightning as pl\nstate = torch.load(path, weights_only=True)\n"
    after = """\
    import torch, nightbus as pl
    from nightbus.compat.torch_load import load_checkpoint_or_file
    state = load_checkpoint_or_file(path, weights_only=True)
    """

    assert rewritten(before) == dedent(after)
    assert notes(before) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("found = glob('logs/**/*.ckpt')", "names of checkpoints have no ending"),
        ("found = glob(f'{folder}/*.ckpt')", "names of checkpoints have no ending"),
        ("is_it = name.endswith('.ckpt')", "names of checkpoints have no ending"),
        ("is_it = path.suffix == '.ckpt'", "names of checkpoints have no ending"),
        ("is_it = name.endswith(('.ckpt', '.pt'))", "names of checkpoints have no ending"),
        ("is_it = path.suffix in ('.pt', '.ckpt')", "names of checkpoints have no ending"),
        ("torch.save(state, folder + '/edited.ckpt')", "torch.save writes a file"),
        ("torch.save(state, Path(folder) / 'edited.ckpt')", "torch.save writes a file"),
        ("torch.save(state, os.path.join(folder, 'edited.ckpt'))", "torch.save writes a file"),
        ("def find(): 'Return what is found as *.ckpt'", None),
        ("torch.save(state, 'edited.ckpt')", "torch.save writes a file"),
        ("torch.save(state, f=f'{name}.ckpt')", "torch.save writes a file"),
        ("module.load_from_checkpoint(name + '.ckpt')", None),
        ("torch.save(state, 'weights.pt')", None),
    ],
)
def test_what_takes_checkpoints_for_files_is_left_to_do(line: str, expected: str | None) -> None:
    source = f"import torch, lightning\n{line}\n"

    found = notes(source)

    assert [number for number, _ in found] == ([2] if expected else [])
    assert all(text.startswith(expected or "") for _, text in found)
    assert line in rewritten(source)


def test_an_import_is_added_behind_that_of_torch_where_lightnings_is_conditional() -> None:
    before = """\
    import torch
    try:
        import lightning
    except ImportError:
        pass
    state = torch.load(path)
    """

    assert rewritten(dedent(before)).splitlines()[:2] == [
        "import torch",
        "from nightbus.compat.torch_load import load_checkpoint_or_file",
    ]
