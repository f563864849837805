"""The training loop: stages one after another, each a plain loop over batches.

    train(open_dataset("my-data"), load_recipe("quick"), Path("runs/mine"))

Writes into the run's folder: `recipe.toml` (resolved), `log.jsonl`, `checkpoint.pt`, `stage-N.safetensors`, the network
at the end of each stage, and `best.safetensors`, the one with the best mean IoU on the validation split so far.
Interrupted in any way, `resume=True` goes on with the same numbers as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from dilated.data.dataset import Data
from dilated.data.formats.pairs import Pair, same_size
from dilated.data.loader import batches_of
from dilated.data.mirror_crop import MirrorCrop
from dilated.data.order import batches
from dilated.data.samples import Samples
from dilated.errors import InputError
from dilated.evaluate.evaluate import evaluate
from dilated.evaluate.merge import merge
from dilated.nn.base import BaseSegmenter
from dilated.nn.paper import VGGSegmenter
from dilated.tables import to_toml
from dilated.train import checkpoint, features, stages
from dilated.train.clock import Clock, Steps, Timed, seconds_of, validations
from dilated.train.divergence import Watch
from dilated.train.ema import Average
from dilated.train.features import FeatureSamples
from dilated.train.first import first
from dilated.train.interrupt import Interrupted, signals
from dilated.train.log import Log, NoLog
from dilated.train.progress import Progress
from dilated.train.recipe import Recipe, as_table
from dilated.train.shard import Whole, for_file, share_out
from dilated.train.stage import Stage
from dilated.train.state import State, as_values, from_values, new_folder, same_training
from dilated.train.step import Step
from dilated.train.world import World, world
from dilated.weights.network_file import save

BEST = "best.safetensors"


def train(
    data: Data,
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    start: BaseSegmenter | None = None,
    tensorboard: bool = False,
    progress: Progress | None = None,
    here: World | None = None,
) -> float:
    """Train a network and keep the best.

    Started by `torchrun`, all processes call this and share the work.

    Args:
        data: with the splits `train` and `val`.
        out: the run's folder; must be new or empty unless `resume`.
        resume: go on from the folder's checkpoint; the recipe must be the one that it was made with.
        start: a network whose weights are taken where they fit the recipe's, instead of the recipe's own source.
        here: the processes, where the caller has joined them already.

    Returns:
        The best mean IoU on `val`.

    Raises:
        InputError: wrong data, recipe or folder.
        Interrupted: asked to stop; `resume=True` goes on.
    """
    with nullcontext(here) if here else world() as all_processes:
        speaks = (progress or Progress()) if all_processes.first else Progress()
        return Training(data, recipe, out, resume, start, tensorboard, speaks, all_processes).run()


class Training:
    """One training, in one of its processes."""

    def __init__(
        self,
        data: Data,
        recipe: Recipe,
        out: Path,
        resume: bool,
        start: BaseSegmenter | None,
        tensorboard: bool,
        progress: Progress,
        here: World = World(),  # noqa: B008 -- frozen
    ) -> None:
        self.data, self.recipe, self.out, self.progress, self.world = data, recipe, out, progress, here
        splits = dict.fromkeys([*(stage.split for stage in recipe.stage), "val"])
        self.pairs: dict[str, list[Pair]] = {split: data.pairs(split) for split in splits}
        for pair in chain.from_iterable(self.pairs.values()):
            same_size(pair)
        self.device = here.device
        self.shard = recipe.shard and here.size > 1
        self.hold = torch.device("cpu") if self.shard else self.device  # before it is shared out, it may not fit
        self.whole: Whole | None = None
        smallest = min(stage.batch or recipe.batch for stage in recipe.stage)
        if smallest < here.size:
            raise InputError(
                f"recipe: found a batch of {smallest} for {here.size} processes; expected one each at least"
            )
        values = checkpoint.load(out / checkpoint.NAME) if resume else None
        if values is not None:
            same_training(values, recipe, self._pictures(), out, data.root)
        elif here.first:
            new_folder(out)
        if here.first:
            (out / "recipe.toml").write_text(to_toml(as_table(recipe)), encoding="utf-8")
        torch.manual_seed(recipe.seed)
        if values is None:
            segmenter, line = first(data.classes, recipe, start)
            progress.say(line)
            self.state = State(segmenter)
        else:
            self.state = from_values(values, data.classes, recipe.ema, out)
            self.state.segmenter.to(self.hold)
            if self.state.average is not None:
                self.state.average.network.to(self.hold)
        self.clock = Clock(self.state.spent)
        size = values["log"] if values else 0
        self.log: Log | NoLog = Log(out, size, tensorboard) if here.first else NoLog()
        if values is None:
            self._checkpoint()  # from here on there is something to resume

    def run(self) -> float:
        state = self.state
        try:
            with signals() as stop:
                while state.stage < len(self.recipe.stage):
                    self._stage(self.recipe.stage[state.stage], stop)
                    network = self._network()
                    if self.world.first:
                        save(network, self.out / f"stage-{state.stage}.safetensors")
                    state.stage, state.step, state.steps = state.stage + 1, 0, None
                    self._checkpoint()
        finally:
            self.log.close()
        return state.best

    def _stage(self, stage: Stage, stop: threading.Event) -> None:
        recipe, state = self.recipe, self.state
        if state.step == 0:
            state.segmenter = stages.enter(self._network(), stage, recipe).to(self.hold)
            state.average = Average(state.segmenter, recipe.ema) if recipe.ema else None
            self._give_time(stage)
        frozen = stages.frozen_norm(stage, recipe)
        stages.set_modes(state.segmenter, stage, frozen)
        if self.shard:
            self.whole = Whole(state.segmenter)
            if state.average:
                share_out(state.average.network, self.world)
        step = Step(state.segmenter, stage, recipe, self.world, say=self.progress.say)
        if state.steps:
            step.restore(state.steps)
        pace = self._pace(stage)
        marks = self._marks(stage, pace)
        batch = stage.batch or recipe.batch
        ahead = batch * self.world.rank // self.world.size  # samples of the processes before this one
        watch = Watch(len(self.data.classes), state.stage, stage)
        self.progress.stage(state.stage, stage, state.step, str(pace))
        before, _ = self._signs(pace, stop)
        for image, label in self._batches(stage, pace, stop):
            began = time.perf_counter()
            share = stages.set_rate(step.optimizer, stage, state.step, before)
            loss = step(image, label, batch, ahead)
            state.step, state.total = state.step + 1, state.total + 1
            if state.average:
                state.average.update(state.segmenter)
            after, stopped = self._signs(pace, stop)
            ended = after >= 1
            due = any(before < mark <= after for mark in marks)
            kept = stopped or state.step % recipe.checkpoint_every == 0
            if state.step % 10 == 0 or ended:
                value = float(loss)
                seconds = round(time.perf_counter() - began, 3)
                self.log.write(state.total, stage=state.stage, loss=value, rate=stage.lr * share, seconds=seconds)
                self.progress.loss(value)
                watch.see(state.step, value)
            self.progress.step(state.step, after)
            if due or kept:
                watch.weigh(state.step, state.segmenter)
            if due:
                self._validate()
                stages.set_modes(state.segmenter, stage, frozen)
            if kept:
                self._checkpoint(step)
            if stopped:
                raise Interrupted
            before = after
            if ended:
                break

    def _signs(self, pace: Steps | Timed, stop: threading.Event) -> tuple[float, bool]:
        """How far the stage is by the first process's clock, and whether any was asked to stop: the same in all."""
        signs = self.world.gather((pace.progress(self.state.step), stop.is_set()))
        return signs[0][0], any(stopped for _, stopped in signs)

    def _marks(self, stage: Stage, pace: Steps | Timed) -> list[float]:
        """How far the stage is where it is validated."""
        if isinstance(pace, Steps):
            return [step / pace.steps for step in stages.validations(stage, pace.steps)]
        last = self.state.stage == len(self.recipe.stage) - 1
        return validations(pace.seconds, self._validation(), last)

    def _give_time(self, stage: Stage) -> None:
        """Where time is what counts, what the stage gets of it."""
        state, recipe = self.state, self.recipe
        state.stage_began = self.world.agreed(self.clock.seconds)
        if stage.share:
            left = recipe.budget - state.stage_began
            state.stage_seconds = seconds_of(recipe.stage, state.stage, left, self._validation())

    def _validation(self) -> float:
        """Seconds that one takes; the last may have been at a coarser stride than the one at the end will be."""
        return max(self.state.validation, self.recipe.reserve)

    def _pace(self, stage: Stage) -> Steps | Timed:
        if stage.share:
            return Timed(self.clock, self.state.stage_seconds, self.state.stage_began)
        return Steps(stages.steps(stage, self.recipe, len(self.pairs[stage.split])))

    def _validate(self) -> None:
        state, network = self.state, self._network()
        began = time.monotonic()
        predictor = stages.predictor(network, self.recipe, self.device)
        pairs = self.pairs["val"]
        mine = self.world.mine(range(len(pairs)))
        with self.progress.pictures(len(mine)) as tick:
            part = evaluate(predictor, pairs, self.data.classes, tick, indices=mine)
        result = merge(self.world.gather(part))
        score = result.confusion.mean_iou
        network.card = {
            "data": self.data.root.name,
            "recipe": as_table(self.recipe),
            "stage": state.stage,
            "step": state.step,
            "val": result.to_dict(),
        }
        self._kept().card = network.card
        improved = score > state.best
        if improved:
            state.best = score
            if self.world.first:
                save(network, self.out / BEST)
        state.validation = time.monotonic() - began
        self.log.write(state.total, stage=state.stage, val_mean_iou=score, val_iou=result.confusion.iou)
        self.progress.score(score, improved)

    def _network(self) -> BaseSegmenter:
        """What is validated and kept, whole; all processes call this."""
        return self.whole(self._kept()) if self.whole else self._kept()

    def _kept(self) -> BaseSegmenter:
        """The average where there is one."""
        return self.state.average.network if self.state.average else self.state.segmenter

    def _batches(self, stage: Stage, pace: Steps | Timed, stop: threading.Event) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of each batch, until the stage ends."""
        recipe, state = self.recipe, self.state
        seed = recipe.seed + 1000 * state.stage
        samples, batch = self._samples(stage, seed, stop), stage.batch or recipe.batch
        last = pace.steps if isinstance(pace, Steps) else None
        keys = (self.world.part(whole) for whole in batches(len(samples), batch, seed, state.step, last))
        return batches_of(samples, keys, recipe.workers, pin_memory=self.device.type == "cuda")

    def _samples(self, stage: Stage, seed: int, stop: threading.Event) -> Samples | FeatureSamples:
        pairs, classes, augment = self.pairs[stage.split], self.data.classes, self.recipe.augment
        segmenter = self.state.segmenter
        if stage.cached:
            assert isinstance(segmenter, VGGSegmenter)
            folder = self.out / "features"
            whole = self.whole(segmenter) if self.whole else segmenter
            assert isinstance(whole, VGGSegmenter)
            if self.world.first:
                with self.progress.pictures(len(pairs), "front end") as tick:
                    features.compute(whole, pairs, folder, self.device, partial(_unless, stop, tick))
            self.world.wait()
            stages.set_modes(segmenter, stage, stages.frozen_norm(stage, self.recipe))
            return FeatureSamples(folder, pairs, classes, segmenter.output_stride, augment.flip, seed)
        if any(stage.crop):
            augment = dataclasses.replace(augment, crop=stage.crop)
        if isinstance(segmenter, VGGSegmenter) and isinstance(augment, MirrorCrop):
            stages.same_grid(segmenter, augment)
        return Samples(pairs, classes, augment, seed, self.recipe.cache)

    def _checkpoint(self, step: Step | None = None) -> None:
        state = self.state
        state.steps = step.state() if step else None
        state.spent = self.clock.seconds
        values = for_file(as_values(state))
        if self.world.first:
            more = {
                "recipe": json.dumps(as_table(self.recipe)),
                "pictures": self._pictures(),
                "log": self.log.size,
            }
            checkpoint.save(self.out / checkpoint.NAME, values | more)
        self.world.wait()

    def _pictures(self) -> dict[str, int]:
        return {split: len(pairs) for split, pairs in self.pairs.items()}


def _unless(stop: threading.Event, tick: Callable[[], object]) -> None:
    tick()
    if stop.is_set():
        raise Interrupted
