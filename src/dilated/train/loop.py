"""The training loop: stages one after another, each a plain loop over batches.

    train(open_dataset("my-data"), load_recipe("quick"), Path("runs/mine"))

Writes into the run's folder: `recipe.toml` (resolved), `log.jsonl`, `checkpoint.pt`, `stage-N.safetensors`, the network
at the end of each stage, and `best.safetensors`, the one with the best mean IoU on the validation split so far.
Interrupted in any way, `resume=True` goes on with the same numbers as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dilated.data.dataset import Data
from dilated.data.formats.pairs import Pair, same_size
from dilated.data.labels import IGNORE
from dilated.data.loader import batches_of
from dilated.data.mirror_crop import MirrorCrop
from dilated.data.order import batches
from dilated.data.samples import Samples
from dilated.errors import InputError
from dilated.evaluate.evaluate import evaluate
from dilated.nn.base import BaseSegmenter
from dilated.nn.build import AnyNetwork, build_segmenter
from dilated.nn.context import ContextModule
from dilated.nn.paper import VGGSegmenter
from dilated.nn.segmenter import Network
from dilated.predict.predictor import Predictor
from dilated.tables import build, to_toml
from dilated.train import checkpoint, features, losses, stages
from dilated.train.divergence import Watch
from dilated.train.ema import Average
from dilated.train.features import FeatureSamples
from dilated.train.log import NAME, Log
from dilated.train.progress import Progress
from dilated.train.recipe import Recipe, Stage, as_table
from dilated.weights.network_file import save
from dilated.weights.sources import load_front_end

BEST = "best.safetensors"


class Interrupted(Exception):  # noqa: N818 -- asked for, so no error
    """Ctrl-C or SIGTERM; a checkpoint of the last whole step has been written."""


def train(
    data: Data,
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    start: BaseSegmenter | None = None,
    tensorboard: bool = False,
    progress: Progress | None = None,
) -> float:
    """Train a network and keep the best.

    Args:
        data: with the splits `train` and `val`.
        out: the run's folder; must be new or empty unless `resume`.
        resume: go on from the folder's checkpoint; the recipe must be the one that it was made with.
        start: a network whose weights are taken where they fit the recipe's, instead of the recipe's own source.

    Returns:
        The best mean IoU on `val`.

    Raises:
        InputError: wrong data, recipe or folder.
        Interrupted: asked to stop; `resume=True` goes on.
    """
    return Training(data, recipe, out, resume, start, tensorboard, progress or Progress()).run()


class Training:
    """The state of one training."""

    def __init__(
        self,
        data: Data,
        recipe: Recipe,
        out: Path,
        resume: bool,
        start: BaseSegmenter | None,
        tensorboard: bool,
        progress: Progress,
    ) -> None:
        self.data, self.recipe, self.out, self.progress = data, recipe, out, progress
        splits = dict.fromkeys([*(stage.split for stage in recipe.stage), "val"])
        self.pairs: dict[str, list[Pair]] = {split: data.pairs(split) for split in splits}
        for pair in chain.from_iterable(self.pairs.values()):
            same_size(pair)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        state = checkpoint.load(out / checkpoint.NAME) if resume else None
        if state is not None:
            self._same_training(state)
        else:
            _new_folder(out)
        (out / "recipe.toml").write_text(to_toml(as_table(recipe)), encoding="utf-8")
        torch.manual_seed(recipe.seed)
        self.stage, self.step, self.best = 0, 0, -1.0
        if state is None:
            self.segmenter = self._first(start)
            self.average: Average | None = None
            self.optimizer_state: dict[str, Any] | None = None
        else:
            self._restore(state)
        self.log = Log(out, state["log"] if state else 0, tensorboard)
        if state is None:
            self._checkpoint(None)  # from here on there is something to resume

    def run(self) -> float:
        try:
            with _signals() as stop:
                while self.stage < len(self.recipe.stage):
                    self._stage(self.recipe.stage[self.stage], stop)
                    save(self._network(), self.out / f"stage-{self.stage}.safetensors")
                    self.stage, self.step, self.optimizer_state = self.stage + 1, 0, None
                    self._checkpoint(None)
        finally:
            self.log.close()
        return self.best

    def steps(self, stage: Stage) -> int:
        """Steps in a stage."""
        return stages.steps(stage, self.recipe, len(self.pairs[stage.split]))

    def _stage(self, stage: Stage, stop: threading.Event) -> None:
        recipe, steps = self.recipe, self.steps(stage)
        if self.step == 0:
            self.segmenter = stages.enter(self._network(), stage, recipe).to(self.device)
            self.average = Average(self.segmenter, recipe.ema) if recipe.ema else None
        stages.set_modes(self.segmenter, stage)
        optimizer = stages.optimizer(self.segmenter, stage)
        if self.optimizer_state:
            optimizer.load_state_dict(self.optimizer_state)
        due = stages.validations(stage, steps)
        watch = Watch(len(self.data.classes), self.stage, stage)
        self.progress.stage(self.stage, stage, self.step, steps)
        for image, label in self._batches(stage, steps, stop):
            began = time.perf_counter()
            share = stages.set_rate(optimizer, stage, self.step, steps)
            loss = self._step(image, label, stage, optimizer)
            self.step += 1
            if self.average:
                self.average.update(self.segmenter)
            if self.step % 10 == 0 or self.step == steps:
                value = float(loss)
                seconds = round(time.perf_counter() - began, 3)
                self.log.write(self._total(), stage=self.stage, loss=value, rate=stage.lr * share, seconds=seconds)
                self.progress.loss(value)
                watch.see(self.step, value)
            self.progress.step()
            if self.step in due or stop.is_set() or self.step % recipe.checkpoint_every == 0:
                watch.weigh(self.step, self.segmenter)
            if self.step in due:
                self._validate(stage)
                stages.set_modes(self.segmenter, stage)
            if stop.is_set() or self.step % recipe.checkpoint_every == 0:
                self._checkpoint(optimizer)
            if stop.is_set():
                raise Interrupted

    def _step(self, image: Tensor, label: Tensor, stage: Stage, optimizer: Optimizer) -> Tensor:
        """One step on a batch, computed in `stage.accumulate` parts that count by their labelled pixels."""
        optimizer.zero_grad(set_to_none=True)
        labelled = (label != IGNORE).sum().clamp(min=1)
        total = torch.zeros((), device=self.device)
        for images, labels in zip(image.chunk(stage.accumulate), label.chunk(stage.accumulate), strict=True):
            share = (labels != IGNORE).sum() / labelled if stage.accumulate > 1 else 1.0
            with stages.autocast(self.recipe, self.device):
                scores = self._scores(images.to(self.device), stage)
            loss = losses.combined(scores.float(), labels.to(self.device), self.recipe.jaccard) * share
            loss.backward()
            total += loss.detach()
        if stage.clip:
            torch.nn.utils.clip_grad_norm_(self.segmenter.parameters(), stage.clip)
        optimizer.step()
        return total

    def _scores(self, images: Tensor, stage: Stage) -> Tensor:
        if stage.cached:
            assert isinstance(self.segmenter, VGGSegmenter)
            return self.segmenter.with_context(images)
        return self.segmenter.learn(images)

    def _validate(self, stage: Stage) -> None:
        network = self._network()
        precision = stages.precision(self.recipe, self.device)
        predictor = Predictor(network, device=str(self.device), precision=precision)
        with self.progress.pictures(len(self.pairs["val"])) as tick:
            result = evaluate(predictor, self.pairs["val"], self.data.classes, tick)
        score = result.confusion.mean_iou
        network.card = {
            "data": self.data.root.name,
            "recipe": as_table(self.recipe),
            "stage": self.stage,
            "step": self.step,
            "val": result.to_dict(),
        }
        improved = score > self.best
        if improved:
            self.best = score
            save(network, self.out / BEST)
        self.log.write(self._total(), stage=self.stage, val_mean_iou=score, val_iou=result.confusion.iou)
        self.progress.score(score, improved)

    def _network(self) -> BaseSegmenter:
        """What is validated and kept: the average where there is one."""
        return self.average.network if self.average else self.segmenter

    def _batches(self, stage: Stage, steps: int, stop: threading.Event) -> Iterator[tuple[Tensor, Tensor]]:
        recipe = self.recipe
        seed = recipe.seed + 1000 * self.stage
        samples = self._samples(stage, seed, stop)
        keys = list(batches(len(samples), stage.batch or recipe.batch, seed, self.step, steps))
        return batches_of(samples, keys, recipe.workers, pin_memory=self.device.type == "cuda")

    def _samples(self, stage: Stage, seed: int, stop: threading.Event) -> Samples | FeatureSamples:
        pairs, classes, augment = self.pairs[stage.split], self.data.classes, self.recipe.augment
        if stage.cached:
            assert isinstance(self.segmenter, VGGSegmenter)
            folder = self.out / "features"
            with self.progress.pictures(len(pairs), "front end") as tick:
                features.compute(self.segmenter, pairs, folder, self.device, partial(_unless, stop, tick))
            stages.set_modes(self.segmenter, stage)
            return FeatureSamples(folder, pairs, classes, self.segmenter.output_stride, augment.flip, seed)
        if any(stage.crop):
            augment = dataclasses.replace(augment, crop=stage.crop)
        if isinstance(self.segmenter, VGGSegmenter) and isinstance(augment, MirrorCrop):
            stages.same_grid(self.segmenter, augment)
        return Samples(pairs, classes, augment, seed, self.recipe.cache)

    def _first(self, start: BaseSegmenter | None) -> BaseSegmenter:
        classes, network, stage = self.data.classes, self.recipe.network, self.recipe.stage[0]
        goes_on = stage.kind != "frontend" and start is not None and start.context is not None
        first = dataclasses.replace(network, context=network.context if goes_on else "none")
        if isinstance(first, Network):
            first = dataclasses.replace(first, output_stride=stage.output_stride)
        try:
            if network.context != "none":  # it is built when its stage comes, but looked at now
                with torch.device("meta"):
                    ContextModule(1, network.context, network.dilations, network.padding, network.init)
            segmenter = build_segmenter(classes.names, classes.colors, first)
        except ValueError as error:
            raise InputError(str(error)) from error
        if start is None:
            self.progress.say(load_front_end(segmenter, self.recipe.weights))
            return segmenter
        if start.classes != classes.names:
            raise InputError(f"start: its classes are {start.classes}; expected the data's, {classes.names}")
        fresh = segmenter.take(start)
        if len(fresh) == len(segmenter.state_dict()):
            raise InputError(
                f"start: none of its weights fits the recipe's network: found {type(start.network).__name__}, expected "
                f"{type(network).__name__}"
            )
        self.progress.say(f"weights of the network to start from; fresh: {', '.join(fresh) or 'none'}")
        return segmenter

    def _total(self) -> int:
        """Steps since the start, over all stages."""
        return sum(self.steps(stage) for stage in self.recipe.stage[: self.stage]) + self.step

    def _checkpoint(self, optimizer: Optimizer | None) -> None:
        checkpoint.save(
            self.out / checkpoint.NAME,
            {
                "recipe": json.dumps(as_table(self.recipe)),
                "pictures": self._pictures(),
                "stage": self.stage,
                "step": self.step,
                "best": self.best,
                "network": json.dumps(dataclasses.asdict(self.segmenter.network)),
                "weights": self.segmenter.state_dict(),
                "average": self.average.network.state_dict() if self.average else None,
                "average_steps": self.average.steps if self.average else 0,
                "optimizer": optimizer.state_dict() if optimizer else None,
                "random": checkpoint.random_state(),
                "log": self.log.size,
            },
        )

    def _pictures(self) -> dict[str, int]:
        return {split: len(pairs) for split, pairs in self.pairs.items()}

    def _same_training(self, state: dict[str, Any]) -> None:
        if state["recipe"] != json.dumps(as_table(self.recipe)):
            mine = self.out / "recipe.toml"
            raise InputError(f"{self.out}: its checkpoint was made with another recipe; resume with {mine}")
        if state["pictures"] != self._pictures():
            raise InputError(
                f"{self.data.root}: found {self._pictures()} pictures; the run began with {state['pictures']}. Resume "
                "on the data that it began with, or start a new run with --start on this one."
            )

    def _restore(self, state: dict[str, Any]) -> None:
        classes = self.data.classes
        network = build(AnyNetwork, json.loads(state["network"]), f"{self.out}: network")
        self.segmenter = build_segmenter(classes.names, classes.colors, network).to(self.device)
        self.segmenter.load_state_dict(state["weights"])
        self.average = None
        if state["average"] is not None:
            self.average = Average(self.segmenter, self.recipe.ema)
            self.average.network.load_state_dict(state["average"])
            self.average.steps = state["average_steps"]
        self.stage, self.step, self.best = state["stage"], state["step"], state["best"]
        self.optimizer_state = state["optimizer"]
        checkpoint.set_random_state(state["random"])


def _unless(stop: threading.Event, tick: Callable[[], object]) -> None:
    tick()
    if stop.is_set():
        raise Interrupted


def _new_folder(out: Path) -> None:
    # A run that was killed before its first checkpoint leaves these, and nothing worth keeping.
    begun = {"recipe.toml", NAME, f"{checkpoint.NAME}.part"}
    if out.exists() and (not out.is_dir() or any(p.name not in begun for p in out.iterdir())):
        raise InputError(f"{out}: is not empty; expected a new folder for the run. Use --resume to go on with it.")
    out.mkdir(parents=True, exist_ok=True)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, instead of ending the process in the middle of a step."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
