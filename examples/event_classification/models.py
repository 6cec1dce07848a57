"""Classifiers of event streams: [T, N, C, H, W] -> logits [T, N, classes].

T time bins of N streams. The memory of a stream goes on with the next batch, unless ``reset``
empties it.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from examples.event_classification.errors import unknown_name
from examples.event_classification.memory import LSTM, ConvLSTM, Memory


class StreamClassifier(nn.Module):
    """Base of the classifiers: what they remember, and which layer names the classes.

    Attributes:
        last_layer: name of the layer that has an output for each class.
    """

    last_layer: ClassVar[str]

    def reset(self, keep: Tensor) -> None:
        """Empty the memory of slots, and cut that of the others from the graph.

        Args:
            keep: N values of any shape: 0 empties the slot, 1 keeps it.
        """
        for memory in self.memories():
            memory.reset(keep)

    def memories(self) -> list[Memory]:
        """Return the layers that remember."""
        return [module for module in self.modules() if isinstance(module, Memory)]

    def memory_state(self) -> list[list[Tensor] | None]:
        """Return what each layer remembers, cut from the graph."""
        return [
            None if memory.state is None else [tensor.detach() for tensor in memory.state]
            for memory in self.memories()
        ]

    def load_memory_state(self, states: list[list[Tensor] | None] | None) -> None:
        """Remember what ``memory_state`` returned; nothing if None."""
        memories = self.memories()
        device = next(self.parameters()).device
        for memory, state in zip(memories, states or [None] * len(memories), strict=True):
            memory.state = None if state is None else [tensor.to(device) for tensor in state]


class ConvRNNClassifier(StreamClassifier):
    """Three convolutions, a ConvLSTM, and a head.

    Args:
        cin: channels of the input.
        base: channels of the first convolution; each next one has twice as many.
        cout: channels before the last layer.
        num_classes: number of classes.
    """

    last_layer = "head.4"

    def __init__(self, cin: int = 1, base: int = 16, cout: int = 256, num_classes: int = 2) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _convolution(cin, base, stride=2),
            _convolution(base, 2 * base, stride=2),
            _convolution(2 * base, 4 * base, stride=2),
        )
        self.memory = ConvLSTM(4 * base, 4 * base)
        self.head = nn.Sequential(
            _convolution(4 * base, cout, stride=1),
            nn.AdaptiveMaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(4 * cout, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Take [T, N, C, H, W]; return logits [T, N, classes]."""
        return _over_time(self.head, self.memory(_over_time(self.features, x)))


class LeNetClassifier(StreamClassifier):
    """LeNet's convolutions, an LSTM, and a linear layer.

    Args:
        cin: channels of the input, of at least 16 x 16 pixels.
        base: channels of the first convolution.
        cout: length of the LSTM's memory.
        num_classes: number of classes.
    """

    last_layer = "head"

    def __init__(self, cin: int = 1, base: int = 6, cout: int = 256, num_classes: int = 2) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(cin, base, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(base, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(5),
            nn.Flatten(),
        )
        self.memory = LSTM(16 * 5 * 5, cout)
        self.head = nn.Linear(cout, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Take [T, N, C, H, W]; return logits [T, N, classes]."""
        return self.head(self.memory(_over_time(self.features, x)))  # type: ignore[no-any-return]


class Mobilenetv2Classifier(StreamClassifier):
    """MobileNetV2 on each bin alone; it remembers nothing.

    Args:
        cin: channels of the input.
        width_mul: factor of all widths.
        num_classes: number of classes.
        round_nearest: widths are multiples of this.
        **kwargs: taken and ignored, so that one call makes any model.
    """

    last_layer = "net.12"
    # expansion, channels, repetitions, stride of the first
    TABLE = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(
        self,
        cin: int = 2,
        width_mul: float = 1.0,
        num_classes: int = 2,
        round_nearest: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        width = _multiple(32 * width_mul, round_nearest)
        layers: list[nn.Module] = [_convolution(cin, width, stride=2, activation=nn.ReLU6)]
        for expansion, channels, repetitions, stride in self.TABLE:
            wanted = _multiple(channels * width_mul, round_nearest)
            blocks = []
            for number in range(repetitions):
                step = stride if number == 0 else 1
                blocks.append(_InvertedResidual(width, wanted, step, expansion))
                width = wanted
            layers.append(nn.Sequential(*blocks))
        last = _multiple(1280 * max(1.0, width_mul), round_nearest)
        layers += [
            _convolution(width, last, stride=1, size=1, activation=nn.ReLU6),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(last, num_classes),
        ]
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Take [T, N, C, H, W]; return logits [T, N, classes]."""
        return _over_time(self.net, x)


class SqueezenetClassifier(StreamClassifier):
    """SqueezeNet with batch norm on each bin alone; it remembers nothing.

    Args:
        cin: channels of the input.
        num_classes: number of classes.
        **kwargs: taken and ignored, so that one call makes any model.
    """

    last_layer = "net.13"

    def __init__(self, cin: int = 2, num_classes: int = 2, **kwargs: Any) -> None:
        super().__init__()
        self.net = nn.Sequential(
            _convolution(cin, 64, stride=2),
            _Fire(64, 16, 64),
            _Fire(128, 16, 64),
            nn.MaxPool2d(3, 2, padding=1),
            _Fire(128, 32, 128),
            _Fire(256, 32, 128),
            nn.MaxPool2d(3, 2, padding=1),
            _Fire(256, 48, 192),
            _Fire(384, 48, 192),
            _Fire(384, 64, 256),
            _Fire(512, 64, 256),
            nn.AdaptiveMaxPool2d(1),
            nn.Dropout(0.2),
            nn.Conv2d(512, num_classes, 1),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Take [T, N, C, H, W]; return logits [T, N, classes]."""
        return _over_time(self.net, x)


class _InvertedResidual(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = cin * expansion
        widened = (
            []
            if expansion == 1
            else [_convolution(cin, width, stride=1, size=1, activation=nn.ReLU6)]
        )
        self.net = nn.Sequential(
            *widened,
            _convolution(width, width, stride=stride, groups=width, activation=nn.ReLU6),
            nn.Conv2d(width, cout, 1, bias=False),
            nn.BatchNorm2d(cout),
        )
        self.is_residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return x + out if self.is_residual else out


class _Fire(nn.Module):
    def __init__(self, cin: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = _convolution(cin, squeezed, stride=1, size=1)
        self.one = _convolution(squeezed, expanded, stride=1, size=1)
        self.three = _convolution(squeezed, expanded, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        return torch.cat([self.one(squeezed), self.three(squeezed)], dim=1)


def _convolution(
    cin: int,
    cout: int,
    *,
    stride: int,
    size: int = 3,
    groups: int = 1,
    activation: type[nn.Module] = nn.ReLU,
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(cin, cout, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
        activation(),
    )


def _multiple(width: float, of: int) -> int:
    """Round a width to a multiple, at least one and not below 90 % of it."""
    rounded = max(of, int(width + of / 2) // of * of)
    return rounded + of if rounded < 0.9 * width else rounded


def _over_time(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a module to each bin: [T, N, ...] -> [T, N, ...]."""
    out: Tensor = module(x.flatten(0, 1))
    return out.unflatten(0, x.shape[:2])  # type: ignore[no-any-return]


MODELS: dict[str, type[StreamClassifier]] = {
    kind.__name__: kind
    for kind in (ConvRNNClassifier, LeNetClassifier, Mobilenetv2Classifier, SqueezenetClassifier)
}


def make_model(name: str, **options: Any) -> StreamClassifier:
    """Make a classifier.

    Args:
        name: of its class.
        **options: its arguments.

    Raises:
        UsageError: there is no model of that name.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name](**options)
