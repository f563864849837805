"""The whole network: front end, context module or none, up-sampling.

    image (N,3,H,W) -> front end -> features (N,F,h,w) -> context -> logits (N,C,h,w) -> logits (N,C,H,W)

    segmenter = Segmenter(["sky", "road"], network=Network(output_stride=8, context="basic"))
    labels = segmenter(images).argmax(1)                 # images: RGB in 0..1; labels: (N, H, W)

The front end is any convolutional network of timm whose late strides are turned into dilation until one sample stands
for r x r pixels (Section 4 of the paper; r is the output stride). Nothing else distinguishes r = 32 from r = 8, so the
same weights serve every stride: train coarse, finish fine.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.dilation.depthwise import use_polyphase
from dilated.dilation.dilate import dilate
from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.models.context import DILATIONS, ContextModule
from dilated.models.detail import DetailHead
from dilated.models.sampling import AxisGrids, Grid, measure_grids, upsample
from dilated.palettes import Color


@dataclass(frozen=True)
class SegmenterConfig:
    """What a segmenter is built of."""

    backbone: str = "tf_efficientnet_lite0"
    """A convolutional network of timm, by its name there."""
    output_stride: int = 8
    """Pixels per logit along each axis: 8, 16 or 32."""
    dilation: Literal["timm", "exact"] = "timm"
    """What turns strides into dilation: timm, or `dilated.dilate`, which is exact and can do more backbones."""
    levels: int = 0
    """How many of the backbone's levels are used, from the image on; 0 for all. Fewer see less and cost less."""
    features: int = 128
    """F, the maps that the front end classifies."""
    context: Literal["none", "basic", "large"] = "none"
    """The context module (paper, Table 1)."""
    context_on: Literal["features", "logits"] = "features"
    """What the context module reads: the F features before the classifier, or the C logits after it (as the paper)."""
    dilations: tuple[int, ...] = DILATIONS
    """Of the context module."""
    padding: Literal["same", "once"] = "same"
    """What the context module sees beyond the border."""
    init: Literal["identity", "random"] = "identity"
    """How the context module starts."""
    sigma: float = 0.001
    """Noise on the identity. The authors' 0.01 is for 11 to 21 maps; the noise added grows with sqrt(9 F)."""
    detail: int = 0
    """Maps of the correction that brings logits to stride 4 with the backbone's stride-4 features; 0 for none."""
    detail_reads: Literal["logits", "features"] = "logits"
    """What the correction reads beside the fine features: the logits, or the F features too."""
    detail_layers: Literal[1, 2] = 1
    """3x3 convolutions of the correction."""
    dropout: float = 0.0
    """Share of the features dropped before the classifier while training."""
    kind: Literal["timm"] = "timm"
    """Which front end: a backbone of timm; `vgg` is the paper's network, with the settings of `VGGConfig`."""


class Segmenter(BaseSegmenter):
    """A segmentation network with all it takes to be used alone.

    Args:
        classes: names, in the order of the label ids.
        colors: one (red, green, blue) of 0..255 per class.
        network: what it is built of.
        mean, std: of the RGB values in 0..1; images are normalised inside. By default the backbone's own.
        card: facts about the network (its data, its licence, its figures) that travel in its file.

    Shapes:
        images (N, 3, H, W), RGB in 0..1, any H and W -> logits (N, C, H, W), before the softmax.

    Raises:
        ValueError: a backbone that timm lacks or cannot dilate, a stride that is not 8, 16 or 32, or a number of
            colors that is not that of the classes.

    Example:
        >>> net = SegmenterConfig(backbone="test_efficientnet", features=16, context="basic")
        >>> segmenter = Segmenter(["sky", "road"], [(0, 0, 255), (128, 64, 128)], net)
        >>> segmenter(torch.rand(1, 3, 50, 70)).shape
        torch.Size([1, 2, 50, 70])
    """

    backbone: Any  # timm annotates its networks in part
    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        colors: Sequence[Color],
        config: SegmenterConfig | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        card: dict[str, object] | None = None,
    ) -> None:
        config = config or SegmenterConfig()
        super().__init__(classes, colors, config, card)

        self.backbone, grids = _build_backbone(config)
        reduction = self.backbone.feature_info.reduction()
        channels = self.backbone.feature_info.channels()
        self.grid, self.backbone_grids = grids[-1], grids
        self.undilated_strides = _undilated_strides(config)
        if self.grid.stride != config.output_stride:
            raise ValueError(
                f"{config.backbone}: found output stride {self.grid.stride}; expected {config.output_stride}"
            )
        # The backbone's levels from stride 8 on. Dilated, they end on one grid, where they are read side by side.
        self.levels = [i for i, stride in enumerate(self.undilated_strides) if stride >= 8]
        self.fine_level = max((i for i, stride in enumerate(reduction) if stride <= 4), default=0)

        width, num_classes = config.features, len(classes)
        self.neck = nn.Sequential(
            nn.Conv2d(sum(channels[i] for i in self.levels), width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.context: ContextModule | None = None
        if config.context != "none":
            self.context = ContextModule(
                width if config.context_on == "features" else num_classes,
                config.context,
                config.dilations,
                config.padding,
                config.init,
                config.sigma,
            )
        self.dropout = nn.Dropout2d(config.dropout)
        # As torch initialises it, spread by 1 / sqrt(3 F): from weights of 0.01, a few hundred steps do not reach the
        # logits that rare classes need.
        self.classifier = nn.Conv2d(width, num_classes, 1)
        nn.init.zeros_(self.classifier.bias)  # type: ignore[arg-type]
        self.detail: DetailHead | None = None
        if config.detail:
            feature_channels = width if config.detail_reads == "features" else 0
            self.detail = DetailHead(
                channels[self.fine_level], num_classes, config.detail, feature_channels, config.detail_layers
            )
        self.feature_grids = (self.grid, grids[self.fine_level]) if config.detail else (self.grid,)

        self.mean = tuple(mean or self.backbone.default_cfg["mean"])
        self.std = tuple(std or self.backbone.default_cfg["std"])
        self.register_buffer("_mean", torch.tensor(self.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(1, 3, 1, 1), persistent=False)

    @property
    def output_stride(self) -> int:
        return self.config.output_stride

    @property
    def alignment(self) -> int:
        return max(self.undilated_strides)

    def extract_features(self, images: Tensor) -> list[Tensor]:
        """The F features, (N, F, ceil(H/r), ceil(W/r)), and with `detail` the backbone's features at stride 4."""
        return self.forward_neck(self.extract_backbone_features(images))

    def logits(self, images: Tensor) -> Tensor:
        """Logits on the network's own grid: (N, 3, H, W) -> (N, C, ceil(H/r), ceil(W/r)).

        Logit k is centred on pixel `grid.start + grid.stride * k`.
        """
        return self._logits(self.extract_features(images)[0])

    def extract_backbone_features(self, images: Tensor) -> list[Tensor]:
        """The backbone's feature maps, finest first; map i lies on `grids[i]`."""
        x = (images - self._mean) / self._std
        # Sides become multiples of the stride, with the zeros that the convolutions pad with anyway.
        r = self.output_stride
        multiple = r if self.config.dilation == "timm" else self.alignment
        feature_maps = self.backbone(F.pad(x, (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple)))
        height, width = (-(-side // r) * r for side in x.shape[-2:])
        strides = [int(grid.stride) for grid in self.backbone_grids]
        return [
            feature_map[..., : height // s, : width // s] for feature_map, s in zip(feature_maps, strides, strict=True)
        ]

    def forward_neck(self, feature_maps: list[Tensor]) -> list[Tensor]:
        """The backbone's maps -> those of `feature_grids`."""
        size = feature_maps[-1].shape[-2], feature_maps[-1].shape[-1]
        resampled = [
            feature_maps[i]
            if self.backbone_grids[i] == self.grid
            else upsample(feature_maps[i], self.backbone_grids[i], self.grid, size)
            for i in self.levels
        ]
        features = self.neck(torch.cat(resampled, 1))  # (N, F, H/r, W/r), not negative
        return [features] if self.detail is None else [features, feature_maps[self.fine_level]]

    def decode(self, feature_maps: list[Tensor], grids: Sequence[AxisGrids]) -> tuple[Tensor, AxisGrids]:
        logits = self._logits(feature_maps[0])  # (N, C, H/r, W/r)
        if self.detail is None:
            return logits, grids[0]
        size = feature_maps[1].shape[-2], feature_maps[1].shape[-1]
        fine, coarse = feature_maps[1], logits
        if self.detail.reduce is not None:
            coarse = torch.cat([logits, self.detail.reduce(feature_maps[0])], 1)
        upsampled = upsample(coarse, grids[0], grids[1], size)  # (N, C or C + width, H/4, W/4)
        classes = logits.shape[1]
        return self.detail(upsampled[:, :classes], torch.cat([fine, upsampled[:, classes:]], 1)), grids[1]

    def _logits(self, features: Tensor) -> Tensor:
        if self.context is None:
            return self.classifier(self.dropout(features))
        if self.config.context_on == "features":
            return self.classifier(self.dropout(self.context(features)))
        return self.context(make_non_negative(self.classifier(self.dropout(features))))

    @property
    def backbone_levels(self) -> int:
        return len(self.undilated_strides)

    def first_level_modules(self, levels: int) -> list[nn.Module]:
        """The backbone's modules up to the end of its first levels, in order of registration."""
        if levels == 0:
            return []
        last = _level_module_name(self.backbone, levels - 1)
        modules: list[nn.Module] = []
        for name, module in self.backbone.named_modules():
            inside = last == name or last.startswith(f"{name}.")
            if name and not inside:
                modules.append(module)
            if name == last:
                return [*modules, module]
        raise ValueError(f"{self.config.backbone}: found no module {last!r} at the end of level {levels}")

    def is_backbone_parameter(self, name: str) -> bool:
        """The backbone's."""
        return name.startswith("backbone.")

    def with_config(self, config: SegmenterConfig) -> Segmenter:
        return Segmenter(self.classes, self.colors, config, self.mean, self.std, self.card)


def make_non_negative(logits: Tensor) -> Tensor:
    """Logits less their least over the classes: the same softmax and argmax, and nothing for a ReLU to cut.

    (N, C, h, w) -> (N, C, h, w). A context module on raw logits starts as relu(logits), which forgets whatever is
    negative; on these it starts as the identity.
    """
    return logits - logits.amin(1, keepdim=True)


def _build_backbone(config: SegmenterConfig) -> tuple[nn.Module, list[Grid]]:
    """The backbone, and where the values of each of its levels sit."""
    if config.features < 1 or config.detail < 0 or config.detail_layers < 1:
        raise InputError(
            f"network: features={config.features}, detail={config.detail}, detail_layers={config.detail_layers} must be "
            "at least 1, 0 and 1"
        )
    if config.output_stride not in (8, 16, 32):
        raise ValueError(f"network.output_stride: found {config.output_stride}; expected 8, 16 or 32")
    if not timm.is_model(config.backbone):
        close = difflib.get_close_matches(config.backbone, timm.list_models(), n=5)
        raise ValueError(
            f"network.backbone: timm has no {config.backbone!r}; similar ones: {', '.join(close) or 'none'}. "
            "`python -c 'import timm; print(timm.list_models())'` lists all."
        )
    stride = {} if config.dilation == "exact" else {"output_stride": config.output_stride}
    try:
        backbone = timm.create_model(config.backbone, features_only=True, **stride, **_level_options(config))
    except (NotImplementedError, TypeError, AssertionError, AttributeError, RuntimeError) as error:
        what = f"at output stride {config.output_stride}" if stride else "as levels of features"
        how = "network.dilation = 'exact', which can dilate more backbones, or " if stride else ""
        raise ValueError(
            f"network.backbone: timm cannot build {config.backbone} {what} ({str(error) or type(error).__name__}); "
            f"expected {how}a convolutional backbone, such as resnet50 or efficientnet_b0"
        ) from error
    grids = measure_grids(backbone, len(backbone.feature_info.channels()))
    if config.dilation == "exact":  # which leaves every sample where it is, and adds others between them
        backbone = dilate(backbone, config.output_stride, check=False)
        grids = [Grid(min(grid.stride, config.output_stride), grid.start) for grid in grids]
    return use_polyphase(_drop_unused_modules(backbone)), grids


def _drop_unused_modules(backbone: Any) -> nn.Module:
    """Leave out what comes after the last level that is used; timm runs it in some families, for nothing."""
    parent_name, _, last = _level_module_name(backbone, -1).rpartition(".")
    parent = backbone.get_submodule(parent_name)
    names = [name for name, _ in parent.named_children()]
    for name in names[names.index(last) + 1 :]:
        if not isinstance(getattr(parent, name), nn.ModuleList):  # a list is gone through, not called
            setattr(parent, name, nn.Identity())
    return backbone


def _level_module_name(backbone: Any, level: int) -> str:
    """The name of the module of a backbone with which a level ends."""
    name: str = backbone.feature_info.module_name()[level]
    module_names = {name for name, _ in backbone.named_modules()}
    return name if name in module_names else name.replace(".", "_")  # timm flattens the names in some families


def _undilated_strides(config: SegmenterConfig) -> list[int]:
    """Each level's stride in the undilated network."""
    with torch.device("meta"):
        return timm.create_model(config.backbone, features_only=True, **_level_options(config)).feature_info.reduction()


def _level_options(config: SegmenterConfig) -> dict[str, Any]:
    return {"out_indices": tuple(range(config.levels))} if config.levels else {}


__all__ = ["Grid", "Segmenter", "SegmenterConfig", "make_non_negative"]
