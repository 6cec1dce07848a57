"""CommonEnd: ranks whose data may end after different batches end an epoch after the same one."""

from collections.abc import Sequence

import torch

from ...bus.copies import StaysInRun
from ...bus.errors import RankMismatchError
from .group import Group
from .replicas import Replicas


class CommonEnd(StaysInRun):
    """Ends an epoch on all ranks after the last batch of the rank whose data ends first.

    Each rank has to know of a batch whether it is its last, so it reads one batch ahead. That is
    told with the batch's gradients; where these are not averaged in each batch, by an exchange of
    its own before the batch.

    Args:
        group: the ranks.

    Attributes:
        rides: whether the present batch is another rank's last is known once its gradients are.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._replicas: Replicas | None = None  # that tell a flag
        self._share = 0.0  # of the ranks whose data ends with the present batch
        self.rides = False

    def begin(self, has_batch: bool, epoch: int, replicas: Replicas | None) -> bool:
        """Begin an epoch, or go on in the middle of one.

        Args:
            has_batch: this rank has one more.
            epoch: its number.
            replicas: what averages the gradients.

        Returns:
            Whether the epoch is over.

        Raises:
            RankMismatchError: a rank has no batch in an epoch in which others have some.
        """
        self._begin(replicas)
        has = self._group.gather("whether there are training batches", has_batch)
        if any(has) and not all(has):
            raise RankMismatchError(
                f"{_ranks(has, False)} no batches to train on in epoch {epoch}, and "
                f"{_ranks(has, True)} some, so that they would wait for each other for ever; give "
                "each rank at least one batch, such as by data that has a part for each"
            )
        return not has_batch

    def go_on(self, is_over: bool, replicas: Replicas | None) -> bool:
        """Go on in the middle of an epoch.

        Args:
            is_over: this rank has no more batches, or the epoch has ended otherwise.
            replicas: what averages the gradients.

        Returns:
            Whether the epoch is over.
        """
        self._begin(replicas)
        over = self._group.gather("whether the training batches are over", is_over)
        self._share = sum(over) / len(over)
        return any(over)

    def _begin(self, replicas: Replicas | None) -> None:
        carries = replicas is not None and replicas.carries
        self._replicas = replicas if carries else None
        if self._replicas is not None:
            self._replicas.tells_flags = True
        self.rides, self._share = False, 0.0

    def before_batch(self, is_last: bool, steps_in_each: bool) -> bool:
        """Tell others whether a batch is this rank's last.

        Args:
            is_last: it is.
            steps_in_each: gradients are averaged in each batch.

        Returns:
            Whether it is the last of any rank, as far as that is known.
        """
        self.rides = steps_in_each and self._replicas is not None
        if self._replicas is not None:
            self._replicas.flag = is_last
        if self.rides:
            return is_last
        row = torch.tensor([float(is_last)])
        self._share = self._group.sum(row).item() / self._group.world.size
        return self._share > 0

    def after_batch(self) -> bool:
        """Return whether the batch was the last of any rank, where that rides."""
        self.rides = False
        if self._replicas is not None:
            self._share = self._replicas.flagged
        return self._share > 0

    def left_unread(self, ahead: int, announced: int | None) -> str:
        """Return, at the end of an epoch, which ranks have left batches unread, to tell the user.

        Args:
            ahead: batches that this rank has read and not used.
            announced: batches that it had left by its data's length; None without one.

        Returns:
            Empty if none has.
        """
        if not 0 < self._share < 1:
            return ""
        mine = None if not ahead else [max(ahead, announced or 0), announced is not None]
        of_ranks = self._group.gather("batches left unread", mine)
        told = [
            f"rank {rank} left {'' if is_exact else 'at least '}{number} unread"
            for rank, each in enumerate(of_ranks)
            if each is not None
            for number, is_exact in [each]
        ]
        ended = _ranks([each is None for each in of_ranks], True)
        return f"{ended} no more, so the epoch ends for all; {', '.join(told)}" if told else ""


def _ranks(values: Sequence[bool], wanted: bool) -> str:
    """Return the ranks that have a value, with the verb."""
    found = [str(rank) for rank, value in enumerate(values) if value == wanted]
    return f"rank {found[0]} has" if len(found) == 1 else f"ranks {', '.join(found)} have"
