"""From a data set, a machine and a time budget to a recipe, with a reason for every choice.

    plan = make_plan(open_dataset("my-data"), budget=1800)
    print(plan)                                          # one line per choice
    train(data, plan.recipe, Path("runs/mine"))

The plan is a recipe like any other, which can be saved, read, changed and trained again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dilated.config import build_dataclass, to_toml
from dilated.data.dataset import Dataset, require_disjoint_splits
from dilated.environment import has_bf16
from dilated.errors import InputError
from dilated.files import atomic_write, plural, printable
from dilated.input_config import InputConfig
from dilated.run_folder import PLAN_FILE, REASONS_FILE
from dilated.training.autoplan.choices import (
    DEFAULT_TABLE,
    Choice,
    candidate_batch_sizes,
    choose_batch_size,
    choose_ema_decay,
    choose_from_data,
    choose_workers,
    fill_class_priors,
    plan_stages,
    stage_table,
)
from dilated.training.autoplan.measure import (
    Cost,
    DatasetSummary,
    check_network,
    free_memory,
    measure_cost,
    summarize_dataset,
)
from dilated.training.autoplan.trial import (
    MIN_SAMPLES,
    MOVING_STAGE,
    TRIAL_SHARE,
    choose_setting,
    try_settings,
)
from dilated.training.autoplan.unlabelled import try_unlabelled
from dilated.training.batch_source import batching_obstacle
from dilated.training.budget import Deadline
from dilated.training.config import Recipe, build_with_overrides, recipe_to_table
from dilated.training.distributed.world import World
from dilated.training.plateau import PATIENCE
from dilated.training.recipe_files import apply_override

_REPORT_VALIDATIONS = 1.5
"""Validations that the report takes, at the end of a budget."""


_PLANNING_SHARE = 0.2
"""Share of a budget that planning may take; what has not been measured by then is estimated."""


@dataclass(frozen=True, repr=False)
class TrainingPlan:
    """A recipe and the reason for each choice in it; as text, one line per choice."""

    recipe: Recipe
    choices: tuple[Choice, ...]

    def __str__(self) -> str:
        widths = [max(len(getattr(c, name)) for c in self.choices) for name in ("choice", "value")]
        lines = (f"{c.choice:<{widths[0]}}  {c.value:<{widths[1]}}  {c.reason}" for c in self.choices)
        return "\n".join(map(printable, lines))

    __repr__ = __str__  # what a notebook shows

    def save(self, folder: Path) -> Path:
        """Write `plan.toml`, which `load_recipe` reads, and `plan.json`: a list of {choice, value, reason}.

        Returns:
            The path of `plan.toml`.
        """
        reasons = [dataclasses.asdict(choice) for choice in self.choices]
        atomic_write(folder / REASONS_FILE, json.dumps(reasons, indent=1, ensure_ascii=False) + "\n")
        atomic_write(folder / PLAN_FILE, to_toml(recipe_to_table(self.recipe)))
        return folder / PLAN_FILE


def make_plan(
    data: Dataset,
    budget: float = 0.0,
    overrides: Sequence[str] = (),
    report: bool = True,
    world: World | None = None,
    trial: bool = False,
) -> TrainingPlan:
    """Decide on a training.

    Args:
        data: with the splits `train` and `val`.
        budget: seconds that everything may take, this planning included; 0 for no limit.
        overrides: `a.b=c`, which take precedence over any choice.
        report: keep time for a report at the end.
        world: the processes that share a batch, and their device; by default this one.
        trial: train two ways to treat the backbone for a part of the budget, and take the better one.

    Raises:
        InputError: a trial without a budget, unreadable data, an override that does not fit, or a budget that is too
            short for a single step.
    """
    started = time.monotonic()
    if trial and not budget:
        raise InputError("trial: there is no budget to try settings in", hint="give one, such as --budget 10m")
    world = world or World()
    deadline = Deadline(started + _PLANNING_SHARE * budget) if budget else Deadline()
    samples = data.samples("train"), data.samples("val")
    require_disjoint_splits(data)
    # The network before the images: it is checked in a second, and they may take minutes.
    config = data.input
    check_network(_draft(_add_input(DEFAULT_TABLE, config), overrides), data.classes)
    summary = summarize_dataset(samples[0], data.classes, deadline)
    cuda = world.device.type == "cuda"
    table, choices = choose_from_data(summary, cuda)
    table = _add_input(table, config)
    if config is not None:
        choices.insert(0, Choice("input", config.describe(), "what the training images hold; [input] in classes.toml"))
    sizes = candidate_batch_sizes(summary, cuda, world.size)
    if not budget or "batch" in map(_overridden_key, overrides):
        sizes = sizes[-1:]  # there is nothing to choose
    table["batch"] = sizes[0]
    if priors := fill_class_priors(_draft(table, overrides), summary).loss.class_priors:
        table["loss"] = table["loss"] | {"class_priors": list(priors)}

    pretrained = _apply_overrides(table, overrides, include_stages=False)["weights"] != "random"

    def measure() -> tuple[Recipe, Cost]:
        draft = _draft(table, overrides)
        return draft, measure_cost(draft, data.classes, samples, world, deadline)

    def remaining_seconds(stride: int) -> float:
        validation = cost.prediction_seconds[stride] * len(samples[1])
        return (
            max(1.0, budget - (time.monotonic() - started) - report * _REPORT_VALIDATIONS * validation)
            if budget
            else 0.0
        )

    draft, cost = measure()
    size, choice = choose_batch_size(sizes, remaining_seconds(16) / cost.step_seconds[16] * draft.batch)
    choices.append(choice)
    if size != table["batch"]:
        table["batch"] = size
        if deadline.expired:
            cost, draft = cost.scaled(size / draft.batch), _draft(table, overrides)
        else:
            draft, cost = measure()
    _require_time_for_a_step(budget, started, cost, len(samples[1]))
    is_moving = False
    if trial:
        room = TRIAL_SHARE * budget / cost.step_seconds[16] * draft.batch
        is_moving, choice = _try_backbones(table, overrides, sizes[-1], int(room), data, world)
        choices.append(choice)
        if is_moving and draft.batch != sizes[-1]:
            table["batch"] = sizes[-1]
            batch_choice = Choice("batch", str(sizes[-1]), "samples a step: the most, for the moving backbone")
            choices = [batch_choice if choice.choice == "batch" else choice for choice in choices]
            cost, draft = cost.scaled(sizes[-1] / draft.batch), _draft(table, overrides)
    if draft.unlabelled and budget:
        room = TRIAL_SHARE * budget / cost.step_seconds[16] * draft.batch / (1 + 1.5 * draft.unlabelled_share)
        helps, choice = try_unlabelled(draft, data, int(room), world)
        choices.append(choice)
        if not helps:
            overrides = [text for text in overrides if _overridden_key(text) != "unlabelled"]
            draft = _draft(table, overrides)
    reading = cost.sample_seconds * draft.batch / max(cost.step_seconds[16], 1e-3)  # as a fraction of a step
    obstacle = batching_obstacle(draft.augment, samples[0], world.device)
    table["workers"] = choose_workers(reading, os.cpu_count() or 2, cuda) if obstacle else 1
    if cuda:
        table["channels_last"] = cost.channels_last
        choices += _device_choices(cost, obstacle, world.device)
    table["cache"] = summary.decoded_bytes < 0.2 * free_memory(torch.device("cpu"))
    choices += _cost_choices(cost, reading, table, summary)
    table["stage"], stage_choices = plan_stages(
        summary, cost, remaining_seconds(16), draft.batch, len(samples[1]), pretrained
    )
    if is_moving:
        table["stage"] = [stage | (MOVING_STAGE if stage["kind"] != "context" else {}) for stage in table["stage"]]
        stage_choices = [choice for choice in stage_choices if choice.choice != "backbone"]
    last = table["stage"][-1]
    if last["kind"] == "frontend":
        table["network"]["context"] = "none"
    if budget:
        stride = last["output_stride"]
        seconds = remaining_seconds(stride)
        table["ema"], ema_choice = choose_ema_decay(seconds * last["share"] / cost.step_seconds[stride])
        table |= {
            "plateau": PATIENCE,
            "budget": round(seconds, 1),
            "reserve": round(cost.prediction_seconds[stride] * len(samples[1]), 2),
        }
        rest = "for this plan and for the report" if report else "for this plan"
        stage_choices += [ema_choice, Choice("budget", f"{seconds:.0f} s", f"of {budget:.0f} s; the rest is {rest}")]
    recipe = build_with_overrides(
        lambda texts: build_dataclass(Recipe, _apply_overrides(table, texts), "plan"), overrides, "plan"
    )
    override_choices = (Choice(*text.partition("=")[::2], "as --set asks") for text in overrides)
    return TrainingPlan(recipe, (*choices, *stage_choices, *override_choices))


def _add_input(table: dict[str, Any], config: InputConfig | None) -> dict[str, Any]:
    """A copy of a recipe's table whose network reads what the data holds."""
    network = table["network"] | ({} if config is None else {"input": dataclasses.asdict(config)})
    return table | {"network": network}


def _draft(table: dict[str, Any], overrides: Sequence[str]) -> Recipe:
    """Return the recipe of a table that has no stages yet, with one stage that trains everything."""

    def build(texts: Sequence[str]) -> Recipe:
        pretrained = _apply_overrides(table, texts, include_stages=False)["weights"] != "random"
        joint = stage_table("joint", 8, pretrained, epochs=1)
        draft: Recipe = build_dataclass(
            Recipe, _apply_overrides(table | {"stage": [joint]}, texts, include_stages=False), "plan"
        )
        return draft

    return build_with_overrides(build, overrides, "plan")


def _try_backbones(
    table: dict[str, Any], overrides: Sequence[str], largest_batch: int, room: int, data: Dataset, world: World
) -> tuple[bool, Choice]:
    """Return whether a moving backbone is better than a careful one, with what the trial says.

    Args:
        largest_batch: that of the moving backbone; the careful one has the table's.
        room: samples that there is time for with each.
    """
    settled = [_overridden_key(text) for text in overrides]
    settled = [key for key in settled if key.partition(".")[0] in ("stage", "batch", "weights")]
    if settled:
        return False, Choice("trial", "none", f"{', '.join(settled)} as --set asks")
    if room < MIN_SAMPLES:
        return False, Choice("trial", "none", f"there is time for {room} samples of each; {MIN_SAMPLES} would tell")
    recipes = {}
    for name, batch, changes in (("careful", table["batch"], {}), ("moving", largest_batch, MOVING_STAGE)):
        steps = max(1, room // batch)
        stage = stage_table("frontend", 16, True, iterations=steps, warmup=max(1, min(50, steps // 10))) | changes
        ema, _ = choose_ema_decay(steps)
        settings = {"batch": batch, "stage": [stage], "ema": ema, "cache": True}
        recipes[name] = build_dataclass(Recipe, _apply_overrides(table | settings, overrides), "plan")
    results = try_settings(recipes, data, room, world)
    reason = f"mean IoU on images held out of train: {'; '.join(map(str, results))}"
    best = choose_setting(results)
    value = "moving backbone" if best == "moving" else "careful backbone"
    return best == "moving", Choice("trial", value, f"{reason}; {sum(r.seconds for r in results):.0f} s")


def _require_time_for_a_step(budget: float, started: float, cost: Cost, images: int) -> None:
    planning, validation = time.monotonic() - started, cost.prediction_seconds[16] * images
    needed = (planning + cost.step_seconds[16] + validation) * 1.5
    if budget and budget < planning + cost.step_seconds[16] + validation:
        raise InputError(
            f"--budget: {budget:.0f} s is too short: planning took {planning:.0f} s, one step takes "
            f"{cost.step_seconds[16]:.1f} s and the validation of {plural(images, 'image')} {validation:.0f} s",
            hint=f"give {math.ceil(needed)}s or more",
        )


def _device_choices(cost: Cost, obstacle: str, device: torch.device) -> list[Choice]:
    """What is chosen on a GPU alone."""
    seconds = f"{cost.step_seconds[16] * 1000:.0f} ms per step"
    if cost.other_step_seconds:
        seconds += f", {cost.other_step_seconds * 1000:.0f} ms otherwise"
    precision = "bf16" if has_bf16(device) else "fp32"
    return [
        Choice(
            "augmentation",
            "in processes" if obstacle else "on the GPU",
            obstacle or "all images fit there decoded: they are read once, and whole batches are augmented",
        ),
        Choice("layout", "channels last" if cost.channels_last else "channels first", seconds),
        Choice("precision", precision, "autocast, as the device computes in it" if precision == "bf16" else "no bf16"),
    ]


def _cost_choices(cost: Cost, reading: float, table: dict[str, Any], summary: DatasetSummary) -> list[Choice]:
    step = f"{cost.step_seconds[16]:.2f} s per step at stride 16, {cost.step_seconds[8]:.2f} s at stride 8"
    origin = "measured here" if cost.complete else "measured in part, since the time for planning was over"
    choices = [
        Choice(
            "step",
            f"{cost.step_seconds[16]:.2f} s",
            f"{origin}: {step}; {cost.prediction_seconds[16]:.2f} s to label an image",
        ),
        Choice("workers", str(table["workers"]), f"reading a batch takes {reading:.0%} of a step at stride 16"),
        Choice(
            "cache", str(table["cache"]).lower(), f"decoded, all images take {summary.decoded_bytes / 2**20:.0f} MiB"
        ),
    ]
    if cost.peak_bytes:
        text = f"a step takes {cost.peak_bytes / 2**20:.0f} MiB of {cost.free_bytes / 2**20:.0f} MiB that were free"
        choices.append(Choice("memory", f"{cost.micro_batches} part{'s' * (cost.micro_batches > 1)}", text))
    return choices


def _apply_overrides(table: dict[str, Any], overrides: Sequence[str], include_stages: bool = True) -> dict[str, Any]:
    """Return a copy of the table with the overrides; those of stages only once there are stages."""
    copy = {key: dict(value) if isinstance(value, dict) else value for key, value in table.items()}
    for text in overrides:
        if include_stages or _overridden_key(text).partition(".")[0] != "stage":
            apply_override(copy, text, Recipe)
    return copy


def _overridden_key(override: str) -> str:
    return override.partition("=")[0].strip()
