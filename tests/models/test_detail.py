import pytest
import torch

from dilated import InputError, Segmenter, SegmenterConfig
from dilated.models.detail_head import DetailHead


def test_a_fresh_correction_changes_nothing_even_while_training() -> None:
    torch.manual_seed(0)
    detail = DetailHead(channels=5, classes=3, width=4)
    logits = torch.randn(2, 3, 6, 7)
    assert torch.equal(detail(logits, torch.randn(2, 5, 6, 7)), logits)


def test_a_fresh_correction_can_learn() -> None:
    torch.manual_seed(0)
    detail = DetailHead(channels=5, classes=3, width=4)
    detail(torch.randn(2, 3, 6, 7), torch.randn(2, 5, 6, 7)).square().sum().backward()
    assert detail.correct.weight.grad.abs().max() > 0


def test_a_correction_reads_both_the_features_and_the_logits() -> None:
    torch.manual_seed(0)
    detail = DetailHead(channels=5, classes=3, width=4).eval()
    torch.nn.init.normal_(detail.correct.weight)
    logits, features = torch.randn(1, 3, 6, 7), torch.randn(1, 5, 6, 7)
    correction = detail(logits, features) - logits
    assert not torch.allclose(correction, detail(logits, features + 1) - logits)
    assert not torch.allclose(correction, detail(logits + 1, features) - logits - 1)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_fresh_correction_with_deep_features_changes_nothing_and_can_learn(layers: int) -> None:
    torch.manual_seed(0)
    network = SegmenterConfig("test_efficientnet", features=8, detail=4, detail_reads="features", detail_layers=layers)
    segmenter = Segmenter(["a", "b"], [(0, 0, 0), (9, 9, 9)], network).eval()
    images = torch.rand(1, 3, 40, 56)
    plain = segmenter.rebuild(detail_reads="logits", detail_layers=1)
    assert torch.equal(segmenter(images), plain(images))
    segmenter(images).square().sum().backward()
    assert segmenter.detail is not None
    assert segmenter.detail.correct.weight.grad.abs().max() > 0
    torch.nn.init.normal_(segmenter.detail.correct.weight)
    segmenter.zero_grad()
    segmenter(images).square().sum().backward()
    assert segmenter.detail.reduce is not None
    assert segmenter.detail.reduce[0][0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("reads", ["logits", "features"])
def test_a_second_correction_gives_logits_at_stride_2_changes_nothing_fresh_and_can_learn(reads: str) -> None:
    torch.manual_seed(0)
    network = SegmenterConfig("test_efficientnet", features=8, detail=4, detail_reads=reads, detail_fine=3)
    segmenter = Segmenter(["a", "b"], [(0, 0, 0), (9, 9, 9)], network).eval()
    torch.nn.init.normal_(segmenter.detail.correct.weight)
    images = torch.rand(1, 3, 41, 56)
    logits, grid = segmenter.decode(segmenter.extract_features(images), segmenter.feature_grids)
    assert (tuple(logits.shape), grid.stride) == ((1, 2, 24, 28), 2)
    coarser = segmenter.rebuild(detail_fine=0)
    coarse, coarse_grid = coarser.decode(coarser.extract_features(images), coarser.feature_grids)
    assert coarse_grid.stride == 4
    torch.testing.assert_close(logits, segmenter.upsample(coarse, coarse_grid, grid, (24, 28)))
    assert segmenter.detail_fine is not None
    assert segmenter.logit_bias is segmenter.detail_fine.correct.bias
    segmenter(images).square().sum().backward()
    assert segmenter.detail_fine.correct.weight.grad.abs().max() > 0


def test_a_second_correction_reads_features_that_the_first_does_not() -> None:
    torch.manual_seed(0)
    network = SegmenterConfig("test_efficientnet", features=8, detail=4, detail_fine=3)
    segmenter = Segmenter(["a", "b"], [(0, 0, 0), (9, 9, 9)], network).eval()
    torch.nn.init.normal_(segmenter.detail_fine.correct.weight)
    maps = segmenter.extract_features(torch.rand(1, 3, 40, 56))
    before, _ = segmenter.decode(maps, segmenter.feature_grids)
    after, _ = segmenter.decode([*maps[:2], maps[2] + 1], segmenter.feature_grids)
    assert not torch.allclose(before, after)


def test_a_second_correction_needs_the_first_and_features_at_stride_2() -> None:
    with pytest.raises(InputError, match="detail_fine"):
        SegmenterConfig("test_efficientnet", detail_fine=8)
    with pytest.raises(InputError, match="stride 4, not 2"):
        Segmenter(["a"], [(0, 0, 0)], SegmenterConfig("test_convnext", detail=4, detail_fine=4, output_stride=32))
