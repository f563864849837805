from pathlib import Path

import pytest
import torch
from footprint import linear
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dilated import AdapterConfig, Segmenter, SegmenterConfig, load, save
from dilated.models.segmenter import make_non_negative
from dilated.paper import VGGConfig

CLASSES = ["sky", "road", "tree"]
COLORS = [(0, 0, 255), (128, 64, 128), (0, 128, 0)]


def build(backbone: str = "test_efficientnet", **settings: object) -> Segmenter:
    """Random, but with logits of every size and statistics that are not those of a fresh network."""
    torch.manual_seed(0)
    segmenter = Segmenter(CLASSES, COLORS, SegmenterConfig(backbone=backbone, **{"features": 8, **settings})).eval()
    nn.init.normal_(segmenter.classifier.weight)
    nn.init.normal_(segmenter.classifier.bias)
    for module in segmenter.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return segmenter


def without_gates(segmenter: Segmenter) -> Segmenter:
    """Squeeze-and-excitation sees the whole image, so logits move with the image only without it."""
    for module in segmenter.modules():
        if hasattr(module, "se"):
            module.se = nn.Identity()
    return segmenter


def close(a: Tensor, b: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance * b.abs().max().item())


@pytest.fixture(scope="module")
def tiny() -> Segmenter:
    return build(detail=4)


@pytest.mark.parametrize("colors", [COLORS[:2], [], [*COLORS, (1, 2, 3)]])
def test_classes_and_colors_of_different_numbers_are_refused(colors: list[tuple[int, int, int]]) -> None:
    with pytest.raises(ValueError, match=f"3 classes and {len(colors)} colors"):
        Segmenter(CLASSES, colors)


def test_no_class_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="0 classes"):
        Segmenter([], [])


@pytest.mark.parametrize("stride", [0, 4, 12, 64])
def test_other_output_strides_are_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=f"output_stride: found {stride}. Give 8, 16 or 32"):
        build(output_stride=stride)


def test_an_unknown_backbone_is_refused_with_similar_names() -> None:
    with pytest.raises(ValueError, match=r"no 'resnet19'; similar names: .*resnet"):
        build("resnet19")


def test_a_backbone_that_cannot_be_dilated_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="test_vit"):
        build("test_vit")


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 2))
def test_images_of_any_size_get_logits_at_every_pixel(tiny: Segmenter, height: int, width: int, count: int) -> None:
    with torch.no_grad():
        logits = tiny(torch.rand(count, 3, height, width))
        coarse = tiny.logits(torch.rand(count, 3, height, width))
    assert logits.shape == (count, 3, height, width)
    assert coarse.shape == (count, 3, -(-height // 8), -(-width // 8))
    assert logits.isfinite().all()


@pytest.mark.parametrize("stride", [8, 16, 32])
@torch.no_grad()
def test_moving_the_image_by_one_stride_moves_the_logits_by_one_cell(stride: int) -> None:
    segmenter = without_gates(build(output_stride=stride))
    torch.manual_seed(1)
    edge = -(-48 // stride)  # in cells; the backbone sees 33 pixels to each side
    size = (2 * edge + 6) * stride
    wide = torch.rand(1, 3, size + stride, size + 2 * stride)
    here = segmenter.logits(wide[..., :size, :size])[..., edge + 1 : -edge, edge + 2 : -edge]
    moved = segmenter.logits(wide[..., stride:, 2 * stride :])[..., edge : -edge - 1, edge : -edge - 2]
    assert here.numel() > 0
    assert here.std() > 0
    close(moved, here, 1e-5)


@pytest.mark.parametrize("detail", [0, 4])
@torch.no_grad()
def test_moving_the_image_by_8_pixels_moves_the_labels_by_8(detail: int) -> None:
    segmenter = without_gates(build(detail=detail))
    if segmenter.detail is not None:
        nn.init.normal_(segmenter.detail.correct.weight)
    torch.manual_seed(1)
    wide = torch.rand(1, 3, 168, 176)
    here = segmenter(wide[..., :160, :160])
    segmenter.classifier.bias -= here.mean((0, 2, 3))  # so that every class occurs
    here = segmenter(wide[..., :160, :160])[..., 64:-56, 72:-56]
    moved = segmenter(wide[..., 8:, 16:])[..., 56:-64, 56:-72]
    close(moved, here, 1e-5)
    assert len(here.argmax(1).unique()) > 1
    assert (moved.argmax(1) == here.argmax(1)).float().mean() > 0.999


@pytest.mark.parametrize(
    ("backbone", "stride", "detail"),
    [
        ("test_efficientnet", 8, 0),
        ("tf_efficientnet_lite0", 8, 4),
        ("tf_efficientnet_lite0", 16, 0),
        ("resnet18", 8, 4),
        ("test_convnext", 32, 4),
    ],
)
def test_the_logits_of_a_pixel_look_at_the_image_around_that_pixel(backbone: str, stride: int, detail: int) -> None:
    segmenter = linear(build(backbone, output_stride=stride, detail=detail))
    image = torch.zeros(1, 3, 1024, 32, dtype=torch.float64, requires_grad=True)
    logits = segmenter(image)
    rows = torch.arange(1024, dtype=torch.float64)
    pixels = [501, 507, 512, 518]
    centers = []
    for y in pixels:
        (gradient,) = torch.autograd.grad(logits[0, 0, y].sum(), image, retain_graph=True)
        weight = gradient[0].sum((0, 2))
        centers.append(((weight @ rows) / weight.sum()).item())
    assert centers == pytest.approx(pixels, abs=0.05)


@pytest.mark.parametrize("backbone", ["resnet18", "tf_efficientnet_lite0"])
@torch.no_grad()
def test_a_finer_stride_keeps_the_weights_and_the_logits_where_grids_meet(backbone: str) -> None:
    coarse = build(backbone, output_stride=16)
    fine = coarse.rebuild(output_stride=8)
    assert fine.output_stride == 8
    assert coarse.state_dict().keys() == fine.state_dict().keys()
    assert all(torch.equal(v, fine.state_dict()[k]) for k, v in coarse.state_dict().items())

    torch.manual_seed(1)
    image = torch.rand(1, 3, 96, 64)
    a, b = coarse.logits(image), fine.logits(image)
    first = (coarse.grid.start - fine.grid.start) / fine.grid.stride
    assert first == int(first)
    b = b[..., int(first) :: 2, int(first) :: 2]
    assert a.shape == b.shape == (1, 3, 6, 4)
    close(b, a, 1e-4)


@pytest.mark.parametrize("padding", ["same", "once"])
@torch.no_grad()
def test_a_fresh_context_module_on_features_changes_no_logit(tiny: Segmenter, padding: str) -> None:
    image = torch.rand(2, 3, 40, 56)
    other = tiny.rebuild(context="basic", padding=padding, sigma=0.0)
    assert other.context is not None
    close(other(image), tiny(image), 1e-5)


@pytest.mark.parametrize("width", ["basic", "large"])
@torch.no_grad()
def test_a_fresh_context_module_on_logits_changes_no_probability(tiny: Segmenter, width: str) -> None:
    image = torch.rand(2, 3, 40, 56)
    other = tiny.rebuild(context=width, context_on="logits", sigma=0.0)
    torch.testing.assert_close(other(image).softmax(1), tiny(image).softmax(1), rtol=0, atol=1e-5)
    assert other.context.channels == 3


def test_rebuilding_keeps_what_is_no_weight(tiny: Segmenter) -> None:
    segmenter = Segmenter(CLASSES, COLORS, tiny.config, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), {"licence": "CC0"}).train()
    other = segmenter.rebuild(context="basic")
    assert other.training
    assert (other.classes, other.colors, other.card) == (tuple(CLASSES), tuple(COLORS), {"licence": "CC0"})
    assert (other.mean, other.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert segmenter.config.context == "none"


@pytest.mark.parametrize("backbone", ["test_efficientnet", "resnet18"])
@torch.no_grad()
def test_fewer_levels_give_the_same_maps_for_fewer_weights(backbone: str) -> None:
    whole, part = build(backbone), build(backbone, levels=4)
    fresh = part.load_matching_weights(whole)
    assert set(fresh) == {"neck.0.weight"}  # it reads fewer maps
    image = torch.rand(1, 3, 64, 64)
    pairs = list(zip(part.extract_backbone_features(image), whole.extract_backbone_features(image), strict=False))
    assert len(pairs) == 4
    assert all(torch.equal(a, b) for a, b in pairs)
    assert sum(p.numel() for p in part.backbone.parameters()) < sum(p.numel() for p in whole.backbone.parameters())


def test_rebuilding_shares_no_weight_with_its_origin(tiny: Segmenter) -> None:
    other = tiny.rebuild()
    own = {p.data_ptr() for p in tiny.parameters()}
    assert not own & {p.data_ptr() for p in other.parameters()}


@torch.no_grad()
def test_images_are_normalised_inside() -> None:
    a = build()
    b = Segmenter(CLASSES, COLORS, a.config, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).eval()
    b.load_state_dict(a.state_dict())
    image = torch.rand(1, 3, 24, 24)
    by_hand = (image - torch.tensor(a.mean).view(3, 1, 1)) / torch.tensor(a.std).view(3, 1, 1)
    close(b(by_hand), a(image), 1e-5)


@torch.no_grad()
def test_an_image_of_an_odd_size_is_one_with_the_mean_color_around() -> None:
    segmenter = build()
    image = torch.rand(1, 3, 21, 30)
    padded = torch.tensor(segmenter.mean).view(1, 3, 1, 1).repeat(1, 1, 24, 32)
    padded[..., :21, :30] = image
    close(segmenter.logits(image), segmenter.logits(padded), 1e-5)


def test_logits_less_their_least_are_not_negative_and_mean_the_same() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 3, 5) - 7
    shifted = make_non_negative(logits)
    assert torch.equal(shifted.amin(1), torch.zeros(2, 3, 5))
    torch.testing.assert_close(shifted.softmax(1), logits.softmax(1))


def test_every_weight_gets_a_gradient() -> None:
    segmenter = build(context="basic", detail=4).train()
    nn.init.normal_(segmenter.detail.correct.weight)
    segmenter(torch.rand(2, 3, 64, 64)).square().mean().backward()
    idle = [name for name, p in segmenter.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_classes_without_colors_get_colors_that_differ() -> None:
    segmenter = Segmenter(["a", "b", "c"], config=SegmenterConfig("test_efficientnet", features=4))
    assert len(set(segmenter.colors)) == len(segmenter.classes) == 3


def test_with_another_output_stride_the_settings_of_other_kinds_stay() -> None:
    assert SegmenterConfig(output_stride=32).with_output_stride(8) == SegmenterConfig(output_stride=8)
    for config in (VGGConfig(), AdapterConfig(factory="timm:create_model")):
        assert config.with_output_stride(16) == config


def test_the_auxiliary_pass_gives_the_logits_of_the_plain_one_and_the_level_it_names() -> None:
    segmenter = Segmenter(["a", "b"], config=SegmenterConfig("test_efficientnet", features=4)).eval()
    images = torch.rand(1, 3, 40, 56)
    channels, grid = segmenter.auxiliary_level()
    logits, features = segmenter.forward_with_auxiliary(images)
    assert torch.equal(logits, segmenter(images))
    assert features.shape[1] == channels
    assert features.shape[-1] == -(-56 // int(grid.stride))


def test_a_copy_has_the_same_digest_and_any_change_another(tmp_path: Path) -> None:
    segmenter = build()
    digest = segmenter.digest()
    save(segmenter, tmp_path / "copy.safetensors", half=False)
    assert load(tmp_path / "copy.safetensors").digest() == digest
    assert segmenter.rebuild(context="basic").digest() != digest
    config, mean = segmenter.config, (0.5, 0.5, 0.5)
    others = [
        Segmenter(["a", "b", "c"], COLORS, config),
        Segmenter(CLASSES, COLORS[::-1], config),
        Segmenter(CLASSES, COLORS, config, mean),
    ]
    for other in others:
        other.load_state_dict(segmenter.state_dict())
        assert other.digest() != digest
    segmenter.classifier.bias.data[0] += 1
    assert segmenter.digest() != digest
