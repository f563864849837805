"""Going on from a network of other classes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from conftest import CLASSES

from dilated import InputError, Recipe, Segmenter, SegmenterConfig
from dilated.data.augment import ReflectCropConfig
from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.training.config import StageConfig
from dilated.training.stages import build_initial_segmenter

NETWORK = SegmenterConfig("test_efficientnet", output_stride=8, features=8, detail=4)
RECIPE = Recipe(network=NETWORK, stage=(StageConfig("frontend", 1),), weights="random")


def start(*names: str) -> Segmenter:
    torch.manual_seed(7)
    network = Segmenter(names, [(i, i, i) for i in range(len(names))], NETWORK)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network


def test_the_same_classes_go_on_whole() -> None:
    before = start(*CLASSES.names)
    network, line = build_initial_segmenter(CLASSES, RECIPE, before)
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), before.state_dict().values(), strict=True)
    )
    assert line == "weights of the network to start from; fresh: none"


@pytest.mark.parametrize("names", [("bar", "sky", "field"), ("bar", "sky", "field", "sea", "disc"), ("bar",)])
def test_of_other_classes_each_shared_one_keeps_its_own_row(names: tuple[str, ...]) -> None:
    before = start(*names)
    network, line = build_initial_segmenter(CLASSES, RECIPE, before)
    ours, theirs = network.state_dict(), before.state_dict()
    for i, name in enumerate(CLASSES.names):
        for key in ("classifier.weight", "classifier.bias", "detail.correct.weight"):
            if name in names:
                assert torch.equal(ours[key][i], theirs[key][names.index(name)])
            elif key == "classifier.bias":
                assert ours[key][i] == 0
            else:
                assert ours[key][i].abs().max() <= NETWORK.features**-0.5  # fresh: theirs have a deviation of 1
    assert torch.equal(ours["neck.0.weight"], theirs["neck.0.weight"])
    assert ", ".join(n for n in CLASSES.names if n in names) + " keep their weights" in line


def test_classes_in_another_order_are_not_taken_for_one_another() -> None:
    before = start("disc", "bar", "field")
    network, _ = build_initial_segmenter(CLASSES, RECIPE, before)
    assert torch.equal(network.classifier.weight[0], before.classifier.weight[2])


def test_what_reads_logits_of_classes_in_another_order_begins_anew() -> None:
    before = start("disc", "bar", "field")
    network, _ = build_initial_segmenter(CLASSES, RECIPE, before)
    assert network.detail is not None
    assert network.detail.fuse[0].weight.std() < 0.5 < before.detail.fuse[0].weight.std()  # type: ignore[union-attr]


def test_a_frozen_front_end_of_other_classes_is_refused() -> None:
    recipe = dataclasses.replace(
        RECIPE, network=dataclasses.replace(NETWORK, context="basic"), stage=(StageConfig("context", 1),)
    )
    with pytest.raises(InputError, match="the first stage freezes the front end"):
        build_initial_segmenter(CLASSES, recipe, start("a", "b"))


def test_the_papers_network_keeps_the_rows_of_shared_classes_too() -> None:
    network = VGGConfig(width=1 / 32)
    recipe = Recipe(
        network=network, augment=ReflectCropConfig(), stage=(StageConfig("frontend", iterations=1),), weights="random"
    )
    other = VGGSegmenter(["disc", "star", "field"], CLASSES.colors, network)
    ours, theirs = build_initial_segmenter(CLASSES, recipe, other)[0].state_dict(), other.state_dict()
    rows = ours["frontend.final.weight"], theirs["frontend.final.weight"]
    assert torch.equal(rows[0][CLASSES.names.index("field")], rows[1][2])
    assert torch.equal(rows[0][CLASSES.names.index("disc")], rows[1][0])
    assert not torch.equal(rows[0][CLASSES.names.index("bar")], rows[1][1])
    assert torch.equal(ours["frontend.conv1_1.weight"], theirs["frontend.conv1_1.weight"])
