"""Images, figures, histograms, texts and tables."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.bus.errors import MetricError
from nightbus.bus.media import decoded

Verb = Callable[[nb.Actor], None]


def put(tmp_path: Path, verb: Verb, **arguments: Any) -> nb.Media:
    """What is recorded when a callback puts something."""

    class Puts(nb.Callback):
        def on_train_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
            if trainer.global_step == 2:
                verb(self)

    run = trainer(tmp_path, callbacks=[Puts()], **arguments)
    run.fit(Small(), loader())
    (event,) = events(run, nb.Media)
    assert isinstance(event, nb.Media)
    return event


def pixels(png: bytes) -> Any:
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(io.BytesIO(png)))


def test_it_says_where_and_from_whom(tmp_path: Path) -> None:
    event = put(tmp_path, lambda actor: actor.put_text("note", "hello"))

    assert (event.name, event.kind, event.step, event.batch_idx) == ("note", "text", 1, 1)
    assert (event.source, event.hook) == ("puts", "on_train_batch_end")
    assert event.destinations == ("loggers",)
    assert decoded(event) == "hello"


@pytest.mark.parametrize(
    "image",
    [
        torch.arange(12).reshape(3, 4) / 11,
        torch.randint(0, 256, (3, 5, 6), dtype=torch.uint8),
        np.zeros((5, 6, 3), np.uint8),
        np.ones((5, 6, 1)),
        torch.rand(4, 5, 6),
    ],
)
def test_an_image_comes_back_pixel_by_pixel(tmp_path: Path, image: Any) -> None:
    event = put(tmp_path, lambda actor: actor.put_image("image", image))

    expected = np.asarray(image)
    if expected.ndim == 3 and expected.shape[0] in (3, 4) and expected.shape[2] not in (1, 3, 4):
        expected = expected.transpose(1, 2, 0)
    if expected.dtype != np.uint8:
        expected = (expected.astype(np.float64) * 255).round().astype(np.uint8)
    assert np.array_equal(pixels(decoded(event)), expected.squeeze())


def test_a_histogram_has_counts_between_edges(tmp_path: Path) -> None:
    values = torch.tensor([0.0, 0.1, 0.9, 1.0, float("nan"), float("inf")])

    event = put(tmp_path, lambda actor: actor.put_histogram("weights", values, bins=2))

    assert decoded(event) == {"edges": [0.0, 0.5, 1.0], "counts": [2, 2]}


def test_a_table_comes_back(tmp_path: Path) -> None:
    rows = [[1, "a", None], [np.float64(2.5), "b", True]]

    event = put(tmp_path, lambda actor: actor.put_table("table", ["n", "s", "x"], rows))

    assert decoded(event) == {
        "columns": ["n", "s", "x"],
        "rows": [[1, "a", None], [2.5, "b", True]],
    }


def test_a_destination_may_be_named(tmp_path: Path) -> None:
    event = put(tmp_path, lambda actor: actor.put_text("note", "x", destinations=["alerts"]))

    assert event.destinations == ("alerts",)


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        (lambda actor: actor.put_image("i", torch.zeros(2, 2, 2, 2)), r"shape \(2, 2, 2, 2\)"),
        (lambda actor: actor.put_image("i", ["a"]), "takes numbers"),
        (lambda actor: actor.put_figure("f", 3), "takes a matplotlib figure, not int"),
        (lambda actor: actor.put_histogram("h", [float("nan")]), "no finite values"),
        (lambda actor: actor.put_histogram("h", [1.0], bins=0), "bins=0"),
        (lambda actor: actor.put_histogram("h", [1.0], bins=10_001), "at most 10,000 can be"),
        (lambda actor: actor.put_text("t", 3), "takes a string, not int"),
        (lambda actor: actor.put_table("t", ["a"], [[1, 2]]), "row 0 has 2 values for 1 columns"),
        (lambda actor: actor.put_table("t", ["a"], [[{}]]), "holds a dict"),
        (lambda actor: actor.put_text("", "x"), "a metric's name is a string of 1 to"),
        (lambda actor: actor.put_text("t", "x" * 300_000), "max_media_bytes=262144"),
    ],
)
def test_what_cannot_be_recorded_is_refused(tmp_path: Path, verb: Verb, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        put(tmp_path, verb)


def test_the_limit_can_be_raised_up_to_what_the_log_takes(tmp_path: Path) -> None:
    text = "x" * 1_000_000

    event = put(tmp_path, lambda actor: actor.put_text("t", text), max_media_bytes=1_000_000)

    assert decoded(event) == text
    with pytest.raises(nb.UsageError, match="expected at most 1000000"):
        trainer(tmp_path, max_media_bytes=1_000_001)


def test_a_sink_that_wants_them_gets_them(tmp_path: Path) -> None:
    class Keeps(nb.Sink):
        events = (nb.Put, nb.Media)

        def __init__(self) -> None:
            self.kinds: list[str] = []

        def write(self, batch: list[Any]) -> None:
            self.kinds += [event.kind for event in batch if isinstance(event, nb.Media)]

    keeps = Keeps()

    put(tmp_path, lambda actor: actor.put_text("note", "hello"), sinks=[keeps])

    assert keeps.kinds == ["text"]
