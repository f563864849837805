"""`dilated train`: a network from a folder of images and labels."""

from __future__ import annotations

import shlex
from typing import Annotated

import tyro
from rich.console import Console

from dilated import api
from dilated.cli import arguments
from dilated.cli.console import write_line
from dilated.cli.training_progress import RichTrainingProgress, print_plan
from dilated.errors import Interrupted
from dilated.training.checkpoint import create_run_folder


def run(
    data: arguments.Data,
    /,
    out: arguments.RequiredPath,
    budget: arguments.Duration = None,
    recipe: arguments.Text = None,
    set: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="KEY=VALUE...", help_behavior_hint=""),
    ] = (),
    init_from: arguments.NetworkOption = None,
    resume: bool = False,
    plan_only: bool = False,
    format: arguments.Text = None,
    report: bool = True,
    tensorboard: bool = False,
    device: arguments.Device = None,
) -> None:
    """Train a network and keep the best by mean IoU on the split `val`.

    Without a recipe, one is planned from the data, the machine and the budget; each choice is printed with its reason.

    Args:
        data: a folder with images/ and labels/, split into train and val, and classes.toml; or a known layout, for
            which see `dilated check`.
        out: the run's folder, new: recipe.toml, plan.toml, plan.json, log.jsonl, checkpoint.pt, best.safetensors,
            report.html.
        budget: how long it may take in all, such as 90s, 30m or 2h.
        recipe: a recipe of the package (default, quick, street, paper-camvid, ...) or a .toml file.
        set: overrides, such as --set stage.0.epochs=5 seed=1; may be given again.
        init_from: a network whose weights are taken where they fit: a file, a run, or a bundled name. Its
            classes may differ.
        resume: go on with the run in --out, exactly where it was, on as many processes as you like.
        plan_only: write the plan to --out and train nothing; edit it, and give it as --recipe.
        format: the layout of the data, where looking is not enough.
        report: write report.html at the end.
        tensorboard: write event files for TensorBoard too.
    """
    options = api.TrainOptions(
        device=device,
        tensorboard=tensorboard,
        progress=RichTrainingProgress(),
        overrides=tuple(override for group in set for override in group),
        format=format,
        report=report,
    )
    if plan_only:
        create_run_folder(out)  # what is in the way is said before anything is measured
        training_plan = api.plan(data, budget=budget, options=options)
        print_plan(training_plan, Console())
        path = training_plan.save(out)
        write_line(f"Edit {shlex.quote(str(path))} and give it as --recipe, with another --out.")
        return
    try:
        api.train(data, out, budget=budget, recipe=recipe, init_from=init_from, resume=resume, options=options)
    except Interrupted:
        raise SystemExit(130) from None
