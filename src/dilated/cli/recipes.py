"""`dilated recipes`: the recipes that come with the package."""

from __future__ import annotations

from dilated.cli.console import make_table, write_line, write_table
from dilated.training.recipe_files import list_recipes, summarize_recipe


def run() -> None:
    """List the recipes: what each is for, the weights that it starts from, and its stages."""
    summaries = [summarize_recipe(name) for name in list_recipes()]
    rows = [(s.name, s.purpose, s.weights, ", ".join(s.stages)) for s in summaries]
    write_table(make_table(("name", "for", "starts from", "stages"), rows, left=range(4)))
    write_line("`dilated train DATA --out RUN --recipe NAME` trains by one; without a recipe, one is planned.")
