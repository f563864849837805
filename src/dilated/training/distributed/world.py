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

from dilated.environment import resolve_device
from dilated.errors import InputError

_T = TypeVar("_T")
_TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others, for example for a validation or a checkpoint on a slow disk."""


@dataclass(frozen=True)
class World:
    """This process among all processes of a training.

    Args:
        rank: index of this process, from 0.
        size: number of processes.
        local_rank: index of this process on its machine, which is the index of its GPU.
        device_name: the device to compute on, as torch names it; by default CUDA if it is available, else the CPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device_name: str | None = None

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The device of this process; each process of a machine has a GPU of its own.

        Raises:
            InputError: a device that torch does not know or that this machine does not have.
        """
        device = resolve_device(self.device_name)
        return torch.device("cuda", self.local_rank) if device == torch.device("cuda") else device

    def shard(self, items: Sequence[_T]) -> list[_T]:
        """Return every size-th item from the rank-th on; together the processes have each item once."""
        return list(items[self.rank :: self.size])

    def chunk(self, items: Sequence[_T]) -> list[_T]:
        """Return a contiguous chunk of the items; joined by rank, those of all processes are all items.

        Example:
            >>> [World(rank, 3).chunk(range(8)) for rank in range(3)]
            [[0, 1], [2, 3, 4], [5, 6, 7]]
        """
        return list(items[len(items) * self.rank // self.size : len(items) * (self.rank + 1) // self.size])

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_gather(self, value: _T) -> list[_T]:
        """Return the value of each process, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: _T) -> _T:
        """Return the value of the process of rank 0, in every process."""
        return self.all_gather(value)[0]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_process_group(device: str | None = None) -> Iterator[World]:
    """Join the processes that `torchrun` describes in the environment, for as long as the context lasts.

    Args:
        device: the device to compute on; None to choose.

    Raises:
        InputError: another process has ended or cannot be reached, or the device is not available.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    world = World(rank, size, local_rank, device) if size > 1 else World(device_name=device)
    cuda = world.device.type == "cuda"
    if size == 1:
        yield world
        return
    if cuda:
        torch.cuda.set_device(world.device)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_TIMEOUT)
        yield world
    except (dist.DistError, RuntimeError) as error:  # gloo raises RuntimeError where a peer has gone
        if isinstance(error, RuntimeError) and not isinstance(error, dist.DistError) and not _is_peer_failure(error):
            raise
        raise InputError(
            f"process {world.rank} of {size}: another process has ended ({str(error).splitlines()[0][:160]})",
            hint="read what it printed, then run the same command with --resume, on any number of processes",
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _is_peer_failure(error: RuntimeError) -> bool:
    text = str(error).lower()
    return any(sign in text for sign in ("gloo", "nccl", "peer", "connect", "timed out", "socket"))
