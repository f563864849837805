"""The names of the files in a run's folder, once."""

from __future__ import annotations

from pathlib import Path

BEST_FILE = "best.safetensors"
"""The network with the best validation so far."""
CHECKPOINT_FILE = "checkpoint.pt"
"""All that a resume needs."""
DATA_FILE = "data.json"
"""What the files of the data held when the training began."""
LOG_FILE = "log.jsonl"
"""What happened, one JSON object per line."""
RECIPE_FILE = "recipe.toml"
"""What the training does."""
PLAN_FILE = "plan.toml"
"""The recipe that was planned, to be given back with `--recipe`."""
REASONS_FILE = "plan.json"
"""The reason for each choice of the plan."""
REPORT_FILE = "report.html"
FEATURES_FOLDER = "features"
"""Cached features of the frozen front end."""


def stage_file(stage_index: int) -> str:
    """The network at the end of a stage.

    Example:
        >>> stage_file(0)
        'stage-0.safetensors'
    """
    return f"stage-{stage_index}.safetensors"


def seed_folder(run: Path, seed: int) -> Path:
    """The run of one of several seeds, in the folder of all.

    Example:
        >>> seed_folder(Path("runs/mine"), 2).as_posix()
        'runs/mine/seed-2'
    """
    return run / f"seed-{seed}"


def find_seed_runs(run: Path) -> list[Path]:
    """The runs of all seeds in a folder that have a network, by seed; none where it is no folder of seeds."""
    seeds = [path for path in run.glob("seed-*") if path.name[5:].isdecimal() and (path / BEST_FILE).is_file()]
    return sorted(seeds, key=lambda path: int(path.name[5:]))


def free_run_folder(data: Path) -> Path:
    """Return `runs/NAME` for the data folder's name, with a number from 2 on where that is taken."""
    name = data.resolve().name or "run"
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder
