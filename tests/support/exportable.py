"""Small segmenters of each kind, and smooth images, for the tests of exported files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from dilated import AdapterConfig, Segmenter, SegmenterConfig, add_context
from dilated.models.base import BaseSegmenter
from dilated.models.decoders import DecoderName
from dilated.models.heads import HeadName
from dilated.paper import VGGConfig, VGGSegmenter

SIZES = ((1, 75, 101), (3, 64, 97), (1, 7, 130), (2, 131, 40), (1, 1, 1))
RNG = np.random.default_rng(0)


def make_images(n: int, height: int, width: int) -> NDArray[np.uint8]:
    """Smooth random images, in which there is something to see at each scale."""
    coarse = RNG.integers(0, 256, (n, height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    resized = [np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)) for image in coarse]
    return np.stack(resized)


def timm_segmenter() -> BaseSegmenter:
    config = SegmenterConfig(backbone="resnet18", levels=3, features=8, context="basic", detail=8)
    segmenter = Segmenter(["a", "b", "c"], config=config).eval()
    nn.init.normal_(segmenter.detail.correct.weight)  # type: ignore[union-attr]
    return segmenter


def paper_segmenter(**changes: Any) -> BaseSegmenter:
    torch.manual_seed(1)
    config = VGGConfig(width=1 / 32, context="basic", init="random", **changes)
    return VGGSegmenter(["a", "b"], config=config).eval()


def adapted_segmenter() -> BaseSegmenter:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 3, 1), nn.Upsample(None, 2, mode="bilinear")
    )
    return add_context(network, ["a", "b", "c"], config=AdapterConfig(size_divisor=4)).eval()


def segmenter_with_head(head: HeadName | DecoderName, output_stride: int = 8) -> BaseSegmenter:
    torch.manual_seed(2)
    config = SegmenterConfig(backbone="test_efficientnet", features=8, head=head, output_stride=output_stride)
    return Segmenter(["a", "b", "c"], config=config).eval()
