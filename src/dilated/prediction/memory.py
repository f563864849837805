"""How much memory a prediction takes, and how images share it.

    limit = MemoryLimit.parse("3GiB")
    limit.left("cpu")                                    # bytes that this process may still take
    per_pixel = measure_bytes_per_pixel(segmenter)       # what one pass of the network takes, by its tensors
    gate = ByteGate(2**30)
    gate.acquire(image.nbytes)                           # waits until others have released theirs

The network gets three fifths of what is left, images that wait to be read, labelled and written the rest.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from threading import Condition
from typing import Any, Self

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dilated.environment import free_memory
from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.prediction.tiling import TilePlan

WORKSPACE_FACTOR = 1.5
"""Memory that a pass takes over that of its tensors: copies in the layouts of the libraries, and the allocator's."""

_PROBE_SIDES = (256, 512)
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_MIN_LIMIT = 64 * 2**20
NETWORK_SHARE = 0.6
"""The fraction of what is left that the network may take; images that are read and written have the rest."""
BLOCK_SHARE = 1 / 16
"""The fraction of that which the maps of one block may take; some copies of them live at once."""
SMALL_IMAGE_PIXELS = 2 * 2**20
"""Images of fewer pixels are given to the network without a look at the memory, of networks of few classes."""
MANY_CLASSES = 255
"""Of more classes the logits of all pixels are never held at once, but where they are asked for."""
MIN_TILE = 128
"""Smaller tiles read so many pixels around them that they take hours."""


@dataclass(frozen=True)
class MemoryLimit:
    """The memory that a process may take in all, its libraries included; None for what is free on the machine."""

    total: int | None = None

    @classmethod
    def parse(cls, text: str | int | None) -> Self:
        """Read a limit in bytes, or with a unit: powers of 1000 (GB), or of 1024 (GiB).

        Raises:
            InputError: not a size, or under 64 MiB.

        Example:
            >>> MemoryLimit.parse("3GiB"), MemoryLimit.parse("1.5 GB"), MemoryLimit.parse(None)
            (MemoryLimit(total=3221225472), MemoryLimit(total=1500000000), MemoryLimit(total=None))
        """
        if text is None:
            return cls()
        total = parse_size(text, "memory")
        if total < _MIN_LIMIT:
            raise InputError(f"memory: {text} is less than 64 MiB", hint="give a size such as 3GiB or 800MB")
        return cls(total)

    def left(self, device: torch.device | str) -> int:
        """Return the bytes that may still be taken on a device, 0 at least."""
        free = free_memory(torch.device(device))
        if self.total is None or torch.device(device).type != "cpu":
            return free
        return max(0, min(free, self.total - psutil.Process().memory_info().rss))

    def __str__(self) -> str:
        return "the memory that is free" if self.total is None else _format_bytes(self.total)


def parse_size(text: str | int, name: str) -> int:
    """Read a number of bytes, or one with a unit: powers of 1000 (GB), or of 1024 (GiB).

    Args:
        name: of the option, for the message.

    Raises:
        InputError: not a size.

    Example:
        >>> parse_size("1.5 kB", "max_bytes"), parse_size("1MiB", "max_bytes")
        (1500, 1048576)
    """
    match = _SIZE.fullmatch(str(text))
    number, unit, binary = match.groups() if match else ("inf", "", "")
    total = float(number) * (1024 if binary else 1000) ** " kmgt".index(unit.lower() or " ")
    if not math.isfinite(total):
        raise InputError(f"{name}: {str(text)[:40]!r} is not a size", hint="give a size such as 3GiB or 800MB")
    return int(total)


def _format_bytes(count: float) -> str:
    """Write a size for people to read.

    Example:
        >>> _format_bytes(3 * 2**30), _format_bytes(850 * 2**20)
        ('3.0 GiB', '850 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


class TensorMeter(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is active.

    A convolution counts its input and output twice, as libraries copy them into a layout of their own.

    Example:
        >>> with TensorMeter() as meter:
        ...     _ = torch.zeros(1000) + torch.ones(1000)
        >>> meter.peak
        12000
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs, outputs = ([x for x in tree_leaves(tree) if _has_storage(x)] for tree in ((args, kwargs), result))
        known = {tensor.untyped_storage()._cdata for tensor in inputs} | self.storages
        for tensor in outputs:
            storage = tensor.untyped_storage()
            if storage._cdata not in known:
                self.storages.add(storage._cdata)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        copies = [*inputs[:1], *outputs] if "convolution" in str(func) else []
        self.peak = max(self.peak, self.live + sum(tensor.untyped_storage().nbytes() for tensor in copies))
        return result

    def _free(self, key: int, nbytes: int) -> None:
        self.storages.discard(key)
        self.live -= nbytes


def _has_storage(value: object) -> bool:
    """Whether a value is a tensor with a storage of its own; a sparse one consists of others, which are counted."""
    return isinstance(value, Tensor) and value.layout == torch.strided


def measure_bytes_per_pixel(segmenter: BaseSegmenter, device: torch.device) -> float:
    """Return the bytes that a pass takes for each further pixel of the image, from the image to its labels.

    Of more than 255 classes it is the pass to the labels that counts, which never holds the logits of all pixels.
    Kernels of our own get all their memory as tensors, so an accelerated copy is measured as any network. Measured
    between images of 256x256 and of 512x512, rounded up to what the network's strides divide.
    """
    if segmenter.known_bytes_per_pixel is not None:
        return segmenter.known_bytes_per_pixel
    has_many = len(segmenter.classes) > MANY_CLASSES
    shrink = math.sqrt(max(1.0, len(segmenter.classes) / MANY_CLASSES))
    peaks, pixels = [], []
    for probe in _PROBE_SIDES:
        side = -(-max(1, round(probe / shrink)) // segmenter.alignment) * segmenter.alignment
        image = torch.zeros(1, segmenter.num_bands, side, side, device=device)
        with torch.inference_mode():
            run = segmenter.label_pixels if has_many else lambda pixels: segmenter(pixels).argmax(1)
            run(image)  # kernels keep transformed weights once they have run
            with TensorMeter() as meter:
                run(image)
        peaks.append(meter.peak + image.nbytes)
        pixels.append(side**2)
    return WORKSPACE_FACTOR * (peaks[1] - peaks[0]) / (pixels[1] - pixels[0])


def _largest_tile(budget: float, bytes_per_pixel: float, margin: int, alignment: int) -> int:
    """Return the side of the largest tile that fits with its margin, a multiple of the alignment; 0 if none does.

    Example:
        >>> _largest_tile(100e6, 300, margin=100, alignment=8), _largest_tile(1e6, 300, margin=100, alignment=8)
        (376, 0)
    """
    side = math.isqrt(int(budget / bytes_per_pixel)) - 2 * margin
    return max(0, side // alignment * alignment)


class MemoryUse:
    """What a network may take and what it takes, both looked at when the first large image comes.

    Args:
        get_network: returns what computes, as the accelerated copy, which takes other memory than the network itself.
        limit: of which the network may take `NETWORK_SHARE` of what is left.
        num_classes: of the network.
    """

    def __init__(
        self,
        get_network: Callable[[], BaseSegmenter],
        device: torch.device,
        limit: MemoryLimit,
        num_classes: int = 1,
    ) -> None:
        self.get_network, self.device, self.limit, self.num_classes = get_network, device, limit, num_classes

    @property
    def small_pixels(self) -> int:
        """Pixels of the largest image that is given to the network without a look at the memory."""
        return SMALL_IMAGE_PIXELS * MANY_CLASSES // max(MANY_CLASSES, self.num_classes)

    @cached_property
    def budget(self) -> int:
        """The bytes that a pass may take."""
        return int(self.limit.left(self.device) * NETWORK_SHARE)

    @cached_property
    def bytes_per_pixel(self) -> float:
        """What a pass takes for each pixel of the image."""
        return measure_bytes_per_pixel(self.get_network(), self.device)

    def fits(self, pixels: int) -> bool:
        """Return whether the network can be given so many pixels at once; of few, nothing is measured."""
        return pixels <= self.small_pixels or pixels * self.bytes_per_pixel <= self.budget

    def reduce(self, pixels: int) -> bool:
        """Let the network take half of what so many pixels took, after memory ran out; False for small images."""
        if pixels <= self.small_pixels:
            return False
        self.budget = int(min(self.budget, pixels * self.bytes_per_pixel)) // 2
        return True

    def choose_tile(self, height: int, width: int, scale: float, alignment: int, plan: TilePlan | None) -> int | None:
        """Return the side of the tiles in which an image that does not fit is labelled; None for the whole image.

        Args:
            scale: in which the image is labelled.
            alignment: of which the side is a multiple.
            plan: what exact tiles need; None if there are none, and the image may take all that is left.

        Raises:
            InputError: no tiles, or none that fit.
        """
        size = f"{width}x{height} pixels do not fit in {self.limit}"
        if plan is None:
            if height * width * scale**2 * self.bytes_per_pixel * NETWORK_SHARE <= self.budget:
                return None
            hint = "this network cannot be tiled exactly: add --tile 1024 --blend, or give more by --memory"
            raise InputError(size, hint=hint)
        tile = _largest_tile(self.budget * (1 - 4 * BLOCK_SHARE), self.bytes_per_pixel, plan.margin, alignment)
        if tile < MIN_TILE:
            raise InputError(f"{size}, nor do tiles of them", hint="give more by --memory, or close other programs")
        return tile


class ByteGate:
    """Lets holders in while what they hold together stays within a limit; one alone is always let in."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held, self.is_open = limit, 0, False
        self.changed = Condition()

    def acquire(self, nbytes: int) -> None:
        """Wait until there is room."""
        with self.changed:
            while not self.is_open and self.held and self.held + nbytes > self.limit:
                self.changed.wait(0.5)  # so that Ctrl-C is handled on every system
            self.held += nbytes

    def release(self, nbytes: int) -> None:
        """Give back what was acquired."""
        with self.changed:
            self.held -= nbytes
            self.changed.notify_all()

    def open(self) -> None:
        """Let everybody in, as nobody will release any more."""
        with self.changed:
            self.is_open = True
            self.changed.notify_all()
