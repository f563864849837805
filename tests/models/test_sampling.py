import math

import pytest
import timm
import torch
import torch.nn.functional as F
from footprint import linear
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dilated import Segmenter, SegmenterConfig
from dilated.errors import InputError
from dilated.models.sampling import PIXEL_GRID, Grid, measure_grids, upsample

grids = st.builds(Grid, st.integers(1, 16), st.floats(-8, 24, allow_nan=False).map(lambda v: round(v * 2) / 2))


def build_backbone(backbone: str, stride: int) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(backbone, features_only=True, output_stride=stride)


def bilinear(maps: Tensor, source: Grid, target: Grid, size: tuple[int, int]) -> Tensor:
    """One sample after another."""
    height, width = maps.shape
    out = torch.empty(size, dtype=torch.float64)
    for y in range(size[0]):
        for x in range(size[1]):
            v = (target.start + target.stride * y - source.start) / source.stride
            u = (target.start + target.stride * x - source.start) / source.stride
            v, u = min(max(v, 0), height - 1), min(max(u, 0), width - 1)
            top, left = math.floor(v), math.floor(u)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = maps[top, left] * (1 - (u - left)) + maps[top, right] * (u - left)
            lower = maps[bottom, left] * (1 - (u - left)) + maps[bottom, right] * (u - left)
            out[y, x] = upper * (1 - (v - top)) + lower * (v - top)
    return out


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 5), grids, grids, st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_upsampling_is_bilinear_interpolation(
    h: int, w: int, source: Grid, target: Grid, height: int, width: int, seed: int
) -> None:
    maps = torch.randn(2, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    out = upsample(maps, source, target, (height, width))
    assert out.shape == (2, 3, height, width)
    torch.testing.assert_close(out[1, 2], bilinear(maps[1, 2], source, target, (height, width)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_gradient_of_upsampling_is_that_of_double_precision_and_the_same_each_time(threads: int) -> None:
    maps = torch.randn(2, 5, 9, 11, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(2, 5, 72, 88, generator=torch.Generator().manual_seed(1))
    used = torch.get_num_threads()

    def gradient(dtype: torch.dtype) -> torch.Tensor:
        leaf = maps.to(dtype, copy=True).requires_grad_()
        (upsample(leaf, Grid(8, 3.5), PIXEL_GRID, (72, 88)) * weights.to(dtype)).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)  # an operation without a deterministic form is an error
    try:
        gradients = [gradient(torch.float32) for _ in range(4)]
        expected = gradient(torch.float64)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(used)
    assert all(torch.equal(gradients[0], other) for other in gradients[1:])
    torch.testing.assert_close(gradients[0].double(), expected, rtol=1e-5, atol=1e-4)
    assert torch.autograd.gradcheck(
        lambda leaf: upsample(leaf, Grid(8, 3.5), PIXEL_GRID, (24, 24)), maps[:1, :1, :3, :3].double().requires_grad_()
    )


def test_upsampling_a_single_sample_spreads_it() -> None:
    out = upsample(torch.full((1, 1, 1, 1), 3.0), Grid(8, 7.0), PIXEL_GRID, (4, 5))
    assert torch.equal(out, torch.full((1, 1, 4, 5), 3.0))


def test_upsampling_to_the_same_grid_changes_no_bit() -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 2, 7, 9)
    assert torch.equal(upsample(maps, Grid(8, 7.0), Grid(8, 7.0), (7, 9)), maps)


def test_upsampling_of_patches_is_what_torch_calls_not_aligned() -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 2, 5, 6)
    expected = F.interpolate(maps, scale_factor=8, mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsample(maps, Grid(8, 3.5), PIXEL_GRID, (40, 48)), expected, atol=1e-5, rtol=0)


# A patchify stem with 2 x 2 reductions tiles the image: the first logit at stride 32 is centred in pixels 0 to 31.
@pytest.mark.parametrize(
    ("backbone", "stride", "expected"),
    [
        ("tf_efficientnet_lite0", 8, Grid(8, 7.0)),
        ("tf_efficientnet_lite0", 32, Grid(32, 31.0)),
        ("resnet18", 8, Grid(8, 0.0)),
        ("resnet18", 32, Grid(32, 0.0)),
        ("convnext_atto", 32, Grid(32, 15.5)),
        ("test_efficientnet", 8, Grid(8, 0.0)),
    ],
)
def test_grids_of_known_backbones(backbone: str, stride: int, expected: Grid) -> None:
    features = build_backbone(backbone, stride)
    assert measure_grids(features, len(features.feature_info.channels()))[-1] == expected


def starts(features: nn.Module, strides: list[int]) -> list[float]:
    """Where each level's sample 0 is centred: the centre of gravity of an inner sample's footprint, moved back."""
    image = torch.zeros(1, 3, 1024, 32, dtype=torch.float64, requires_grad=True)
    rows = torch.arange(1024, dtype=torch.float64)
    found = []
    for maps, stride in zip(features(image), strides, strict=True):
        k = maps.shape[-2] // 2
        (gradient,) = torch.autograd.grad(maps[0, 0, k].sum(), image, retain_graph=True)
        weight = gradient[0].sum((0, 2))
        found.append(((weight @ rows) / weight.sum()).item() - stride * k)
    return found


@pytest.mark.parametrize(
    ("backbone", "stride"),
    [
        ("tf_efficientnet_lite0", 8),
        ("tf_efficientnet_lite0", 32),
        ("resnet18", 8),
        ("test_efficientnet", 16),
        ("mobilenetv3_small_050", 8),
        ("test_convnext", 32),
    ],
)
def test_every_level_sits_where_its_footprint_in_the_image_is(backbone: str, stride: int) -> None:
    features = build_backbone(backbone, stride)
    measured = measure_grids(features, len(features.feature_info.channels()))
    found = starts(linear(features), [grid.stride for grid in measured])
    assert found == pytest.approx([grid.start for grid in measured], abs=0.05)


# Dilated, its 2 x 2 reductions become layers of stride 1 that still move the image.
@pytest.mark.parametrize("stride", [8, 16])
def test_a_dilated_backbone_with_even_kernels_is_measured_right_or_refused(stride: int) -> None:
    features = build_backbone("test_convnext", stride)
    try:
        measured = measure_grids(features, len(features.feature_info.channels()))
    except InputError as error:
        assert "downsample" in str(error)  # noqa: PT017
        return
    found = starts(linear(features), [grid.stride for grid in measured])
    assert found == pytest.approx([grid.start for grid in measured], abs=0.05)


class SideBySide(nn.Module):
    def __init__(self, kernel: int, padding: int = 0) -> None:
        super().__init__()
        self.branch = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(3, 4, kernel, stride=2, padding=padding)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.branch(x), self.shortcut(x)
        size = min(feature_maps.shape[-1] for feature_maps in maps)
        return [sum(feature_maps[..., :size, :size] for feature_maps in maps)]  # type: ignore[list-item]


def test_a_shortcut_half_a_sample_beside_its_branch_is_said_and_taken_midway() -> None:
    with pytest.warns(UserWarning, match="branch: a shortcut samples half a sample beside its branch"):
        assert measure_grids(SideBySide(2), 1) == [Grid(2, 0.25)]


def test_a_shortcut_that_samples_elsewhere_than_its_branch_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="shortcut and branch run side by side"):
        measure_grids(SideBySide(4, padding=0), 1)


@pytest.mark.parametrize("name", ["resnet10t", "resnet18d", "seresnext26d_32x4d", "resnest14d"])
def test_levels_of_a_resnet_d_sit_within_half_a_sample_of_their_footprints(name: str) -> None:
    features = timm.create_model(name, features_only=True).eval()
    with pytest.warns(UserWarning, match=r"layer2\.0.* taken to sit midway"):
        measured = measure_grids(features, 5)
    found = starts(linear(features), [grid.stride for grid in measured])
    apart = [0, 0, 4, 4 + 8, 4 + 8 + 16]  # strides of what the shortcuts up to a level halve
    for grid, start, stride in zip(measured, found, apart, strict=True):
        assert abs(grid.start - start) <= 0.25 * stride + 0.05


@pytest.mark.parametrize("name", ["resnet10t", "seresnext26d_32x4d"])
def test_a_resnet_d_becomes_a_segmenter_of_stride_8(name: str) -> None:
    with pytest.warns(UserWarning, match="as in ResNet-D"):
        segmenter = Segmenter(["a", "b"], config=SegmenterConfig(name, features=4, dilation="exact")).eval()
    with torch.no_grad():
        assert segmenter(torch.rand(1, 3, 40, 56)).shape == (1, 2, 40, 56)
    assert [grid.stride for grid in segmenter.backbone_grids] == [2, 4, 8, 8, 8]


class Shuffled(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.pixel_unshuffle(x, 2)]


def test_a_reduction_that_is_no_layer_is_refused() -> None:
    with pytest.raises(InputError, match="no convolution or pooling"):
        measure_grids(Shuffled(), 1)


def test_measuring_leaves_the_mode_the_hooks_and_the_statistics_as_they_were() -> None:
    features = build_backbone("test_efficientnet", 8).train()
    before = {k: v.clone() for k, v in features.state_dict().items()}
    measure_grids(features, 5)
    assert features.training
    assert all(torch.equal(before[k], v) for k, v in features.state_dict().items())
    assert not any(module._forward_hooks for module in features.modules() if isinstance(module, nn.Conv2d))
