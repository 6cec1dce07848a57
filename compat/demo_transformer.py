"""Lightning's demo of a language model: a small transformer that is given the words to predict."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ..actors import LightningModule
from .demo_data import WikiText2


class Transformer(nn.Module):
    """Returns the logarithm of each word's probability, one row for each place.

    Args:
        vocab_size: number of different words.
        ninp: numbers that stand for a word.
        nhead: heads of the attention.
        nhid: width of the layers between them.
        nlayers: layers of the encoder, and of the decoder.
        dropout: part of the activations that is dropped in training.
    """

    def __init__(
        self,
        vocab_size: int = 33278,
        ninp: int = 200,
        nhead: int = 2,
        nhid: int = 200,
        nlayers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.ninp, self.vocab_size = ninp, vocab_size
        self.src_mask: Tensor | None = None
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(vocab_size, ninp)
        self.transformer = nn.Transformer(
            ninp, nhead, nlayers, nlayers, nhid, dropout, batch_first=True
        )
        self.decoder = nn.Linear(ninp, vocab_size)

    def forward(self, inputs: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the logarithms of probabilities.

        Args:
            inputs: numbers of words, one row for each text.
            target: numbers of the words that follow.
            mask: which words a place must not see; those behind it if None.
        """
        length = inputs.shape[1]
        if mask is None:
            self.src_mask = mask = nn.Transformer.generate_square_subsequent_mask(
                length, device=inputs.device
            )
        places = _places(length, self.ninp).to(inputs.device)
        source, following = (
            self.dropout(self.embedding(words) * math.sqrt(self.ninp) + places)
            for words in (inputs, target)
        )
        decoded = self.decoder(self.transformer(source, following, tgt_mask=mask))
        return F.log_softmax(decoded, dim=-1).view(-1, self.vocab_size)


def _places(length: int, width: int) -> Tensor:
    """Return sines and cosines of places, of a period for each pair of columns."""
    place = torch.arange(length).unsqueeze(1)
    column = torch.arange(width)
    angle = place / 10000 ** ((column - column % 2) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())


class LightningTransformer(LightningModule):
    """Trains the transformer on WikiText-2.

    Args:
        vocab_size: number of different words.
    """

    def __init__(self, vocab_size: int = 33278) -> None:
        super().__init__()
        self.model = Transformer(vocab_size=vocab_size)

    def forward(self, inputs: Tensor, target: Tensor) -> Any:
        """Return the logarithms of probabilities.

        Args:
            inputs: numbers of words, one row for each text.
            target: numbers of the words that follow.
        """
        return self.model(inputs, target)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, target = batch
        return F.nll_loss(self(inputs, target), target.reshape(-1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model.parameters(), lr=0.1)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(WikiText2())
