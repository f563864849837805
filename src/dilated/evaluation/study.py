"""What a study measured: its arms on the same images, the differences that answer its questions, and what is not shown.

    result = dilated.study("my-data", budget="2h")
    print(result)                                        # a line per arm, then the verdict
    result.answers[0].difference                         # Interval(value, low, high), paired over groups
    json.dumps(result.to_dict())

All differences are paired: the same images in the same groups; the variance between trainings of an arm is added.
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dilated.evaluation.compare import MIN_RUNS, describe_difference
from dilated.evaluation.intervals import Interval, MetricIntervals, compute_differences
from dilated.evaluation.metrics import nan_to_none
from dilated.evaluation.result import EvaluationResult
from dilated.files import atomic_path, plural, printable


@dataclass(frozen=True)
class NetworkCost:
    """What the network of an arm costs, measured on its first training; None where it could not be."""

    parameters: int
    macs: int | None = None
    """Multiply-accumulates of one image of `macs_size`."""
    macs_size: tuple[int, int] = (0, 0)
    """(H, W) in pixels."""
    step_seconds: float | None = None
    """Of a training step, as it was trained."""
    image_seconds: float | None = None
    """To read, label and measure an image of the validation split."""
    bytes_per_pixel: float | None = None
    """Of memory, for each pixel of an image that is labelled."""
    theoretical_field: int | None = None
    """Side in pixels of the square on which a logit can depend; None for the whole image."""
    effective_field: int | None = None
    """Side of the square with 95% of the gradient of the logit in the middle of an image."""
    notes: tuple[str, ...] = ()
    """Why something could not be measured."""


@dataclass(frozen=True, eq=False)
class ArmResult:
    """An arm with one result for each training that ended."""

    name: str
    description: str
    runs: tuple[EvaluationResult, ...] = ()
    problem: str = ""
    """Why it was not trained, or not with all seeds; empty where it was."""
    cost: NetworkCost | None = None

    @property
    def mean_iou(self) -> float:
        """The mean over the trainings; NaN without one."""
        return float(np.mean([run.value("mean_iou") for run in self.runs])) if self.runs else float("nan")

    def class_iou(self, index: int) -> float:
        """The IoU of a class, the mean over the trainings; NaN where it does not occur."""
        return float(np.mean([run.value("iou", index) for run in self.runs]))

    @property
    def image_means(self) -> list[float]:
        """The mean IoU of each image, as a mean over the trainings; NaN for an image with nothing to measure."""
        rows = [[row.mean_iou for row in run.image_results] for run in self.runs]
        return [
            float(np.mean([np.nan if value is None else value for value in column]))
            for column in zip(*rows, strict=True)
        ]


@dataclass(frozen=True)
class Answer:
    """A question that two arms answer."""

    question: str
    candidate: str
    baseline: str
    difference: Interval
    verdict: str
    is_shown: bool
    """Whether the interval leaves out 0 and each side has enough trainings."""


@dataclass(frozen=True)
class StudySettings:
    """What was the same for all arms."""

    data: str
    front_end: str
    is_frozen: bool
    steps: int
    seeds: int
    folds: int
    budget: float | None
    """Seconds, or None for no limit."""
    seconds: float = 0.0
    """Spent in all."""

    def describe(self) -> str:
        """Say what was the same for all arms."""
        part = "what comes after its frozen backbone" if self.is_frozen else "the whole network but its first levels"
        over = f", in each of {self.folds} folds by group" if self.folds > 1 else ""
        length = f"the same {self.steps:,} steps" if self.steps else "equally many steps, which are not planned yet,"
        return (
            f"All arms start from one front end ({self.front_end}){over}, and train {part} for {length} on the same "
            f"samples, with {plural(self.seeds, 'seed')} each."
        )


@dataclass(frozen=True, eq=False)
class StudyResult:
    """All arms of a study; `print` shows the table and the verdict."""

    settings: StudySettings
    arms: tuple[ArmResult, ...]
    is_complete: bool = True
    """Whether all trainings ended, but for those of arms that cannot run."""
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> list[ArmResult]:
        return [arm for arm in self.arms if arm.runs]

    @property
    def baseline(self) -> ArmResult | None:
        """The arm that the others are compared with: `none`, or else the first that was measured."""
        return next((arm for arm in self.measured if arm.name == "none"), next(iter(self.measured), None))

    def difference(self, candidate: ArmResult, baseline: ArmResult) -> MetricIntervals:
        """The candidate's metrics less the baseline's, paired."""
        sides = [[run.image_counts for run in arm.runs] for arm in (candidate, baseline)]
        return compute_differences(sides[0], sides[1], len(candidate.runs[0].classes), candidate.runs[0].groups)

    @cached_property
    def differences(self) -> dict[str, Interval]:
        """Mean IoU of each other arm less that of the baseline, by name."""
        base = self.baseline
        return {
            arm.name: self.difference(arm, base).metrics["mean_iou"][0]
            for arm in self.measured
            if base is not None and arm is not base
        }

    @cached_property
    def answers(self) -> list[Answer]:
        """The paper's claims, as far as the arms tell, and each other arm against the baseline."""
        arms = {arm.name: arm for arm in self.measured}
        base = self.baseline
        pairs = [(q, c, b) for q, c, b in _questions(arms) if c in arms and b in arms]
        asked = [{c, b} for _, c, b in pairs]
        if base is not None:
            others = [name for name in arms if name != base.name and {name, base.name} not in asked]
            pairs += [(f"Is {name} better than {base.name}?", name, base.name) for name in others]
        return [self._answer(question, arms[c], arms[b]) for question, c, b in pairs]

    def _answer(self, question: str, candidate: ArmResult, baseline: ArmResult) -> Answer:
        intervals = self.difference(candidate, baseline)
        difference = intervals.metrics["mean_iou"][0]
        counts = len(candidate.runs), len(baseline.runs)
        verdict = describe_difference(difference, intervals.units, (candidate.name, baseline.name), counts)
        is_shown = difference.is_known and difference.excludes_zero and min(counts) >= MIN_RUNS
        return Answer(question, candidate.name, baseline.name, difference, verdict, is_shown)

    @property
    def not_shown(self) -> list[str]:
        """What this study does not show, a sentence each."""
        lines = []
        for answer in self.answers:
            if answer.is_shown:
                continue
            interval = f"{answer.difference:+.3f}"
            if not answer.difference.is_known:
                reason = "there is no interval from so few groups"
            elif not answer.difference.excludes_zero:
                reason = f"the interval over {self._over} contains 0 ({interval})"
            else:
                reason = f"fewer than {MIN_RUNS} seeds, and another seed is another network ({interval})"
            lines.append(f"{answer.question[:-1]}: not shown, {reason}.")
        if self.measured:
            units = self.measured[0].runs[0].units
            if units.kind == "block":
                lines.append(f"Other films or sites than these: not shown. {units.describe()}")
            elif units.kind == "none":
                lines.append(f"Any difference: not shown. {units.describe()}")
        if len(self.answers) > 1:
            lines.append(
                f"These are {len(self.answers)} comparisons, each with an interval of 95%: where nothing differs, one "
                "in twenty leaves out 0 all the same."
            )
        length = f"another length than {self.settings.steps:,} steps" if self.settings.steps else "any length"
        lines.append(f"Trainings of {length}, other front ends and other data: not shown.")
        return lines

    @property
    def _over(self) -> str:
        kind = self.measured[0].runs[0].units.kind
        return {"block": "blocks of images", "group": "groups", "image": "groups (one image each)"}.get(kind, "groups")

    @property
    def problems(self) -> list[str]:
        """Arms that could not run or did not end, with the reason."""
        return [f"{arm.name}: {arm.problem}" for arm in self.arms if arm.problem]

    def __str__(self) -> str:
        width = max(len(arm.name) for arm in self.arms)
        lines = [self.settings.describe(), *self.notes]
        for arm in self.measured:
            values = ", ".join(f"{run.value('mean_iou'):.4f}" for run in arm.runs)
            gap = f"  {self.differences[arm.name]:+.4f}" if arm.name in self.differences else ""
            lines.append(f"{arm.name:<{width}}  mean IoU {arm.mean_iou:.4f} ({values}){gap}")
        lines += [f"{answer.question} {answer.verdict}" for answer in self.answers] + self.not_shown
        return "\n".join(map(printable, [*lines, *(f"not measured: {problem}" for problem in self.problems)]))

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return {
            "settings": vars(self.settings),
            "complete": self.is_complete,
            "notes": list(self.notes),
            "baseline": self.baseline.name if self.baseline else None,
            "arms": [self._arm_table(arm) for arm in self.arms],
            "answers": [
                {**vars(answer), "difference": {k: nan_to_none(v) for k, v in vars(answer.difference).items()}}
                for answer in self.answers
            ],
            "not_shown": self.not_shown,
        }

    def _arm_table(self, arm: ArmResult) -> dict[str, Any]:
        difference = self.differences.get(arm.name)
        return {
            "name": arm.name,
            "description": arm.description,
            "problem": arm.problem or None,
            "mean_iou": nan_to_none(arm.mean_iou),
            "runs": [run.to_dict() for run in arm.runs],
            "difference": None if difference is None else {k: nan_to_none(v) for k, v in vars(difference).items()},
            "cost": None if arm.cost is None else {**vars(arm.cost), "notes": list(arm.cost.notes)},
        }

    def write_csv(self, path: Path) -> None:
        """Write a line per arm and training: its mean IoU, accuracy, the IoU of each class and the arm's cost."""
        costs = [name for name in NetworkCost.__dataclass_fields__ if name not in ("macs_size", "notes")]
        classes = self.measured[0].runs[0].classes if self.measured else ()
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["arm", "seed", "mean_iou", "pixel_accuracy", *classes, *costs, "problem"])
            for arm in self.arms:
                cost = [None] * len(costs) if arm.cost is None else [getattr(arm.cost, name) for name in costs]
                for seed, run in enumerate(arm.runs, 1):
                    values = [run.value("mean_iou"), run.value("pixel_accuracy"), *run.metrics["iou"].tolist()]
                    writer.writerow([arm.name, seed, *map(nan_to_none, values), *cost, arm.problem])
                if not arm.runs:
                    writer.writerow([arm.name, None, None, None, *[None] * len(classes), *cost, arm.problem])


def _questions(arms: Collection[str]) -> list[tuple[str, str, str]]:
    """The questions of the paper, each with the arms that answer it: candidate and baseline."""
    context = ("basic", "basic-logits", "large")
    questions = [(f"Does the context module add to the front end ({name})?", name, "none") for name in context]
    for name in context:
        questions.append((f"Is it dilation, not depth, that adds ({name})?", name, f"{name}-undilated"))
        questions.append((f"Does the start from the identity matter ({name})?", name, f"{name}-random"))
    questions.append(("Is the large module better than the basic one, both on logits?", "large", "basic-logits"))
    for name in arms:
        for suffix, kind in (("-crf", "a dense CRF"), ("-crfrnn", "a CRF-RNN")):
            if name.endswith(suffix):
                questions.append((f"Does {kind} add to {name.removesuffix(suffix)}?", name, name.removesuffix(suffix)))
    fixed = {*context, "none", *(f"{name}-{change}" for name in context for change in ("undilated", "random"))}
    rivals = [name for name in arms if name not in fixed and not name.endswith(("-crf", "-crfrnn"))]
    questions += [(f"Is the basic context module better than {name}?", "basic", name) for name in rivals]
    return questions
