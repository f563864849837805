"""What a plan takes from the time there is: how many samples a step, which stages, how long they are.

    size, choice = batch(sizes, samples)
    tables, choices = stages(seen, cost, seconds, size, pictures)

The thresholds are from trainings of a few minutes on CamVid and nuclei, on two cores (docs/your-own-data.md).
"""

from __future__ import annotations

from typing import Any

from dilated.train.plan_data import Choice, side_of
from dilated.train.probe import Cost
from dilated.train.survey import Survey

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


def sizes_of(seen: Survey, cuda: bool, processes: int) -> list[int]:
    """The batches to choose from, the smallest first."""
    most = max(processes, min(16 if cuda else 8, max(2, seen.pictures)))
    return sorted({max(processes, min(size, most)) for size in ((8, 16) if cuda else (2, 4, 8))})


def batch(sizes: list[int], samples: float) -> tuple[int, Choice]:
    """The batch for so many samples.

    Example:
        >>> batch([2, 4, 8], samples=4000)[0], batch([2, 4, 8], samples=500)[0], batch([8], samples=0)[0]
        (4, 2, 8)
    """
    if len(sizes) == 1:
        return sizes[0], Choice("batch", str(sizes[0]), "samples a step")
    size = max((one for one in sizes if samples / one >= STEPS), default=sizes[0])
    why = f"the most that leave {STEPS} steps" if size > sizes[0] else "few, for as many steps as there is time"
    return size, Choice("batch", str(size), f"samples a step: {why}")


def average(steps: float) -> tuple[float, Choice]:
    """The decay of the moving average for a last stage of so many steps.

    Example:
        >>> average(1000)[0]
        0.9667
    """
    decay = round(min(0.998, max(0.5, 1 - 1 / (AVERAGED * max(steps, 1.0)))), 4)
    return decay, Choice("ema", f"{decay:g}", f"averages the last {AVERAGED:.0%} of some {steps:.0f} steps")


def stages(
    seen: Survey, cost: Cost, seconds: float, batch: int, pictures: int, pretrained: bool
) -> tuple[list[dict[str, Any]], list[Choice]]:
    """Stages by the number of samples that there is time for; without a budget, by passes over the pictures.

    Args:
        pictures: of validation.
        pretrained: the trunk is.
    """
    parts = {"accumulate": cost.parts} if cost.parts > 1 else {}
    side = side_of(seen)
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
    tables = []
    for name, value in shares.items():
        kind, stride = name.split()[0], int(name.split()[1])
        steps = value * seconds / sum(shares.values()) / cost.step[stride] if seconds else WARM / 0.1
        warmup = max(1, min(WARM, round(0.1 * steps)))
        tables.append(stage(kind, stride, pretrained, **{length: value, "warmup": warmup, **parts}))
    warm = ", ".join(str(table["warmup"]) for table in tables)
    return tables, [
        Choice("stages", f"{len(tables)}", why),
        Choice(
            "trunk",
            "slower" if pretrained else "as the head",
            "0.1 to 0.2 of the rate, its normalisation frozen: what it was taught before is worth keeping"
            if pretrained
            else "it begins at random",
        ),
        Choice("warm-up", f"{warm} steps", "a tenth of each stage's steps, at most 50"),
    ]


def stage(kind: str, stride: int, pretrained: bool, **more: Any) -> dict[str, Any]:
    """A stage with the rates that have held up on street scenes and on microscopy.

    A pretrained trunk that learns four times as fast, or whose normalisation goes by small batches, forgets what it
    knew before the fresh layers have found it: rare classes are then not learnt in hundreds of steps.
    """
    table = {"kind": kind, "output_stride": stride, "lr": 3e-3 if stride == 16 else 1e-3}
    if pretrained:
        table |= {"norm": "frozen", "freeze": 2}
    if kind != "context":
        table["trunk_lr"] = (0.1 if stride == 16 else 0.2) if pretrained else 1.0
    return table | more
