"""`--set KEY=VALUE`: what a recipe's table becomes, and what a key that does not exist is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from dilated import InputError, load_recipe
from dilated.training.config import Recipe
from dilated.training.recipe_files import apply_override


@pytest.mark.parametrize(
    ("text", "closest"),
    [
        ("epochs=5", "stage.0.epochs"),
        ("lr=0.1", "stage.0.lr"),
        ("sed=1", "seed"),
        ("backbone=resnet18", "network.backbone"),
        ("stage.0.epoch=5", "stage.0.epochs"),
        ("loss.jacard=1", "loss.jaccard"),
    ],
)
def test_a_key_that_no_recipe_has_names_the_closest_one(text: str, closest: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("quick", [text])
    assert caught.value.hint == f"did you mean {closest}?"
    assert text in caught.value.message


def test_a_key_like_none_at_all_gets_the_keys_that_there_are() -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("quick", ["zzz.qqq=1"])
    assert caught.value.hint.startswith("give one of network, augment, stage")


def test_values_are_toml_or_bare_words() -> None:
    table = {"stage": [{"kind": "frontend"}]}
    for text in ("stage.0.epochs=2", "weights=random", "augment.crop=[32, 48]", "network.options.a.b=true"):
        apply_override(table, text, Recipe)
    assert table == {
        "stage": [{"kind": "frontend", "epochs": 2}],
        "weights": "random",
        "augment": {"crop": [32, 48]},
        "network": {"options": {"a": {"b": True}}},
    }


def test_a_key_below_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('stage = "x"\n')
    with pytest.raises(InputError, match=r"--set stage\.0\.lr=1: stage\.0 is no table"):
        load_recipe(str(path), ["stage.0.lr=1"])


def test_a_value_that_breaks_a_rule_is_named_with_its_file_and_stage(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[[stage]]\nkind = "frontend"\nepochs = 1\n[[stage]]\nkind = "frontend"\nval_interval = -1.0\n')
    with pytest.raises(InputError, match=rf"^{path}: stage\.1: stage\.val_interval: found -1\.0"):
        load_recipe(str(path))
