"""The paper's inference by its definition, pixel by pixel and in double precision, and tiny networks to run it on."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dilated.paper import VGGConfig, VGGSegmenter

Values = NDArray[np.float64]
BlackBox = Callable[[Values], Values]

MEAN = (102.5, 111.25, 116.75)  # exact in single precision
NEAR = (1, 2, 1)  # dilations of a context module that sees 9 x 9 logits


class Corners(nn.Module):
    """A front end that is quick: its logit is made of three pixels of its field, the first and the last among them."""

    margin, stride = 186, 8

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (-(-(side - 372) // 8) for side in x.shape[-2:])
        return torch.stack([x[..., d::8, d::8][..., :rows, :columns] * 0.02 for d in (0, 186, 371)]).sum(0)[:, :2]


def build(classes: int = 2, **network: Any) -> VGGSegmenter:
    """Tiny, in double precision, with logits of either sign and some spread, before and after the context module."""
    torch.manual_seed(3)
    colors = [(i, i, i) for i in range(classes)]
    settings = {"mean": MEAN, "width": 1 / 32, "init": "random", "tile": (436, 436), **network}
    segmenter = VGGSegmenter([f"class {i}" for i in range(classes)], colors, VGGConfig(**settings)).double().eval()
    blob = segmenter.preprocess(make_image(452, 460))
    spread(segmenter.frontend.convolutions()["final"], segmenter.frontend, blob)
    if segmenter.context is not None:
        spread(segmenter.context.final, nn.Sequential(segmenter.frontend, segmenter.context), blob)
    return segmenter


@torch.no_grad()
def spread(layer: nn.Conv2d, run: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Scale the last layer such that each logit has mean 0.5 and standard deviation 2."""
    assert layer.bias is not None
    logits = run(x).transpose(0, 1).flatten(1)
    factor = 2 / logits.std(1)
    layer.weight.mul_(factor[:, None, None, None])
    layer.bias.copy_(0.5 - factor * logits.mean(1))


def rebuilt(segmenter: VGGSegmenter, **changes: Any) -> VGGSegmenter:
    """Other settings and the same weights, in double precision."""
    other = segmenter.with_config(replace(segmenter.config, **changes)).double().eval()
    other.load_matching_weights(segmenter)
    return other


def corners(**network: Any) -> VGGSegmenter:
    """With a front end that is quick, for images that are larger."""
    torch.manual_seed(3)
    settings = {"mean": MEAN, "width": 1 / 64, "init": "random", **network}
    segmenter = VGGSegmenter(["a", "b"], [(0, 0, 0), (1, 1, 1)], VGGConfig(**settings)).double().eval()
    segmenter.frontend = Corners()  # type: ignore[assignment]
    return segmenter


def make_image(height: int, width: int, seed: int = 0, count: int = 1) -> Tensor:
    """Patches of 12 x 12 pixels and noise on them, so that logits differ from place to place."""
    random = np.random.default_rng(seed)
    patches = random.random((count, 3, height // 12 + 1, width // 12 + 1)).repeat(12, 2).repeat(12, 3)
    values = 0.7 * patches[:, :, :height, :width] + 0.3 * random.random((count, 3, height, width))
    return torch.from_numpy(values)


@torch.no_grad()
def run(segmenter: VGGSegmenter, images: Tensor) -> Values:
    """Probabilities at every pixel, (C, H, W)."""
    out = segmenter(images).double()
    return np.asarray((out.softmax(1) if segmenter.config.upsampling == "deconvolution" else out.exp())[0])


def black_box(segmenter: VGGSegmenter) -> BlackBox:
    """The front end and the context module, (3, H, W) -> (C, h, w)."""

    @torch.no_grad()
    def logits(tile: Values) -> Values:
        return np.asarray(segmenter.apply_context(segmenter.frontend(torch.from_numpy(tile)[None]))[0])

    return logits


def reflected(i: int, size: int) -> int:
    """The pixel that is seen at position i, after as many reflections as it takes."""
    while size > 1 and not 0 <= i < size:
        i = -i if i < 0 else 2 * (size - 1) - i
    return i if size > 1 else 0


def extended(x: Values, top: int, bottom: int, left: int, right: int) -> Values:
    rows = [reflected(i, x.shape[1]) for i in range(-top, x.shape[1] + bottom)]
    columns = [reflected(i, x.shape[2]) for i in range(-left, x.shape[2] + right)]
    return x[:, rows][:, :, columns]


def softmax(logits: Values) -> Values:
    e = np.exp(logits - logits.max(0))
    return e / e.sum(0)


def deconvolved(logits: Values) -> Values:
    """Each logit adds its copy of the kernel, 8 pixels from the next; 4 are cut off on each side."""
    kernel = [1 - abs(t / 8 - (2 * 8 - 1 - 8 % 2) / (2 * 8)) for t in range(16)]
    classes, rows, columns = logits.shape
    canvas = np.zeros((classes, 8 * rows + 8, 8 * columns + 8))
    for c, k, j in itertools.product(range(classes), range(rows), range(columns)):
        for y, x in itertools.product(range(16), range(16)):
            canvas[c, 8 * k + y, 8 * j + x] += logits[c, k, j] * kernel[y] * kernel[x]
    return canvas[:, 4:-4, 4:-4]


def stitched(image: Tensor, tile: tuple[int, int], on_tile: BlackBox) -> Values:
    """Mirror by 186, cut, mirror what the last tiles lack, run each tile, put the results side by side."""
    blob = 255 * image[0].numpy()[::-1] - np.array(MEAN)[:, None, None]
    height, width = blob.shape[1:]
    blob = extended(blob, 186, 186, 186, 186)
    rows = []
    for top in range(0, height, tile[0] - 372):
        row = []
        for left in range(0, width, tile[1] - 372):
            part = blob[:, top : top + tile[0], left : left + tile[1]]
            row.append(on_tile(extended(part, 0, tile[0] - part.shape[1], 0, tile[1] - part.shape[2])))
        rows.append(np.concatenate(row, 2))
    return np.concatenate(rows, 1)


def zoomed(probabilities: Values, h: int, w: int) -> Values:
    """Sample k sits at pixel 8k; there is none after the last."""
    last_row, last_column = probabilities.shape[1] - 1, probabilities.shape[2] - 1
    r, c, down, across = h // 8, w // 8, h % 8 / 8, w % 8 / 8
    below, beside = min(r + 1, last_row), min(c + 1, last_column)
    upper = (1 - across) * probabilities[:, r, c] + across * probabilities[:, r, beside]
    lower = (1 - across) * probabilities[:, below, c] + across * probabilities[:, below, beside]
    return (1 - down) * upper + down * lower


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    assert found.shape == expected.shape
    assert abs(found - expected).max() <= tolerance * abs(expected).max()


def check_zoom(segmenter: VGGSegmenter, image: Tensor, pixels: int = 2000) -> None:
    """The network's labels of an image against the ones described; of a large image, at some pixels."""
    logits = black_box(segmenter)
    expected = stitched(image, segmenter.config.tile, lambda tile: softmax(logits(tile)))
    found = run(segmenter, image)
    height, width = image.shape[-2:]
    assert found.shape == (2, height, width)
    places = [(h, w) for h in (0, height // 2, height - 1) for w in (0, width // 2, width - 1)]
    if height * width <= pixels:
        places = list(itertools.product(range(height), range(width)))
    else:
        random = np.random.default_rng(0)
        places += zip(random.integers(0, height, pixels), random.integers(0, width, pixels), strict=True)
    described = np.stack([zoomed(expected, h, w) for h, w in places], -1)
    close(found[:, [h for h, _ in places], [w for _, w in places]], described, 1e-6)  # zoomed in single precision


def released_tile_probabilities(segmenter: VGGSegmenter, tile: Tensor) -> Tensor:
    """One preprocessed tile, (N, 3, H, W), as the released network runs it -> probabilities.

    They are (N, C, (H - 372) / 8, (W - 372) / 8), with deconvolution 8 times as fine.
    """
    outputs = segmenter._deconvolve_or_softmax(segmenter.apply_context(segmenter.frontend(tile)))
    return outputs.softmax(1) if segmenter.config.upsampling == "deconvolution" else outputs
