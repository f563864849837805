"""The package's recipes by name, read without PyTorch."""

from __future__ import annotations

import pytest

from dilated import InputError
from dilated.training.recipe_files import find_recipe, list_recipes, summarize_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_says_what_it_is_for(name: str) -> None:
    summary = summarize_recipe(name)
    assert len(summary.purpose) > 30
    assert "#" not in summary.purpose
    assert summary.stages


def test_a_misspelt_recipe_names_the_closest_one() -> None:
    with pytest.raises(InputError) as caught:
        find_recipe("quik")
    assert caught.value.hint == "did you mean quick?"
