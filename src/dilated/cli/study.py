"""`dilated study`: whether context, dilation or a rival of them helps on your data, by trainings on equal footing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from dilated.cli import arguments
from dilated.cli.console import write_line
from dilated.errors import Interrupted
from dilated.studies.request import StudyOptions
from dilated.studies.study import study
from dilated.training.study_arms import DEFAULT_ARMS


@dataclass(frozen=True, kw_only=True)
class _Options:
    out: arguments.OptionalFolder = None
    """the study's folder: front end, features, trainings, study.html, results.json, results.csv; by default
    runs/study-DATA."""
    budget: arguments.Duration = None
    """how long all of it may take, the page included, such as 20m or 2h."""
    arms: arguments.Names = ()
    """what is compared: none, basic, large, with -random, -undilated, -crf or -crfrnn behind them, heads such as aspp
    or unet, modules of yours as package.module:name; the paper's arms and all heads if not given."""
    seeds: arguments.Count = 3
    """trainings of each arm."""
    folds: arguments.OptionalCount = None
    """divide train and val by group into so many folds; as many as groups leave one group out at a time."""
    joint: arguments.Flag = False
    """train whole networks instead of what comes after the frozen backbone, whose features are kept."""
    steps: arguments.OptionalCount = None
    """steps of each training; as many as there is time for if not given."""
    init_from: arguments.NetworkOption = None
    """the front end: a file, a run or a bundled name; trained first, in a quarter of the time, if not given."""
    set: Annotated[
        tuple[tuple[str, ...], ...], UseAppendAction, arg(metavar="KEY=VALUE...", help_behavior_hint="")
    ] = ()
    """changes to the recipe of all arms, such as --set network.features=64; may be given again."""
    format: arguments.Format = None
    group_by: arguments.GroupBy = None
    device: arguments.Device = None


def run(data: arguments.Data, /, options: arguments.Options[_Options]) -> None:
    """Train networks that differ in one thing, from one front end and for the same steps, and say what that shows.

    Given again with the same --out, it goes on where it was, with the same numbers. Ctrl-C writes the page of what is
    done.

    Args:
        data: a folder with images/ and labels/, split into train and val, and classes.toml; or a known layout, for
            which see `dilated check`.
    """
    settings = StudyOptions(
        folds=options.folds,
        joint=options.joint,
        steps=options.steps,
        init_from=options.init_from,
        overrides=tuple(override for group in options.set for override in group),
        format=options.format,
        group_by=options.group_by,
        device=options.device,
    )
    try:
        result = study(
            data,
            options.out,
            budget=options.budget,
            arms=options.arms or DEFAULT_ARMS,
            seeds=options.seeds,
            options=settings,
            notify=write_line,
        )
    except Interrupted:
        raise SystemExit(130) from None
    for line in str(result).splitlines():
        write_line(line)
