"""The processes of a training that `torchrun` started, or the only one.

    with join_process_group() as world:
        share = world.shard(images)
        total = world.all_reduce(torch.tensor([3.0]))

    torchrun --nproc-per-node 2 -m dilated train DATA --out RUN

Every process holds the whole network and draws the same order; each computes its part of every batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from dilated.errors import InputError

_T = TypeVar("_T")
_TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others: a validation, or the writing of a checkpoint, on a slow disk."""


@dataclass(frozen=True)
class World:
    """This process among all.

    Args:
        rank: its place, from 0 on.
        size: how many there are.
        local: its place on this machine, which is the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """This process's own GPU, or the CPU."""
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")

    def shard(self, items: Sequence[_T]) -> list[_T]:
        """Every size-th item, from the rank-th on; together the processes have each item once."""
        return list(items[self.rank :: self.size])

    def chunk(self, items: Sequence[_T]) -> list[_T]:
        """A run of items; one after another, those of all processes are the whole.

        Example:
            >>> [World(rank, 3).chunk(range(8)) for rank in range(3)]
            [[0, 1], [2, 3, 4], [5, 6, 7]]
        """
        return list(items[len(items) * self.rank // self.size : len(items) * (self.rank + 1) // self.size])

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_gather(self, value: _T) -> list[_T]:
        """Each process's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: _T) -> _T:
        """The first process's value, in all."""
        return self.all_gather(value)[0]

    def barrier(self) -> None:
        """Until all are world."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_process_group() -> Iterator[World]:
    """The world that `torchrun` describes in the environment, joined for as long as the context lasts.

    Raises:
        InputError: another process has gone, or cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    world = World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(world.device)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_TIMEOUT)
        yield world
    except (dist.DistError, RuntimeError) as error:  # gloo raises RuntimeError where a peer has gone
        if isinstance(error, RuntimeError) and not isinstance(error, dist.DistError) and not _is_peer_failure(error):
            raise
        raise InputError(
            f"process {world.rank} of {size}: another process has gone ({str(error).splitlines()[0][:160]}). See what "
            "it said; then go on from the last checkpoint with the same command and --resume, on any number of "
            "processes."
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _is_peer_failure(error: RuntimeError) -> bool:
    text = str(error).lower()
    return any(sign in text for sign in ("gloo", "nccl", "peer", "connect", "timed out", "socket"))
