"""From a data set, a machine and a time budget to a recipe, with a reason for every choice.

    plan = make_plan(open_dataset("my-data"), budget=1800)
    print(plan.text())                                   # one line a choice
    train(data, plan.recipe, Path("runs/mine"))

Nothing here is known to `train` alone: the plan is a recipe, which can be saved, read, changed and trained again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dilated.data.dataset import Data
from dilated.tables import build, to_toml
from dilated.train.plan_data import Choice, from_data
from dilated.train.plan_time import average, batch, sizes_of, stage, stages
from dilated.train.probe import Cost, free_memory, probe
from dilated.train.recipe import Recipe, as_table, override
from dilated.train.survey import Survey, survey

REPORT = 1.5
"""Validations that the report takes, at the end of a budget."""


@dataclass(frozen=True)
class Plan:
    """A recipe and why it is what it is."""

    recipe: Recipe
    choices: tuple[Choice, ...]

    def text(self) -> str:
        """A line a choice: what, and why."""
        widths = [max(len(getattr(c, name)) for c in self.choices) for name in ("key", "value")]
        return "\n".join(f"{c.key:<{widths[0]}}  {c.value:<{widths[1]}}  {c.reason}" for c in self.choices)

    def save(self, path: Path) -> None:
        """Write the recipe, with the reasons as comments; `load_recipe` reads it."""
        reasons = "".join(f"# {line}\n" for line in self.text().splitlines())
        path.write_text(f"{reasons}\n{to_toml(as_table(self.recipe))}", encoding="utf-8")


def make_plan(
    data: Data, budget: float = 0.0, overrides: Sequence[str] = (), report: bool = True, processes: int = 1
) -> Plan:
    """Decide on a training.

    Args:
        data: with the splits `train` and `val`.
        budget: seconds that all may take, this planning included; 0 for as long as it takes.
        overrides: `a.b=c`, which go before any choice.
        report: keep time free for a report at the end.
        processes: that share a batch.

    Raises:
        InputError: unreadable data, or an override that does not fit.
    """
    began = time.monotonic()
    pairs = data.pairs("train"), data.pairs("val")
    seen = survey(pairs[0], data.classes)
    cuda = torch.cuda.is_available()
    table, choices = from_data(seen, cuda)
    sizes = sizes_of(seen, cuda, processes)
    if not budget or _given("batch", overrides):
        sizes = sizes[-1:]  # there is nothing to choose
    table["batch"] = sizes[0]

    pretrained = _with(table, overrides, stages=False)["weights"] != "random"

    def measure() -> tuple[Recipe, Cost]:
        joint = stage("joint", 8, pretrained, epochs=1)
        draft = build(Recipe, _with(table | {"stage": [joint]}, overrides, stages=False), "plan")
        return draft, probe(draft, data.classes, pairs, (16, 8))

    def left(stride: int) -> float:
        validation = cost.picture[stride] * len(pairs[1])
        return max(1.0, budget - (time.monotonic() - began) - report * REPORT * validation) if budget else 0.0

    draft, cost = measure()
    size, choice = batch(sizes, left(16) / cost.step[16] * draft.batch)
    choices.append(choice)
    if size != table["batch"]:
        table["batch"] = size
        draft, cost = measure()
    table |= {"workers": _workers(cost, draft), "cache": _cache(seen)}
    choices += _measured(cost, draft, table, seen)
    table["stage"], more = stages(seen, cost, left(16), draft.batch, len(pairs[1]), pretrained)
    last = table["stage"][-1]
    if last["kind"] == "frontend":
        table["network"]["context"] = "none"
    if budget:
        stride = last["output_stride"]
        seconds = left(stride)
        table["ema"], averaged = average(seconds * last["share"] / cost.step[stride])
        table |= {"budget": round(seconds, 1), "reserve": round(cost.picture[stride] * len(pairs[1]), 2)}
        rest = "for this plan and for the report" if report else "for this plan"
        more += [averaged, Choice("budget", f"{seconds:.0f} s", f"of {budget:.0f} s; the rest is {rest}")]
    recipe = build(Recipe, _with(table, overrides), "plan")
    return Plan(recipe, (*choices, *more, *_overridden(overrides)))


def _workers(cost: Cost, draft: Recipe) -> int:
    needed = 1 + int(cost.sample * draft.batch / max(cost.step[16], 1e-3))
    return max(1, min(needed, (os.cpu_count() or 2) - 1))


def _cache(seen: Survey) -> bool:
    return seen.bytes < 0.2 * free_memory(torch.device("cpu"))


def _measured(cost: Cost, draft: Recipe, table: dict[str, Any], seen: Survey) -> list[Choice]:
    """What was measured, and what follows from it."""
    step = f"{cost.step[16]:.2f} s a step at stride 16, {cost.step[8]:.2f} s at stride 8"
    reading = cost.sample * draft.batch / max(cost.step[16], 1e-3)
    choices = [
        Choice("step", f"{cost.step[16]:.2f} s", f"measured here: {step}; {cost.picture[16]:.2f} s to label a picture"),
        Choice("workers", str(table["workers"]), f"reading a batch takes {reading:.0%} of a step at stride 16"),
        Choice("cache", str(table["cache"]).lower(), f"decoded, all pictures take {seen.bytes / 2**20:.0f} MiB"),
    ]
    if cost.memory:
        text = f"a step takes {cost.memory / 2**20:.0f} MiB of {cost.free / 2**20:.0f} MiB that were free"
        choices.append(Choice("memory", f"{cost.parts} part{'s' * (cost.parts > 1)}", text))
    return choices


def _given(key: str, overrides: Sequence[str]) -> bool:
    return any(one.partition("=")[0].strip() == key for one in overrides)


def _with(table: dict[str, Any], overrides: Sequence[str], stages: bool = True) -> dict[str, Any]:
    """A copy of the table with the overrides; those of stages only once there are stages."""
    copy = {key: dict(value) if isinstance(value, dict) else value for key, value in table.items()}
    for one in overrides:
        if stages or not one.strip().startswith("stage."):
            override(copy, one)
    return copy


def _overridden(overrides: Sequence[str]) -> list[Choice]:
    return [Choice(*one.partition("=")[::2], "as --set asks") for one in overrides]
