"""The verbs of the Python API: one function per command of the command line.

    import dilated
    run = dilated.train("my-data", budget="30m")
    print(dilated.evaluate("street", "my-data"))
    print(dilated.compare("street", "runs/mine", "my-data"))
    dilated.write_report("runs/mine", "my-data")

A network is a segmenter, a predictor, a bundled name, a network file or a run's folder. Data is a folder in any layout
that `dilated check` knows, or what `open_dataset` returns.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from dilated.data.dataset import Dataset, open_dataset
from dilated.data.splitting import open_divided, select_fold
from dilated.data.unlabelled import name_in_recipe
from dilated.errors import InputError, Interrupted
from dilated.evaluation import compare as comparison
from dilated.evaluation import evaluate as evaluation
from dilated.evaluation.compare import Comparison
from dilated.evaluation.evaluate import MetricsConfig
from dilated.evaluation.result import EvaluationResult
from dilated.files import printable
from dilated.lock import lock_folder
from dilated.models.base import BaseSegmenter
from dilated.prediction.predictor import Predictor
from dilated.progress import ProgressCallback
from dilated.report import write_report
from dilated.run_folder import BEST_FILE, CHECKPOINT_FILE, RECIPE_FILE, find_seed_runs, free_run_folder
from dilated.training import train as training
from dilated.training.autoplan.plan import TrainingPlan, make_plan
from dilated.training.budget import parse_duration, with_budget
from dilated.training.callbacks import Callback
from dilated.training.checkpoint import create_run_folder, load_checkpoint
from dilated.training.config import Recipe, load_recipe
from dilated.training.distributed.world import World, join_process_group
from dilated.training.progress import LineProgress, TrainingProgress
from dilated.training.run_options import RunOptions
from dilated.weights.bundled import load

Network = str | Path | BaseSegmenter | Predictor


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """What `train` and `plan` can be told besides data, time and recipe."""

    overrides: Sequence[str] = ()
    """Changes to the recipe, such as `stage.0.epochs=5`; they take precedence over a plan's choices."""
    format: str | None = None
    """The data's layout, where it is not recognized."""
    group_by: str | None = None
    """What tells which images belong together, as films and patients do; see `open_dataset`."""
    lists: Path | None = None
    """A folder with train.txt and val.txt that take the place of the data's splits; see `dilated.split`."""
    fold: str | None = None
    """Such as `2/5`: divide train and val by group into five folds, of which the second is val."""
    report: bool = True
    """Write `report.html` at the end, and keep time for it in a budget."""
    trial: bool = False
    """Plan by a trial of two ways to treat the backbone, inside the budget."""


class Run:
    """The folder of a training, with the best network that it has found so far.

    Args:
        path: the folder.
        data: the data that it was trained on, where it has moved since.

    Raises:
        InputError: no such folder.

    Example:
        >>> Run("runs/mine").predictor()("photo.jpg").save("labels.png")  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, data: str | Path | Dataset | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such folder", hint="give the folder of a training")
        self._data = data

    def __repr__(self) -> str:
        if not (self.path / BEST_FILE).is_file():
            return f"Run({str(self.path)!r}): no network yet"
        name = printable(str(self.segmenter.card.get("data", "unknown data"))[:200])
        return (
            f"Run({str(self.path)!r}): val mean IoU {self.mean_iou:.4f} on {name}, "
            f"{len(self.segmenter.classes)} classes, output stride {self.segmenter.output_stride}"
        )

    @cached_property
    def segmenter(self) -> BaseSegmenter:
        """The network with the best mean IoU on the validation split."""
        return load(str(self.path))

    @property
    def mean_iou(self) -> float:
        """The best mean IoU on the validation split; NaN where the network does not say."""
        measured = self.segmenter.card.get("val")
        mean_iou = measured.get("mean_iou") if isinstance(measured, dict) else None
        return float(mean_iou) if isinstance(mean_iou, int | float) else float("nan")

    @property
    def recipe(self) -> Recipe:
        """The recipe, with every value written out."""
        return load_recipe(str(self.path / RECIPE_FILE))

    def predictor(self, device: str | None = None) -> Predictor:
        """Make a predictor of the best network, on `cpu`, `cuda` or `mps`; CUDA where there is one if not given."""
        return Predictor(self.segmenter, device=device)

    def evaluate(
        self,
        data: str | Path | Dataset | None = None,
        split: str = "val",
        metrics: MetricsConfig | None = None,
        device: str | None = None,
    ) -> EvaluationResult:
        """Measure the best network, by default on the data that it was trained on; see `dilated.evaluate`."""
        return evaluate(self.segmenter, self._open_data(data), split, metrics, device)

    def report(
        self, data: str | Path | Dataset | None = None, out: str | Path | None = None, split: str = "val"
    ) -> Path:
        """Write one page about the run, by default `report.html` in its folder; see `dilated.write_report`."""
        return write_report(self.path, self._open_data(data), out, split)

    def _open_data(self, data: str | Path | Dataset | None) -> Dataset:
        given = data if data is not None else self._data
        if given is not None:
            return open_data(given)
        recorded = load_checkpoint(self.path / CHECKPOINT_FILE).get("data")
        if recorded is None or not Path(recorded["root"]).is_dir():
            raise InputError(f"{self.path}: the data that it was trained on is not there", hint="give the data folder")
        names = ("root", "format", "group_by", "lists", "fold")
        return open_divided(**{name: recorded[name] for name in names if name in recorded})


def train(
    data: str | Path | Dataset,
    out: str | Path | None = None,
    *,
    budget: str | float | None = None,
    recipe: str | Path | Recipe | None = None,
    init_from: str | Path | BaseSegmenter | None = None,
    resume: bool = False,
    unlabelled: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    options: TrainOptions = TrainOptions(),
) -> Run:
    """Train a network and keep the best by mean IoU on the split `val`.

    Without a recipe, one is planned from the data, the machine and the budget. Started by `torchrun`, all processes
    call this and share the work.

    Args:
        data: a data folder or an opened one, with the splits `train` and `val`.
        out: the run's folder, new or empty; by default `runs/NAME`, with a number where that is taken.
        budget: the time that it may take in all, such as `"30m"` or a number of seconds; no limit if not given.
        recipe: the name of a recipe of the package, a .toml file, or a recipe.
        init_from: a network whose weights are taken where they fit: a segmenter, a bundled name, a file or a run.
        resume: continue the run in `out` exactly where it was.
        unlabelled: a folder of images without labels to learn from too; with a budget, where a trial says it helps.
        callbacks: listeners of yours, besides those of `options`; see `dilated.Callback`.
        options: overrides of the recipe, device, report, and the listener that shows the progress: by default a line
            for each stage and validation; `dilated.cli.training_progress.RichTrainingProgress()` draws bars, in
            notebooks too.

    Returns:
        The run.

    Raises:
        InputError: wrong data, recipe, network or folder, or a budget that is too short for a single step.
        Interrupted: asked to stop, by Ctrl-C or SIGTERM; `resume=True` continues.

    Example:
        >>> run = train("my-data", budget="30m")  # doctest: +SKIP
        >>> print(run.evaluate())  # doctest: +SKIP
    """
    started = time.monotonic()
    seconds = _to_seconds(budget)
    options = replace(options, callbacks=(*options.callbacks, *callbacks))
    if unlabelled is not None:
        options = replace(options, overrides=(*options.overrides, name_in_recipe(unlabelled)))
    with join_process_group(options.device) as world:
        progress = (options.progress or LineProgress()) if world.is_rank_zero else TrainingProgress()
        with progress, ExitStack() as stack:
            if resume and out is None:
                raise InputError("train: there is no run to resume", hint="give its folder as out")
            if resume and recipe is None:
                recipe = Path(out or "") / RECIPE_FILE
                if not recipe.is_file():
                    raise InputError(f"{recipe}: no such file, so there is no run to resume", hint="start a new run")
            initial = load(str(init_from)) if isinstance(init_from, str | Path) else init_from
            dataset = _open_for_training(data, options)
            progress.on_dataset(dataset)
            folder = world.broadcast(Path(out) if out is not None else free_run_folder(dataset.root))
            if world.is_rank_zero:
                stack.enter_context(lock_folder(folder, "training"))
            remaining = max(1.0, seconds - (time.monotonic() - started)) if seconds else 0.0
            if recipe is None:
                resolved = _plan_run(dataset, folder, remaining, options, world, progress)
            else:
                resolved = _resolve_recipe(recipe, options, initial)
                if seconds:
                    resolved = with_budget(resolved, remaining, len(dataset.samples("train")))
            try:
                mean_iou = training.train(
                    dataset, resolved, folder, resume, initial, replace(options, progress=progress), world
                )
            except Interrupted:
                progress.on_interrupt(folder, dataset)
                raise
            progress.on_training_end(mean_iou, folder)
            if options.report and world.is_rank_zero:
                _write_run_report(folder, dataset, options, progress)
    return Run(folder, dataset)


def plan(
    data: str | Path | Dataset,
    *,
    budget: str | float | None = None,
    options: TrainOptions = TrainOptions(),
) -> TrainingPlan:
    """Plan a training and train nothing.

    Args:
        data: a data folder or an opened one, with the splits `train` and `val`.
        budget: the time that the training may take in all, such as `"30m"` or a number of seconds.
        options: overrides of the recipe, device, and whether time is kept for a report.

    Returns:
        The plan; `print` shows each choice with its reason, `plan.recipe` is what `train` takes.

    Raises:
        InputError: wrong data or overrides, or a budget that is too short for a single step.
    """
    dataset, seconds, world = _open_for_training(data, options), _to_seconds(budget), World(device_name=options.device)
    return make_plan(dataset, seconds, options.overrides, options.report, world, options.trial)


def evaluate(
    network: Network,
    data: str | Path | Dataset,
    split: str = "val",
    metrics: MetricsConfig | None = None,
    device: str | None = None,
    on_progress: ProgressCallback | None = None,
) -> EvaluationResult:
    """Measure a network with one confusion matrix over all labelled pixels, at the images' own resolution.

    Args:
        network: a segmenter, a predictor, a bundled name, a network file or a run's folder.
        data: a data folder or an opened one, with the network's class names in any order.
        split: the part of the data to measure.
        metrics: what to measure besides the confusion matrix; boundary IoU if not given.
        device: `cpu` or `cuda`; CUDA where there is one if not given. A predictor keeps its own.
        on_progress: called after each image with how many are done and how many there are.

    Returns:
        The result; `print` shows the metrics with their intervals, `to_dict` converts them to JSON values.

    Raises:
        InputError: no such network or data, classes that differ, or an unreadable image or label.
    """
    dataset = open_data(data)
    config = metrics or MetricsConfig(boundary=True)
    samples = dataset.samples(split)
    result = evaluation.evaluate(make_predictor(network, device), samples, dataset.classes, config, on_progress)
    return result.with_groups(dataset.groups(split))


def compare(
    candidate: Network | Sequence[Network],
    baseline: Network | Sequence[Network],
    data: str | Path | Dataset,
    split: str = "val",
    metrics: MetricsConfig | None = None,
    device: str | None = None,
    on_progress: ProgressCallback | None = None,
) -> Comparison:
    """Measure two networks on the same images, and tell whether their difference is more than chance.

    One is called better than the other only where an interval over groups leaves out 0 and each side has three
    trainings or more, with seeds that differ.

    Args:
        candidate, baseline: two networks of the same classes, each as for `evaluate`; or several trainings of each, as
            a list, or as the folder that `dilated train --seeds 3` made.
        data, split, metrics, device, on_progress: as for `evaluate`.

    Returns:
        The comparison; `print` shows both means, the difference with its interval, and what that says.

    Raises:
        InputError: no such network or data, classes that differ, or an unreadable image or label.
    """
    dataset = open_data(data)
    compared = comparison.compare(
        [make_predictor(network, device) for network in _list_trainings(candidate)],
        [make_predictor(network, device) for network in _list_trainings(baseline)],
        dataset.samples(split),
        dataset.classes,
        metrics or MetricsConfig(boundary=True),
        on_progress,
        (_name(candidate, "the candidate"), _name(baseline, "the baseline")),
    )
    return compared.with_groups(dataset.groups(split))


def _plan_run(
    data: Dataset, folder: Path, seconds: float, options: TrainOptions, world: World, progress: TrainingProgress
) -> Recipe:
    """Plan a training in one process, for all, and save the plan in the run's folder."""
    training_plan = None
    if world.is_rank_zero:
        create_run_folder(folder)  # what is in the way is said before anything is measured
        training_plan = make_plan(data, seconds, options.overrides, options.report, world, options.trial)
        training_plan.save(folder)
        progress.on_plan(training_plan)
    training_plan = world.broadcast(training_plan)
    assert training_plan is not None
    return training_plan.recipe


def _resolve_recipe(recipe: str | Path | Recipe, options: TrainOptions, initial: BaseSegmenter | None) -> Recipe:
    if options.trial:
        raise InputError("trial: it is a part of planning, and there is a recipe", hint="leave one of the two out")
    if not isinstance(recipe, Recipe):
        return load_recipe(str(recipe), list(options.overrides), initial.config if initial is not None else None)
    if options.overrides:
        raise InputError("overrides: they change a recipe's file", hint="change the recipe with dataclasses.replace")
    return recipe


def _write_run_report(folder: Path, data: Dataset, options: TrainOptions, progress: TrainingProgress) -> None:
    """Write the run's report; an error there does not undo the training."""
    try:
        page = write_report(folder, data, device=options.device, format=options.format)
    except (InputError, OSError, MemoryError) as error:
        progress.notify(f"the report could not be written: {error}")
        progress.notify(f"`{shlex.join(['dilated', 'report', str(folder), str(data.root)])}` tries again")
    else:
        progress.on_report(page)


def _to_seconds(budget: str | float | None) -> float:
    """Return a budget in seconds, 0 for none."""
    if budget is None or isinstance(budget, str):
        return parse_duration(budget) if budget else 0.0
    if not 0 < budget < math.inf:
        raise InputError(f"budget: {budget} is not a duration", hint="give seconds above 0, or a text such as 30m")
    return float(budget)


def open_data(data: str | Path | Dataset) -> Dataset:
    """Open a data folder, unless it is open already."""
    return data if isinstance(data, Dataset) else open_dataset(data)


def _open_for_training(data: str | Path | Dataset, options: TrainOptions) -> Dataset:
    if isinstance(data, Dataset):
        return data if options.fold is None else select_fold(data, options.fold)
    return open_divided(data, options.format, options.group_by, options.lists, options.fold)


def make_predictor(network: Network, device: str | None) -> Predictor:
    """Make a predictor of whatever stands for a network; a predictor stays as it is."""
    if isinstance(network, Predictor):
        return network
    return Predictor(network if isinstance(network, BaseSegmenter) else load(str(network)), device=device)


def _list_trainings(network: Network | Sequence[Network]) -> Sequence[Network]:
    """Return the trainings of one side: those of a list, those of each seed in a folder, or the network alone."""
    if isinstance(network, str | Path):
        return find_seed_runs(Path(network)) or [network]
    return network if isinstance(network, Sequence) else [network]


def _name(network: Network | Sequence[Network], fallback: str) -> str:
    return str(network) if isinstance(network, str | Path) else fallback
