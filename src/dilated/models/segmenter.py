"""The segmenter: a backbone of timm, a context module or a rival of it or none, up-sampling.

    image (N,3,H,W) -> backbone + neck + head -> features (N,F,h,w) -> context -> logits (N,C,h,w) -> logits (N,C,H,W)

    segmenter = Segmenter(["sky", "road"], config=SegmenterConfig(output_stride=8, context="basic"))
    labels = segmenter(images).argmax(1)                 # images: RGB in 0..1; labels: (N, H, W)

The late strides of the backbone are turned into dilation until one sample stands for r x r pixels (Section 4 of the
paper; r is the output stride). Nothing else distinguishes r = 32 from r = 8, so the same weights serve every stride:
train at a coarse stride, finish at a fine one.

At stride 8 a pole three pixels wide lies inside one logit, but the backbone's features at stride 4 still see its edges:
`DetailHead` reads them beside the up-sampled logits and adds a correction. Adding finer, shallower evidence to coarse
logits is the skip of FCN-8s (Long et al., CVPR 2015), to which the paper compares; reading the deep features too is the
decoder of DeepLabv3+ (Chen et al., ECCV 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from dilated.config import require_valid
from dilated.errors import InputError
from dilated.input_config import InputConfig
from dilated.models.base import BaseConfig, BaseSegmenter
from dilated.models.context import DILATIONS, context_rules
from dilated.models.decoders import (
    DecoderName,
    FCNDecoder,
    LogitUpsampling,
    build_decoder,
    build_upsampling,
    decoder_rules,
)
from dilated.models.dense_crf import DenseCRF
from dilated.models.detail_head import DetailHead, build_details, correct_logits
from dilated.models.factory import is_trusted
from dilated.models.heads import HeadName, build_head, conv_norm_relu, head_rules
from dilated.models.network_file import hash_network
from dilated.models.sampling import PIXEL_GRID, AuxiliaryLevel, AxisGrids, Grid, split_axes, upsample
from dilated.models.stem import adapt_stem
from dilated.models.timm_backbone import BackboneLayout, build_backbone, inspect_backbone, level_module_name
from dilated.palettes import Color

_MOST_CHANNELS = 8_192
_HEADS = (*get_args(HeadName), *get_args(DecoderName))


@dataclass(frozen=True)
class SegmenterConfig(BaseConfig):
    """What a segmenter is built of."""

    backbone: str = "tf_efficientnet_lite0"
    """A network of timm, by its name there: convolutional, or a plain transformer (ViT, DeiT, DINOv2, DINOv3)."""
    output_stride: int = 8
    """Pixels per logit along each axis: 8, 16 or 32; of a plain transformer the side of its patches, 14 or 16."""
    dilation: Literal["timm", "exact"] = "timm"
    """What turns strides into dilation: timm, or `dilated.dilate`, which is exact and can dilate more backbones."""
    levels: int = 0
    """How many levels of the backbone are used, from the image on; 0 for all. Fewer see less and cost less."""
    features: int = 128
    """F, the number of feature channels that are classified."""
    head: str = "none"
    """A rival of the context module, in its paper's arithmetic: see `dilated.models.heads` and `decoders`. Or a module
    of yours, `package.module:name`, called with `channels` and `output_stride`; it needs DILATED_TRUST=package."""
    rates: tuple[int, ...] = ()
    """Dilations of the head; its paper's if left out, scaled with the output stride."""
    context: Literal["none", "basic", "large"] = "none"
    context_on: Literal["features", "logits"] = "features"
    """What the context module reads: the F features before the classifier, or the C logits after it (as the paper)."""
    dilations: tuple[int, ...] = DILATIONS
    padding: Literal["same", "once"] = "same"
    init: Literal["identity", "random"] = "identity"
    sigma: float = 0.001
    """Standard deviation of the noise on the identity. The authors' 0.01 is for 11 to 21 channels; the noise added
    grows with sqrt(9 F)."""
    detail: int = 0
    """Channels of the correction that brings logits to stride 4 with the backbone's stride-4 features; 0 for none."""
    detail_reads: Literal["logits", "features"] = "logits"
    """What the correction reads beside the fine features: the logits, or the F features too."""
    detail_layers: Literal[1, 2] = 1
    """Number of 3x3 convolutions of the correction."""
    detail_fine: int = 0
    """Channels of a second correction, which brings logits to stride 2 with the backbone's stride-2 features; 0 for
    none."""
    dropout: float = 0.0
    """Fraction of the feature channels dropped before the classifier while training."""
    crf: Literal["none", "rnn"] = "none"
    """What refines the logits of every pixel by the image's colors: a CRF-RNN, learned with the network, or nothing."""
    crf_kernels: DenseCRF | None = None
    """The CRF-RNN's kernels and its weights at the start; if left out, those of `DenseCRF` and 5 iterations."""
    input: InputConfig | None = None
    """What images hold; left out for 8-bit RGB, and filled in from the training data."""
    kind: Literal["timm"] = "timm"
    """A backbone of timm; `vgg` is the paper's network, with the settings of `VGGConfig`."""

    def __post_init__(self) -> None:
        rules = {
            "head": (":" in self.head or self.head in _HEADS, f"give one of {', '.join(_HEADS)}, or a module:name"),
            "output_stride": (self.output_stride in (8, 14, 16, 32), "give 8, 16 or 32"),
            "levels": (0 <= self.levels <= 16, "give 0 for all, or the number of levels"),
            "features": (1 <= self.features <= _MOST_CHANNELS, f"give 1 to {_MOST_CHANNELS:,}"),
            "detail": (0 <= self.detail <= _MOST_CHANNELS, f"give 0 for none, or up to {_MOST_CHANNELS:,}"),
            "detail_layers": (self.detail_layers in (1, 2), "give 1 or 2"),
            "detail_fine": (
                0 <= self.detail_fine <= (_MOST_CHANNELS if self.detail else 0),
                f"give 0 for none, or up to {_MOST_CHANNELS:,} with network.detail above 0",
            ),
            "dropout": (0 <= self.dropout <= 1, "give 0 to 1"),
        }
        rules |= decoder_rules(self.head, self.output_stride, self.detail, self.context, self.context_on)
        rules |= head_rules(self.head, self.rates) | self.crf_rules(self.num_bands)
        require_valid(self, "network", rules | context_rules(self.dilations, self.sigma))

    def build(
        self,
        classes: Sequence[str],
        colors: Sequence[Color] | None = None,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        card: dict[str, object] | None = None,
    ) -> Segmenter:
        return Segmenter(classes, colors, self, mean, std, card)

    @property
    def is_trusted(self) -> bool:
        """Whether the user has named the package of the head as one whose code is called as it is."""
        return ":" in self.head and is_trusted(self.head)

    def expected_shapes(self, classes: int) -> dict[str, tuple[int, ...]] | None:
        if self.is_trusted:
            return None  # code of one's own runs once
        layout = inspect_backbone(self.backbone, self.levels, self.num_bands)
        with torch.device("meta"):
            head = _Head(self, layout, classes)
            head.add_module("crf", self.build_crf(classes))
        backbone = {f"backbone.{name}": shape for name, shape in layout.shapes.items()}
        return backbone | {name: tuple(value.shape) for name, value in head.state_dict().items()}

    def with_output_stride(self, output_stride: int) -> SegmenterConfig:
        patch = inspect_backbone(self.backbone, self.levels, self.num_bands).patch
        return replace(self, output_stride=patch or output_stride)  # nothing changes the stride of a transformer


class Segmenter(BaseSegmenter):
    """A segmentation network on a backbone of timm, with all that it takes to be used alone.

    Args:
        classes: names, in the order of the label ids.
        colors: one (red, green, blue) of 0..255 per class; evenly spread hues by default.
        config: what it is built of.
        mean, std: of the RGB values in 0..1; images are normalized inside. By default the backbone's own.
        card: facts about the network (its data, its licence, its figures) that travel in its file.

    Shapes:
        images (N, 3, H, W), RGB in 0..1, any H and W -> logits (N, C, H, W), before the softmax.

    Raises:
        InputError: a backbone that timm does not have or cannot dilate, a stride that is not 8, 16 or 32, or colors
            whose number is not that of the classes.

    Example:
        >>> config = SegmenterConfig(backbone="test_efficientnet", features=16, context="basic")
        >>> segmenter = Segmenter(["sky", "road"], config=config)
        >>> segmenter(torch.rand(1, 3, 50, 70)).shape
        torch.Size([1, 2, 50, 70])
    """

    weight_sources = ("bundled", "timm:")
    backbone_prefixes = ("backbone.",)
    backbone: Any  # timm annotates its networks in part

    def __init__(
        self,
        classes: Sequence[str],
        colors: Sequence[Color] | None = None,
        config: SegmenterConfig | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        card: dict[str, object] | None = None,
    ) -> None:
        config = config or SegmenterConfig()
        super().__init__(classes, colors, config, card)

        layout = inspect_backbone(config.backbone, config.levels, config.num_bands)
        self.backbone, grids = build_backbone(config)
        self.backbone_grids, self.undilated_strides = grids, layout.strides
        if grids[-1].stride != config.output_stride:
            raise InputError(
                f"network.output_stride: {config.backbone} has stride {grids[-1].stride}, not {config.output_stride}",
                hint=f"set network.output_stride = {grids[-1].stride:g}, or network.dilation = 'exact'",
            )
        self.fused_levels = layout.fused_levels
        head = _Head(config, layout, len(classes))
        self.neck, self.head, self.context, self.dropout = head.neck, head.head, head.context, head.dropout
        self.classifier, self.decoder = head.classifier, head.decoder
        self.detail, self.detail_fine = head.detail, head.detail_fine
        grid = grids[-1] if self.decoder is None else self.decoder.output_grid(grids)
        self.fine_levels = [layout.fine_level] if config.detail else []
        self.fine_levels += [layout.finest_level] if config.detail_fine else []
        self.feature_grids = (grid, *(grids[level] for level in self.fine_levels))
        self.grid, _ = self._logit_grids(grid)

        default = self.backbone.default_cfg if config.input is None else vars(config.input)
        self._set_normalization(mean or default["mean"], std or default["std"])

    @property
    def output_stride(self) -> int:
        return self.config.output_stride

    @property
    def alignment(self) -> int:
        return max(self.undilated_strides)

    @property
    def logit_bias(self) -> Tensor | None:
        if self.crf is not None:
            return None
        if self._details:
            return self._details[-1].correct.bias
        if self.context is not None and self.config.context_on == "logits":
            return self.context.final.bias
        return self.classifier.bias if isinstance(self.classifier, nn.Conv2d) else None

    def extract_features(self, images: Tensor) -> list[Tensor]:
        """The F features, (N, F, ceil(H/r), ceil(W/r)), and with `detail` the backbone's at stride 4, then at 2."""
        size = images.shape[-2], images.shape[-1]
        return self._crop(self.forward_neck(self.extract_backbone_features(images)), size)

    def _crop(self, feature_maps: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Drop what a decoder gives beyond the image: the maps that it reads end with one of the coarsest stride."""
        if self.decoder is None:
            return feature_maps
        stride = int(self.feature_grids[0].stride)
        height, width = ((side + stride - 1) // stride for side in size)
        return [feature_maps[0][..., :height, :width]]

    def logits(self, images: Tensor) -> Tensor:
        """Logits on the network's own grid: (N, 3, H, W) -> (N, C, ceil(H/r), ceil(W/r)).

        Logit k is centred on pixel `grid.start + grid.stride * k`.
        """
        return self._logits(self.extract_features(images)[0])

    def extract_backbone_features(self, images: Tensor) -> list[Tensor]:
        """The backbone's feature maps, finest first; map i lies on `backbone_grids[i]`."""
        r = self.output_stride
        # Sides become multiples of the stride, with the zeros that the convolutions pad with anyway.
        feature_maps = self.backbone(
            self._normalize_and_pad(images, r if self.config.dilation == "timm" else self.alignment)
        )
        shapes = self.backbone_shapes((images.shape[-2], images.shape[-1]))
        return [feature_map[..., :h, :w] for feature_map, (_, h, w) in zip(feature_maps, shapes, strict=True)]

    def backbone_shapes(self, size: tuple[int, int]) -> list[tuple[int, int, int]]:
        """The (channels, height, width) of `extract_backbone_features` for an image of a size (H, W)."""
        r = self.output_stride
        height, width = ((side + r - 1) // r * r for side in size)
        strides = [int(grid.stride) for grid in self.backbone_grids]
        channels = self.backbone.feature_info.channels()
        return [(c, height // s, width // s) for c, s in zip(channels, strides, strict=True)]

    def backbone_digest(self) -> str:
        """A hash of all that decides `extract_backbone_features`."""
        keys = ("backbone", "levels", "output_stride", "dilation")
        settings = {key: getattr(self.config, key) for key in keys} | {"mean": self.mean, "std": self.std}
        return hash_network(settings, self.backbone.state_dict())

    def logits_from_backbone(self, feature_maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits at every pixel, before a CRF-RNN: feature maps of images of a size (H, W) -> (N, C, H, W)."""
        logits, grid = self.decode(self._crop(self.forward_neck(feature_maps), size), self.feature_grids)
        return self.upsample(logits, grid, PIXEL_GRID, size)

    def forward_neck(self, feature_maps: list[Tensor]) -> list[Tensor]:
        """The backbone's feature maps -> those of `feature_grids`."""
        if self.decoder is not None:
            return [self.decoder(feature_maps, self.backbone_grids)]
        size = feature_maps[-1].shape[-2], feature_maps[-1].shape[-1]
        resampled = [
            feature_maps[i]
            if self.backbone_grids[i] == self.feature_grids[0]
            else upsample(feature_maps[i], self.backbone_grids[i], self.feature_grids[0], size)
            for i in self.fused_levels
        ]
        features = self.neck(torch.cat(resampled, 1))  # (N, F, H/r, W/r), not negative
        if self.head is not None:
            features = self.head(features)
        return [features, *(feature_maps[level] for level in self.fine_levels)]

    def decode(self, feature_maps: list[Tensor], grids: Sequence[AxisGrids]) -> tuple[Tensor, AxisGrids]:
        logits = self._logits(feature_maps[0])  # (N, C, H/r, W/r)
        if self.detail is None:
            return logits, self._logit_grids(grids[0]) if isinstance(self.classifier, LogitUpsampling) else grids[0]
        return correct_logits(logits, self._details, feature_maps, grids)

    @property
    def _details(self) -> list[DetailHead]:
        """The corrections, the coarser one first."""
        return [head for head in (self.detail, self.detail_fine) if head is not None]

    def _logit_grids(self, grids: AxisGrids) -> tuple[Grid, Grid]:
        """Where the logits made of features on such grids sit, along rows and along columns."""
        rows, columns = split_axes(grids)
        if not isinstance(self.classifier, LogitUpsampling):
            return rows, columns
        full = self.feature_grids[0]
        return self.classifier.output_grid(rows, full), self.classifier.output_grid(columns, full)

    def _logits(self, features: Tensor) -> Tensor:
        if self.context is None:
            return self.classifier(self.dropout(features))
        if self.config.context_on == "features":
            return self.classifier(self.dropout(self.context(features)))
        return self.context(make_non_negative(self.classifier(self.dropout(features))))

    def auxiliary_level(self) -> AuxiliaryLevel:
        """The backbone's last level but one."""
        channels = self.backbone.feature_info.channels()
        level = max(0, len(channels) - 2)
        return AuxiliaryLevel(channels[level], self.backbone_grids[level])

    def forward_with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor]:
        feature_maps = self.extract_backbone_features(images)
        logits = self.logits_from_backbone(feature_maps, (images.shape[-2], images.shape[-1]))
        logits = self.refine(logits, images)
        return logits, feature_maps[max(0, len(feature_maps) - 2)]

    @property
    def backbone_levels(self) -> int:
        return len(self.undilated_strides)

    def first_level_modules(self, levels: int) -> list[nn.Module]:
        if levels == 0:
            return []
        last = level_module_name(self.backbone, levels - 1)
        modules: list[nn.Module] = []
        for name, module in self.backbone.named_modules():
            inside = last == name or last.startswith(f"{name}.")
            if name and not inside:
                modules.append(module)
            if name == last:
                return [*modules, module]
        raise InputError(f"{self.config.backbone}: no module {last!r} at the end of level {levels}")

    def describe_random_weights(self) -> str:
        return f"{self.config.backbone}: random weights"

    def load_pretrained(self, weights: Mapping[str, Tensor], source: str) -> str:
        """Fill the backbone with weights under timm's names; a complete classifier's head is left out."""
        backbone, state = self.config.backbone, self.backbone.state_dict()
        weights = adapt_stem(weights, state, self.config.input)
        missing = [k for k in state if k not in weights and not k.endswith("num_batches_tracked")]
        mismatched = [k for k in state if k in weights and weights[k].shape != state[k].shape]
        if missing or mismatched:
            raise InputError(
                f"weights: {source} does not fit {backbone}: {len(missing)} weights are missing, {len(mismatched)} "
                f"have another shape, first {(missing + mismatched)[0]!r}",
                hint="give weights of this backbone under timm's names",
            )
        self.backbone.load_state_dict({k: weights.get(k, state[k]).to(state[k].dtype) for k in state})
        return f"{backbone}: {len(state)} tensors from {source}"


class _Head(nn.Module):
    """The parts of a segmenter behind its backbone, under the names that they have in the segmenter."""

    def __init__(self, config: SegmenterConfig, layout: BackboneLayout, classes: int) -> None:
        super().__init__()
        width = config.features
        self.decoder = build_decoder(config.head, layout, width, classes, config.dropout)
        self.neck, self.head = nn.Sequential(), None
        if self.decoder is None:
            self.neck = conv_norm_relu(sum(layout.channels[i] for i in layout.fused_levels), width, 1)
            if config.head not in get_args(DecoderName):
                self.head = build_head(config.head, width, config.output_stride, config.rates, config.dropout)
        for part in (self.decoder, self.head):
            width = width if part is None else part.out_channels
        self.context = config.build_context(width if config.context_on == "features" else classes)
        upsampling = build_upsampling(config.head, width, classes, config.output_stride)
        self.dropout = nn.Dropout2d(0.0 if isinstance(self.decoder, FCNDecoder) else config.dropout)
        # As torch initialises it, spread by 1 / sqrt(3 F): from weights of 0.01, a few hundred steps do not reach the
        # logits that rare classes need.
        self.classifier = upsampling or nn.Conv2d(width, classes, 1)
        if isinstance(self.classifier, nn.Conv2d):
            nn.init.zeros_(self.classifier.bias)  # type: ignore[arg-type]
        self.detail, self.detail_fine = build_details(config, layout, classes, width)


def make_non_negative(logits: Tensor) -> Tensor:
    """Subtract the minimum over the classes: the same softmax and argmax, and nothing for a ReLU to cut.

    (N, C, h, w) -> (N, C, h, w). A context module on raw logits starts as relu(logits); on these, as the identity.
    """
    return logits - logits.amin(1, keepdim=True)
