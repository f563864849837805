"""`dilated train`: a network from a folder of images and labels."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from dilated.cli import arguments
from dilated.cli.console import command, make_table, write_line
from dilated.data.dataset import Dataset, open_dataset
from dilated.errors import InputError, Interrupted
from dilated.run_folder import BEST_FILE
from dilated.training.autoplan.plan import TrainingPlan, make_plan
from dilated.training.budget import parse_duration, with_budget
from dilated.training.config import load_recipe
from dilated.training.distributed.world import join_process_group
from dilated.training.progress import RichTrainingProgress
from dilated.training.state import create_run_folder
from dilated.training.train import train
from dilated.weights.bundled import load


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
        init_from: a network whose weights are taken where they fit: a file, a run, or a bundled name. Its
            classes may differ.
        resume: go on with the run in --out, exactly where it was, on as many processes as you like.
        plan_only: write the plan to --out and train nothing; edit it, and give it as --recipe.
        format: the layout of the data, where looking is not enough.
        report: write report.html at the end.
        tensorboard: write event files for TensorBoard too.
    """
    started = time.monotonic()
    with join_process_group() as world:
        console = Console(quiet=not world.is_rank_zero)
        say = write_line if world.is_rank_zero else _say_nothing
        if resume and recipe is None:
            recipe = str(out / "recipe.toml")
            if not Path(recipe).is_file():
                raise InputError(f"{recipe}: no such file, so there is no run to resume; start without --resume")
        seconds = parse_duration(budget) if budget else 0.0

        def remaining_seconds() -> float:
            return max(1.0, seconds - (time.monotonic() - started)) if seconds else 0.0

        init_segmenter = load(init_from) if init_from else None
        overrides = [override for group in set for override in group]
        dataset = open_dataset(data, format)
        say(f"{data}: {dataset.format}, {len(dataset.classes)} classes, splits {', '.join(dataset.splits)}")
        for note in dataset.notes:
            say(f"note: {note}")
        if recipe is not None:
            resolved_recipe = load_recipe(recipe, overrides, init_segmenter.config if init_segmenter else None)
            if seconds:
                resolved_recipe = with_budget(resolved_recipe, remaining_seconds(), len(dataset.samples("train")))
        else:
            if world.is_rank_zero:
                create_run_folder(out)  # what is in the way is said before anything is measured
            training_plan = world.broadcast(
                make_plan(dataset, remaining_seconds(), overrides, report, world.size) if world.is_rank_zero else None
            )
            assert training_plan is not None
            _print_plan(training_plan, console)
            resolved_recipe = training_plan.recipe
            if world.is_rank_zero:
                training_plan.save(out / "plan.toml")
            if plan_only:
                say(f"Edit {shlex.quote(str(out / 'plan.toml'))} and give it as --recipe, with another --out.")
                return
        with RichTrainingProgress(console) as progress:
            try:
                best = train(dataset, resolved_recipe, out, resume, init_segmenter, tensorboard, progress, world=world)
            except Interrupted:
                say(f"Stopped after a whole step; `{command('train', data, '--out', out, '--resume')}` goes on.")
                raise SystemExit(130) from None
        say(f"best val mean IoU {best:.4f}: {out / BEST_FILE}")
        if report and world.is_rank_zero:
            _write_report(out, dataset)


def _say_nothing(_: object) -> None: ...


def _print_plan(plan: TrainingPlan, console: Console) -> None:
    """The plan's choices, a row each."""
    rows = [(choice.key, choice.value, choice.reason) for choice in plan.choices]
    console.print(make_table(("choice", "value", "because"), rows, left=range(3)))


def _write_report(out: Path, data: Dataset) -> None:
    """Write the run's report; what goes wrong there does not undo a training."""
    from dilated.report import write_report

    try:
        write_line(f"report: {write_report(out, data)}")
    except (InputError, OSError, MemoryError) as error:
        write_line(f"the report could not be written: {error}")
        write_line(f"`{command('report', out, data.root)}` tries again")
