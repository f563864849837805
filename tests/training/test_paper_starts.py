"""What the paper's stages start from, and what is refused before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CLASSES
from paper_stages import PADDED, observed, same, segmenter, stages_of, write_data, write_recipe

from dilated import (
    InputError,
    Recipe,
    Segmenter,
    SegmenterConfig,
)
from dilated.data.dataset import Dataset
from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.training.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_data(tmp_path_factory.mktemp("paper") / "data")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recipe]:
    return write_recipe(tmp_path_factory.mktemp("paper") / "tiny.toml")


def test_a_frozen_front_end_of_other_classes_is_no_start(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    other = VGGSegmenter(["field", "disc", "star"], CLASSES.colors, VGGConfig(width=1 / 32))
    with pytest.raises(InputError, match=r"--init-from: its classes are \('field', 'disc', 'star'\), the data's"):
        train(data, stages_of(recipe(), slice(1, None)), tmp_path / "run", init_from=other)


@pytest.mark.parametrize("cached", ["true", "false"])
def test_the_context_stage_alone_goes_on_from_a_front_end_that_stays_as_it_is(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path, cached: str
) -> None:
    front, plan = (
        segmenter(frontend_padding="same"),
        recipe(*PADDED, "weights=init-from", f"stage.1.cache_features={cached}"),
    )
    for begun in observed(data, stages_of(plan, slice(1, None)), tmp_path / "run", front).weights:
        assert same({k: v for k, v in begun.items() if k.startswith("frontend.")}, front.state_dict())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["weights=init-from"], r"Give it as --init-from NETWORK"),
        (
            ["network.pools=kept", "network.tile=[900,900]"],
            r"margin=186, stride=8 is not .* augment\.margin = \d+ and augment\.stride = 32, .* network\.pools",
        ),
        (
            ["network.frontend_padding=same"],
            r"margin=186, stride=8 is not .* augment\.margin = 0 and augment\.stride = 8",
        ),
        (["network.tile=[300,900]"], r"network\.tile: \[300, 900\].*sides of at least 380"),
    ],
)
def test_a_recipe_that_does_not_fit_its_network_is_refused(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(data, recipe(*overrides), tmp_path / "run")


def test_a_context_module_that_cannot_be_is_refused_before_anything_is_trained(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="dilations"):
        train(data, recipe(*PADDED, "network.dilations=[0]"), tmp_path / "run")


def test_the_joint_stage_alone_goes_on_from_a_front_end_and_its_context_module(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    learnt = segmenter(frontend_padding="same", context="basic")
    plan = recipe(*PADDED, "weights=init-from")
    begun = observed(data, stages_of(plan, slice(2, None)), tmp_path / "run", learnt).weights[0]
    assert same(begun, learnt.state_dict())


def test_a_network_of_another_kind_is_no_start(data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    other = Segmenter(CLASSES.names, CLASSES.colors, SegmenterConfig(backbone="test_efficientnet", features=8))
    with pytest.raises(InputError, match="init-from"):
        train(data, recipe(*PADDED), tmp_path / "run", init_from=other)
