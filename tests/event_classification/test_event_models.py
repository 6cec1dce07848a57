"""The four classifiers: shapes, what they remember, and that they can learn."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import nightbus as nb
from examples.event_classification.models import MODELS, StreamClassifier, make_model

OPTIONS = {"cin": 2, "base": 4, "cout": 16, "num_classes": 5}
REMEMBER = ["ConvRNNClassifier", "LeNetClassifier"]


def model_of(name: str) -> StreamClassifier:
    torch.manual_seed(0)
    return make_model(name, **OPTIONS).eval()


@pytest.mark.parametrize("name", list(MODELS))
def test_a_model_has_logits_for_each_bin_and_a_row_of_its_last_layer_for_each_class(
    name: str,
) -> None:
    model = model_of(name).train()

    logits = model(torch.rand(3, 2, 2, 32, 32))
    logits.sum().backward()

    assert logits.shape == (3, 2, 5)
    assert all(parameter.grad is not None for parameter in model.parameters())
    last: Any = model.get_submodule(model.last_layer)
    assert last.weight.shape[0] == 5


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("ConvRNNClassifier", {"base": 8, "cout": 64}, 101_002),
        ("ConvRNNClassifier", {}, 476_938),
        ("LeNetClassifier", {}, 679_084),
        ("Mobilenetv2Classifier", {"width_mul": 0.25}, 250_850),
        ("Mobilenetv2Classifier", {}, 2_236_394),
    ],
)
def test_models_are_as_large_as_documented(
    name: str, options: dict[str, float], parameters: int
) -> None:
    model = make_model(name, cin=2, num_classes=10, **options)

    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("name", REMEMBER)
def test_parts_of_a_recording_say_the_same_as_the_whole(name: str) -> None:
    model = model_of(name)
    x = torch.rand(8, 2, 2, 32, 32)

    with torch.no_grad():
        whole = model(x)
        model.reset(torch.zeros(2))
        parts = []
        for part in x.split(3):
            parts.append(model(part))
            model.reset(torch.ones(2, 1, 1, 1))
        forgetful = torch.cat([_anew(model, part) for part in x.split(3)])

    assert torch.cat(parts) == pytest.approx(whole, abs=1e-5)
    assert not torch.allclose(forgetful, whole, atol=1e-5)


def _anew(model: StreamClassifier, x: torch.Tensor) -> torch.Tensor:
    model.reset(torch.zeros(x.shape[1]))
    logits: torch.Tensor = model(x)
    return logits


@pytest.mark.parametrize("name", REMEMBER)
def test_reset_empties_the_slots_that_are_not_kept(name: str) -> None:
    model = model_of(name)
    x = torch.rand(2, 2, 2, 32, 32)

    with torch.no_grad():
        first = model(x)
        model.reset(torch.tensor([1.0, 0.0]))
        after = model(x)

    assert after[:, 1] == pytest.approx(first[:, 1], abs=1e-6)
    assert not torch.allclose(after[:, 0], first[:, 0], atol=1e-6)


@pytest.mark.parametrize("name", REMEMBER)
def test_another_number_of_slots_empties_all(name: str) -> None:
    model = model_of(name)
    model(torch.rand(2, 3, 2, 32, 32))

    model.reset(torch.ones(2))

    assert model.memory_state() == [None]
    model(torch.rand(2, 2, 2, 32, 32))


@pytest.mark.parametrize("name", REMEMBER)
def test_gradients_end_at_a_batchs_border(name: str) -> None:
    model = model_of(name)
    x = torch.rand(2, 1, 2, 32, 32, requires_grad=True)

    model(x)
    model.reset(torch.ones(1))
    model(x.detach()).sum().backward()

    assert x.grad is None


def test_memory_is_no_weight_and_is_put_back_as_it_was() -> None:
    model = model_of("ConvRNNClassifier")
    empty = set(model.state_dict())
    x = torch.rand(2, 2, 2, 32, 32)
    model(x)
    state = model.memory_state()
    expected = model(x)

    model.load_memory_state(None)
    assert model.memory_state() == [None]
    model.load_memory_state(state)

    assert torch.equal(model(x), expected)
    assert set(model.state_dict()) == empty


def test_squeezenet_learns_two_pictures() -> None:
    torch.manual_seed(0)
    model = make_model("SqueezenetClassifier", cin=2, num_classes=2)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    x = torch.zeros(1, 4, 2, 32, 32)
    x[:, ::2, :, :16] = 1
    x[:, 1::2, :, :, :16] = 1
    x += 0.1 * torch.rand_like(x)
    labels = torch.arange(4) % 2

    losses = []
    for _ in range(10):
        loss = F.cross_entropy(model(x)[0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.1 < losses[0]


def test_an_unknown_model_is_told_what_there_is() -> None:
    with pytest.raises(nb.UsageError, match="no model 'LeNet'; did you mean LeNetClassifier"):
        make_model("LeNet", **OPTIONS)
