"""Trains and measures the arms of a study, one after the other, and goes on where it was.

    trainings = StudyTrainings(request, out, clock, init_from, device, notify)
    trainings.run()                                      # raises BudgetOver or Interrupted where it must stop
    arms = trainings.results()                           # of what is done by then

All arms of one seed come before those of the next, so that time that runs out costs a seed and no arm. A budget that is
over stops a training as a kill does: at its last checkpoint, from which more time goes on. A training that fails is
recorded with its reason, `failed.json`, and the others go on.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from dilated.api import TrainOptions
from dilated.config import to_toml
from dilated.cross_validation import pool_results, train_fold
from dilated.data.dataset import Dataset
from dilated.errors import Interrupted
from dilated.evaluation.evaluate import evaluate
from dilated.evaluation.result import EvaluationResult
from dilated.evaluation.study import ArmResult
from dilated.evaluation.study_cost import measure_network
from dilated.files import atomic_write, plural
from dilated.models.dense_crf import DenseCRF
from dilated.models.segmenter import Segmenter
from dilated.prediction.predictor import Predictor
from dilated.run_folder import BEST_FILE, seed_folder, stage_file
from dilated.studies.planning import StudyPlan, make_study_plan, read_study_plan
from dilated.studies.records import (
    COST_FILE,
    RESULT_FILE,
    describe_failure,
    read_cost,
    read_failure,
    read_result,
    record_study_data,
    save_cost,
    save_failure,
    save_result,
)
from dilated.studies.request import FEATURES_FOLDER, FRONT_FOLDER, RECIPE_FILE, StudyRequest
from dilated.training.autoplan.plan import make_plan
from dilated.training.config import Recipe, load_recipe, recipe_to_table
from dilated.training.distributed.world import World
from dilated.training.log import History, read_history
from dilated.training.progress import TrainingProgress
from dilated.training.study_arms import Arm, find_arms, make_arm_recipe, make_front_recipe, strip_network
from dilated.training.study_budget import FRONT_SHARE, StudyClock, page_seconds
from dilated.weights.bundled import load


class BudgetOver(Interrupted):
    """The time of a study is over, but for that of its page."""


class _Progress(TrainingProgress):
    """Keeps the clock, and stops a training when the time is over."""

    def __init__(self, clock: StudyClock, reserve: float) -> None:
        self.clock, self.reserve = clock, reserve

    def on_step_end(self, step: int, progress: float) -> None:
        self.clock.tick()
        if progress < 1 and self.clock.left < self.reserve:
            raise BudgetOver


class StudyTrainings:
    """The trainings of a study.

    Args:
        request: what was asked for.
        out: the study's folder.
        clock: the time that is spent and that there is.
        init_from: the front end, where it is not trained.
        device: where networks compute.
        notify: is told of each training.
    """

    def __init__(
        self,
        request: StudyRequest,
        out: Path,
        clock: StudyClock,
        init_from: Segmenter | None,
        device: str | None,
        notify: Callable[[str], object],
    ) -> None:
        self.request, self.out, self.clock = request, out, clock
        self.init_from, self.notify = init_from, notify
        self.device = World(device_name=device).device
        self.arms = find_arms(request.arms)
        self.folds = {number: request.open_fold(number) for number in range(1, request.folds + 1)}
        self.plan: StudyPlan | None = read_study_plan(out)
        self._fronts: dict[int, Segmenter] = {}

    def run(self) -> None:
        """Train and measure what is not done yet.

        Raises:
            InputError: data, a front end or a budget with which nothing can be done.
            BudgetOver: the time is over.
            Interrupted: asked to stop.
        """
        record_study_data(self.folds[1], self.out)
        recipe = self._front_recipe()
        for number in self.folds:
            self._fronts[number] = self._train_front(number, recipe).to(self.device)
            if self.plan is None:
                front, data = self._fronts[number], self.folds[number]
                features = self._fold_folder(number) / FEATURES_FOLDER
                self.notify("measuring what a step of each arm costs")
                self.plan = make_study_plan(front, recipe, data, self.request, features, self.clock, self._keep_time)
                self.plan.save(self.out)
                for name, reason in self.plan.refused.items():
                    self.notify(f"{name}: cannot run: {reason}")
                self.notify(f"{self.plan.steps:,} steps for each training")
        assert self.plan is not None
        for seed in range(1, self.request.seeds + 1):
            for number in self.folds:
                for arm in self.arms:
                    if arm.name not in self.plan.refused:
                        self._run_arm(arm, seed, number, recipe)

    def _keep_time(self, done: int, total: int) -> None:
        """Keep the clock, and stop what is being done when the time is over."""
        self.clock.tick()
        if self.clock.left < page_seconds(len(self.arms)):
            raise BudgetOver

    def _fold_folder(self, number: int) -> Path:
        return self.request.fold_folder(self.out, number)

    def run_folder(self, arm: Arm, seed: int, number: int) -> Path:
        """The folder of a training, in that of a fold."""
        return seed_folder(self._fold_folder(number) / arm.folder, seed)

    def network_file(self, arm: Arm, seed: int, number: int) -> Path:
        """The network of a training, at its end; for a dense CRF that of its parent."""
        trained = self.arms[[other.name for other in self.arms].index(arm.parent)] if arm.parent else arm
        return self.run_folder(trained, seed, number) / stage_file(0)

    def _front_recipe(self) -> Recipe:
        """The recipe of the front end, planned once."""
        path = self.out / RECIPE_FILE
        if not path.is_file():
            data, request = self.folds[1], self.request
            is_timed = self.init_from is None and not math.isinf(self.clock.budget)
            seconds = FRONT_SHARE / request.folds * self.clock.budget if is_timed else 0.0
            self.notify("planning the front end")
            planned = make_plan(data, seconds, request.overrides, False, World(device_name=str(self.device))).recipe
            front_recipe = make_front_recipe(planned)
            if self.init_from is not None:
                front_recipe = replace(front_recipe, network=self.init_from.config)
            atomic_write(path, to_toml(recipe_to_table(front_recipe)))
            self.clock.save()
        return load_recipe(str(path))

    def _train_front(self, number: int, recipe: Recipe) -> Segmenter:
        """The front end of a fold, trained if it was not given."""
        if self.init_from is not None:
            return self.init_from
        folder = self._fold_folder(number) / FRONT_FOLDER
        last = folder / stage_file(len(recipe.stage) - 1)
        if not last.is_file():
            self.notify(f"front end{self._name_fold(number)}: {', '.join(s.kind for s in recipe.stage)}")
            self._train(self.folds[number], folder, recipe, None, None)
        return cast(Segmenter, load(folder / BEST_FILE))

    def _train(
        self, data: Dataset, folder: Path, recipe: Recipe, front: Segmenter | None, features: Path | None
    ) -> None:
        progress = _Progress(self.clock, page_seconds(len(self.arms)))
        options = TrainOptions(report=False, progress=progress, device=str(self.device), features=features)
        train_fold(data, folder, None, recipe, front, options)

    def _name_fold(self, number: int) -> str:
        return f", fold {number}" if len(self.folds) > 1 else ""

    def _run_arm(self, arm: Arm, seed: int, number: int, recipe: Recipe) -> None:
        """Train an arm with a seed in a fold, and measure it; nothing where that is done, or has failed."""
        assert self.plan is not None
        folder, network = self.run_folder(arm, seed, number), self.network_file(arm, seed, number)
        if (folder / RESULT_FILE).is_file() or read_failure(folder):
            return
        if arm.parent and read_failure(network.parent):
            return
        cost = self.plan.costs[arm.name]
        needed = 0.0 if network.is_file() else self.plan.steps * cost.step_seconds
        if self.clock.left < page_seconds(len(self.arms)) + needed + cost.evaluation_seconds:
            raise BudgetOver
        name = f"{arm.name}, seed {seed}{self._name_fold(number)}"
        try:
            if not network.is_file():
                arm_recipe = make_arm_recipe(recipe, arm, self.plan.length, seed, self._fronts[number].backbone_levels)
                features = self._fold_folder(number) / FEATURES_FOLDER
                self._train(self.folds[number], folder, arm_recipe, self._fronts[number], features)
            folder.mkdir(parents=True, exist_ok=True)
            result, seconds = self._evaluate(arm, seed, number)
            if seed == 1 and number == 1:
                self._measure_cost(arm, network, folder, seconds)
        except (Interrupted, OSError):  # a disk that is full is no fault of the arm
            raise
        except Exception as error:  # a module of the user's can raise anything
            reason = describe_failure(error)
            save_failure(folder, reason)
            self.notify(f"{name}: failed: {reason}")
            return
        save_result(folder, result)
        self.clock.save()
        self.notify(f"{name}: mean IoU {result.value('mean_iou'):.4f}")

    def make_predictor(self, arm: Arm, seed: int, number: int) -> Predictor:
        """A predictor of the network of a training."""
        crf = DenseCRF() if arm.parent else None
        return Predictor(load(self.network_file(arm, seed, number)), device=str(self.device), crf=crf)

    def _evaluate(self, arm: Arm, seed: int, number: int) -> tuple[EvaluationResult, float]:
        """Measure a network on the validation images of a fold; returns the seconds for an image too."""
        data, predictor = self.folds[number], self.make_predictor(arm, seed, number)
        samples = data.samples("val")
        started = time.perf_counter()
        result = evaluate(predictor, samples, data.classes, on_progress=self._keep_time)
        return result, (time.perf_counter() - started) / len(samples)

    def _measure_cost(self, arm: Arm, network: Path, folder: Path, image_seconds: float) -> None:
        """Measure the network of an arm, and keep it beside its results."""
        sample = self.folds[1].samples("val")[0]
        cost = measure_network(load(network), sample, self.device)
        history = read_history(network.parent)
        step_seconds = history.seconds / history.steps if history and history.steps and not arm.parent else None
        cost = replace(cost, image_seconds=image_seconds, step_seconds=step_seconds)
        save_cost(folder, cost)

    def results(self) -> tuple[ArmResult, ...]:
        """The results of all arms by now: of the seeds that are done in all folds."""
        return tuple(map(self._arm_result, self.arms))

    def _arm_result(self, arm: Arm) -> ArmResult:
        refused = {} if self.plan is None else self.plan.refused
        if arm.name in refused:
            return ArmResult(arm.name, arm.description, problem=f"cannot run: {refused[arm.name]}")
        runs, problems = [], []
        for seed in range(1, self.request.seeds + 1):
            failures = {number: self._find_failure(arm, seed, number) for number in self.folds}
            problems += [f"failed with seed {seed}{self._name_fold(n)}: {why}" for n, why in failures.items() if why]
            parts = [read_result(self.run_folder(arm, seed, number), data) for number, data in self.folds.items()]
            if all(part is not None for part in parts):
                runs.append(pool_results([part for part in parts if part is not None]))
        missing = self.request.seeds - len(runs) - self.count_failed_seeds(arm)
        if missing:
            problems.append(f"not done with {missing} of {plural(self.request.seeds, 'seed')}")
        cost = read_cost(self.run_folder(arm, 1, 1) / COST_FILE)
        return ArmResult(arm.name, arm.description, tuple(runs), "; ".join(problems), cost)

    def _find_failure(self, arm: Arm, seed: int, number: int) -> str:
        """Why a training failed, or that of the networks that a dense CRF refines; empty where none did."""
        parent = self.network_file(arm, seed, number).parent
        return read_failure(self.run_folder(arm, seed, number)) or read_failure(parent)

    def count_failed_seeds(self, arm: Arm) -> int:
        """The number of seeds with which an arm failed in some fold."""
        seeds = range(1, self.request.seeds + 1)
        return sum(any(self._find_failure(arm, seed, number) for number in self.folds) for seed in seeds)

    def history(self, arm: Arm) -> History | None:
        """The curves of an arm's first training."""
        return read_history(self.network_file(arm, 1, 1).parent)

    def remove_features(self) -> None:
        """Delete the features of the frozen backbones, which nothing needs once all is done."""
        for number in self.folds:
            shutil.rmtree(self._fold_folder(number) / FEATURES_FOLDER, ignore_errors=True)

    def strip_front(self) -> None:
        """Take context module, head and correction off the front end that was given."""
        if self.init_from is not None:
            self.init_from = self.init_from.rebuild(strip_network(self.init_from.config))
