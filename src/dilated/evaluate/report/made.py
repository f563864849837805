"""How the network was made and how to make it again: recipe, plan, machine, time, commands.

section(run, data, recipe_text, ...)
commands(Path("runs/mine"), data, "val", "bundled")
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from dilated.data.dataset import Data, open_dataset
from dilated.errors import InputError
from dilated.evaluate.report.markup import card, note, table, text

WIDTHS = (1, 2, 4, 8, 16, 32)
"""Of the trimap's bands, in pixels."""


def section(recipe: str | None, plan: str | None, facts: Mapping[str, str], times: Mapping[str, str]) -> str:
    """The recipe as it was, why it is so, what it ran on and how long it took.

    Args:
        recipe: the text of recipe.toml, None where there is none.
        plan: the text of plan.toml, None where the recipe was not planned.
    """
    parts = [reasons(plan)] if plan is not None else []
    if recipe is None:
        parts.append(card("<p>The run holds no recipe.toml.</p>", "Recipe"))
    else:
        shown = f'<pre tabindex="0">{text(recipe)}</pre>'
        body = f"<details><summary>recipe.toml, every value written out</summary>{shown}</details>"
        parts.append(card(body, "Recipe"))
    rows = [[text(key), text(value)] for key, value in {**times, **facts}.items()]
    said = "The machine is the one that made this page, which need not be the one that trained."
    parts.append(card(table(["", ""], rows, "facts") + note(said), "Time and machine"))
    return "".join(parts)


def reasons(plan: str) -> str:
    """The comments at the top of a planned recipe, `choice  value  because`, as a table."""
    rows = []
    for line in plan.splitlines():
        if not line.startswith("#"):
            break
        cells = [cell for cell in line.lstrip("# ").split("  ") if cell.strip()]
        choice, value, *because = (*cells, "", "")[: max(len(cells), 2)]
        rows.append([text(choice.strip()), text(value.strip()), text(" ".join(cell.strip() for cell in because))])
    if not rows:
        return card("<p>plan.toml gives no reasons.</p>", "Why this recipe")
    body = table(["choice", "value", "because"], rows, "reasons")
    return card(
        body + note("As planned before training. What was then changed by hand is in the recipe below."),
        "Why this recipe",
    )


def commands(run: Path, data: Data, split: str, weights: str) -> str:
    """What to type to do it all again.

    Args:
        weights: the recipe's; `start` and network files of one's own have to be at hand.
    """
    name, root = shlex.quote(str(run)), shlex.quote(str(data.root))
    again = shlex.quote(f"{run}-again")
    layout = _layout(data)
    start = " --start NETWORK" if weights == "start" else ""
    split = "" if split == "val" else f" --split {shlex.quote(split)}"
    recipe = shlex.quote(str(run / "recipe.toml"))
    lines = {
        "train": f"dilated train {root} --recipe {recipe} --out {again}{start}{layout}",
        "evaluate": (
            f"dilated evaluate {name} {root}{split}{layout} --trimap {' '.join(map(str, WIDTHS))} --calibration"
        ),
        "predict": f"dilated predict {name} PICTURE --out LABELS",
        "this page": f"dilated report {name} {root}{split}{layout}",
    }
    rows = "".join(
        f'<dt>{text(what)}</dt><dd><pre class="command" tabindex="0">{text(line)}</pre></dd>'
        for what, line in lines.items()
    )
    missing = note("NETWORK is the one that training started from; the run does not say which.") if start else ""
    said = note("PICTURE and LABELS are yours: pictures or folders, and a folder for what is written.")
    return card(f"<dl>{rows}</dl>{said}{missing}")


def _layout(data: Data) -> str:
    """The option that names the layout, where looking at the folder gives another."""
    try:
        if open_dataset(data.root).layout == data.layout:
            return ""
    except InputError:
        pass
    return f" --format {data.layout}"
