"""From a front end and a budget to a plan: which arms can run, what each costs, and how many steps all of them make.

    plan = make_study_plan(front, front_recipe, data, request, features, clock, keep_time)
    plan.steps, plan.refused                             # (400, {"fcn-8s": "its backbone has no stride 32"})

The plan is written once. A study that goes on reads it, so that an interruption changes no number.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import cast

from dilated.config import build_dataclass
from dilated.data.dataset import Dataset
from dilated.data.labels import Classes
from dilated.data.manifest import make_manifest
from dilated.data.sample import Sample, require_same_size
from dilated.errors import InputError, Interrupted
from dilated.evaluation.evaluate import evaluate
from dilated.evaluation.study_cost import measure_network
from dilated.files import atomic_write, read_json
from dilated.models.base import BaseSegmenter
from dilated.models.dense_crf import DenseCRF
from dilated.models.segmenter import Segmenter
from dilated.prediction.predictor import Predictor
from dilated.progress import ProgressCallback
from dilated.studies.records import describe_failure
from dilated.studies.request import PLAN_FILE, StudyRequest
from dilated.training.config import Recipe
from dilated.training.distributed.world import World
from dilated.training.feature_views import ViewSamples, cache_views
from dilated.training.study_arms import Arm, ArmLength, find_arms, make_arm_recipe
from dilated.training.study_budget import FRONT_SHARE, START_SECONDS, ArmCost, StudyClock, split_budget
from dilated.training.study_measure import build_arm_network, choose_views, measure_step_seconds

_VIEWS_SHARE = 0.1
"""Of the time that is left, for computing the features of all views."""
_MEASURE_FACTOR = 1.3
"""How much longer it takes to measure the network of an arm than that of the front end."""


@dataclass(frozen=True)
class StudyPlan:
    """What all trainings of a study do."""

    steps: int
    validations: int
    views: int
    costs: dict[str, ArmCost]
    """Of each arm that can run."""
    refused: dict[str, str]
    """Arms that cannot run, with the reason."""

    @property
    def length(self) -> ArmLength:
        return ArmLength(self.steps, self.validations, self.views)

    def save(self, out: Path) -> None:
        atomic_write(out / PLAN_FILE, json.dumps(asdict(self), indent=1) + "\n")


def read_study_plan(out: Path) -> StudyPlan | None:
    """Read the plan of a study; None where it has not been made.

    Raises:
        InputError: a damaged file.
    """
    path = out / PLAN_FILE
    if not path.is_file():
        return None
    table = read_json(path)
    try:
        costs = {name: build_dataclass(ArmCost, cost, name) for name, cost in table.pop("costs").items()}
        plan = StudyPlan(costs=costs, **table)
        if min(plan.steps, plan.validations) < 1 or plan.views < 0 or not isinstance(plan.refused, dict):
            raise ValueError("lengths or reasons that no plan has")
        return plan
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: not the plan of a study", hint="give another --out") from error


def make_study_plan(
    front: Segmenter,
    recipe: Recipe,
    data: Dataset,
    request: StudyRequest,
    features: Path,
    clock: StudyClock,
    keep_time: ProgressCallback,
) -> StudyPlan:
    """Measure what each arm costs, and split the time that is left.

    Args:
        front: the front end, from which all arms start, on the device that trains.
        recipe: that of the front end.
        data: the first fold.
        features: the folder of the frozen backbone's features, which are computed here.
        clock: of the study.
        keep_time: called after each view that is computed; may raise to stop.

    Raises:
        InputError: no arm can run, or there is too little time.
    """
    world = World(device_name=str(next(front.parameters()).device))
    train, val = data.samples("train"), data.samples("val")
    image_seconds = _time_prediction(Predictor(front, device=str(world.device)), val)
    reading_seconds = 0.0
    views = 0
    if not request.joint:
        budget = _VIEWS_SHARE * clock.left / request.folds
        views = choose_views(front, recipe, len(train), budget, image_seconds)
    draft = ArmLength(steps=100, views=views)
    costs: dict[str, ArmCost] = {}
    refused: dict[str, str] = {}
    views_seconds = 0.0
    for arm in find_arms(request.arms):
        try:
            if arm.parent:
                costs[arm.name] = _measure_refined(arm, costs, front, val, world)
                continue
            arm_recipe = make_arm_recipe(recipe, arm, draft, 1, front.backbone_levels)
            network = build_arm_network(data.classes, arm_recipe, front).to(world.device)
            if arm_recipe.stage[0].views:
                started = time.monotonic()
                cache_views(network, train, arm_recipe.augment, views, features, keep_time)
                views_seconds += time.monotonic() - started
                kept = ViewSamples(features, cast(Segmenter, network), len(train), views)
                reading_seconds = _time_batch(kept, arm_recipe.batch)
            predictor = Predictor(network, device=str(world.device))
            seconds = _time_evaluation(predictor, val, data.classes)
            costs[arm.name] = ArmCost(measure_step_seconds(network, arm_recipe, world) + reading_seconds, seconds)
        except (Interrupted, OSError):
            raise
        except Exception as error:  # a module of the user's can raise anything
            refused[arm.name] = describe_failure(error)
        clock.tick()
    if not costs:
        name, reason = next(iter(refused.items()))
        raise InputError(f"study: none of the arms can run, first {name}: {reason}", hint="give other --arms")
    steps, validations = request.steps, 1
    if not math.isinf(clock.budget):
        started = time.monotonic()
        measure_network(front, val[0], world.device)
        measuring = len(costs) * _MEASURE_FACTOR * (time.monotonic() - started)
        others = (request.folds - 1) * (FRONT_SHARE / request.folds * clock.budget + views_seconds)
        start_seconds = START_SECONDS + _time_reading(data)
        left = clock.left - measuring - others
        split = split_budget(left, list(costs.values()), request.seeds * request.folds, start_seconds)
        validations = split.validations
        steps = split.steps if steps is None else steps
    assert steps is not None  # asked for where there is no budget
    return StudyPlan(steps, validations, views, costs, refused)


def _measure_refined(
    arm: Arm, costs: dict[str, ArmCost], front: BaseSegmenter, val: list[Sample], world: World
) -> ArmCost:
    """The cost of a dense CRF behind networks that are trained anyway."""
    if arm.parent not in costs:
        raise InputError(f"{arm.parent} cannot run", hint=f"leave out {arm.name} too")
    predictor = Predictor(front, device=str(world.device), crf=DenseCRF())
    return ArmCost(0.0, costs[arm.parent].evaluation_seconds + _time_prediction(predictor, val) * len(val))


def _time_reading(data: Dataset) -> float:
    """The seconds that a training takes to hash all files and to hold the sizes of labels against those of images."""
    started = time.monotonic()
    samples = {split: data.samples(split) for split in ("train", "val")}
    make_manifest(samples, data.classes, data.root, None, lambda done, total: None)
    for sample in chain.from_iterable(samples.values()):
        require_same_size(sample)
    return time.monotonic() - started


def _time_batch(samples: ViewSamples, batch: int) -> float:
    """The seconds to read a batch of kept features, which a machine without a core to spare does between the steps."""
    started = time.perf_counter()
    for draw in range(batch):
        samples[draw % samples.num_samples, draw]
    return time.perf_counter() - started


def _time_evaluation(predictor: Predictor, samples: list[Sample], classes: Classes) -> float:
    """The seconds to read, label and count all images of a split, from three of them; the first warms up."""
    chosen = [samples[index] for index in (0, len(samples) // 2, len(samples) - 1)]
    evaluate(predictor, chosen[:1], classes)
    started = time.perf_counter()
    evaluate(predictor, chosen[1:], classes)
    return (time.perf_counter() - started) / 2 * len(samples)


def _time_prediction(predictor: Predictor, samples: list[Sample]) -> float:
    """The seconds to label an image of a split; the first warms up."""
    timings = []
    for index in (0, len(samples) // 2, len(samples) - 1):
        image = samples[index].read_image()
        started = time.perf_counter()
        predictor(image).labels  # noqa: B018 -- computed when asked for
        timings.append(time.perf_counter() - started)
    return sum(timings[1:]) / 2
