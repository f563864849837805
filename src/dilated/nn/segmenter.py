"""The whole network: front end, context module or none, up-sampling.

    image (N,3,H,W) -> front end -> features (N,F,h,w) -> context -> scores (N,C,h,w) -> scores (N,C,H,W)

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

from dilated.kernels.polyphase import use_polyphase
from dilated.nn.base import BaseSegmenter, Color
from dilated.nn.context import DILATIONS, ContextModule
from dilated.nn.detail import Detail
from dilated.nn.dilate import dilate
from dilated.nn.sampling import Axes, Grid, measure, upsample


@dataclass(frozen=True)
class Network:
    """What a segmenter is built of."""

    backbone: str = "tf_efficientnet_lite0"
    """A convolutional network of timm, by its name there."""
    output_stride: int = 8
    """Pixels per score along each axis: 8, 16 or 32."""
    dilation: Literal["timm", "exact"] = "timm"
    """What turns strides into dilation: timm, or `dilated.dilate`, which is exact and can do more backbones."""
    levels: int = 0
    """How many of the backbone's levels are used, from the picture on; 0 for all. Fewer see less and cost less."""
    features: int = 128
    """F, the maps that the front end classifies."""
    context: Literal["none", "basic", "large"] = "none"
    """The context module (paper, Table 1)."""
    context_on: Literal["features", "scores"] = "features"
    """What the context module reads: the F features before the classifier, or the C scores after it (as the paper)."""
    dilations: tuple[int, ...] = DILATIONS
    """Of the context module."""
    padding: Literal["same", "once"] = "same"
    """What the context module sees beyond the border."""
    init: Literal["identity", "random"] = "identity"
    """How the context module starts."""
    sigma: float = 0.001
    """Noise on the identity. The authors' 0.01 is for 11 to 21 maps; the noise added grows with sqrt(9 F)."""
    detail: int = 0
    """Maps of the correction that brings scores to stride 4 with the trunk's stride-4 features; 0 for none."""
    detail_reads: Literal["scores", "features"] = "scores"
    """What the correction reads beside the fine features: the scores, or the F features too."""
    detail_layers: Literal[1, 2] = 1
    """3x3 convolutions of the correction."""
    dropout: float = 0.0
    """Share of the features dropped before the classifier while training."""
    kind: Literal["timm"] = "timm"
    """Which front end: a backbone of timm; `vgg` is the paper's network, with the settings of `VGGNetwork`."""


class Segmenter(BaseSegmenter):
    """A segmentation network with all it takes to be used alone.

    Args:
        classes: names, in the order of the label ids.
        colors: one (red, green, blue) of 0..255 per class.
        network: what it is built of.
        mean, std: of the RGB values in 0..1; images are normalised inside. By default the backbone's own.
        card: facts about the network (its data, its licence, its figures) that travel in its file.

    Shapes:
        images (N, 3, H, W), RGB in 0..1, any H and W -> scores (N, C, H, W), before the softmax.

    Raises:
        ValueError: a backbone that timm lacks or cannot dilate, a stride that is not 8, 16 or 32, or a number of
            colours that is not that of the classes.

    Example:
        >>> net = Network(backbone="test_efficientnet", features=16, context="basic")
        >>> segmenter = Segmenter(["sky", "road"], [(0, 0, 255), (128, 64, 128)], net)
        >>> segmenter(torch.rand(1, 3, 50, 70)).shape
        torch.Size([1, 2, 50, 70])
    """

    trunk: Any  # timm annotates its networks in part
    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        colors: Sequence[Color],
        network: Network | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        card: dict[str, object] | None = None,
    ) -> None:
        network = network or Network()
        super().__init__(classes, colors, network, card)

        self.trunk, grids = _trunk(network)
        reduction = self.trunk.feature_info.reduction()
        channels = self.trunk.feature_info.channels()
        self.grid, self.grids = grids[-1], grids
        self.strides = _strides(network)
        if self.grid.stride != network.output_stride:
            raise ValueError(
                f"{network.backbone}: found output stride {self.grid.stride}; expected {network.output_stride}"
            )
        # The trunk's levels from stride 8 on. Dilated, they end on one grid, where they are read side by side.
        self.levels = [i for i, stride in enumerate(self.strides) if stride >= 8]
        self.fine = max((i for i, stride in enumerate(reduction) if stride <= 4), default=0)

        width, count = network.features, len(classes)
        self.neck = nn.Sequential(
            nn.Conv2d(sum(channels[i] for i in self.levels), width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.context: ContextModule | None = None
        if network.context != "none":
            self.context = ContextModule(
                width if network.context_on == "features" else count,
                network.context,
                network.dilations,
                network.padding,
                network.init,
                network.sigma,
            )
        self.dropout = nn.Dropout2d(network.dropout)
        # As torch initialises it, spread by 1 / sqrt(3 F): from weights of 0.01, a few hundred steps do not reach the
        # scores that rare classes need.
        self.classifier = nn.Conv2d(width, count, 1)
        nn.init.zeros_(self.classifier.bias)  # type: ignore[arg-type]
        self.detail: Detail | None = None
        if network.detail:
            deep = width if network.detail_reads == "features" else 0
            self.detail = Detail(channels[self.fine], count, network.detail, deep, network.detail_layers)
        self.map_grids = (self.grid, grids[self.fine]) if network.detail else (self.grid,)

        self.mean = tuple(mean or self.trunk.default_cfg["mean"])
        self.std = tuple(std or self.trunk.default_cfg["std"])
        self.register_buffer("_mean", torch.tensor(self.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(1, 3, 1, 1), persistent=False)

    @property
    def output_stride(self) -> int:
        return self.network.output_stride

    @property
    def alignment(self) -> int:
        return max(self.strides)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The F features, (N, F, ceil(H/r), ceil(W/r)), and with `detail` the trunk's features at stride 4."""
        return self.read(self.trunk_maps(images))

    def scores(self, images: Tensor) -> Tensor:
        """Scores on the network's own grid: (N, 3, H, W) -> (N, C, ceil(H/r), ceil(W/r)).

        Score k is centred on pixel `grid.start + grid.stride * k`.
        """
        return self._scores(self.maps(images)[0])

    def trunk_maps(self, images: Tensor) -> list[Tensor]:
        """The trunk's feature maps, finest first; map i lies on `grids[i]`."""
        x = (images - self._mean) / self._std
        # Sides become multiples of the stride, with the zeros that the convolutions pad with anyway.
        r = self.output_stride
        multiple = r if self.network.dilation == "timm" else self.alignment
        maps = self.trunk(F.pad(x, (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple)))
        height, width = (-(-side // r) * r for side in x.shape[-2:])
        strides = [int(grid.stride) for grid in self.grids]
        return [one[..., : height // s, : width // s] for one, s in zip(maps, strides, strict=True)]

    def read(self, maps: list[Tensor]) -> list[Tensor]:
        """The trunk's maps -> those of `map_grids`."""
        size = maps[-1].shape[-2], maps[-1].shape[-1]
        here = [
            maps[i] if self.grids[i] == self.grid else upsample(maps[i], self.grids[i], self.grid, size)
            for i in self.levels
        ]
        features = self.neck(torch.cat(here, 1))  # (N, F, H/r, W/r), not negative
        return [features] if self.detail is None else [features, maps[self.fine]]

    def finish(self, maps: list[Tensor], places: Sequence[Axes]) -> tuple[Tensor, Axes]:
        scores = self._scores(maps[0])  # (N, C, H/r, W/r)
        if self.detail is None:
            return scores, places[0]
        size = maps[1].shape[-2], maps[1].shape[-1]
        fine, coarse = maps[1], scores
        if self.detail.reduce is not None:
            coarse = torch.cat([scores, self.detail.reduce(maps[0])], 1)
        above = upsample(coarse, places[0], places[1], size)  # (N, C or C + width, H/4, W/4)
        classes = scores.shape[1]
        return self.detail(above[:, :classes], torch.cat([fine, above[:, classes:]], 1)), places[1]

    def _scores(self, features: Tensor) -> Tensor:
        if self.context is None:
            return self.classifier(self.dropout(features))
        if self.network.context_on == "features":
            return self.classifier(self.dropout(self.context(features)))
        return self.context(non_negative(self.classifier(self.dropout(features))))

    @property
    def levels_of_trunk(self) -> int:
        return len(self.strides)

    def first_levels(self, levels: int) -> list[nn.Module]:
        """The trunk's modules up to the end of its first levels, in order of registration."""
        if levels == 0:
            return []
        last = level_name(self.trunk, levels - 1)
        modules: list[nn.Module] = []
        for name, module in self.trunk.named_modules():
            inside = last == name or last.startswith(f"{name}.")
            if name and not inside:
                modules.append(module)
            if name == last:
                return [*modules, module]
        raise ValueError(f"{self.network.backbone}: found no module {last!r} at the end of level {levels}")

    def pretrained(self, name: str) -> bool:
        """The trunk's."""
        return name.startswith("trunk.")

    def with_network(self, network: Network) -> Segmenter:
        return Segmenter(self.classes, self.colors, network, self.mean, self.std, self.card)


def non_negative(scores: Tensor) -> Tensor:
    """Scores less their least over the classes: the same softmax and argmax, and nothing for a ReLU to cut.

    (N, C, h, w) -> (N, C, h, w). A context module on raw scores starts as relu(scores), which forgets whatever is
    negative; on these it starts as the identity.
    """
    return scores - scores.amin(1, keepdim=True)


def _trunk(network: Network) -> tuple[nn.Module, list[Grid]]:
    """The backbone, and where the values of each of its levels sit."""
    if network.output_stride not in (8, 16, 32):
        raise ValueError(f"network.output_stride: found {network.output_stride}; expected 8, 16 or 32")
    if not timm.is_model(network.backbone):
        close = difflib.get_close_matches(network.backbone, timm.list_models(), n=5)
        raise ValueError(
            f"network.backbone: timm has no {network.backbone!r}; similar ones: {', '.join(close) or 'none'}. "
            "`python -c 'import timm; print(timm.list_models())'` lists all."
        )
    stride = {} if network.dilation == "exact" else {"output_stride": network.output_stride}
    try:
        trunk = timm.create_model(network.backbone, features_only=True, **stride, **_levels(network))
    except (NotImplementedError, TypeError, AssertionError, AttributeError, RuntimeError) as error:
        what = f"at output stride {network.output_stride}" if stride else "as levels of features"
        how = "network.dilation = 'exact', which can dilate more backbones, or " if stride else ""
        raise ValueError(
            f"network.backbone: timm cannot build {network.backbone} {what} ({str(error) or type(error).__name__}); "
            f"expected {how}a convolutional backbone, such as resnet50 or efficientnet_b0"
        ) from error
    grids = measure(trunk, len(trunk.feature_info.channels()))
    if network.dilation == "exact":  # which leaves every sample where it is, and adds others between them
        trunk = dilate(trunk, network.output_stride, check=False)
        grids = [Grid(min(grid.stride, network.output_stride), grid.start) for grid in grids]
    return use_polyphase(_prune(trunk)), grids


def _prune(trunk: Any) -> nn.Module:
    """Leave out what comes after the last level that is used; timm runs it in some families, for nothing."""
    folder, _, last = level_name(trunk, -1).rpartition(".")
    parent = trunk.get_submodule(folder)
    names = [name for name, _ in parent.named_children()]
    for name in names[names.index(last) + 1 :]:
        if not isinstance(getattr(parent, name), nn.ModuleList):  # a list is gone through, not called
            setattr(parent, name, nn.Identity())
    return trunk


def level_name(trunk: Any, level: int) -> str:
    """The name of the module of a trunk with which a level ends."""
    name: str = trunk.feature_info.module_name()[level]
    known = {name for name, _ in trunk.named_modules()}
    return name if name in known else name.replace(".", "_")  # timm flattens the names in some families


def _strides(network: Network) -> list[int]:
    """Each level's stride in the undilated network."""
    with torch.device("meta"):
        return timm.create_model(network.backbone, features_only=True, **_levels(network)).feature_info.reduction()


def _levels(network: Network) -> dict[str, Any]:
    return {"out_indices": tuple(range(network.levels))} if network.levels else {}


__all__ = ["Grid", "Network", "Segmenter", "non_negative"]
