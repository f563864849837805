"""Run a network only to see what it does: in evaluation mode, with hooks that go again, on an image made for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each of its modules back into its own mode at the end."""
    training_flags = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, was_training in training_flags:
            module.training = was_training


@contextmanager
def temporary_hooks(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Keep hooks until the end of the block; they are registered as `handles` is read.

    Example:
        >>> conv, shapes = nn.Conv2d(3, 4, 3), []
        >>> hooks = (m.register_forward_hook(lambda m, x, y: shapes.append(tuple(y.shape))) for m in [conv])
        >>> with temporary_hooks(hooks):
        ...     _ = conv(torch.zeros(1, 3, 5, 5))
        >>> shapes, len(conv._forward_hooks)
        ([(1, 4, 3, 3)], 0)
    """
    registered: list[RemovableHandle] = []
    try:
        registered.extend(handles)
        yield
    finally:
        for handle in registered:
            handle.remove()


def probe_image(network: nn.Module, *shape: int) -> Tensor:
    """An image of noise, the same each time, of the type and on the device of the network's first float parameter.

    Args:
        shape: of the image, (N, C, H, W).
    """
    noise = torch.rand(*shape, generator=torch.Generator().manual_seed(0))
    return noise.to(next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(())))
