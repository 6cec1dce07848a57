"""Recurrent layers whose memory goes on from batch to batch."""

import torch
from torch import Tensor, nn


class Memory(nn.Module):
    """A layer with a memory for each slot of a batch.

    The memory is not part of ``state_dict``: it belongs to the streams, not to the model.

    Attributes:
        state: tensors whose first dimension is the slot; None before anything was seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.state: list[Tensor] | None = None

    def reset(self, keep: Tensor) -> None:
        """Cut the memory from the graph, and empty the slots where ``keep`` is 0.

        Args:
            keep: N values, 1 or 0, of any shape. If there were other slots than N, all are emptied.
        """
        if self.state is None:
            return
        if self.state[0].shape[0] != keep.numel():
            self.state = None
            return
        for number, tensor in enumerate(self.state):
            factors = keep.to(tensor).reshape(-1, *(1,) * (tensor.dim() - 1))
            self.state[number] = tensor.detach() * factors


class ConvLSTM(Memory):
    """An LSTM on images, whose gates are convolutions.

    Args:
        cin: channels of the input.
        hidden: channels of the output and of the memory.
    """

    def __init__(self, cin: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.x2h = nn.Conv2d(cin, 4 * hidden, 3, padding=1)
        self.h2h = nn.Conv2d(hidden, 4 * hidden, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Take [T, N, C, H, W]; return [T, N, hidden, H, W]."""
        steps, slots = x.shape[:2]
        gates = self.x2h(x.flatten(0, 1)).unflatten(0, (steps, slots))
        if self.state is None:
            empty = x.new_zeros(slots, self.hidden, *x.shape[-2:])
            self.state = [empty, empty]
        hidden, cell = self.state
        out = []
        for gates_of_step in gates:
            write, forget, read, value = (gates_of_step + self.h2h(hidden)).chunk(4, dim=1)
            kept = torch.sigmoid(forget + 1) * cell  # 1: remembers before it has learnt to
            cell = kept + torch.sigmoid(write) * torch.tanh(value)
            hidden = torch.sigmoid(read) * torch.tanh(cell)
            out.append(hidden)
        self.state = [hidden, cell]
        return torch.stack(out)


class LSTM(Memory):
    """An LSTM on vectors.

    Args:
        cin: length of the input.
        hidden: length of the output.
    """

    def __init__(self, cin: int, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(cin, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Take [T, N, cin]; return [T, N, hidden]."""
        before = None
        if self.state is not None:
            before = tuple(tensor.transpose(0, 1).contiguous() for tensor in self.state)
        out, after = self.rnn(x, before)
        self.state = [tensor.transpose(0, 1) for tensor in after]  # slots first
        return out  # type: ignore[no-any-return]
