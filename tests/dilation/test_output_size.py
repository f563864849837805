"""The size of what dilated networks give, and that they stay networks of PyTorch."""

from __future__ import annotations

import copy
import itertools
import pickle
import warnings

import pytest
import timm
import torch
from torch import nn

from dilated import dilate

SIZES = ((97, 96), (75, 130), (33, 64))


@pytest.mark.parametrize("name", ["test_efficientnet", "tf_efficientnet_lite0"])
def test_all_maps_of_one_stride_have_the_size_of_the_image_at_it(name: str) -> None:
    network = timm.create_model(name, features_only=True).eval()
    fine = dilate(network, 8, check=False)
    for height, width in SIZES:
        image = torch.rand(1, 3, height, width)
        with torch.no_grad():
            maps, originals = fine(image), network(image)
        for stride, x, original in zip(fine.feature_info.reduction(), maps, originals, strict=True):
            assert x.shape[2:] == (-(-height // stride), -(-width // stride))
            assert any(
                torch.allclose(x[..., ::k, ::k], original, atol=1e-4)
                for k in (1, 2, 4)
                if x[..., ::k, ::k].shape == original.shape
            )


def test_levels_can_be_concatenated_at_any_size() -> None:
    fine = dilate(timm.create_model("resnet18", features_only=True).eval(), 8, check=False)
    with torch.no_grad():
        assert torch.cat(fine(torch.rand(1, 3, 97, 96))[2:], 1).shape == (1, 128 + 256 + 512, 13, 12)


def test_no_sample_is_cropped() -> None:
    padded = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 4)).eval()  # more rows than the image
    image = torch.rand(1, 3, 20, 21)
    coarse, dense = padded(image), dilate(padded, 2)(image)
    torch.testing.assert_close(dense[..., ::2, ::2], coarse)


def network() -> nn.Module:
    layers = [nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(3, 2, 1), nn.LPPool2d(2, 2)]
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), *layers).eval()


def test_a_dilated_network_is_cropped_as_a_copy_and_as_a_pickle() -> None:
    fine, image = dilate(network(), 2, check=False), torch.rand(1, 3, 45, 45)
    with torch.no_grad():
        for other in (copy.deepcopy(fine), pickle.loads(pickle.dumps(fine))):
            assert torch.equal(other(image), fine(image))


@pytest.mark.slow
def test_a_dilated_network_is_cropped_as_an_export_compiled_and_traced() -> None:
    fine, image = dilate(network(), 2, check=False), torch.rand(1, 3, 45, 45)
    with torch.no_grad():
        expected = fine(image)
        assert expected.shape == (1, 4, 23, 23)
        exported = torch.export.export(fine, (image,)).module()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = torch.compile(fine, backend="eager")
            traced = torch.jit.trace(fine, image)
        for other in (exported, compiled, traced):
            torch.testing.assert_close(other(image), expected)


def test_a_dilated_network_trains_and_runs_in_half_precision() -> None:
    fine, image = dilate(network(), 2, check=False), torch.rand(2, 3, 45, 45)
    fine.train()(image).sum().backward()
    assert all(parameter.grad is not None for parameter in fine.parameters())
    with torch.no_grad():
        expected, half = fine.eval()(image), copy.deepcopy(fine).to(torch.bfloat16)(image.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_can_be_dilated_and_keeps_its_type(dtype: torch.dtype) -> None:
    original = network().to(dtype)
    fine = dilate(original, 2)
    assert {x.dtype for x in itertools.chain(fine.parameters(), original.parameters())} == {dtype}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_weight_that_a_hook_computes_is_computed_in_the_copy() -> None:
    layer = torch.nn.utils.weight_norm(nn.Conv2d(4, 4, 3, stride=2, padding=1))
    original = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), layer).eval()
    fine, image = dilate(original, 2), torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        fine[1].weight_g.mul_(2)
        original[1].weight_g.mul_(2)
        torch.testing.assert_close(fine(image)[..., ::2, ::2], original(image))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_a_scripted_layer_is_refused_by_name() -> None:
    scripted = torch.jit.script(nn.Conv2d(4, 4, 3, stride=2))
    with pytest.raises(ValueError, match=r"^dilate: 1 \(RecursiveScriptModule\): it is scripted"):
        dilate(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), scripted), 2)


def test_progress_counts_the_layers_that_are_compared() -> None:
    calls: list[tuple[int, int]] = []
    dilate(network(), 2, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] == len(calls)
