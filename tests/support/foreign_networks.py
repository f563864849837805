"""Segmentation networks of other libraries, small, and of every form of output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from dilated.models.base import BaseSegmenter

FIVE = ["a", "b", "c", "d", "e"]
MODELS = torchvision.models.segmentation
OWN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
"""For networks that take images as they are."""


class Headed(nn.Module):
    """Maps of a timm backbone under a head of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model("test_efficientnet", features_only=True, pretrained=False, out_indices=(2,))
        self.head = nn.Conv2d(self.backbone.feature_info.channels()[0], 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x)[0])


class Ends(nn.Module):
    """A small network whose output takes any form."""

    def __init__(self, give: Callable[[Tensor], Any], classes: int = 2) -> None:
        super().__init__()
        self.backbone, self.score, self.give = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, classes, 1), give

    def forward(self, x: Tensor) -> Any:
        logits = self.score(self.backbone(x).relu())
        return self.give(nn.functional.interpolate(logits, x.shape[-2:], mode="bilinear"))


def smp(name: str, **more: Any) -> nn.Module:
    library = pytest.importorskip("segmentation_models_pytorch")
    return getattr(library, name)("resnet18", encoder_weights=None, classes=5, **more)


def segformer() -> nn.Module:
    tr = pytest.importorskip("transformers")
    sizes = {"depths": [1] * 4, "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2]}
    return tr.SegformerForSemanticSegmentation(tr.SegformerConfig(num_labels=5, decoder_hidden_size=16, **sizes))


def upernet() -> nn.Module:
    tr = pytest.importorskip("transformers")
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = tr.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, out_features=stages)
    auxiliary = {"auxiliary_channels": 8, "auxiliary_in_channels": 16}
    config = tr.UperNetConfig(backbone_config=backbone, hidden_size=16, num_labels=5, pool_scales=[1, 2], **auxiliary)
    return tr.UperNetForSemanticSegmentation(config)


def mobile() -> nn.Module:
    tr = pytest.importorskip("transformers")
    network = tr.MobileNetV2ForSemanticSegmentation(tr.MobileNetV2Config(num_labels=5, depth_multiplier=0.25))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)  # as it comes, its logits are some 1e-26
    return network


def torchvisions(name: str, **more: Any) -> nn.Module:
    return getattr(MODELS, name)(weights=None, weights_backbone=None, num_classes=5, **more)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    "fcn": (lambda: torchvisions("fcn_resnet50", aux_loss=True), "classifier.4", 8),
    "deeplab": (lambda: torchvisions("deeplabv3_mobilenet_v3_large", aux_loss=True), "classifier.4", 16),
    "unet": (lambda: smp("Unet"), "segmentation_head.0", 1),
    "unet with a classifier": (lambda: smp("Unet", aux_params={"classes": 5}), "segmentation_head.0", 1),
    "unet, softmax": (lambda: smp("Unet", activation="softmax2d"), "segmentation_head.0", 1),
    "fpn": (lambda: smp("FPN"), "segmentation_head.0", 4),
    "deeplab v3+": (lambda: smp("DeepLabV3Plus"), "segmentation_head.0", 4),
    "segformer": (segformer, "decode_head.classifier", 4),
    "upernet": (upernet, "decode_head.classifier", 4),
    "mobilenet": (mobile, "segmentation_head.classifier.convolution", 32),
    "timm": (Headed, "head", 8),
    "sequential": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 5, 1)), "2", 2),
}


def disturb(segmenter: BaseSegmenter) -> None:
    assert segmenter.context is not None
    with torch.no_grad():
        segmenter.context.final.weight.mul_(-2)
