"""`dilated train`: a network from a folder of pictures and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from dilated.data.dataset import open_dataset
from dilated.errors import InputError
from dilated.train.loop import BEST, Interrupted, train
from dilated.train.progress import RichProgress
from dilated.train.recipe import load_recipe
from dilated.weights.bundled import load


def run(
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")],
    /,
    out: Path,
    recipe: str | None = None,
    set: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction] = (),
    start: str | None = None,
    resume: bool = False,
    tensorboard: bool = False,
) -> None:
    """Train a network and keep the best by mean IoU on the split `val`.

    Args:
        data: a folder with images/ and labels/, split into train and val, and classes.toml; or a known data set, for
            which see `dilated check`.
        out: the run's folder, new: recipe.toml, log.jsonl, checkpoint.pt, best.safetensors.
        recipe: a recipe of the package (default, quick, street, paper-camvid, ...) or a .toml file; `default` if not
            given.
        set: overrides, such as --set stage.0.epochs=5 seed=1; may be given again.
        start: a network whose weights are taken where they fit: a file, a run, or a bundled name.
        resume: go on with the run in --out, exactly where it was.
        tensorboard: write event files for TensorBoard too.
    """
    console = Console()
    if resume and recipe is None:
        recipe = str(out / "recipe.toml")
        if not Path(recipe).is_file():
            raise InputError(f"{recipe}: no such file, so there is no run to resume; start without --resume")
    first = load(start) if start else None
    overrides = [one for group in set for one in group]
    resolved = load_recipe(recipe or "default", overrides, first.network if first else None)
    found = open_dataset(data)
    console.print(f"{data}: {found.layout}, {len(found.classes)} classes, splits {', '.join(found.splits)}")
    with RichProgress(console) as progress:
        try:
            best = train(found, resolved, out, resume, first, tensorboard, progress)
        except Interrupted:
            console.print(f"Stopped after a whole step; `dilated train {data} --out {out} --resume` goes on.")
            raise SystemExit(130) from None
    console.print(f"best val mean IoU {best:.4f}: {out / BEST}", highlight=False)
