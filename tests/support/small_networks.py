"""Networks and images on which tiles can go wrong quickly: small fields, odd strides, logits of every size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated import ContextModule, Segmenter, SegmenterConfig
from dilated.data.images import ImageArray
from dilated.models.base import BaseSegmenter
from dilated.models.sampling import AxisGrids, Grid, upsample
from dilated.paper import VGGConfig, VGGSegmenter
from dilated.tensors import to_tensor

CLASSES = ["sky", "road", "tree"]
COLORS = [(0, 0, 255), (128, 64, 128), (0, 128, 0)]


class Local(BaseSegmenter):
    """A network that sees little: patches of stride x stride pixels, then their neighbours, then a context module."""

    def describe_random_weights(self) -> str:
        return "random weights"

    def load_pretrained(self, weights: object, source: str) -> str:
        raise NotImplementedError("no classifier has weights for it")

    def __init__(
        self,
        stride: int = 1,
        kernel: int = 3,
        classes: int = 3,
        context: Sequence[int] = (),
        gate: nn.Module | None = None,
    ) -> None:
        super().__init__([str(i) for i in range(classes)], [(0, 0, 0)] * classes, None)
        torch.manual_seed(stride + kernel)
        self.stride = stride
        self.patches = nn.Conv2d(3, 6, stride, stride=stride)
        self.around = nn.Conv2d(6, 6, kernel, padding=kernel // 2)
        self.gate = gate or nn.Identity()
        self.context = ContextModule(6, dilations=context, init="random") if context else None
        self.classifier = nn.Conv2d(6, classes, 1)
        self.grid = Grid(stride, (stride - 1) / 2)
        self.feature_grids = (self.grid,)
        settled(self)

    @property
    def output_stride(self) -> int:
        return self.stride

    @property
    def alignment(self) -> int:
        return self.stride

    def extract_features(self, images: Tensor) -> list[Tensor]:
        x = F.pad(images, (0, -images.shape[-1] % self.stride, 0, -images.shape[-2] % self.stride))
        return [self.gate(self.around(self.patches(x).relu()).relu())]

    def decode(self, feature_maps: list[Tensor], grids: Sequence[AxisGrids]) -> tuple[Tensor, AxisGrids]:
        x = feature_maps[0] if self.context is None else self.context(feature_maps[0])
        return self.classifier(x), grids[0]

    def upsample(self, logits: Tensor, source: AxisGrids, target: AxisGrids, size: tuple[int, int]) -> Tensor:
        return upsample(logits, source, target, size)

    def logits(self, images: Tensor) -> Tensor:
        return self.decode(self.extract_features(images), self.feature_grids)[0]

    def training_logits(self, images: Tensor) -> Tensor:
        return self(images)

    def first_level_modules(self, levels: int) -> list[nn.Module]:
        return []

    def is_backbone_parameter(self, name: str) -> bool:
        return False

    def with_config(self, config: object) -> Local:
        return Local(self.stride)


def resnet(**changes: object) -> Segmenter:
    """Random weights, batch statistics and corrections, none of which a fresh network has."""
    torch.manual_seed(0)
    settings = {"backbone": "resnet18", "features": 8, "init": "random", **changes}
    segmenter = Segmenter(CLASSES, COLORS, SegmenterConfig(**settings)).eval()
    for module in segmenter.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)  # timm's are 0 where a block ends: it would see nothing
            nn.init.normal_(module.bias, std=0.1)
    settled(segmenter)
    for head in (segmenter.detail, segmenter.detail_fine):
        if head is not None:
            nn.init.normal_(head.correct.weight, std=0.5)
    return segmenter


def vgg(**changes: object) -> VGGSegmenter:
    torch.manual_seed(0)
    segmenter = VGGSegmenter(CLASSES, COLORS, VGGConfig(**{"width": 1 / 32, "init": "random", **changes})).eval()
    settled(segmenter)
    return segmenter


@torch.no_grad()
def settled(segmenter: BaseSegmenter) -> None:
    """Scale the last layer so that logits spread around 0: every class occurs, and hardly two tie."""
    segmenter.eval()
    layers = ["classifier", "frontend.final"]
    if segmenter.context is not None and segmenter.context.channels == len(segmenter.classes):
        layers.append("context.final")
    named = dict(segmenter.named_modules())
    image = to_tensor(make_image(96, 80))
    for name in layers:
        layer = named.get(name)
        if not isinstance(layer, nn.Conv2d) or layer.bias is None:
            continue
        nn.init.normal_(layer.weight)
        found: list[Tensor] = []
        handle = layer.register_forward_hook(lambda module, inputs, output, found=found: found.append(output))
        segmenter.logits(image)
        handle.remove()
        mean, std = found[0].mean((0, 2, 3)), found[0].std((0, 2, 3)).mean() / 2
        layer.weight /= std
        layer.bias.copy_((layer.bias - mean) / std)


def make_image(height: int, width: int, seed: int = 0) -> ImageArray:
    """(H, W, 3) uint8: patches of random colors and sizes, and noise on them."""
    random = np.random.default_rng(seed)
    image = random.integers(-30, 31, (height, width, 3))
    for side in (16, 5):
        coarse = random.integers(0, 128, (-(-height // side), -(-width // side), 3))
        image += coarse.repeat(side, 0).repeat(side, 1)[:height, :width]
    return image.clip(0, 255).astype(np.uint8)
