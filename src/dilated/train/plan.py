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
from dilated.train.probe import Cost, free_memory, probe
from dilated.train.recipe import Recipe, as_table, override
from dilated.train.survey import Survey, survey

SMALL = 24.0
"""Pixels of a side below which an object is lost between the samples of a coarse stride."""
WARM = 50
"""Steps of warm-up that are enough for a long stage; all of a short one would be too many."""
STEPS = 800
"""Steps below which a smaller batch, and so more of them, teaches more than a steadier gradient."""
FINE = 4000
"""Coarse samples for which there must be time before a fine stage is worth its share; half for small objects."""
CONTEXT = 12_000
"""Coarse samples for which there must be time before a context module is worth its share: some 400 fine steps of 8."""
AVERAGED = 0.03
"""Of the last stage's steps, the share that the moving average of the weights spans: with a rate that falls to 0, more
only lags behind."""
REPORT = 1.5
"""Validations that the report takes, at the end of a budget."""


@dataclass(frozen=True)
class Choice:
    """One decision, with the fact that it follows from."""

    key: str
    value: str
    reason: str


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
    table, choices = _first(seen, cuda)
    sizes = _batches(seen, cuda, processes, given=_given("batch", overrides))
    table["batch"] = sizes[0] if budget else sizes[-1]

    def measure() -> tuple[Recipe, Cost]:
        stage = [_stage("joint", 8, epochs=1)]
        draft = build(Recipe, _with(table | {"stage": stage}, overrides, stages=False), "plan")
        return draft, probe(draft, data.classes, pairs, (16, 8))

    def left(stride: int) -> float:
        validation = cost.picture[stride] * len(pairs[1])
        return max(1.0, budget - (time.monotonic() - began) - report * REPORT * validation) if budget else 0.0

    draft, cost = measure()
    if budget and len(sizes) > 1:
        samples = left(16) / cost.step[16] * draft.batch
        table["batch"] = max((size for size in sizes if samples / size >= STEPS), default=sizes[0])
        if table["batch"] != draft.batch:
            draft, cost = measure()
    choices.append(_batch(draft.batch, sizes, bool(budget)))
    table |= {"workers": _workers(cost, draft), "cache": _cache(seen)}
    choices += _measured(cost, draft, table, seen)
    stages, more = _stages(seen, cost, left(16), draft.batch, len(pairs[1]))
    table["stage"] = stages
    if all(stage["kind"] == "frontend" for stage in stages):
        table["network"]["context"] = "none"
    if budget:
        stride = stages[-1]["output_stride"]
        last = left(stride) * stages[-1]["share"] / cost.step[stride]
        table |= {"budget": round(left(stride), 1), "reserve": round(cost.picture[stride] * len(pairs[1]), 2)}
        table["ema"] = round(min(0.998, max(0.5, 1 - 1 / (AVERAGED * max(last, 1.0)))), 4)
        rest = "for this plan and for the report" if report else "for this plan"
        more += [
            Choice("ema", f"{table['ema']:g}", f"averages the last {AVERAGED:.0%} of some {last:.0f} steps"),
            Choice("budget", f"{table['budget']:.0f} s", f"of {budget:.0f} s; the rest is {rest}"),
        ]
    recipe = build(Recipe, _with(table, overrides), "plan")
    return Plan(recipe, (*choices, *more, *_overridden(overrides)))


def _first(seen: Survey, cuda: bool) -> tuple[dict[str, Any], list[Choice]]:
    """What follows from the data and the kind of machine alone."""
    crop, why = _crop(seen, 512 * 512 if cuda else 288 * 384)
    rarest = min((share for share in seen.shares if share > 0), default=1.0)
    turned = seen.upright < 0.1
    side = _side(seen)
    table: dict[str, Any] = {
        "weights": "bundled",
        "network": {
            "backbone": "tf_efficientnet_lite0",
            "features": 128,
            "context": "basic",
            "detail": 64,
            "detail_reads": "features",
            "detail_layers": 2,
            "dropout": 0.1,
        },
        "augment": {"crop": list(crop), "scale": [0.6, 1.8], "upside_down": turned},
        "loss": {"dice": 1.0},
    }
    lack = [] if min(seen.shares, default=0) > 0 else ["some classes are not in the sample"]
    choices = [
        Choice("network", "tf_efficientnet_lite0", "its ImageNet weights come with the package, nothing is downloaded"),
        Choice("detail", "64", f"scores at stride 4: the finest class is mostly in regions of some {side:.0f} pixels"),
        Choice("crop", f"{crop[0]}x{crop[1]}", why),
        Choice(
            "flips",
            "both ways" if turned else "left-right",
            f"the upper half's classes differ from the lower's by {seen.upright:.0%}",
        ),
        Choice(
            "loss",
            "cross-entropy + Dice",
            "; ".join([f"the rarest class has {rarest:.2%} of the pixels, and Dice weighs classes alike", *lack]),
        ),
    ]
    return table, choices


def _batches(seen: Survey, cuda: bool, processes: int, given: bool) -> list[int]:
    """The batches to choose from, the smallest first; with one that is given, there is nothing to choose."""
    most = max(processes, min(16 if cuda else 8, max(2, seen.pictures)))
    return [most] if given else sorted({max(processes, min(size, most)) for size in ((8, 16) if cuda else (2, 4, 8))})


def _batch(batch: int, sizes: list[int], timed: bool) -> Choice:
    why = ""
    if timed and len(sizes) > 1:
        why = (
            f": the most that leave {STEPS} steps" if batch > sizes[0] else ": few, for as many steps as there is time"
        )
    return Choice("batch", str(batch), f"samples a step{why}")


def _crop(seen: Survey, most: int) -> tuple[tuple[int, int], str]:
    """Height and width, multiples of 32."""
    height, width = seen.size
    what = f"the median picture, {width}x{height}"
    if height * width <= 0.75 * most:
        return (_grid(height), _grid(width)), f"the whole of {what}"
    shrink = 0.8
    if height * width * shrink**2 > most * 1.01:
        shrink = (most / (height * width)) ** 0.5
        what += f"; {most} pixels are what a step affords here"
    return (_grid(shrink * height), _grid(shrink * width)), f"{shrink:.0%} of {what}"


def _grid(side: float) -> int:
    return max(64, round(side / 32) * 32)


def _side(seen: Survey) -> float:
    """A typical side of the regions of the finest class that is there."""
    return min((side for side in seen.sides if side), default=0.0)


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


def _stages(
    seen: Survey, cost: Cost, seconds: float, batch: int, pictures: int
) -> tuple[list[dict[str, Any]], list[Choice]]:
    """Stages by the number of samples that there is time for; without a budget, by passes over the pictures.

    Args:
        pictures: of validation.
    """
    parts = {"accumulate": cost.parts} if cost.parts > 1 else {}
    side = _side(seen)
    small = side < SMALL
    if not seconds:
        epochs = min(200.0, max(4.0, round(1600 * batch / seen.pictures)))
        why = f"about 1600 steps at stride 16, {epochs:.0f} passes over {seen.pictures} pictures, then finer"
        shares = {"frontend 16": epochs, "frontend 8": epochs / 5, "context 8": epochs / 4, "joint 8": epochs / 10}
        length = "epochs"
    else:
        steps = max(0.0, seconds - cost.picture[16] * pictures) / cost.step[16]
        why = f"time for some {steps:.0f} coarse steps"
        length = "share"
        if steps * batch >= CONTEXT:
            shares = {"frontend 16": 0.55, "frontend 8": 0.15, "context 8": 0.15, "joint 8": 0.15}
            why += ": coarse, fine, the context module alone, then all"
        elif steps * batch >= FINE / (2 if small else 1):
            shares = {"frontend 16": 0.6, "frontend 8": 0.4} if small else {"frontend 16": 0.7, "frontend 8": 0.3}
            why += ", too few for a context module to learn: coarse, then fine"
        else:
            shares = {"frontend 16": 1.0}
            why += ", too few for finer ones of more than twice the cost"
    if small and len(shares) > 1:
        why += f"; regions of some {side:.0f} pixels want the fine stride"
    stages = []
    for name, value in shares.items():
        kind, stride = name.split()[0], int(name.split()[1])
        steps = value * seconds / sum(shares.values()) / cost.step[stride] if seconds else WARM / 0.1
        warmup = max(1, min(WARM, round(0.1 * steps)))
        stages.append(_stage(kind, stride, **{length: value, "warmup": warmup, **parts}))
    warm = ", ".join(str(stage["warmup"]) for stage in stages)
    return stages, [
        Choice("stages", f"{len(stages)}", why),
        Choice("trunk", "0.1 of the rate", "what ImageNet taught it is worth keeping, its normalisation too"),
        Choice("warm-up", f"{warm} steps", "a tenth of each stage's steps, at most 50"),
    ]


def _stage(kind: str, stride: int, **more: Any) -> dict[str, Any]:
    """A stage with the rates that have held up on street scenes and on microscopy.

    A trunk that learns four times as fast, or whose normalisation goes by small batches, forgets what it knew before
    the fresh layers have found it: rare classes are then not learnt in hundreds of steps.
    """
    rate = {"lr": 3e-3 if stride == 16 else 1e-3, "norm": "frozen", "freeze": 2}
    trunk = {} if kind == "context" else {"trunk_lr": 0.1 if stride == 16 else 0.2}
    return {"kind": kind, "output_stride": stride, **rate, **trunk, **more}


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
