"""The backbone of a segmenter: a network of timm as levels of features, with its late strides turned into dilation.

layout = inspect_backbone("resnet18", levels=0, bands=3)      # on the meta device: no memory for weights
backbone, grids = build_backbone(SegmenterConfig(backbone="resnet18"))

A plain vision transformer (ViT, DeiT, DINOv2, DINOv3) has one stride, that of its patches, which nothing dilates; four
of its blocks, evenly spaced, are its levels, and images may have any size.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import timm
import torch
from torch import nn

from dilated.dilation.depthwise import use_polyphase
from dilated.dilation.dilate import dilate
from dilated.environment import require_memory
from dilated.errors import InputError
from dilated.models.sampling import Grid, measure_grids

_TRANSFORMERS = ("vision_transformer", "eva", "deit")
"""The modules of timm whose networks take images of any size as plain transformers."""
_TRANSFORMER_LEVELS = 4


class _BackboneConfig(Protocol):
    """The settings that decide the backbone."""

    @property
    def backbone(self) -> str: ...
    @property
    def output_stride(self) -> int: ...
    @property
    def dilation(self) -> Literal["timm", "exact"]: ...
    @property
    def levels(self) -> int: ...
    @property
    def num_bands(self) -> int: ...


@dataclass(frozen=True)
class BackboneLayout:
    """What is known of a backbone without its weights."""

    strides: tuple[int, ...]
    """Of each level in the undilated network."""
    channels: tuple[int, ...]
    """Of each level."""
    shapes: dict[str, tuple[int, ...]]
    """Of each tensor of its state dict, by name."""

    @property
    def patch(self) -> int:
        """Pixels of a side of the patches of a plain vision transformer; 0 for a pyramid of strides."""
        return self.strides[0] if self.strides[0] >= 8 and len(set(self.strides)) == 1 else 0

    @property
    def fused_levels(self) -> list[int]:
        """The levels from stride 8 on. Dilated, they end on one grid, where they are read side by side."""
        return [level for level, stride in enumerate(self.strides) if stride >= 8]

    @property
    def fine_level(self) -> int:
        """The last level of at most stride 4.

        Raises:
            InputError: a backbone that begins with a coarser one.
        """
        return self._last_level("detail", 4)

    @property
    def finest_level(self) -> int:
        """The last level of at most stride 2.

        Raises:
            InputError: a backbone that begins with a coarser one.
        """
        return self._last_level("detail_fine", 2)

    def _last_level(self, setting: str, most: int) -> int:
        if self.strides[0] > most:
            raise InputError(
                f"network.{setting}: the backbone's finest features have stride {self.strides[0]}, not {most}",
                hint=f"set network.{setting} = 0, or choose another backbone",
            )
        return max(level for level, stride in enumerate(self.strides) if stride <= most)


@functools.lru_cache(maxsize=8)
def inspect_backbone(name: str, levels: int, bands: int) -> BackboneLayout:
    """Find strides, channels and shapes of a backbone on the meta device, which takes no memory for weights.

    Args:
        name: as timm calls it.
        levels: how many are used, from the image on; 0 for all.
        bands: the channels of its images.

    Raises:
        InputError: timm has no such network, or cannot give its levels.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=5)
        raise InputError(
            f"network.backbone: timm has no {name[:100]!r}; similar names: {', '.join(close) or 'none'}",
            hint="list all with `python -c 'import timm; print(timm.list_models())'`",
        )
    with torch.device("meta"):
        backbone = _create(name, levels, bands)
    info = backbone.feature_info
    shapes = {key: tuple(value.shape) for key, value in _drop_unused_modules(backbone).state_dict().items()}
    return BackboneLayout(tuple(info.reduction()), tuple(info.channels()), shapes)


def build_backbone(config: _BackboneConfig) -> tuple[nn.Module, list[Grid]]:
    """Build the backbone, and measure where the values of each of its levels sit.

    Raises:
        InputError: a backbone that timm cannot build at this stride, or whose levels sit on no common grid.
    """
    if patch := inspect_backbone(config.backbone, config.levels, config.num_bands).patch:
        return _build_plain(config, patch)
    stride = {} if config.dilation == "exact" else {"output_stride": config.output_stride}
    backbone = _create(config.backbone, config.levels, config.num_bands, **stride)
    grids = measure_grids(backbone, len(backbone.feature_info.channels()), config.num_bands)
    if config.dilation == "exact":  # every sample stays where it is; others are added between them
        backbone = dilate(backbone, config.output_stride, check=False)
        grids = [Grid(min(grid.stride, config.output_stride), grid.start) for grid in grids]
    return use_polyphase(_drop_unused_modules(backbone)), grids


def _build_plain(config: _BackboneConfig, patch: int) -> tuple[nn.Module, list[Grid]]:
    """Build a plain vision transformer; its levels sit in the middles of its patches."""
    if _transformer_options(config.backbone, config.levels) is None:
        raise InputError(
            f"network.backbone: {config.backbone} takes images of one size only",
            hint="use a ViT, DeiT, DINOv2 or DINOv3 of timm, or a convolutional backbone",
        )
    if config.dilation == "exact" or config.output_stride != patch:
        setting = "dilation = 'exact'" if config.dilation == "exact" else f"output_stride = {config.output_stride}"
        raise InputError(
            f"network: found {setting} with {config.backbone}, a transformer of {patch}x{patch} patches, which nothing "
            "dilates",
            hint=f"set network.output_stride = {patch} and network.dilation = 'timm'; network.head = 'pup' makes finer "
            "logits",
        )
    backbone = _create(config.backbone, config.levels, config.num_bands)
    grids = [Grid(patch, (patch - 1) / 2) for _ in backbone.feature_info.channels()]
    return backbone, grids


def _transformer_options(name: str, levels: int) -> dict[str, Any] | None:
    """Return what a plain vision transformer is created with: images of any size, four blocks; None for others."""
    if timm.models.model_entrypoint(name).__module__.rpartition(".")[2] not in _TRANSFORMERS:
        return None
    with torch.device("meta"):
        last = timm.create_model(name, features_only=True).feature_info.module_name()[-1]
    depth = int(last.rpartition(".")[2]) + 1
    count = min(_TRANSFORMER_LEVELS, depth)
    blocks = tuple((i + 1) * depth // count - 1 for i in range(count))
    return {"dynamic_img_size": True, "out_indices": blocks[: levels or count]}


def _create(name: str, levels: int, bands: int, **stride: int) -> Any:
    options: dict[str, Any] = {"out_indices": tuple(range(levels))} if levels else {}
    options = _transformer_options(name, levels) or options
    options |= {"in_chans": bands} if bands != 3 else {}
    try:
        return timm.create_model(name, features_only=True, **stride, **options)
    except (NotImplementedError, TypeError, AssertionError, AttributeError, RuntimeError, IndexError) as error:
        require_memory(error, f"network.backbone: {name}")
        task = f"at output stride {stride['output_stride']}" if stride else "as levels of features"
        exact = "network.dilation = 'exact', which can dilate more backbones, or " if stride else ""
        raise InputError(
            f"network.backbone: timm cannot build {name} {task} ({str(error) or type(error).__name__})",
            hint=f"use {exact}a convolutional backbone, such as resnet50 or efficientnet_b0",
        ) from error


def _drop_unused_modules(backbone: Any) -> nn.Module:
    """Drop what follows the last level that is used; timm runs it in some families, for nothing."""
    parent_name, _, last = level_module_name(backbone, -1).rpartition(".")
    parent = backbone.get_submodule(parent_name)
    names = [name for name, _ in parent.named_children()]
    after = names.index(last) + 1 if last in names else len(names)
    for name in names[after:]:
        if not isinstance(getattr(parent, name), nn.ModuleList):  # a list is iterated over, not called
            setattr(parent, name, nn.Identity())
    return backbone


def level_module_name(backbone: Any, level: int) -> str:
    """The name of the module of a backbone with which a level ends."""
    name: str = backbone.feature_info.module_name()[level]
    module_names = {name for name, _ in backbone.named_modules()}
    names = name, f"model.{name}", name.replace(".", "_")  # timm wraps transformers, and flattens in some families
    return next((candidate for candidate in names if candidate in module_names), names[-1])
