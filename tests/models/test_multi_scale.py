"""Multi-scale inputs: what is averaged and where it sits, what attention weighs, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dilated import InputError, MultiScale, Segmenter, SegmenterConfig
from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.models.sampling import PIXEL_GRID, Grid, upsample

SCALES = (1.0, 0.75, 0.5)


def make_segmenter(**changes: Any) -> Segmenter:
    torch.manual_seed(0)
    config = SegmenterConfig("test_efficientnet", features=8, **changes)
    return Segmenter(["a", "b", "c"], config=config).eval()


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["average", "attention"])
@pytest.mark.parametrize("changes", [{}, {"detail": 8}, {"head": "duc"}], ids=["plain", "detail", "duc"])
def test_one_scale_is_the_network_itself(fusion: Any, changes: dict[str, Any]) -> None:
    segmenter, images = make_segmenter(**changes), torch.rand(2, 3, 40, 52)
    torch.testing.assert_close(MultiScale(segmenter, (1.0,), fusion, 16).eval()(images), segmenter(images))


@torch.no_grad()
def test_the_average_is_that_of_logits_on_the_grid_of_the_largest_size() -> None:
    segmenter, images = make_segmenter(), torch.rand(1, 3, 64, 96)
    merged, by_scale = MultiScale(segmenter, (0.5, 1.0)).forward_with_scales(images)
    full = segmenter.logits(images)
    half = segmenter.logits(F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True))
    grid = segmenter.grid
    in_image = Grid(2 * grid.stride, 2 * grid.start + 0.5)  # pixel j of the half is pixels 2 j and 2 j + 1
    mean = (full + upsample(half, in_image, grid, (8, 12))) / 2
    torch.testing.assert_close(merged, upsample(mean, grid, PIXEL_GRID, (64, 96)))
    torch.testing.assert_close(by_scale[1], segmenter(images))
    torch.testing.assert_close(by_scale[0], upsample(half, in_image, PIXEL_GRID, (64, 96)))


@torch.no_grad()
def test_fresh_attention_is_the_average() -> None:
    segmenter, images = make_segmenter(), torch.rand(1, 3, 45, 61)
    attention = MultiScale(segmenter, SCALES, "attention", 16).eval()
    torch.testing.assert_close(attention(images), MultiScale(segmenter, SCALES)(images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_attention_to_one_scale_leaves_its_logits_alone() -> None:
    segmenter, images = make_segmenter(), torch.rand(1, 3, 45, 61)
    network = MultiScale(segmenter, (0.5, 1.0), "attention", 16).eval()
    assert network.attention is not None
    network.attention[-1].bias.copy_(torch.tensor([-100.0, 100.0]))  # type: ignore[operator]
    torch.testing.assert_close(network(images), segmenter(images))


def test_it_learns_end_to_end_which_scale_to_read() -> None:
    torch.manual_seed(0)
    network = MultiScale(make_segmenter().train(), SCALES, "attention", 8)
    images = torch.zeros(2, 3, 64, 64)
    images[..., 32:] = 1
    target = images[:, 0].long()
    optimizer, losses = torch.optim.Adam(network.parameters(), 0.01), []
    for _ in range(16):
        logits, by_scale = network.forward_with_scales(images)
        loss = F.cross_entropy(logits, target) + sum(F.cross_entropy(x, target) for x in by_scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert network.attention is not None
    assert all(bool(p.grad.abs().sum() > 0) for p in network.attention.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in network.attention.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"scales": ()},
        {"scales": (1.0, 1.0)},
        {"scales": (0.0,)},
        {"scales": (float("nan"),)},
        {"scales": (5.0,)},
        {"scales": tuple(i / 10 for i in range(1, 10))},
        {"fusion": "max"},
        {"fusion": "attention", "width": 0},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="multi-scale"):
        MultiScale(make_segmenter(), **options)


def test_networks_whose_logits_cannot_be_merged_are_refused() -> None:
    vgg = VGGSegmenter(["a", "b"], config=VGGConfig(width=1 / 64, tile=(436, 436)))
    for segmenter in (vgg, make_segmenter(crf="rnn")):
        with pytest.raises(InputError, match="no logits that can be merged"):
            MultiScale(segmenter)
