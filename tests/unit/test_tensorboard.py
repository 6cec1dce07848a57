"""TensorBoard: what its own reader finds in the file."""

import math
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import plugin_data_pb2

import nightbus as nb
from nightbus.sinks.tensorboard import TensorBoard
from nightbus.sinks.testing import SinkContract

FILE = "events.out.tfevents.nightbus"


class TestTensorBoard(SinkContract):
    def make(self, folder: Path) -> nb.TensorBoard:
        return nb.TensorBoard(folder)

    def read(self, folder: Path) -> bytes:
        return (folder / FILE).read_bytes()


def read(folder: Path) -> EventAccumulator:
    everything = dict.fromkeys(("scalars", "images", "histograms", "tensors"), 0)
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


class Shows(Small):
    """Puts something of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"rate": 0.1, "layers": 3, "name": "small", "bias": True})

    def on_train_epoch_end(self) -> None:
        pyplot = pytest.importorskip("matplotlib.figure")
        figure = pyplot.Figure(figsize=(1, 0.5), dpi=80)
        self.put_image("image", [[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]])
        self.put_figure("figure", figure)
        self.put_histogram("histogram", [0.0, 1.0, 1.0, 2.0], bins=2)
        self.put_text("text", "hello")
        self.put_table("table", ["word", "count"], [["a|b", 2], [None, 3]])


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    run = trainer(tmp_path, sinks=[nb.TensorBoard()])
    run.fit(Shows(), loader(), loader(8))
    assert run.log_dir is not None
    return Path(run.log_dir)


def test_scalars_are_there_with_step_and_wall_time(tmp_path: Path) -> None:
    run = trainer(tmp_path, sinks=[nb.TensorBoard(), nb.JSONLines()], log_every_n_steps=1)

    class Logs(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.log("loss", loss)
            self.put("nan", math.nan)
            return loss

    run.fit(Logs(), loader())
    assert run.log_dir is not None
    found = read(Path(run.log_dir))

    losses = found.Scalars("loss")
    assert [entry.step for entry in losses] == [0, 1, 2, 3, 4, 5]
    assert losses[0].value == pytest.approx(float(run.logged_metrics["loss"]), rel=2.0)
    assert all(math.isnan(entry.value) for entry in found.Scalars("nan"))
    assert losses[0].wall_time == pytest.approx(Path(run.log_dir).stat().st_mtime, abs=300)


def test_an_image_and_a_figure_come_back_with_their_size(shown: Path) -> None:
    found = read(shown)

    (image,), (figure,) = found.Images("image"), found.Images("figure")
    assert (image.width, image.height, image.step) == (3, 2, 5)
    assert (figure.width, figure.height) == (80, 40)
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_a_histogram_has_its_counts(shown: Path) -> None:
    (event,) = read(shown).Histograms("histogram")
    value = event.histogram_value

    assert event.step == 5
    assert (value.min, value.max, value.num) == (0.0, 2.0, 4.0)
    assert list(value.bucket_limit) == [1.0, 2.0]
    assert list(value.bucket) == [1.0, 3.0]


def test_texts_and_tables_are_texts(shown: Path) -> None:
    found = read(shown)

    text, table = (
        found.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()
        for name in ("text", "table")
    )
    assert text == "hello"
    assert table == "| word | count |\n| --- | --- |\n| a\\|b | 2 |\n|  | 3 |"


def test_hyperparameters_and_how_it_ended_are_there(shown: Path) -> None:
    infos = {}
    for event in EventFileLoader(str(shown / FILE)).Load():
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                content = value.metadata.plugin_data.content
                infos[value.tag] = plugin_data_pb2.HParamsPluginData.FromString(content)

    hparams = infos["_hparams_/session_start_info"].session_start_info.hparams
    assert hparams["rate"].number_value == 0.1
    assert hparams["layers"].number_value == 3
    assert hparams["name"].string_value == "small"
    assert hparams["bias"].bool_value is True
    assert infos["_hparams_/session_end_info"].session_end_info.status == 1  # success


def test_the_file_of_a_replayed_run_is_the_same_to_the_byte(tmp_path: Path, shown: Path) -> None:
    nb.replay(shown, sinks=[TensorBoard(tmp_path / "again")])

    assert (tmp_path / "again" / FILE).read_bytes() == (shown / FILE).read_bytes()
