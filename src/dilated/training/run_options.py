"""What a training is told besides data and recipe; nothing here changes what is learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dilated.training.callbacks import Callback
from dilated.training.progress import TrainingProgress
from dilated.training.trackers import TrackerName


@dataclass(frozen=True)
class RunOptions:
    """Where a training computes, who is told of it, and what a resume accepts; nothing else changes what is learned."""

    device: str | None = None
    """`cpu`, `cuda`, `cuda:1` or `mps`; by default CUDA if it is available, else the CPU."""
    log: tuple[TrackerName, ...] = ()
    """Trackers that get scalars and overlays: `tensorboard`, `wandb`, `trackio`, `mlflow`. `log.jsonl` is always
    written."""
    callbacks: tuple[Callback, ...] = ()
    """Listeners of yours, called in the process of rank 0; see `dilated.Callback`."""
    accept_changed_data: bool = False
    """Resume on data that is not what the training began with; otherwise that is an error, which names the files."""
    features: Path | None = None
    """The folder of a frozen backbone's features (`stage.views`), which several trainings may share, one after the
    other; the run's own if not given."""
    progress: TrainingProgress | None = None
    """The listener that is told what happens, in the process of rank 0; nobody by default."""
