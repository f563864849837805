"""FCN, DUC and U-Net against plain arithmetic and smp's decoder, and as part of a segmenter: files, tiles, exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dilated import InputError, Predictor, Segmenter, SegmenterConfig, load
from dilated.models.class_bias import with_class_bias
from dilated.models.decoders import DecoderName, DenseUpsampling, FCNDecoder, LearnedUpsampling, UNetDecoder
from dilated.models.sampling import PIXEL_GRID, Grid
from dilated.models.timm_backbone import inspect_backbone

DECODERS = get_args(DecoderName)
GRIDS = [Grid(s, (s - 1) / 2) for s in (2, 4, 8, 16, 32)]


def fill(module: nn.Module) -> None:
    """Give all parameters and statistics random values."""
    random = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            values = torch.rand(tensor.shape, generator=random)
            tensor.copy_(values + 0.5 if name.endswith("running_var") else (values - 0.5) / 2)


def make_segmenter(head: str, **changes: object) -> Segmenter:
    torch.manual_seed(0)
    stride = 32 if head.startswith("fcn") else 8
    config: Any = {"output_stride": stride, "backbone": "test_efficientnet", "features": 8, "head": head}
    segmenter = Segmenter(["a", "b", "c"], config=SegmenterConfig(**config | changes)).eval()
    with torch.no_grad():
        for name, parameter in segmenter.named_parameters():
            if not name.startswith("backbone."):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return segmenter


def deconvolve(x: NDArray[np.float64], kernel: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    """A deconvolution by its definition: each value lays its kernel down. (C, h, w), (C, D, k, k) -> (D, ...)."""
    side = kernel.shape[2]
    result = np.zeros((kernel.shape[1], (x.shape[1] - 1) * stride + side, (x.shape[2] - 1) * stride + side))
    for c, i, j in np.ndindex(*x.shape):
        result[:, i * stride : i * stride + side, j * stride : j * stride + side] += x[c, i, j] * kernel[c]
    return result


@torch.no_grad()
@pytest.mark.parametrize("factor", [2, 8])
def test_a_learned_deconvolution_lays_down_its_kernels(factor: int) -> None:
    layer, logits = LearnedUpsampling(3, factor).double(), torch.rand(1, 3, 3, 4, dtype=torch.float64)
    layer.weight.copy_(torch.rand_like(layer.weight))
    extended = np.pad(logits[0].numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    expected = deconvolve(extended, layer.weight.numpy(), factor)[:, factor:-factor, factor:-factor]
    np.testing.assert_allclose(layer(logits)[0].numpy(), expected, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("is_grouped", [False, True])
def test_a_fresh_deconvolution_is_torchs_bilinear_interpolation(is_grouped: bool) -> None:
    logits = torch.rand(1, 3, 5, 6)
    upsampled = LearnedUpsampling(3, 4, is_grouped)(logits)[..., 2:-2, 2:-2]
    torch.testing.assert_close(upsampled, F.interpolate(logits, scale_factor=4, mode="bilinear"))


@torch.no_grad()
def test_fcn_8s_adds_the_logits_of_each_level_on_the_way_up() -> None:
    layout = inspect_backbone("resnet18", 0, 3)
    decoder = FCNDecoder("fcn-8s", layout, 4, 3).eval()
    fill(decoder)
    maps = [torch.rand(1, c, 64 // s, 96 // s) for c, s in zip(layout.channels, layout.strides, strict=True)]
    hidden = F.conv2d(maps[4], decoder.neck[0].weight)  # type: ignore[arg-type]
    norm: Any = decoder.neck[1]
    hidden = (hidden - norm.running_mean.view(-1, 1, 1)) / (norm.running_var + norm.eps).sqrt().view(-1, 1, 1)
    hidden = (hidden * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).relu()
    logits = F.conv2d(hidden, decoder.classifier.weight, decoder.classifier.bias)[0].double().numpy()
    for level, skip, doubling in zip((3, 2), decoder.skips, decoder.upsamplings, strict=True):
        kernel: Any = doubling.weight
        extended = np.pad(logits, ((0, 0), (1, 1), (1, 1)), mode="edge")
        doubled = deconvolve(extended, kernel.double().numpy(), 2)[:, 3:-3, 3:-3]
        weight: Any = skip.weight[..., 0, 0]  # type: ignore[index]
        bias: Any = skip.bias
        added = np.einsum("dc,chw->dhw", weight.double().numpy(), maps[level][0].double().numpy())
        logits = doubled + added + bias.double().numpy()[:, None, None]
    np.testing.assert_allclose(decoder(maps, GRIDS)[0].numpy(), logits, rtol=1e-4, atol=1e-4)
    assert decoder.output_grid(GRIDS) == Grid(8, 3.5)


@torch.no_grad()
def test_unet_is_smps_from_the_same_weights() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch.decoders.unet.decoder")
    theirs = smp.UnetDecoder([3, 6, 7, 8, 9, 10], decoder_channels=[32, 16, 8, 4, 2]).eval()
    fill(theirs)
    ours = UNetDecoder([6, 7, 8, 9, 10], 16).eval()
    values = list(theirs.state_dict().values())
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    maps = [torch.rand(1, c, 64 // s, 96 // s) for c, s in zip((6, 7, 8, 9, 10), (2, 4, 8, 16, 32), strict=True)]
    expected = theirs([torch.rand(1, 3, 64, 96), *maps])
    torch.testing.assert_close(ours(maps, GRIDS), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_duc_gives_the_pixels_of_a_feature_their_own_logits() -> None:
    layer, features = DenseUpsampling(5, 2, 4), torch.rand(1, 5, 3, 4)
    fill(layer)
    logits = layer(features)
    for c, y, x in [(0, 0, 0), (1, 5, 14), (1, 11, 3)]:
        sub_pixel = (y % 4) * 4 + x % 4
        expected = layer.weight[c, sub_pixel] @ features[0, :, y // 4, x // 4] + layer.bias[c, sub_pixel]
        torch.testing.assert_close(logits[0, c, y, x], expected)
    grid = Grid(4, 0.0)
    assert layer.output_grid(grid, grid) == PIXEL_GRID
    assert layer.output_grid(grid.window(2), grid) == Grid(1, 8.0)


@torch.no_grad()
@pytest.mark.parametrize("head", DECODERS)
def test_logits_come_back_from_the_file_for_any_size(head: str, tmp_path: Path) -> None:
    segmenter = make_segmenter(head)
    segmenter.save(tmp_path / "network.safetensors", half=False)
    loaded = load(tmp_path / "network.safetensors").eval()
    assert loaded.config == segmenter.config
    for height, width in ((40, 52), (33, 95)):
        images = torch.rand(1, 3, height, width)
        logits = segmenter(images)
        assert logits.shape == (1, 3, height, width)
        assert torch.equal(loaded(images), logits)
        assert segmenter.label_pixels(images).shape == (1, height, width)
    shapes = {name: tuple(value.shape) for name, value in segmenter.state_dict().items()}
    assert segmenter.config.expected_shapes(3) == shapes


@pytest.mark.parametrize("head", DECODERS)
def test_tiles_have_the_logits_of_the_whole_image(head: str) -> None:
    levels = 0 if head.startswith("fcn") else 3  # fewer see less, and need fewer tiles
    segmenter = make_segmenter(head, backbone="resnet18", levels=levels)
    image = (torch.rand(3, 150, 203) * 255).byte()
    whole, tiled = (Predictor(segmenter, device="cpu", tile=tile)(image, logits=True).logits for tile in (None, 64))
    assert isinstance(whole, Tensor)
    assert isinstance(tiled, Tensor)
    torch.testing.assert_close(tiled, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("head", DECODERS)
def test_it_learns_which_half_of_an_image_is_bright(head: str) -> None:
    segmenter = make_segmenter(head).train()
    images = torch.zeros(2, 3, 64, 64)
    images[..., 32:] = 1
    target = images[:, 0].long()
    optimizer, losses = torch.optim.Adam(segmenter.parameters(), 0.02), []
    for _ in range(20):
        loss = F.cross_entropy(segmenter(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(p.grad is not None for n, p in segmenter.named_parameters() if not n.startswith("backbone."))


@pytest.mark.parametrize("head", DECODERS)
def test_the_auxiliary_loss_goes_with_it(head: str) -> None:
    segmenter, images = make_segmenter(head), torch.rand(1, 3, 40, 52)
    assert torch.equal(segmenter.forward_with_auxiliary(images)[0], segmenter(images))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "fcn-8s", "output_stride": 8}, r"network\.output_stride: found 8.*Set 32 with head = 'fcn-8s'"),
        ({"head": "fcn-32s", "output_stride": 32, "context": "basic"}, r"network\.context: found basic"),
        ({"head": "unet", "detail": 8}, r"network\.detail: found 8"),
        ({"head": "duc", "context": "basic", "context_on": "logits"}, r"network\.context_on: found logits"),
        ({"head": "unet", "rates": (2,)}, r"network\.rates: found \[2\]"),
    ],
)
def test_settings_that_do_not_go_with_a_decoder_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SegmenterConfig("test_efficientnet", **settings)


def test_a_backbone_that_stops_short_of_stride_32_has_no_fcn() -> None:
    with pytest.raises(InputError, match=r"fcn-32s reads the backbone's levels of strides 32, and it has none of 32"):
        FCNDecoder("fcn-32s", inspect_backbone("resnet18", 3, 3), 4, 3)


def test_kernels_of_very_many_pairs_of_classes_are_refused() -> None:
    with pytest.raises(InputError, match="a kernel for each pair of classes, and there are 60,000 classes"):
        LearnedUpsampling(60_000, 2)


@pytest.mark.parametrize("head", ["duc", "fcn-8s"])
def test_a_bias_per_class_is_refused_where_there_is_none(head: str) -> None:
    with pytest.raises(InputError, match="no bias"):
        with_class_bias(make_segmenter(head), [0.0, 0.1, 0.2])
