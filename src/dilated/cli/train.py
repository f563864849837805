"""`dilated train`: a network from a folder of pictures and labels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dilated.data.dataset import Data, open_dataset
from dilated.errors import InputError
from dilated.train.budget import duration, with_budget
from dilated.train.interrupt import Interrupted
from dilated.train.loop import BEST, train
from dilated.train.plan import Plan, make_plan
from dilated.train.progress import RichProgress
from dilated.train.recipe import load_recipe
from dilated.train.state import new_folder
from dilated.train.world import world
from dilated.weights.bundled import load


def run(
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")],
    /,
    out: Path,
    budget: str | None = None,
    recipe: str | None = None,
    set: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction] = (),
    start: str | None = None,
    resume: bool = False,
    plan_only: bool = False,
    format: str | None = None,
    report: bool = True,
    tensorboard: bool = False,
) -> None:
    """Train a network and keep the best by mean IoU on the split `val`.

    Without a recipe, one is planned from the data, the machine and the budget; each choice is printed with its reason.

    Args:
        data: a folder with images/ and labels/, split into train and val, and classes.toml; or a known layout, for
            which see `dilated check`.
        out: the run's folder, new: recipe.toml, plan.toml, log.jsonl, checkpoint.pt, best.safetensors, report.html.
        budget: how long it may take in all, such as 90s, 30m or 2h.
        recipe: a recipe of the package (default, quick, street, paper-camvid, ...) or a .toml file.
        set: overrides, such as --set stage.0.epochs=5 seed=1; may be given again.
        start: a network whose weights are taken where they fit: a file, a run, or a bundled name. Its classes may be
            others.
        resume: go on with the run in --out, exactly where it was, on as many processes as you like.
        plan_only: write the plan to --out and train nothing; edit it, and give it as --recipe.
        format: the layout of the data, where looking is not enough.
        report: write report.html at the end.
        tensorboard: write event files for TensorBoard too.
    """
    began = time.monotonic()
    with world() as here:
        console = Console(quiet=not here.first)
        if resume and recipe is None:
            recipe = str(out / "recipe.toml")
            if not Path(recipe).is_file():
                raise InputError(f"{recipe}: no such file, so there is no run to resume; start without --resume")
        seconds = duration(budget) if budget else 0.0

        def left() -> float:
            return max(1.0, seconds - (time.monotonic() - began)) if seconds else 0.0

        first = load(start) if start else None
        overrides = [one for group in set for one in group]
        found = open_dataset(data, format)
        console.print(f"{data}: {found.layout}, {len(found.classes)} classes, splits {', '.join(found.splits)}")
        for note in found.notes:
            console.print(f"note: {note}", highlight=False)
        if recipe is not None:
            resolved = load_recipe(recipe, overrides, first.network if first else None)
            if seconds:
                resolved = with_budget(resolved, left(), len(found.pairs("train")))
        else:
            if here.first:
                new_folder(out)  # what is in the way is said before anything is measured
            planned = here.agreed(make_plan(found, left(), overrides, report, here.size) if here.first else None)
            assert planned is not None
            _show(planned, console)
            resolved = planned.recipe
            if here.first:
                planned.save(out / "plan.toml")
            if plan_only:
                console.print(f"Edit {out / 'plan.toml'} and give it as --recipe, with another --out.")
                return
        with RichProgress(console) as progress:
            try:
                best = train(found, resolved, out, resume, first, tensorboard, progress, here=here)
            except Interrupted:
                console.print(f"Stopped after a whole step; `dilated train {data} --out {out} --resume` goes on.")
                raise SystemExit(130) from None
        console.print(f"best val mean IoU {best:.4f}: {out / BEST}", highlight=False)
        if report and here.first:
            _report(out, found, console)


def _show(plan: Plan, console: Console) -> None:
    """The plan's choices, a row each."""
    table = Table("choice", "value", "because", box=None, pad_edge=False)
    for choice in plan.choices:
        table.add_row(escape(choice.key), escape(choice.value), escape(choice.reason))
    console.print(table)


def _report(out: Path, data: Data, console: Console) -> None:
    """Write the run's report; what goes wrong there does not undo a training."""
    from dilated.evaluate.report import write_report

    try:
        console.print(f"report: {write_report(out, data)}", highlight=False, soft_wrap=True)
    except (InputError, OSError, MemoryError) as error:
        console.print(f"the report could not be written: {error}. `dilated report {out} {data.root}` tries again.")
