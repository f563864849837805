"""Several processes that compute as one: batch statistics over all of them, and the dropout masks of the whole batch.

    with sync_batch_statistics(world, batch_size=8, sample_offset=0):  # this process's part of a batch of 8
        logits = network(images)

Without it, batch normalization would see one process's part alone, and two processes would not learn what one does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dilated.training.distributed.world import World


def sync_batch_statistics(world: World, batch_size: int, sample_offset: int) -> AbstractContextManager[object]:
    """Return a context in which this process's part of a batch is computed as if it were with the rest.

    Args:
        batch_size: samples of the whole batch, over all processes.
        sample_offset: samples of the processes before this one.
    """
    return _SyncBatchStatistics(batch_size, sample_offset) if world.size > 1 else nullcontext()


class _SyncBatchStatistics(TorchFunctionMode):
    """Replace `F.batch_norm` and the dropouts, whichever library's module calls them."""

    def __init__(self, batch_size: int, sample_offset: int) -> None:
        super().__init__()
        self.batch_size, self.sample_offset = batch_size, sample_offset

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return _BatchNorm(*args, **kwargs).compute()
        if func in (F.dropout, F.dropout2d):
            return self._dropout(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _dropout(
        self, func: Callable[..., Any], x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        # Every process draws the masks of the whole batch, which keeps their generators in step.
        if not training or p == 0:
            return x
        feature_shape = (x.shape[1], *[1] * (x.ndim - 2)) if func is F.dropout2d else x.shape[1:]
        masks = func(x.new_ones(self.batch_size, *feature_shape), p, True)
        return x * masks[self.sample_offset : self.sample_offset + len(x)]


@dataclass(frozen=True)
class _BatchNorm:
    """A call of `F.batch_norm`, whose arguments these are, by the mean and variance of all processes' values."""

    input: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5

    def compute(self) -> Tensor:
        """(N, C, ...) -> (N, C, ...)."""
        x, running = self.input, (self.running_mean, self.running_var)
        if not self.training:
            return torch.batch_norm(x, self.weight, self.bias, *running, False, self.momentum, self.eps, True)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        axes = [0, *range(2, x.ndim)]
        x_float = x.float()
        # Two passes, sums and then squares about the mean: one pass loses digits where the mean is large.
        local_sums = torch.cat([x_float.sum(axes), x_float.new_tensor([x.numel() / x.shape[1]])])
        global_sums = _all_reduce_sum(local_sums)
        count = global_sums[-1].detach()
        mean = global_sums[:-1] / count
        centered = x_float - mean.view(shape)
        variance = _all_reduce_sum(centered.square().sum(axes)) / count
        with torch.no_grad():
            unbiased_variance = variance * count / (count - 1).clamp(min=1)
            for statistic, value in zip(running, (mean, unbiased_variance), strict=True):
                if statistic is not None:
                    statistic.lerp_(value.to(statistic.dtype), self.momentum)
        y = centered * (variance + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            y = y * self.weight.float().view(shape)
        if self.bias is not None:
            y = y + self.bias.float().view(shape)
        return y.to(x.dtype)


class _AllReduceSum(torch.autograd.Function):
    """The sum over processes, differentiable: a gradient is the sum of all, since each value is in all results.

    `torch.distributed.nn` has the same, deprecated; its successor has no gradient in torch 2.6.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


def _all_reduce_sum(x: Tensor) -> Tensor:
    total: Tensor = _AllReduceSum.apply(x)
    return total
