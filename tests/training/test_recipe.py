from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from dilated import InputError, Recipe, SegmenterConfig, load, load_recipe
from dilated.config import build_dataclass, to_toml
from dilated.training.config import recipe_to_table
from dilated.training.recipe_files import RECIPE_FOLDER

ROOT = Path(__file__).parent.parent.parent
SHIPPED = [Path(str(p)) for p in RECIPE_FOLDER.iterdir() if p.name.endswith(".toml")]


@pytest.mark.parametrize("path", [*SHIPPED, *(ROOT / "benchmarks" / "recipes").glob("*.toml")], ids=lambda p: p.stem)
def test_every_recipe_is_read_and_written_back_as_equal(path: Path) -> None:
    recipe = load_recipe(str(path), init_from=SegmenterConfig())
    assert build_dataclass(Recipe, tomllib.loads(to_toml(recipe_to_table(recipe))), "again") == recipe


def test_street_was_made_by_the_recipe_that_is_shipped() -> None:
    assert build_dataclass(Recipe, load("street").card["recipe"], "card") == load_recipe("street")


def test_overrides_reach_every_depth() -> None:
    recipe = load_recipe("quick", ["seed=3", "network.backbone=resnet18", "augment.crop=[64, 96]", "stage.0.lr=1e-2"])
    assert (recipe.seed, recipe.network.backbone) == (3, "resnet18")
    assert (recipe.augment.crop, recipe.stage[0].lr) == ((64, 96), 0.01)


def test_a_context_stage_needs_a_context_module() -> None:
    with pytest.raises(InputError, match=r"network\.context is 'none'"):
        load_recipe("default", ["network.context=none"])


@pytest.mark.parametrize(
    "override", ["batch=0", "stage.0.epochs=0", "stage.0.output_stride=4", "stage.0.kind=forntend"]
)
def test_a_wrong_override_is_named_and_not_the_file_that_it_changes(override: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("quick", ["seed=7", override, "workers=0"])
    assert caught.value.message.startswith(f"--set {override}: ")
    assert "quick.toml" not in str(caught.value)


def test_a_wrong_value_of_the_file_is_not_blamed_on_an_override(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('batch = 0\n[[stage]]\nkind = "frontend"\nepochs = 1\n')
    with pytest.raises(InputError, match=r"mine\.toml: recipe\.batch"):
        load_recipe(str(tmp_path / "mine.toml"), ["seed=7"])


@pytest.mark.parametrize(
    "override", ["batch=0", "stage.0.epochs=0", "stage.0.output_stride=4", "stage.0.kind=forntend"]
)
def test_values_out_of_range_are_refused(override: str) -> None:
    with pytest.raises(InputError, match=override.split("=")[0].split(".")[-1]):
        load_recipe("quick", [override])
