"""Trackers of experiments as callbacks: TensorBoard, Weights & Biases, trackio and MLflow.

    dilated train my-data --out runs/mine --log tensorboard
    dilated.train("my-data", "runs/mine", options=TrainOptions(log=("tensorboard", "mlflow")))

Each gets the recipe, `loss`, `lr`, `seconds_per_step`, `val/mean_iou`, `val/pixel_accuracy` and `val/iou/CLASS` by
step, and overlays of a few images of `val` at each validation. TensorBoard's files are in OUT/tensorboard; the others
write where their own settings say (WANDB_MODE=offline, MLFLOW_TRACKING_URI, TRACKIO_DIR).
"""

from __future__ import annotations

import json
import re
import secrets
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from dilated.errors import InputError, suggest
from dilated.files import atomic_write
from dilated.training.callbacks import Callback, StartEvent, StepEvent, TrainingStatus, ValidationEvent
from dilated.training.config import recipe_to_table

TrackerName = Literal["tensorboard", "wandb", "trackio", "mlflow"]
_MOST_OVERLAYS = 4
_LONGEST_SIDE = 640
"""Pixels of an overlay: a run of 50 validations keeps 200 of them."""


class Tracker(Callback):
    """A callback that hands scalars and images to a package of another project.

    Args:
        module: the package, imported.
    """

    package: ClassVar[str]
    """What is imported."""
    extra: ClassVar[str]
    """The extra of this package that installs it."""

    def __init__(self, module: Any) -> None:
        self.module = module

    @abstractmethod
    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers of one step by their names."""

    @abstractmethod
    def log_image(self, name: str, image: Image.Image, step: int) -> None:
        """Write an image (RGB) of one step."""

    def on_step(self, event: StepEvent) -> None:
        self.log_scalars({"loss": event.loss, "lr": event.lr, "seconds_per_step": event.seconds}, event.step)

    def on_validation(self, event: ValidationEvent) -> None:
        confusion = event.result.confusion
        values = {"val/mean_iou": confusion.mean_iou, "val/pixel_accuracy": confusion.pixel_accuracy}
        values |= {f"val/iou/{name}": iou for name, iou in confusion.iou.items() if iou is not None}
        self.log_scalars(values, event.step)
        for index in _spread(len(event.samples), _MOST_OVERLAYS):
            sample = event.samples[index]
            overlay = event.predictor(sample.read_image()).overlay()
            overlay.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
            self.log_image(f"val/{sample.name}", overlay, event.step)


class _TensorBoard(Tracker):
    """Event files in the run's folder; steps that a resumed training makes again take the place of the old ones."""

    package, extra = "torch.utils.tensorboard", "log"

    def on_start(self, event: StartEvent) -> None:
        purge_step = event.step + 1 if event.step else None
        self.writer = self.module.SummaryWriter(str(event.run / "tensorboard"), purge_step=purge_step)
        if not event.step:
            recipe = json.dumps(recipe_to_table(event.recipe), indent=2)
            self.writer.add_text("recipe", f"```json\n{recipe}\n```", 0)

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()  # a killed training keeps what it has written

    def log_image(self, name: str, image: Image.Image, step: int) -> None:
        self.writer.add_image(name, np.asarray(image), step, dataformats="HWC")

    def on_end(self, status: TrainingStatus) -> None:
        self.writer.close()


class _WandB(Tracker):
    """A run of Weights & Biases; its files are in the run's folder, and a resumed training goes on with its id."""

    package, extra = "wandb", "wandb"

    def on_start(self, event: StartEvent) -> None:
        self.run = self.module.init(
            project="dilated",
            name=event.run.name,
            dir=str(event.run),
            id=_tracker_id(event, "wandb", lambda: secrets.token_hex(4)),
            resume="allow",
            config=recipe_to_table(event.recipe),
        )

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def log_image(self, name: str, image: Image.Image, step: int) -> None:
        self.run.log({name: self.module.Image(image)}, step=step)

    def on_end(self, status: TrainingStatus) -> None:
        self.run.finish(exit_code=0 if status == "finished" else 1)


class _Trackio(Tracker):
    """A run of trackio, on this machine unless its settings say otherwise."""

    package, extra = "trackio", "trackio"

    def on_start(self, event: StartEvent) -> None:
        self.run = self.module.init(
            project="dilated",
            name=_tracker_id(event, "trackio", lambda: f"{event.run.name}-{secrets.token_hex(3)}"),
            config=recipe_to_table(event.recipe),
            resume="allow",
            embed=False,
        )

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def log_image(self, name: str, image: Image.Image, step: int) -> None:
        self.run.log({name: self.module.Image(image)}, step=step)

    def on_end(self, status: TrainingStatus) -> None:
        self.run.finish()


class _MLflow(Tracker):
    """A run of MLflow in the experiment `dilated`; a resumed training goes on with it."""

    package, extra = "mlflow", "mlflow"

    def on_start(self, event: StartEvent) -> None:
        self.client = self.module.MlflowClient()
        experiment = self.module.set_experiment("dilated").experiment_id
        self.run_id = _tracker_id(
            event, "mlflow", lambda: str(self.client.create_run(experiment, run_name=event.run.name).info.run_id)
        )
        self.client.update_run(self.run_id, status="RUNNING")
        self.client.log_dict(self.run_id, recipe_to_table(event.recipe), "recipe.json")

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.client.log_metric(self.run_id, _mlflow_name(name), value, step=step)

    def log_image(self, name: str, image: Image.Image, step: int) -> None:
        self.client.log_image(self.run_id, image, f"{_mlflow_name(name)}/{step:08d}.png")

    def on_end(self, status: TrainingStatus) -> None:
        mlflow_status = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}[status]
        self.client.set_terminated(self.run_id, status=mlflow_status)


_TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WandB,
    "trackio": _Trackio,
    "mlflow": _MLflow,
}


def make_trackers(names: Sequence[TrackerName]) -> list[Tracker]:
    """Make the trackers of some names.

    Raises:
        InputError: a name that is none, or whose package is not installed.
    """
    trackers = []
    for name in dict.fromkeys(names):
        tracker = _TRACKERS.get(name)
        if tracker is None:
            raise InputError(
                f"log: {name!r} is not a tracker", hint=suggest(name, _TRACKERS, f"give {', '.join(_TRACKERS)}")
            )
        try:
            module = import_module(tracker.package)
        except ImportError as error:
            raise InputError(
                f"log: {name} is not installed ({error})", hint=f"run: pip install 'dilated[{tracker.extra}]'"
            ) from error
        trackers.append(tracker(module))
    return trackers


def _spread(count: int, most: int) -> list[int]:
    """At most so many indices, evenly spread, the same at each validation.

    Example:
        >>> _spread(100, 4), _spread(2, 4)
        ([0, 33, 66, 99], [0, 1])
    """
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most)).tolist()}) if count else []


def _tracker_id(event: StartEvent, name: str, create: Callable[[], object]) -> str:
    """The name that a service knows the run by: that of the training that is resumed, else a new one, kept."""
    path = event.run / f"{name}_id.txt"
    if event.step and path.is_file():
        return path.read_text(encoding="utf-8").strip()
    tracker_id = str(create())
    atomic_write(path, f"{tracker_id}\n".encode())
    return tracker_id


def _mlflow_name(name: str) -> str:
    """The name with what MLflow allows: letters, digits, and `_-. :/`; other characters as their number.

    Example:
        >>> _mlflow_name("val/iou/Größe (m)")
        'val/iou/Gr_xf6_xdfe _x28m_x29'
    """
    return re.sub(r"[^A-Za-z0-9_\-. :/]", lambda match: f"_x{ord(match[0]):x}", name)
