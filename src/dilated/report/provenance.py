"""How the network was made and how to make it again: recipe, plan, machine, time, commands.

section(run, data, recipe_text, ...)
commands(Path("runs/mine"), data, "val", "bundled")
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from dilated.data.dataset import Dataset, open_dataset
from dilated.errors import InputError
from dilated.report.markup import escape_lines, escape_text, render_card, render_note, render_table

TRIMAP_WIDTHS = (1, 2, 4, 8, 16, 32)
"""Of the trimap's bands, in pixels."""


def render_provenance(recipe: str | None, plan: str | None, facts: Mapping[str, str], times: Mapping[str, str]) -> str:
    """The recipe as it was, why it is so, what it ran on and how long it took.

    Args:
        recipe: the text of recipe.toml, None where there is none.
        plan: the text of plan.toml, None where the recipe was not planned.
    """
    parts = [_render_reasons(plan)] if plan is not None else []
    if recipe is None:
        parts.append(render_card("<p>The run holds no recipe.toml.</p>", "Recipe"))
    else:
        recipe_html = f'<pre tabindex="0">{escape_lines(recipe)}</pre>'
        body = f"<details><summary>recipe.toml, every value written out</summary>{recipe_html}</details>"
        parts.append(render_card(body, "Recipe"))
    rows = [[escape_text(key), escape_text(value)] for key, value in {**times, **facts}.items()]
    footnote = "The machine is the one that made this page, which need not be the one that trained."
    parts.append(render_card(render_table(["", ""], rows, "facts") + render_note(footnote), "Time and machine"))
    return "".join(parts)


def _render_reasons(plan: str) -> str:
    """The comments at the top of a planned recipe, `choice  value  because`, as a table."""
    rows = []
    for line in plan.splitlines():
        if not line.startswith("#"):
            break
        cells = [cell for cell in line.lstrip("# ").split("  ") if cell.strip()]
        choice, value, *reason = (*cells, "", "")[: max(len(cells), 2)]
        rows.append(
            [
                escape_text(choice.strip()),
                escape_text(value.strip()),
                escape_text(" ".join(cell.strip() for cell in reason)),
            ]
        )
    if not rows:
        return render_card("<p>plan.toml gives no reasons.</p>", "Why this recipe")
    body = render_table(["choice", "value", "because"], rows, "reasons")
    return render_card(
        body + render_note("As planned before training. What was then changed by hand is in the recipe below."),
        "Why this recipe",
    )


def render_commands(run: Path, data: Dataset, split: str, weights: str) -> str:
    """What to type to do it all again.

    Args:
        weights: the recipe's; `init-from` and network files of one's own have to be at hand.
    """
    name, root = shlex.quote(str(run)), shlex.quote(str(data.root))
    new_run = shlex.quote(f"{run}-again")
    layout = _format_option(data)
    init_from = " --init-from NETWORK" if weights == "init-from" else ""
    split = "" if split == "val" else f" --split {shlex.quote(split)}"
    recipe = shlex.quote(str(run / "recipe.toml"))
    lines = {
        "train": f"dilated train {root} --recipe {recipe} --out {new_run}{init_from}{layout}",
        "evaluate": (
            f"dilated evaluate {name} {root}{split}{layout} --trimap {' '.join(map(str, TRIMAP_WIDTHS))} --calibration"
        ),
        "predict": f"dilated predict {name} PICTURE --out LABELS",
        "this page": f"dilated report {name} {root}{split}{layout}",
    }
    rows = "".join(
        f'<dt>{escape_text(purpose)}</dt><dd><pre class="command" tabindex="0">{escape_text(line)}</pre></dd>'
        for purpose, line in lines.items()
    )
    missing = (
        render_note("NETWORK is the one that training started from; the run does not say which.") if init_from else ""
    )
    footnote = render_note("PICTURE and LABELS are yours: images or folders, and a folder for what is written.")
    return render_card(f"<dl>{rows}</dl>{footnote}{missing}")


def _format_option(data: Dataset) -> str:
    """The option that names the layout, where looking at the folder gives another."""
    try:
        if open_dataset(data.root).format == data.format:
            return ""
    except InputError:
        pass
    return f" --format {data.format}"
