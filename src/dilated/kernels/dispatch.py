"""Which kernel a convolution runs by: counted, or measured once per shape and machine and remembered in a file.

    layer = FastConv2d(conv, choose_by_count)            # costs nothing, and is the same on every machine of a kind
    layer = FastConv2d(conv, KernelChooser())            # the first input of a new shape is timed, later ones are not

Sizes within a fifth of each other count as one shape, so that images of any size do not time each layer anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.files import atomic_write
from dilated.kernels.geometry import ConvGeometry, Pair
from dilated.kernels.layers import TORCH, FastConv2d, Kernel
from dilated.kernels.native import TRANSFORM_PAIRS, describe_processor, load_native, make_cache_folder, native_version
from dilated.kernels.winograd import MAX_SIZE

ROUNDING_ERROR = 2e-6
"""Relative error (root mean square, on random data) of kernels that change no more than another order of summing does:
Winograd's for 3x3, and for 5x5 with small tiles."""
MAX_ERROR = 5e-5
"""Relative error (root mean square) that a kernel may have on random data, unless asked otherwise."""
_COUNT_MARGIN = 0.85
"""The fraction of another kernel's multiplications that one must take to be chosen by them."""
_WEIGHT_COST = 16
"""Multiplications in the time that it takes to read a weight from memory."""
_TRANSFORM_COST = 4
"""Multiplications in the time of one of a transform's."""
_PLAIN_GAIN = 0.25
"""The fraction at which Winograd in plain PyTorch, whose transforms are slow, begins to gain."""
_PROBE_PRODUCTS = 5 * 10**8
"""Multiply-adds after which a probe has channels and rows enough; the time is linear in both."""
_PROBE_CHANNELS, _PROBE_ROWS = 128, 48
"""The least output channels and output rows of a probe that is cut down."""
_ROUNDS = 3
_ERROR_CHANNELS = 512
"""Channels in of the layer whose error is measured: those of the widest layers, whose sums lose most."""
_MARGIN = 0.95
"""The fraction of another kernel's time that one must take to replace it."""


def choose_by_count(layer: FastConv2d, x: Tensor, max_error: float = MAX_ERROR) -> Kernel:
    """Choose the kernel with the least multiplications, those of the transforms included; callable as a chooser.

    Example:
        >>> layer = FastConv2d(nn.Conv2d(64, 64, 3, padding=2, dilation=2))
        >>> choose_by_count(layer, torch.rand(1, 64, 60, 80)).kind
        'winograd'
    """
    geometry, (c_out, c_in) = layer.geometry, layer.weight.shape[:2]
    if c_in == 1 and geometry.groups == c_out:
        return Kernel("depthwise") if load_native() is not None else TORCH
    size = geometry.output_size(x.shape[2], x.shape[3])
    best = Kernel("direct") if geometry.kernel == (1, 1) and load_native() is not None and c_in >= 16 else TORCH
    weights = c_in * c_out  # of one tap
    cost: float = (x.shape[0] * math.prod(size) + _WEIGHT_COST) * math.prod(geometry.kernel) * weights
    if load_native() is None:
        cost *= _PLAIN_GAIN
    for kernel in candidates(layer, max_error):
        if kernel.kind == "winograd" and c_in >= 16:
            count = _count_winograd(kernel.tile, layer, x)
            if count < _COUNT_MARGIN * cost:
                best, cost = kernel, count
    return best


def _count_winograd(tile: Pair, layer: FastConv2d, x: Tensor) -> float:
    """Multiplications of an input, with what transforms and reading the weights cost in them."""
    geometry, (c_out, c_in) = layer.geometry, layer.weight.shape[:2]
    sides = [t + k - 1 for t, k in zip(tile, geometry.kernel, strict=True)]
    size = geometry.output_size(x.shape[2], x.shape[3])
    tiles = x.shape[0] * math.prod(
        sum(-(-len(range(phase, outputs, d)) // t) for phase in range(min(d, outputs)))
        for outputs, d, t in zip(size, geometry.dilation, tile, strict=True)
    )
    products = (tiles + _WEIGHT_COST) * c_in * c_out
    transforms = _TRANSFORM_COST * tiles * (sum(sides) / 2) * (c_in * geometry.groups + c_out)
    return math.prod(sides) * (products + transforms)


@dataclass
class KernelChooser:
    """Choose the fastest kernel for a layer and an input; callable as `FastConv2d` wants it."""

    max_error: float = MAX_ERROR
    """Relative error (root mean square) that a kernel may have on random data."""
    max_bytes: int = 2**31
    """Memory that one layer's transformed weights may take."""
    path: Path | None = None
    """Where measured times are kept; by default in the cache folder, one file per machine."""
    _choices: dict[str, Kernel] = field(default_factory=dict, repr=False)
    _times: dict[str, dict[str, float]] | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __call__(self, layer: FastConv2d, x: Tensor) -> Kernel:
        """The kernel for an input; timed if this shape is new to the machine."""
        key = shape_key(layer, x)
        kernel = self._choices.get(key)
        if kernel is None:
            with self._lock:
                kernel = self._choices[key] = self._choose(key, layer, x)
        return kernel

    def __deepcopy__(self, memo: object) -> KernelChooser:
        return self  # copies of a network share what has been measured

    def times(self, layer: FastConv2d, x: Tensor) -> dict[str, float]:
        """Seconds of each kernel that has been timed for a shape; empty if none has."""
        return dict(self.load().get(shape_key(layer, x), {}))

    def _choose(self, key: str, layer: FastConv2d, x: Tensor) -> Kernel:
        kernels = {str(k): k for k in candidates(layer, self.max_error) if layer.kernel_bytes(k) <= self.max_bytes}
        if len(kernels) == 1:
            return TORCH
        times = self.load().setdefault(key, {})
        missing = [kernel for name, kernel in kernels.items() if name not in times]
        if missing:
            times |= {str(kernel): seconds for kernel, seconds in measure(layer, x, missing).items()}
            self.save()
        best = str(TORCH)
        for name in kernels:  # from torch's to the largest tile: what takes more memory or precision must gain time
            if times[name] < _MARGIN * times[best]:
                best = name
        return kernels[best]

    def load(self) -> dict[str, dict[str, float]]:
        """The times of all shapes, seconds by kernel, of the file as it was first read and of what is new."""
        if self._times is None:
            self._times = _read_times(self._file())
        return self._times

    def save(self) -> None:
        """Write the times, with those that other processes have written since; or none, where that is impossible."""
        with contextlib.suppress(OSError):
            path = self._file()
            self._times = _read_times(path) | self.load()
            atomic_write(path, json.dumps(self._times, indent=1, sort_keys=True))

    def _file(self) -> Path:
        if self.path is not None:
            return self.path
        machine = [describe_processor(), torch.__version__, native_version()]
        return (
            make_cache_folder() / f"kernel-times-{hashlib.sha256(chr(0).join(machine).encode()).hexdigest()[:16]}.json"
        )


class _Convolution(Protocol):
    """What times depend on: a layer for a CPU or a GPU."""

    geometry: ConvGeometry

    @property
    def weight(self) -> Tensor: ...


def shape_key(layer: _Convolution, x: Tensor) -> str:
    """What the times of a layer depend on, as text."""
    geometry, (c_out, c_in) = layer.geometry, layer.weight.shape[:2]
    n, _, height, width = x.shape
    order = "last" if x.is_contiguous(memory_format=torch.channels_last) else "first"
    sizes = "x".join(str(_round_size(size)) for size in (n, height, width))
    return (
        f"{c_in * geometry.groups}-{c_out} kernel {_pair(geometry.kernel)} stride {_pair(geometry.stride)} dilation "
        f"{_pair(geometry.dilation)} padding {'same' if geometry.is_same else _pair(geometry.padding)} groups "
        f"{geometry.groups} input {sizes} channels {order}"
    )


def candidates(layer: FastConv2d, max_error: float) -> list[Kernel]:
    """The kernels that can compute a layer within a relative error, torch's first."""
    geometry, (c_out, c_in) = layer.geometry, layer.weight.shape[:2]
    kernels = [TORCH]
    if c_in == 1 and geometry.groups == c_out:
        kernels.append(Kernel("depthwise"))
    elif c_in >= 3:
        if geometry.kernel == (1, 1) or geometry.stride != (1, 1) or c_in < 16:
            kernels.append(Kernel("direct"))
        if geometry.stride == (1, 1) and max(geometry.kernel) > 1:
            kernels += [Kernel("winograd", tile) for tile in _tiles(geometry.kernel)]
    return [
        kernel
        for kernel in kernels
        if layer.can_run(kernel)
        and (kernel.kind != "winograd" or measure_error(kernel.tile, geometry.kernel) <= max_error)
    ]


@lru_cache(maxsize=256)
def measure_error(tile: Pair, kernel: Pair) -> float:
    """The error of F(tile, kernel) in float32, root mean square over root mean square, on random rectified data.

    Example:
        >>> measure_error((2, 2), (3, 3)) < measure_error((6, 6), (3, 3)) < 1e-5
        True
    """
    generator = torch.Generator().manual_seed(0)
    side = [4 * t + k - 1 for t, k in zip(tile, kernel, strict=True)]
    x = torch.randn(1, _ERROR_CHANNELS, *side, generator=generator).relu()
    conv = nn.Conv2d(_ERROR_CHANNELS, 16, kernel, bias=False).requires_grad_(False)
    conv.weight.normal_(generator=generator)
    exact = F.conv2d(x.double(), conv.weight.double())
    result = FastConv2d(conv).run(x, Kernel("winograd", tile))
    return float((result - exact).square().mean().sqrt() / exact.square().mean().sqrt())


@torch.inference_mode()
def measure(layer: FastConv2d, x: Tensor, kernels: list[Kernel]) -> dict[Kernel, float]:
    """Seconds that each kernel takes for an input of this shape: the least of some interleaved runs.

    Processor time of a single thread, which other work on the machine disturbs least.
    """
    geometry, (c_out, c_in) = layer.geometry, layer.weight.shape[:2]
    height, width = geometry.output_size(x.shape[2], x.shape[3])
    excess = height * width * x.shape[0] * math.prod(layer.weight.shape) / _PROBE_PRODUCTS
    channels = c_out
    if geometry.groups == 1 and excess > 1:
        channels = min(c_out, max(_PROBE_CHANNELS, round(c_out / excess / 64) * 64))
        excess *= channels / c_out
    if excess > 1 and height > _PROBE_ROWS:
        rows = max(_PROBE_ROWS, round(height / excess)) * geometry.stride[0]
        x = x[:, :, : rows + geometry.dilation[0] * (geometry.kernel[0] - 1)]
    conv = nn.Conv2d(c_in * geometry.groups, channels, geometry.kernel, groups=geometry.groups, bias=True)
    conv = conv.requires_grad_(False).to(memory_format=torch.channels_last)
    probe = FastConv2d(conv, TORCH, layer.low, layer.high)
    probe.geometry = geometry
    image = torch.rand_like(x)
    seconds = dict.fromkeys(kernels, math.inf)
    with _one_thread():
        for kernel in kernels:
            probe.run(image, kernel)  # transforms the weights
        for _ in range(_ROUNDS):
            for kernel in kernels:
                began = time.thread_time()
                probe.run(image, kernel)
                seconds[kernel] = min(seconds[kernel], time.thread_time() - began)
    return seconds


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _tiles(kernel: Pair) -> list[Pair]:
    """Tiles worth a try: those compiled in for a kernel, or some for any."""
    if load_native() is not None:
        tiles = [(h[0], w[0]) for h, w in TRANSFORM_PAIRS if (h[1], w[1]) == kernel]
        if tiles:
            return tiles
    return [(m if kernel[0] > 1 else 1, m if kernel[1] > 1 else 1) for m in (2, 4) if m + max(kernel) - 1 <= MAX_SIZE]


def _round_size(size: int) -> int:
    """The nearest power of the fourth root of two."""
    return round(2 ** (round(4 * math.log2(size)) / 4))


def _pair(pair: Pair) -> str:
    return f"{pair[0]}x{pair[1]}"


def _read_times(path: Path) -> dict[str, dict[str, float]]:
    """The measured times of a file; none where it is missing, damaged or of another form."""
    try:
        content = json.loads(path.read_bytes())
        return {
            str(shape): {str(kernel): float(seconds) for kernel, seconds in times.items()}
            for shape, times in content.items()
        }
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        return {}
