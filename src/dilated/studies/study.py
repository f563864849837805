"""The verb: train the arms of a study on equal footing, and write one page about what they show.

    result = dilated.study("my-data", "runs/study", budget="2h", arms=("none", "basic", "aspp"), seeds=3)
    print(result)                                        # the arms, the verdict, and what is not shown

Writes into the folder: `request.json` and `plan.json`, what was asked and planned; `data.json`, the hashes of the
images and labels, since a study that goes on must find the same; `front/`, the front end's run;
ARM/seed-N, runs like those of `dilated train`; `study.html`, `results.json` and `results.csv`; and until all is done
`features/`, for a stride and a fold 4 GB at most, or one view of each image where that takes more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from dilated.errors import InputError, Interrupted
from dilated.evaluation.study import StudyResult, StudySettings
from dilated.files import atomic_write, plural
from dilated.lock import lock_folder
from dilated.models.segmenter import Segmenter
from dilated.prediction.predictor import Predictor
from dilated.report.differing_images import show_differing_images
from dilated.report.study_page import render_study_page
from dilated.studies.request import CLOCK_FILE, CSV_FILE, JSON_FILE, PAGE_FILE, StudyOptions, StudyRequest
from dilated.studies.trainings import BudgetOver, StudyTrainings
from dilated.training.budget import parse_duration
from dilated.training.study_arms import DEFAULT_ARMS, find_arms, require_factory
from dilated.training.study_budget import StudyClock
from dilated.weights.bundled import load

_DEFAULTS = StudyOptions()


def study(
    data: str | Path,
    out: str | Path | None = None,
    *,
    budget: str | float | None = None,
    arms: Sequence[str] = DEFAULT_ARMS,
    seeds: int = 3,
    options: StudyOptions = _DEFAULTS,
    notify: Callable[[str], object] = print,
) -> StudyResult:
    """Train arms that differ in the network alone, from one front end and for the same steps, and compare them.

    Called again with the same folder, it goes on where it was, after a kill too: trainings end with the same weights
    as if nothing had happened. More time may be given then.

    Args:
        data: a data folder with the splits `train` and `val`.
        out: the study's folder; by default `runs/study-NAME`.
        budget: the time for everything, the page included, such as `"2h"`; all its processes count.
        arms: names of arms, see `dilated.training.study_arms`, or of modules of yours, `package.module:name`.
        seeds: trainings of each arm; three are what it takes to call one way of training better.
        options: folds, steps, front end, whether the backbone learns too, layout, groups, device.
        notify: is told what is done, a line each.

    Returns:
        The result, which is also in `study.html`, `results.json` and `results.csv`.

    Raises:
        InputError: wrong or changed data, arms or folder, a module of yours that is not there or not trusted, no arm
            that can run, or too little time.
        Interrupted: Ctrl-C; the page of what is done has been written.

    Example:
        >>> print(study("my-data", budget="2h", arms=("none", "basic", "aspp")))  # doctest: +SKIP
    """
    seconds = parse_duration(budget) if isinstance(budget, str) else budget
    front = None if options.init_from is None else _load_front(options.init_from)
    request = _make_request(data, tuple(arms), seeds, options, front)
    if seconds is None and options.steps is None:
        raise InputError("study: neither a time nor a number of steps is given", hint="give --budget, such as 2h")
    out = Path(out) if out is not None else Path("runs") / f"study-{Path(data).resolve().name}"
    out.mkdir(parents=True, exist_ok=True)
    with lock_folder(out, "a study"):
        request.save(out)
        clock = StudyClock.open(out / CLOCK_FILE, math.inf if seconds is None else float(seconds))
        clock.save()
        trainings = StudyTrainings(request, out, clock, front, options.device, notify)
        trainings.strip_front()
        stopped: Interrupted | KeyboardInterrupt | None = None
        try:
            with clock.running():
                trainings.run()
        except BudgetOver:
            notify("the time is over: the page says what is not done")
        except (Interrupted, KeyboardInterrupt) as error:
            notify("stopped: writing the page of what is done; the same command goes on")
            stopped = error
        clock.save()
        result = _make_result(trainings, seconds, options.init_from)
        _write_files(result, trainings, notify)
        if result.is_complete:
            trainings.remove_features()
        clock.save()
        if stopped is not None:
            raise Interrupted from stopped
    return result


def _load_front(name: str) -> Segmenter:
    front = load(name)
    if not isinstance(front, Segmenter):
        raise InputError(
            f"{name}: a {type(front).__name__}, which has no front end that all arms could share",
            hint="give a network on a backbone of timm (network.kind = 'timm')",
        )
    return front


def _make_request(
    data: str | Path, arms: tuple[str, ...], seeds: int, options: StudyOptions, front: Segmenter | None
) -> StudyRequest:
    """What is asked for, checked before anything is read."""
    names = tuple(arm.name for arm in find_arms(arms))
    for arm in find_arms(arms):
        require_factory(arm)
    rules = {"seeds": (seeds, 1), "folds": (options.folds, 2), "steps": (options.steps, 1)}
    for key, (value, least) in rules.items():
        if value is not None and value < least:
            raise InputError(f"study: found {key}={value}", hint=f"give {least} or more")
    return StudyRequest(
        str(Path(data).resolve()),
        names,
        seeds,
        options.folds or 1,
        options.joint,
        options.steps,
        None if front is None else front.digest(),
        options.overrides,
        options.format,
        options.group_by,
    )


def _make_result(trainings: StudyTrainings, seconds: float | None, init_from: str | None) -> StudyResult:
    request, plan, arms = trainings.request, trainings.plan, trainings.results()
    notes = []
    if init_from is not None and request.folds > 1:
        notes.append(
            f"{init_from} was given as the front end of all folds: where it has seen these images, no fold is new to "
            "it."
        )
    settled = [text for text in request.overrides if init_from is not None and text.startswith("network.")]
    if settled:
        notes.append(f"{', '.join(settled)}: without effect, since {init_from} was given as the front end.")
    missing = [arm.name for arm in arms if arm.problem]
    if missing:
        notes.append(f"{plural(len(missing), 'arm')} not or not wholly measured: {', '.join(missing)}.")
    settings = StudySettings(
        data=request.data,
        front_end=init_from or "trained first",
        is_frozen=not request.joint,
        steps=plan.steps if plan is not None else request.steps or 0,
        seeds=request.seeds,
        folds=request.folds,
        budget=seconds,
        seconds=round(trainings.clock.seconds, 1),
    )
    refused = {} if plan is None else plan.refused
    ended = {arm.name: trainings.count_failed_seeds(arm) for arm in trainings.arms}
    is_complete = plan is not None and all(
        len(arm.runs) + ended[arm.name] == request.seeds for arm in arms if arm.name not in refused
    )
    return StudyResult(settings, arms, is_complete, tuple(notes))


def _write_files(result: StudyResult, trainings: StudyTrainings, notify: Callable[[str], object]) -> None:
    """Write the page, the figures as JSON and as a table."""
    out, data = trainings.out, trainings.folds[1]
    by_name = {arm.name: arm for arm in trainings.arms}
    samples = [(number, sample) for number, fold in trainings.folds.items() for sample in fold.samples("val")]

    @lru_cache(maxsize=len(trainings.folds))
    def make_predictor(name: str, number: int) -> Predictor:
        return trainings.make_predictor(by_name[name], 1, number)

    images = show_differing_images(
        [arm.name for arm in result.measured],
        np.array([arm.image_means for arm in result.measured]),
        [sample for _, sample in samples],
        data.classes,
        lambda name, i: make_predictor(name, samples[i][0]),
    )
    histories = {arm.name: trainings.history(by_name[arm.name]) for arm in result.measured}
    page = render_study_page(result, out.name or out.resolve().name, data.classes, histories, images)
    atomic_write(out / PAGE_FILE, page)
    atomic_write(out / JSON_FILE, json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n")
    result.write_csv(out / CSV_FILE)
    notify(f"page: {out / PAGE_FILE}")
