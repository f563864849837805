"""Every ResNet-D of timm, whose shortcuts average 2x2, as the backbone of a segmenter of stride 8.

python -m pytest -m slow tests/models/test_resnet_d.py
"""

from __future__ import annotations

import re
import warnings

import pytest
import timm
import torch

from dilated import Segmenter, SegmenterConfig

NAMES = [
    name
    for name in timm.list_models()
    if re.search(r"^(eca|se)?res(net|next)(v2_|aa|blur)?\d+(d|t)(_|$)|^resnest", name)
]


def test_the_list_has_the_families_that_average_in_their_shortcuts() -> None:
    assert {"resnet10t", "resnet18d", "resnet200d", "seresnext26d_32x4d", "ecaresnet50t", "resnest14d"} <= set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_resnet_d_labels_images_at_stride_8(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that a shortcut samples beside its branch; tests/models/test_sampling.py has it
        segmenter = Segmenter(["a", "b"], config=SegmenterConfig(name, features=4, dilation="exact")).eval()
    with torch.no_grad():
        images = torch.rand(1, 3, 33, 47)
        assert segmenter(images).shape == (1, 2, 33, 47)
        assert segmenter.logits(images).shape == (1, 2, 5, 6)
    assert [grid.stride for grid in segmenter.backbone_grids] == [2, 4, 8, 8, 8]
