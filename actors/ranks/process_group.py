"""ProcessGroup: the group of several processes, over a TCPStore and torch.distributed."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import filterfalse, islice
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store, get_backend_config

from ...bus.errors import RankLostError, RankMismatchError, UsageError
from ...bus.system.own_frames import show_own_frames
from ...bus.system.streams import notify_user
from .group import Group
from .link import ANSWER_WITHIN_S, LEAVE_WITHIN_S
from .world import World

# No number of bytes that two processes of one run would exchange by mistake.
_MAX_BYTES = 64 << 20
_CHUNK_BYTES = 32 << 20  # of what goes over the process group at once
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2e-4, 0.02
# Ranks that one store answers in the longest pause without being kept busy by it.
_RANKS_A_PAUSE = 64
_LOOK_S = 0.5  # between looks at whether a rank has ended that may be waited for
_MISSING_AFTER_S = 30.0  # it is said which ranks have not joined
_MAX_MISSING = 8  # of them are named

_FAILED = "failed"
_ENDED = "ended"  # the first rank whose script has

_encoder = msgspec.msgpack.Encoder()


class ProcessGroup(Group):
    """The group of several processes.

    What one rank waits for another one for has no time limit: preparing data may take hours, and a
    rank that is lost is found and named by others means.

    Args:
        world: which rank this is.
        store: client of the store of all ranks, for this object alone.
        backends: of torch.distributed, by device, see ``DDPStrategy.backends``.
        timeout: of a collective operation; torch raises after it. Torch's default if None.

    Raises:
        UsageError: torch.distributed was initialised with another number of processes, or for other
            exchanges than these.
    """

    def __init__(
        self, world: World, store: Store, backends: str, timeout: timedelta | None
    ) -> None:
        self.world = world
        self._store = _of_nightbus(store, world)
        self._timeout = timeout
        self._exchanges = 0
        self._look_due_s = 0.0
        self._longest_pause_s = _LONGEST_PAUSE_S * max(1.0, world.size / _RANKS_A_PAUSE)
        self._wait_until_all_join()
        self._owns_group = not dist.is_initialized()
        show_own_frames()  # before torch puts the rank before each line
        if self._owns_group:
            dist.init_process_group(
                backends,
                store=PrefixStore("torch", self._store),
                rank=world.rank,
                world_size=world.size,
                timeout=timeout,
            )
        elif (dist.get_rank(), dist.get_world_size()) != (world.rank, world.size):
            raise UsageError(
                f"torch.distributed was initialised as rank {dist.get_rank()} of "
                f"{dist.get_world_size()}, and the launcher started this process as rank "
                f"{world.rank} of {world.size}; leave init_process_group to the Trainer"
            )
        else:
            self._timeout = None
            self.check_options(backends, timeout)

    def check_options(self, backends: str, timeout: timedelta | None) -> None:
        """Check that exchanges are as a Trainer asks, which did not begin them.

        Args:
            backends: of torch.distributed, by device.
            timeout: of a collective operation; None for any.

        Raises:
            UsageError: they are not.
        """
        began = "the first one was" if self._owns_group else "init_process_group was"
        present = _by_device(get_backend_config())
        wanted = _by_device(backends)
        if not wanted.items() <= present.items():
            raise UsageError(
                f"this Trainer exchanges tensors by {_shown(wanted)}, and {began} told "
                f"{_shown(present)}: give all Trainers of a script the same accelerator and "
                "strategy, and leave init_process_group to them"
            )
        if timeout not in (None, self._timeout):
            raise UsageError(
                f"timeout={timeout}: {began} told {self._timeout or 'none'}, which holds for all "
                "exchanges of these processes: give all Trainers of a script one strategy, and "
                "leave init_process_group to them"
            )

    def close(self, failure: str) -> None:
        """Leave the others: who waits for this rank gets an error from now on.

        Args:
            failure: why this rank ends; empty if it ends well.
        """
        if self.link is not None:
            if failure:
                self.link.fail(failure)
            self.link.leave()
        if not self._has_lost_another:  # whose machine may be that of the store
            # Where the network is down, the system goes on sending for long.
            last = threading.Thread(target=self._leave_store, args=(failure,), daemon=True)
            last.start()
            last.join(LEAVE_WITHIN_S)
        if self._owns_group and dist.is_initialized():
            dist.destroy_process_group()

    def _leave_store(self, failure: str) -> None:
        with contextlib.suppress(dist.DistError, RuntimeError):  # the store's process has ended
            if failure:
                self._store.compare_set(_FAILED, "", f"{self.world.rank} failed: {failure}")
            else:
                self._store.compare_set(_ENDED, "", str(self.world.rank))
            self._store.add("left", 1)

    @property
    def _has_lost_another(self) -> bool:
        word = None if self.link is None else self.link.member.failure
        return word is not None and word.rank != self.world.rank

    def wait_until_all_left(self, limit_s: float) -> None:
        """Wait until all ranks have left, or one has failed.

        Args:
            limit_s: how long at most.
        """
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s and self._store.add("left", 0) < self.world.size:
            if self._store.check([_FAILED]):
                return
            time.sleep(self._longest_pause_s)

    def _wait_until_all_join(self) -> None:
        """Wait for all, in short waits: init_process_group would hold Ctrl-C up."""
        key = self._next_key("wait_for_all", "join")
        self._store.set(f"joins/{self.world.rank}", "")
        self._store.add(key, 1)
        say_s = time.monotonic() + _MISSING_AFTER_S

        def are_all_here() -> bool:
            nonlocal say_s
            if self._store.add(key, 0) >= self.world.size:
                return True
            if time.monotonic() >= say_s:
                say_s = float("inf")
                self._name_missing()
            return False

        self._until(are_all_here, "join")
        self._forget([key], self.world.size)

    def _name_missing(self) -> None:
        """Tell people which ranks have not joined; the first one that has does."""

        def has_joined(rank: int) -> bool:
            return bool(self._store.check([f"joins/{rank}"]))

        if any(map(has_joined, range(self.world.rank))):
            return
        found = list(islice(filterfalse(has_joined, range(self.world.size)), _MAX_MISSING + 1))
        names = ", ".join(map(str, found[:_MAX_MISSING]))
        more = ", ..." if len(found) > _MAX_MISSING else ""
        notify_user(
            f"nightbus: rank {self.world.rank} of {self.world.size} has waited for "
            f"{_MISSING_AFTER_S:.0f} s for rank {names}{more}, which has not come to the first run "
            "of a Trainer; look whether its script is busy before, stuck, or has ended"
        )

    # -- exchanges ---------------------------------------------------------------------------

    def broadcast(self, what: str, value: Any, src: int = 0) -> Any:
        key = self._next_key("broadcast", what)
        if self.world.rank == src:
            self._store.set(key, _encoded(what, value))
            return value
        self._until(lambda: self._store.check([key]), what)
        found = msgspec.msgpack.decode(self._store.get(key))
        self._forget([key], self.world.size - 1)
        return found

    def gather(self, what: str, value: Any) -> Sequence[Any]:
        key = self._next_key("gather", what)
        keys = [f"{key}/{rank}" for rank in range(self.world.size)]
        self._store.set(keys[self.world.rank], _encoded(what, value))
        self._until(lambda: self._store.check(keys), what)
        found = [msgspec.msgpack.decode(each) for each in self._store.multi_get(keys)]
        self._forget(keys, self.world.size)
        return found

    def collect(self, what: str, data: bytes) -> list[bytes]:
        sizes = self.gather(f"the size of {what}", len(data))
        if self.world.rank:
            if data:
                for some in torch.frombuffer(bytearray(data), dtype=torch.uint8).split(
                    _CHUNK_BYTES
                ):
                    dist.send(some, 0)
            return []
        found = [data]
        for rank, size in enumerate(sizes[1:], 1):
            row = torch.empty(size, dtype=torch.uint8)
            if size:
                for some in row.split(_CHUNK_BYTES):
                    dist.recv(some, rank)
            found.append(row.numpy().tobytes())
        return found

    def wait_for_all(self, what: str) -> None:
        key = self._next_key("wait_for_all", what)
        self._store.add(key, 1)
        self._until(lambda: self._store.add(key, 0) >= self.world.size, what)
        self._forget([key], self.world.size)

    def meets(self, what: str, within_s: float) -> bool:
        key = f"meeting/{self._exchanges}/{what}"
        answer = f"{key}/answer"
        if self._store.add(key, 1) == self.world.size:
            self._store.compare_set(answer, "", "yes")
        end_s = time.monotonic() + within_s

        def is_answered() -> bool:
            if time.monotonic() > end_s or self._has_another_ended():
                self._store.compare_set(answer, "", "no")  # the first answer stands
            return self._store.check([answer])

        self._until(is_answered)
        if self._store.get(answer) != b"yes":
            return False
        self.wait_for_all(what)  # so that nobody needs the answer any more
        if self.world.is_global_zero:
            self._store.delete_key(key)
            self._store.delete_key(answer)
        return True

    def note(self, what: str) -> None:
        self._store.add(self._noted(what), 1)

    def noted(self, what: str) -> int:
        key = self._noted(what)
        number = self._store.add(key, 0)
        if self._store.add(f"{key}/read", 1) == number:
            self._store.delete_key(key)
            self._store.delete_key(f"{key}/read")
        return number

    def _noted(self, what: str) -> str:
        return f"noted/{self._exchanges}/{what}"

    def share(self, tensors: Iterable[Tensor], src: int = 0) -> None:
        by_device: dict[torch.device, list[Tensor]] = {}
        for tensor in tensors:
            by_device.setdefault(tensor.device, []).append(tensor)
        for of_device in by_device.values():
            for some in _in_chunks(of_device):
                self._share_at_once(some, src)

    @torch.no_grad()
    def _share_at_once(self, tensors: list[Tensor], src: int) -> None:
        """Give all ranks some tensors of one, as one row of bytes."""
        self._meet()
        row = torch.cat([tensor.detach().reshape(-1).view(torch.uint8) for tensor in tensors])
        dist.broadcast(row, src)
        if self.world.rank == src:
            return
        for tensor, part in zip(tensors, row.split([t.nbytes for t in tensors]), strict=True):
            # A copy, because a view of another dtype has to begin where its numbers may.
            tensor.copy_(part.clone().view(tensor.dtype).view(tensor.shape))

    def lost(self, error: BaseException) -> RankLostError | None:
        assert self.link is not None
        if _is_of_transport(error) and (lost := self.link.lost(ANSWER_WITHIN_S)) is not None:
            return lost
        return self.link.fail(f"{type(error).__name__}: {error}".removesuffix(": "))

    @torch.no_grad()
    def stack(self, tensor: Tensor) -> Tensor:
        mine = tensor.contiguous().reshape(-1).view(torch.uint8)
        rows = mine.new_empty((self.world.size, mine.numel()))
        self._meet()
        dist.all_gather(list(rows), mine)
        return rows.view(tensor.dtype).view(self.world.size, *tensor.shape)

    def sum(self, values: Tensor) -> Tensor:
        self._meet()
        dist.all_reduce(values)
        return values

    def greatest(self, values: Tensor) -> Tensor:
        self._meet()
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values

    def _meet(self) -> None:
        self.before_exchange()
        self.met += 1

    def _next_key(self, method: str, what: str) -> str:
        """Return the key of the next exchange, after a look at whether all do the same."""
        self.before_exchange()
        self._exchanges += 1
        key, mine = f"exchange/{self._exchanges}", f"{method} of {what} by rank"
        first = self._store.compare_set(f"{key}/what", "", f"{mine} {self.world.rank}").decode()
        others, _, rank = first.rpartition(" ")
        if others != mine:
            raise RankMismatchError(
                f"rank {self.world.rank} is at {method}({what!r}) where rank {rank} is at "
                f"{others.removesuffix(' by rank')!r}: all ranks have to call the same in the same "
                "order; move the call out of the `if` that only some ranks run"
            )
        return key

    def _until(self, is_there: Callable[[], bool], what: str = "") -> None:
        """Ask until something is there; a wait within torch's store would hold signals up.

        Args:
            is_there: whether it is.
            what: the exchange that all ranks have to call; empty if others need not.
        """
        pause_s, link = _FIRST_PAUSE_S, self.link
        while not is_there():
            if link is not None:
                link.awaits = what
                link.check()
            elif self._store.check([_FAILED]):
                raise _lost(self._store.get(_FAILED))
            # Who has ended had done its part of what is there.
            if self._has_another_ended() and not is_there():
                raise self._deserted(int(self._store.get(_ENDED)))
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, self._longest_pause_s)
        if link is not None:
            link.awaits = ""

    def _has_another_ended(self) -> bool:
        """Return whether a rank's script has ended; looked at now and then, to spare the store."""
        now_s = time.monotonic()
        if now_s < self._look_due_s:
            return False
        self._look_due_s = now_s + _LOOK_S
        return self._store.check([_ENDED])

    def _deserted(self, rank: int) -> RankLostError:
        """Return the error for a wait for a rank whose script has ended."""
        what = f"its script has ended, and rank {self.world.rank} waits for it"
        if self.link is None:
            return RankLostError(rank, f"rank {rank} is lost: {what}")
        return self.link.lose(rank, what)

    def _forget(self, keys: list[str], readers: int) -> None:
        """Delete what all have read, so that the store does not grow."""
        counter = f"exchange/{self._exchanges}/read"
        if self._store.add(counter, 1) < readers:
            return
        for key in (*keys, counter, f"exchange/{self._exchanges}/what"):
            self._store.delete_key(key)


def _by_device(backends: str) -> dict[str, str]:
    """Return the backend for tensors of each device, from torch's text for them."""
    if ":" not in backends:
        return {"cpu": backends}
    pairs = (pair.partition(":") for pair in backends.split(","))
    return {device: backend for device, _, backend in pairs}


def _shown(by_device: dict[str, str]) -> str:
    return ", ".join(f"{backend} ({device})" for device, backend in by_device.items())


def _in_chunks(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the tensors in groups of about a chunk's size."""
    chunk: list[Tensor] = []
    for tensor in tensors:
        chunk.append(tensor)
        if sum(each.nbytes for each in chunk) >= _CHUNK_BYTES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _lost(word: bytes) -> RankLostError:
    """Return the error for what ``tell_failure`` has told."""
    rank, _, how = word.decode(errors="replace").partition(" ")
    return RankLostError(int(rank), f"rank {rank} {how}")


def tell_failure(store: Store, world: World, rank: int, how: str) -> None:
    """Tell ranks that have not joined yet why they cannot go on; who has, has a link.

    Args:
        store: the store of all ranks.
        world: which rank this is.
        rank: which one is to blame.
        how: what it did; the first word stands.
    """
    _of_nightbus(store, world).compare_set(_FAILED, "", f"{rank} {how}")


def _of_nightbus(store: Store, world: World) -> Store:
    """Return the part of the store that no other use of it touches, nor an earlier start."""
    return PrefixStore(f"nightbus/{world.restart}", store)


def _is_of_transport(error: BaseException) -> bool:
    """Return whether an exchange failed, as it does when another rank has ended."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error)


def _encoded(what: str, value: Any) -> str:
    try:
        encoded = _encoder.encode(value)
    except TypeError as error:
        raise UsageError(
            f"{what} cannot be given to other ranks: {error}; use numbers, texts, lists and dicts"
        ) from None
    if len(encoded) > _MAX_BYTES:
        raise UsageError(
            f"{what} has {len(encoded):,} bytes, at most {_MAX_BYTES:,} can be given to other "
            "ranks this way; use tensors and torch.distributed"
        )
    return encoded  # type: ignore[return-value]  # torch takes bytes too
