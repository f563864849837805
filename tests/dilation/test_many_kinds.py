"""Hand-written networks of many kinds: each is exact in float64, or refused by a layer's name; nothing in between."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from dilated import InputError, dilate


class Do(nn.Module):
    """A layer of one function, and of the layers that it calls."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


class Own(nn.Module):
    """A network that calls a function on coarse maps in its own forward."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.stem, self.function, self.layers = stem(), function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.stem(x), *self.layers)


def stem() -> nn.Sequential:
    """Four layers of stride 2."""
    return nn.Sequential(*(nn.Conv2d(channels, 4, 3, stride=2, padding=1) for channels in (3, 4, 4, 4)))


def conv(kernel: int = 1, outputs: int = 4, inputs: int = 4, **more: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, **more)  # type: ignore[arg-type]


def coordinate_attention(x: Tensor, mix: nn.Module, rows: nn.Module, columns: nn.Module) -> Tensor:
    both = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)
    down, across = mix(both).relu().split(list(x.shape[2:]), 2)
    return x * rows(down).sigmoid() * columns(across).transpose(2, 3).sigmoid()


def coordinate_attention_by_pools(x: Tensor, tall: nn.Module, wide: nn.Module, mix: nn.Module) -> Tensor:
    both = torch.cat([tall(x), wide(x).transpose(2, 3)], 2)
    down, across = mix(both).split(list(x.shape[2:]), 2)
    return x * down.sigmoid() * across.transpose(2, 3).sigmoid()


def strip_pooling(x: Tensor, tall: nn.Module, wide: nn.Module, down: nn.Module, across: nn.Module) -> Tensor:
    return x * (down(tall(x)).expand_as(x) + across(wide(x)).expand_as(x)).sigmoid()


def pyramid(x: Tensor, *branches: nn.Module, mode: str = "bilinear") -> Tensor:
    return torch.cat([x, *(F.interpolate(branch(x), x.shape[2:], mode=mode) for branch in branches)], 1)


def unfolded(x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    return F.unfold(x, 3, padding=1).view(n, channels * 9, height, width)


def deformed(x: Tensor, offsets: nn.Module, deform: nn.Module) -> Tensor:
    return deform(x, offsets(x))


def criss_cross(x: Tensor) -> Tensor:
    return x * (x.softmax(2) + x.softmax(3))


def non_local(x: Tensor, query: nn.Module, key: nn.Module) -> Tensor:
    affinity = query(x).flatten(2).transpose(1, 2) @ key(x).flatten(2)
    return x + (affinity.softmax(-1) @ x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])


def channel_attention(x: Tensor) -> Tensor:
    flat = x.flatten(2)
    return x + ((flat @ flat.transpose(1, 2)).softmax(-1) @ flat).unflatten(2, x.shape[2:])


def global_context(x: Tensor, weight: nn.Module, mix: nn.Module) -> Tensor:
    weights = weight(x).flatten(2).softmax(-1)
    return x + mix((x.flatten(2) @ weights.transpose(1, 2)).unsqueeze(-1))


def spatial_attention(x: Tensor, weigh: nn.Module) -> Tensor:
    return x * weigh(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()


def simple_attention(x: Tensor) -> Tensor:
    deviation = (x - x.mean((2, 3), keepdim=True)).square()
    return x * (deviation / (4 * deviation.sum((2, 3), keepdim=True) + 1e-4) + 0.5).sigmoid()


def twice(x: Tensor, layer: nn.Module) -> Tensor:
    return layer(F.max_pool2d(layer(x), 2))


def shuffle(x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    return x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, channels, height, width)


def coordinates(x: Tensor) -> Tensor:
    rows = torch.linspace(-1, 1, x.shape[2], dtype=x.dtype)[:, None].expand(x.shape[2:])
    return torch.cat([x, rows.expand(x.shape[0], 1, -1, -1)], 1)


def focus(x: Tensor) -> Tensor:
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)


def even(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """On maps of even sides only."""
    return lambda x: function(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)))


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nn.utils.weight_norm(layer)


class Skip(nn.Module):
    """Two levels, the coarser one laid over the finer."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.fine, self.coarse, self.mode = conv(3, padding=1), conv(3, stride=2, padding=1), mode

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.fine(x), F.interpolate(self.coarse(x), x.shape[2:], mode=self.mode)], 1)


def tall() -> nn.Module:
    return nn.AdaptiveAvgPool2d((None, 1))


def wide() -> nn.Module:
    return nn.AdaptiveAvgPool2d((1, None))


def bins(*sizes: int) -> list[nn.Module]:
    return [nn.Sequential(nn.AdaptiveAvgPool2d(size), conv()) for size in sizes]


KINDS: dict[str, Callable[[], tuple[Callable[..., Tensor], list[nn.Module]]]] = {
    "coordinate attention": lambda: (coordinate_attention, [conv(), conv(), conv()]),
    "coordinate attention by pools": lambda: (coordinate_attention_by_pools, [tall(), wide(), conv()]),
    "strip pooling": lambda: (
        strip_pooling,
        [tall(), wide(), conv((3, 1), padding=(1, 0)), conv((1, 3), padding=(0, 1))],  # type: ignore[arg-type]
    ),
    "flat mean": lambda: (lambda x: x * x.flatten(2).mean(-1)[..., None, None].sigmoid(), []),
    "flat mean by view": lambda: (lambda x: x * x.view(*x.shape[:2], -1).mean(2)[..., None, None], []),
    "flat deviation": lambda: (lambda x: x / (1 + x.flatten(2).std(-1)[..., None, None]), []),
    "flat maximum": lambda: (lambda x: x * x.flatten(2).max(-1)[0][..., None, None], []),
    "means one after the other": lambda: (lambda x: x * x.mean(3).mean(2)[..., None, None], []),
    "flat top values": lambda: (lambda x: x * x.flatten(2).topk(2)[0].mean(-1)[..., None, None], []),
    "crop": lambda: (lambda x: x[..., 1:, 1:], []),
    "center crop": lambda: (lambda x: x[..., 1:-1, 1:-1], []),
    "crop of even sides": lambda: (lambda x: x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2], []),
    "narrow": lambda: (lambda x: x.narrow(2, 1, x.shape[2] - 1), []),
    "pyramid pooling": lambda: (pyramid, bins(1, 2, 3)),
    "pyramid pooling, nearest": lambda: (lambda x, *b: pyramid(x, *b, mode="nearest"), bins(2)),
    "pyramid of one function": lambda: (
        lambda x: x + F.interpolate(F.adaptive_avg_pool2d(x, 3), x.shape[2:], mode="bilinear"),
        [],
    ),
    "image pooling": lambda: (pyramid, bins(1)),
    "deformable convolution": lambda: (
        deformed,
        [conv(3, 18, padding=1), torchvision.ops.DeformConv2d(4, 4, 3, padding=1)],
    ),
    "strided deformable convolution": lambda: (
        deformed,
        [conv(3, 18, stride=2, padding=1), torchvision.ops.DeformConv2d(4, 4, 3, stride=2, padding=1)],
    ),
    "one convolution at two strides": lambda: (twice, [conv(3, padding=1)]),
    "old weight norm": lambda: (lambda x, layer: layer(x), [old_weight_norm(conv(3, padding=1))]),
    "new weight norm": lambda: (
        lambda x, layer: layer(x),
        [torch.nn.utils.parametrizations.weight_norm(conv(3, padding=1, stride=2))],
    ),
    "unfold and view": lambda: (unfolded, []),
    "unfold and fold": lambda: (even(lambda x: F.fold(F.unfold(x, 2, stride=2), x.shape[2:], 2, stride=2)), []),
    "fractional pooling": lambda: (F.fractional_max_pool2d, [nn.FractionalMaxPool2d(2, output_ratio=0.7)]),
    "criss-cross softmax": lambda: (criss_cross, []),
    "non-local": lambda: (non_local, [conv(), conv()]),
    "channel attention": lambda: (channel_attention, []),
    "global context": lambda: (global_context, [conv(1, 1), conv()]),
    "spatial attention": lambda: (spatial_attention, [conv(7, 1, 2, padding=3)]),
    "simple attention": lambda: (simple_attention, []),
    "channel shuffle": lambda: (shuffle, []),
    "coordinates": lambda: (coordinates, []),
    "focus": lambda: (even(focus), []),
    "flips": lambda: (lambda x: torch.cat([x, x.flip(-1)], 1), []),
    "group norm": lambda: (lambda x, norm: norm(x), [nn.GroupNorm(2, 4)]),
    "instance norm": lambda: (lambda x, norm: norm(x), [nn.InstanceNorm2d(4, affine=True)]),
    "response norm": lambda: (lambda x: x * (x.norm(dim=(2, 3), keepdim=True) / 4), []),
    "cumulative sum": lambda: (lambda x: x.cumsum(3), []),
    "Fourier": lambda: (lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * 0.5, s=x.shape[2:]), []),
    "skip": lambda: (lambda x, skip: skip(x), [Skip("nearest")]),
    "bilinear skip": lambda: (lambda x, skip: skip(x), [Skip("bilinear")]),
    "pixel shuffle": lambda: (lambda x: F.pixel_shuffle(x, 2), []),
    "subsampled": lambda: (lambda x: x[..., ::2, ::2], []),
    "antialiased": lambda: (lambda x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 2), []),
    "interpolated by half": lambda: (lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear"), []),
    "random dropout": lambda: (lambda x: F.dropout(x, 0.5), []),
    "linear over positions": lambda: (lambda x, layer: layer(x.flatten(2)), [nn.Linear(140, 8)]),
    "values per position": lambda: (lambda x: x + torch.arange(140.0, dtype=x.dtype).view(10, 14), []),
}
NETWORKS = [f"{kind}, {place}" for kind in KINDS for place in ("in a layer", "by the network")]


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    kind, _, place = name.rpartition(", ")
    function, layers = KINDS[kind]()
    if kind == "fractional pooling":
        function = lambda x, pool: pool(x)  # noqa: E731
    if place == "by the network":
        return Own(function, *layers)
    return nn.Sequential(stem(), Do(function, *layers), nn.ReLU())


RANDOM = "it chooses its windows at random"
OWN = "it has operations of its own on maps of a stride above"
ATTENDS = "attention between positions"
DIFFERS = "its output differs from the original's by"
REFUSED = {
    "coordinate attention, by the network": OWN,
    "coordinate attention by pools, by the network": OWN,
    "strip pooling, by the network": OWN,
    "means one after the other, by the network": OWN,
    "flat top values, by the network": OWN,
    "crop, by the network": OWN,
    "center crop, by the network": OWN,
    "crop of even sides, by the network": r"its output is \(1, 4, 10, 6\), not \(1, 4, 8, 4\)",
    "narrow, by the network": OWN,
    "pyramid pooling, by the network": OWN,
    "pyramid pooling, nearest, by the network": OWN,
    "pyramid of one function, by the network": OWN,
    "strided deformable convolution, by the network": "its inputs have strides",
    "one convolution at two strides, by the network": OWN,
    "unfold and view, by the network": OWN,
    "unfold and fold, by the network": OWN,
    "fractional pooling, in a layer": RANDOM,
    "fractional pooling, by the network": RANDOM,
    "criss-cross softmax, by the network": OWN,
    "non-local, in a layer": ATTENDS,
    "non-local, by the network": ATTENDS,
    "channel attention, by the network": OWN,
    "global context, by the network": OWN,
    "coordinates, by the network": DIFFERS,
    "focus, by the network": OWN,
    "flips, by the network": OWN,
    "cumulative sum, by the network": OWN,
    "Fourier, by the network": OWN,
    "subsampled, by the network": OWN,
    "antialiased, by the network": OWN,
    "interpolated by half, by the network": OWN,
    "linear over positions, by the network": "its inputs have strides",
    "values per position, by the network": "it does not take the map of more values",
    "random dropout, in a layer": DIFFERS,
    "random dropout, by the network": DIFFERS,
}
"""Why; all others are exact."""


def prepared(name: str) -> nn.Module:
    network = build(name).double().eval()
    with torch.no_grad():
        network(torch.rand(1, 3, 160, 224, dtype=torch.float64))
    return network


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in REFUSED])
def test_networks_of_many_kinds_are_exact_at_every_sample(name: str) -> None:
    network = prepared(name)
    fine, size_count = dilate(network, 8), 0
    for size in ((64, 96), (112, 80), (97, 131), (160, 224)):
        image = torch.rand(2, 3, *size, dtype=torch.float64)
        with torch.no_grad():
            try:
                coarse = network(image)
            except RuntimeError:  # a network of one size
                continue
            dense = fine(image)
        size_count += 1
        if dense.shape != coarse.shape:
            dense = dense[..., :: rate(dense, coarse, 2), :: rate(dense, coarse, 3)]
        torch.testing.assert_close(dense, coarse, rtol=1e-10, atol=1e-12)
    assert size_count


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused_by_a_layers_name_with_a_hint(name: str) -> None:
    network = prepared(name)
    layers = "|".join(re.escape(layer) for layer, _ in network.named_modules() if layer)
    with pytest.raises(
        InputError, match=rf"^dilate: ({layers}|the network itself) \(\w+\): {REFUSED[name]}"
    ) as refusal:
        dilate(network, 8)
    assert refusal.value.hint


def rate(dense: Tensor, coarse: Tensor, axis: int) -> int:
    """How far apart the samples are, which is a power of two here."""
    return next(r for r in (1, 2, 4, 8) if len(range(0, dense.shape[axis], r)) == coarse.shape[axis])


class Permuted(nn.Module):
    """Channels in the order of a table of whole numbers that is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.order = nn.Parameter(torch.arange(8).flip(0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 8, H, W) -> the same."""
        return x[:, self.order]


def test_a_parameter_of_whole_numbers_stays_what_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), Permuted(), nn.Conv2d(8, 8, 3, 2, 1)).double()
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    torch.testing.assert_close(dilate(network, 2)(image)[..., ::2, ::2], network(image))


class Ramp(nn.Module):
    """A ramp along the columns, kept for the next map of the same width, as position embeddings are."""

    def __init__(self) -> None:
        super().__init__()
        self.ramp: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        if self.ramp is None or self.ramp.shape[0] != x.shape[-1]:
            self.ramp = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype)
        return x + self.ramp


def test_what_layers_keep_between_runs_is_not_that_of_the_check() -> None:
    network = nn.Sequential(Ramp(), nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1))
    dilated = dilate(network, 2)
    assert dilated[0].ramp is None
    for width in (43, 96, 224):
        assert dilated(torch.rand(1, 3, 64, width)).dtype == torch.float32
