"""Makes the weights of all ranks those of rank 0, after a look at whether they can be."""

from collections.abc import Collection
from hashlib import blake2b

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ...bus.errors import RankMismatchError, UsageError
from .group import Group

_DIGEST_BYTES = 16
_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


def share_weights(group: Group, module: nn.Module) -> None:
    """Give all ranks the parameters and buffers of rank 0.

    Args:
        group: the ranks.
        module: on its device.

    Raises:
        RankMismatchError: the ranks' modules differ.
        UsageError: a parameter has no shape yet.
    """
    if group.world.is_alone:
        return
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    lazy = [name for name, tensor in named.items() if is_lazy(tensor)]
    if lazy:
        raise UsageError(
            f"{', '.join(lazy)}: a lazy module has no weights before its first call, and ranks "
            "begin with the same ones; call it once with a batch, in configure_model or before fit"
        )
    described = [f"{name} {t.dtype} {list(t.shape)}" for name, t in named.items()]
    refuse_differing(
        group,
        "the module's weights",
        described,
        "the module has {} on rank 0, and {} on rank {}: all ranks have to make the same module; "
        "make nothing of it depend on the rank or on data that differs",
    )
    group.share(named.values())


def refuse_differing(group: Group, what: str, described: list[str], words: str) -> None:
    """Check that all ranks have the same, in the same order.

    Args:
        group: the ranks.
        what: what they have, for errors.
        described: what this rank has.
        words: of the error, with places for what rank 0 has, what another has, and which it is.

    Raises:
        RankMismatchError: they differ; it names the first difference.
    """
    digest = blake2b("\n".join(described).encode(), digest_size=_DIGEST_BYTES).hexdigest()
    if len(set(group.gather(f"a comparison of {what}", digest))) == 1:
        return
    first, *others = group.gather(what, described)
    for rank, other in enumerate(others, 1):
        pairs = enumerate(zip([*first, ""], [*other, ""], strict=False))
        at = next((number for number, (one, another) in pairs if one != another), None)
        if at is not None:
            of_zero, of_other = ([*entries, "nothing more"][at] for entries in (first, other))
            raise RankMismatchError(words.format(of_zero, of_other, rank))
    raise AssertionError("the digests of equal lists differ")


def synchronize_batchnorm(module: nn.Module, device: torch.device) -> None:
    """Replace a module's BatchNorms by those that normalise by the batches of all ranks.

    Args:
        module: the module.
        device: that it will be on.

    Raises:
        UsageError: torch has none for the device.
    """
    if device.type == "cpu":
        raise UsageError(
            "sync_batchnorm=True: torch's SyncBatchNorm needs GPUs; leave it out on a CPU"
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(module)


def differing_weights(group: Group, module: nn.Module) -> list[str]:
    """Return the names of parameters that are not the same on all ranks, bit for bit.

    Args:
        group: the ranks.
        module: with parameters of the same shapes on all ranks.
    """
    named = dict(module.named_parameters())
    sums = _sums(named.values())
    # Each sum has a factor of its own, so that two that are swapped do not go unseen.
    total = (sums * torch.arange(1, 2 * len(sums), 2)).sum()
    greatest, less_than_least = group.greatest(torch.stack([total, ~total])).tolist()
    if greatest == ~less_than_least:
        return []
    found = group.gather("sums of the module's weights", sums.tolist())
    return [name for name, *of_ranks in zip(named, *found, strict=True) if len(set(of_ranks)) > 1]


@torch.no_grad()
def _sums(tensors: Collection[Tensor]) -> Tensor:
    """Return, for each tensor, a sum of its bits, which no rounding changes."""
    sums = torch.zeros(len(tensors), dtype=torch.int64)
    for number, tensor in enumerate(tensors):
        if tensor.layout is torch.strided:
            whole = _WHOLE_NUMBERS.get(tensor.element_size(), torch.int64)
            sums[number] = tensor.detach().reshape(-1).view(whole).sum()
    return sums
