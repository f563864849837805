"""Plain vision transformers as backbones: at the stride of their patches, on images of any size, with finer logits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from dilated import Predictor, Segmenter, SegmenterConfig, load
from dilated.data.dataset import open_dataset
from dilated.errors import InputError
from dilated.models.decoders import ProgressiveDecoder
from dilated.models.sampling import Grid
from dilated.models.timm_backbone import BackboneLayout
from dilated.training.config import load_recipe
from dilated.training.run_options import RunOptions
from dilated.training.train import train
from dilated.weights.backbones import load_pretrained

PLAIN = SegmenterConfig(backbone="test_vit", features=8, output_stride=16, head="pup")


def make(config: SegmenterConfig = PLAIN) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(["a", "b", "c"], config=config).eval()


@pytest.mark.parametrize("size", [(64, 96), (50, 75), (7, 9)])
def test_an_image_of_any_size_has_a_logit_for_each_pixel(size: tuple[int, int]) -> None:
    segmenter = make()
    with torch.no_grad():
        images = torch.rand(1, 3, *size)
        assert segmenter(images).shape == (1, 3, *size)
        assert segmenter.logits(images).shape[-2:] == tuple(-(-side // 4) for side in size)
    assert segmenter.grid == Grid(4, 1.5)


def test_patches_of_14_pixels_have_their_own_stride() -> None:
    with torch.device("meta"):
        small = {"backbone": "vit_small_patch14_dinov2", "output_stride": 14}
        segmenter = Segmenter(["a", "b"], config=dataclasses.replace(PLAIN, **small))
        assert segmenter(torch.rand(1, 3, 50, 75)).shape == (1, 2, 50, 75)
    assert segmenter.grid == Grid(7, 3)


def test_its_features_are_those_that_timm_gives_for_the_padded_image() -> None:
    segmenter = make()
    images = torch.rand(2, 3, 64, 96)
    mean, std = (torch.tensor(value)[:, None, None] for value in (segmenter.mean, segmenter.std))
    network = timm.create_model("test_vit", dynamic_img_size=True).eval()
    state = {key.removeprefix("model."): value for key, value in segmenter.backbone.state_dict().items()}
    network.load_state_dict(state, strict=False)  # the classifier is not there
    with torch.no_grad():
        ours = segmenter.extract_backbone_features(images)
        theirs = network.forward_intermediates((images - mean) / std, indices=[0, 2, 3, 5], intermediates_only=True)
    assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]
    assert max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) < 1e-4


def test_weights_of_the_complete_classifier_are_loaded_from_a_file(tmp_path: Path) -> None:
    classifier = timm.create_model("test_vit")
    torch.save(classifier.state_dict(), tmp_path / "vit.pth")
    segmenter = make()
    assert load_pretrained(segmenter, str(tmp_path / "vit.pth")).startswith("test_vit: ")
    weight = classifier.state_dict()["blocks.3.mlp.fc1.weight"]
    assert torch.equal(segmenter.backbone.state_dict()["model.blocks.3.mlp.fc1.weight"], weight)


def test_weights_of_another_transformer_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit2").state_dict(), tmp_path / "vit2.pth")
    with pytest.raises(InputError, match="does not fit test_vit"):
        load_pretrained(make(), str(tmp_path / "vit2.pth"))


def test_a_saved_network_labels_alike_and_refuses_tiles_in_words(tmp_path: Path) -> None:
    segmenter = make()
    segmenter.save(tmp_path / "vit.safetensors", half=False)
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3)).astype(np.uint8)
    loaded = load(tmp_path / "vit.safetensors")
    assert np.array_equal(
        Predictor(segmenter, device="cpu")(image).labels, Predictor(loaded, device="cpu")(image).labels
    )
    with pytest.raises(InputError, match="no tile can give the labels of the whole"):
        Predictor(loaded, tile=32, device="cpu")(image)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_stride": 8}, "a transformer of 16x16 patches, which nothing dilates"),
        ({"dilation": "exact"}, "found dilation = 'exact' with test_vit"),
        ({"detail": 8, "head": "none"}, r"network\.detail: the backbone's finest features have stride 16, not 4"),
        ({"backbone": "beit_base_patch16_224"}, "beit_base_patch16_224 takes images of one size only"),
    ],
)
def test_what_it_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(dataclasses.replace(PLAIN, **changes))


def test_a_training_goes_through_stages_of_any_stride(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(recipe_file), ["stage.0.iterations=4", "stage.0.epochs=0"])
    stages = recipe.stage[0], dataclasses.replace(recipe.stage[0], output_stride=8, freeze=2, iterations=2)
    train(
        open_dataset(folder),
        dataclasses.replace(recipe, network=PLAIN, stage=stages, workers=0),
        tmp_path / "run",
        options=RunOptions(device="cpu"),
    )
    segmenter = load(tmp_path / "run")
    assert segmenter.output_stride == 16
    assert Predictor(segmenter, device="cpu")(np.zeros((33, 47, 3), np.uint8)).labels.shape == (33, 47)


def test_doubled_features_sit_where_their_grid_says() -> None:
    """A ramp over the image stays that ramp, away from the border, if each block but the doubling is left out."""
    layout = BackboneLayout((16,), (1,), {})
    decoder = ProgressiveDecoder(layout, 1)
    decoder.neck = torch.nn.Identity()
    decoder.blocks = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    coarse = Grid(16, 7.5)
    ramp = coarse.start + coarse.stride * torch.arange(6.0)
    features = decoder([ramp.expand(1, 1, 6, 6)], [coarse])
    fine = decoder.output_grid([coarse])
    positions = fine.start + fine.stride * torch.arange(24.0)
    assert torch.allclose(features[0, 0, 0, 4:-4], positions[4:-4])
