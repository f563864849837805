"""`dilated train`: a network from a folder of images and labels."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import UseAppendAction, arg

from dilated import api
from dilated.cli import arguments
from dilated.cli.console import write_line
from dilated.cli.tables import render_evaluation
from dilated.cli.training_progress import RichTrainingProgress, print_plan
from dilated.cross_validation import FOLDS_FILE, train_folds
from dilated.data.unlabelled import name_in_recipe
from dilated.errors import InputError, Interrupted
from dilated.lock import lock_folder
from dilated.run_folder import CHECKPOINT_FILE, RECIPE_FILE, seed_folder
from dilated.training.checkpoint import create_run_folder
from dilated.training.trackers import TrackerName


@dataclass(frozen=True, kw_only=True)
class _Options:
    out: arguments.RequiredPath
    """the run's folder, new; for recipe.toml, data.json, plan.toml, plan.json, log.jsonl, checkpoint.pt, networks and
    report.html."""
    budget: arguments.Duration = None
    """how long it may take in all, such as 90s, 30m or 2h."""
    recipe: arguments.Text = None
    """a recipe of the package (default, quick, street, paper-camvid, ...) or a .toml file."""
    set: Annotated[
        tuple[tuple[str, ...], ...], UseAppendAction, arg(metavar="KEY=VALUE...", help_behavior_hint="")
    ] = ()
    """changes to the recipe, such as --set stage.0.epochs=5 seed=1; may be given again."""
    init_from: arguments.NetworkOption = None
    """a network whose weights are taken where they fit: a file, a run, or a bundled name. Its classes may differ."""
    resume: arguments.Flag = False
    """continue the run in --out exactly where it was, on any number of processes."""
    accept_changed_data: arguments.Flag = False
    """with --resume: go on though images, labels or classes are not what the run began with."""
    seeds: arguments.Count = 1
    """train so many times, one after the other, in OUT/seed-1, OUT/seed-2, ...; `dilated compare` takes OUT for all."""
    trial: arguments.Flag = False
    """plan by a trial of two ways to treat the backbone, which takes a sixth of the budget."""
    plan_only: arguments.Flag = False
    """write the plan to --out and train nothing; edit it, and give it as --recipe."""
    format: arguments.Format = None
    group_by: arguments.GroupBy = None
    lists: arguments.Lists = None
    unlabelled: arguments.OptionalFolder = None
    """a folder of images without labels, other than those of val and test, to learn from too where it helps."""
    fold: arguments.Fold = None
    folds: arguments.OptionalCount = None
    """train once for each of so many folds by group, into --out/fold1 and so on, and pool their figures; the budget is
    that of all. Given again, it goes on."""
    report: arguments.Switch = True
    """write report.html at the end."""
    log: Annotated[tuple[TrackerName, ...], arg(metavar="NAME...", help_behavior_hint="")] = ()
    """trackers that get scalars, per class too, and overlays of val: tensorboard (in OUT/tensorboard), wandb, trackio,
    mlflow. log.jsonl is always written."""
    device: arguments.Device = None


def run(data: arguments.Data, /, options: arguments.Options[_Options]) -> None:
    """Train a network and keep the best by mean IoU on the split `val`.

    Without a recipe, one is planned from the data, the machine and the budget; each choice is printed with its reason.

    Args:
        data: a folder with images/ and labels/, split into train and val, and classes.toml; or a known layout, for
            which see `dilated check`.
    """
    out, budget = options.out, options.budget
    if options.seeds < 1 or (options.seeds > 1 and options.plan_only):
        raise InputError(f"seeds: {options.seeds} trainings cannot be run", hint="give 1 or more, and no --plan-only")
    unlabelled = [] if options.unlabelled is None else [name_in_recipe(options.unlabelled)]
    train_options = api.TrainOptions(
        device=options.device,
        log=options.log,
        accept_changed_data=options.accept_changed_data,
        progress=RichTrainingProgress(),
        overrides=(*chain.from_iterable(options.set), *unlabelled),
        format=options.format,
        group_by=options.group_by,
        lists=options.lists,
        fold=options.fold,
        report=options.report,
        trial=options.trial,
    )
    if options.plan_only:
        with lock_folder(out, "planning"):
            create_run_folder(out)  # what is in the way is said before anything is measured
            training_plan = api.plan(data, budget=budget, options=train_options)
            print_plan(training_plan, Console())
            path = training_plan.save(out)
        write_line(f"Edit {shlex.quote(str(path))} and give it as --recipe, with another --out.")
        return
    try:
        if options.folds is not None:
            result = train_folds(
                data,
                out,
                options.folds,
                budget=budget,
                recipe=options.recipe,
                init_from=options.init_from,
                options=train_options,
            )
            for part in render_evaluation(result):
                Console().print(part)
            write_line(f"{out / FOLDS_FILE}: the figures over all {options.folds} folds")
            return
        if options.seeds > 1:
            _train_seeds(data, options, train_options)
            return
        api.train(
            data,
            out,
            budget=budget,
            recipe=options.recipe,
            init_from=options.init_from,
            resume=options.resume,
            options=train_options,
        )
    except Interrupted:
        raise SystemExit(130) from None


def _train_seeds(data: Path, options: _Options, train_options: api.TrainOptions) -> None:
    """Train with each seed in a folder of its own, all by the recipe of the first; a plan is made once.

    Resumed, it goes on where it was: finished runs stay as they are, and a budget is that of each run.
    """
    first = seed_folder(options.out, 1)
    for seed in range(1, options.seeds + 1):
        folder = seed_folder(options.out, seed)
        write_line(f"seed {seed} of {options.seeds}: {shlex.quote(str(folder))}")
        resume = options.resume and (folder / CHECKPOINT_FILE).is_file()
        is_first = seed == 1
        recipe = options.recipe if is_first else str(first / RECIPE_FILE)
        overrides = (*train_options.overrides, "seed=1") if is_first else (f"seed={seed}",)
        # each run draws a progress of its own
        settings = replace(train_options, overrides=() if resume else overrides, progress=RichTrainingProgress())
        api.train(
            data,
            folder,
            budget=options.budget if is_first and not resume else None,
            recipe=None if resume else recipe,
            init_from=options.init_from,
            resume=resume,
            options=settings,
        )
    write_line(
        f"Compare it with another: `dilated compare {shlex.quote(str(options.out))} OTHER {shlex.quote(str(data))}`"
    )
