"""How the network was made and how to make it again: recipe, plan, machine, time, commands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from dilated.errors import InputError
from dilated.files import read_json
from dilated.report.markup import escape_lines, escape_text, render_card, render_note, render_table
from dilated.run_folder import REASONS_FILE, RECIPE_FILE
from dilated.training.autoplan.choices import Choice

TRIMAP_WIDTHS = (1, 2, 4, 8, 16, 32)
"""Widths of the trimap bands, in pixels."""


def render_provenance(
    recipe: str | None, reasons: Sequence[Choice], facts: Mapping[str, str], times: Mapping[str, str]
) -> str:
    """Render the recipe, the reasons for it, the machine and the times.

    Args:
        recipe: the text of recipe.toml, None where there is none.
        reasons: the choices of the plan, none where the recipe was not planned.
    """
    parts = [_render_reasons(reasons)] if reasons else []
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


def read_reasons(run: Path) -> list[Choice]:
    """Read why a planned run is as it is; empty for a run that was not planned.

    Raises:
        InputError: a damaged file.
    """
    path = run / REASONS_FILE
    if not path.is_file():
        return []
    try:
        return [Choice(str(row["choice"]), str(row["value"]), str(row["reason"])) for row in read_json(path)]
    except (TypeError, KeyError) as error:
        raise InputError(f"{path}: not a list of choices with value and reason", hint="delete the file") from error


def _render_reasons(reasons: Sequence[Choice]) -> str:
    """Render the choices of a plan as a table."""
    rows = [[escape_text(choice.choice), escape_text(choice.value), escape_text(choice.reason)] for choice in reasons]
    body = render_table(["choice", "value", "because"], rows, "reasons")
    return render_card(
        body + render_note("As planned before training. What was then changed by hand is in the recipe below."),
        "Why this recipe",
    )


def render_commands(run: Path, data: Path, split: str, layout: str | None, needs_init: bool) -> str:
    """Render the commands that do it all again.

    Args:
        layout: the name of the data's layout, where it has to be given.
        needs_init: whether training started from a network that has to be given.
    """
    name, root = shlex.quote(str(run)), shlex.quote(str(data))
    new_run = shlex.quote(f"{run}-again")
    option = f" --format {layout}" if layout else ""
    init_from = " --init-from NETWORK" if needs_init else ""
    split = "" if split == "val" else f" --split {shlex.quote(split)}"
    recipe = shlex.quote(str(run / RECIPE_FILE))
    lines = {
        "train": f"dilated train {root} --recipe {recipe} --out {new_run}{init_from}{option}",
        "evaluate": (
            f"dilated evaluate {name} {root}{split}{option} --trimap {' '.join(map(str, TRIMAP_WIDTHS))} --calibration"
        ),
        "predict": f"dilated predict {name} PICTURE --out LABELS",
        "this page": f"dilated report {name} {root}{split}{option}",
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
