"""The training loop: stages one after another, each a plain loop over batches.

    train(open_dataset("my-data"), load_recipe("quick"), Path("runs/mine"))

Writes into the run's folder: `recipe.toml` (resolved), `data.json`, `log.jsonl`, `checkpoint.pt`,
`stage-N.safetensors`, the network at the end of each stage, and `best.safetensors`, the one with the best mean IoU on
the validation split so far.
Interrupted in any way, `resume=True` goes on with the same numbers as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from dilated.data.augment import ReflectCropConfig
from dilated.data.dataset import Dataset, require_disjoint_splits
from dilated.data.device_batches import DeviceBatches
from dilated.data.loader import iter_batch_keys, iter_batches, named_killed_workers
from dilated.data.sample import Sample, require_same_size
from dilated.data.torch_dataset import TrainingSamples
from dilated.errors import Interrupted
from dilated.evaluation.evaluate import evaluate, merge
from dilated.models.base import BaseSegmenter
from dilated.run_folder import BEST_FILE, CHECKPOINT_FILE, FEATURES_FOLDER, stage_file
from dilated.training import checkpoint, features, optim, stages
from dilated.training.batch_source import DeviceImageCache
from dilated.training.budget import Clock, StageLimit, TimeLimit, allocate_stage_seconds
from dilated.training.callbacks import CallbackList, StartEvent, StepEvent, ValidationEvent
from dilated.training.checkpoint import TrainingState
from dilated.training.config import Recipe, StageConfig, recipe_to_table, set_input
from dilated.training.distributed.fsdp import ShardGatherer, gather_full_tensors, shard_module
from dilated.training.distributed.world import World, join_process_group
from dilated.training.feature_views import ViewSamples, cache_views
from dilated.training.features import FeatureSamples
from dilated.training.log import Log, NullLog, describe_loss
from dilated.training.optim import WeightEMA
from dilated.training.plateau import describe_plateau, shorten_on_plateau
from dilated.training.progress import TrainingProgress
from dilated.training.run_options import RunOptions
from dilated.training.same_data import record_data, require_same_listing
from dilated.training.self_training import SelfTraining, open_unlabelled
from dilated.training.stages import build_initial_segmenter
from dilated.training.step import TrainStep, require_sources
from dilated.training.step_timer import StepTimer
from dilated.training.stopping import DivergenceMonitor, catch_stop_signals, report_or_interrupt
from dilated.training.trackers import make_trackers


def train(
    data: Dataset,
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    init_from: BaseSegmenter | None = None,
    options: RunOptions = RunOptions(),
    world: World | None = None,
) -> float:
    """Train a network and keep the best.

    Started by `torchrun`, all processes call this and share the work.

    Args:
        data: with the splits `train` and `val`.
        out: the run's folder; must be new or empty unless `resume`.
        resume: continue from the folder's checkpoint; the recipe must be the one that it was made with.
        init_from: a network whose weights are taken where they fit the recipe's, instead of the recipe's source.
        world: the processes, where the caller has joined them already.

    Returns:
        The best mean IoU on `val`.

    Raises:
        InputError: wrong data, recipe or folder.
        Interrupted: asked to stop; `resume=True` continues.
    """
    with nullcontext(world) if world else join_process_group(options.device) as joined:
        return _Trainer(data, set_input(recipe, data.input), out, resume, init_from, options, joined).run()


class _Trainer:
    """One training, in one of its processes."""

    def __init__(
        self,
        data: Dataset,
        recipe: Recipe,
        out: Path,
        resume: bool,
        init_from: BaseSegmenter | None,
        options: RunOptions,
        world: World,
    ) -> None:
        self.data, self.recipe, self.out, self.world = data, recipe, out, world
        self.features_folder = options.features or out / FEATURES_FOLDER
        self.progress = (options.progress if self.world.is_rank_zero else None) or TrainingProgress()
        callbacks = (*make_trackers(options.log), *options.callbacks) if self.world.is_rank_zero else ()
        self.callbacks = CallbackList(callbacks, self.progress.notify)
        self.device = self.world.device
        self.device_images = DeviceImageCache(self.device, self.progress.notify, self.progress.track)
        self.fsdp = recipe.fsdp and self.world.size > 1
        # A network may need sharding because it does not fit into one device.
        self.staging_device = torch.device("cpu") if self.fsdp else self.device
        self.gatherer: ShardGatherer | None = None
        stages.resolve_precision(recipe, self.device)  # raises where the device cannot
        stages.require_batch_per_process(recipe, self.world.size)
        splits = dict.fromkeys([*(stage.split for stage in recipe.stage), "val"])
        self.samples: dict[str, list[Sample]] = {split: self._read_samples(split) for split in splits}
        if "train" in splits:
            require_disjoint_splits(data)
        self.unlabelled = open_unlabelled(recipe, data, self.world.size, self.progress.notify)
        values = checkpoint.load_checkpoint(out / CHECKPOINT_FILE) if resume else None
        if values is not None:
            checkpoint.require_same_recipe(values, recipe, out)
            require_same_listing(values, self.samples, data, out, options.accept_changed_data)
        # The network before the images: it is checked in a second, and they may take minutes.
        torch.manual_seed(recipe.seed)
        if values is None:
            segmenter, description = build_initial_segmenter(data.classes, recipe, init_from)
            self.progress.notify(description)
            require_sources(recipe, segmenter)
            self.state = TrainingState(segmenter)
        else:
            self.state = checkpoint.state_from_dict(values, data.classes, recipe.ema, out)
            self.state.segmenter.to(self.staging_device)
            if self.state.ema is not None:
                self.state.ema.segmenter.to(self.staging_device)
        for sample in chain.from_iterable(self.samples.values()):
            require_same_size(sample)
        if self.world.is_rank_zero:
            if values is None:
                checkpoint.create_run_folder(out)
            checkpoint.write_recipe(out, recipe)
        self.clock = Clock(self.state.spent_seconds)
        self.data_digest = ""
        if self.world.is_rank_zero:
            began_with = values["data"]["digest"] if values else None
            accepts = options.accept_changed_data
            self.data_digest = record_data(self.samples, data, out, began_with, accepts, self.progress)
        size = values["log"] if values else 0
        self.log: Log | NullLog = Log(out, size) if self.world.is_rank_zero else NullLog()
        if self.log.lost_bytes:
            self.progress.notify(describe_loss(out, self.log.lost_bytes))
        self.is_resumed = values is not None

    def _read_samples(self, split: str) -> list[Sample]:
        """The samples of a split, read as the network takes them."""
        config = self.recipe.network.input
        return [dataclasses.replace(sample, input=config) for sample in self.data.samples(split)]

    def run(self) -> float:
        state = self.state
        start = StartEvent(self.out, self.recipe, state.total_steps)
        try:
            killed = named_killed_workers(self.recipe.workers)
            with killed, self.callbacks.running(start), catch_stop_signals() as stop:
                if not self.is_resumed:
                    self._save_checkpoint()  # from here on there is something to resume, and signals are caught
                while state.stage_index < len(self.recipe.stage):
                    self._run_stage(self.recipe.stage[state.stage_index], stop)
                    segmenter = self._full_eval_segmenter()
                    if self.world.is_rank_zero:
                        segmenter.save(self.out / stage_file(state.stage_index))
                    state.stage_index, state.step, state.step_state = state.stage_index + 1, 0, None
                    self._save_checkpoint()
        finally:
            self.log.close()
        return state.best_mean_iou

    def _run_stage(self, stage: StageConfig, stop: threading.Event) -> None:
        recipe, state = self.recipe, self.state
        if state.step == 0:
            state.segmenter = stages.rebuild_for_stage(self._full_eval_segmenter(), stage, recipe).to(
                self.staging_device
            )
            state.ema = WeightEMA(state.segmenter, recipe.ema) if recipe.ema else None
            self._allocate_time(stage)
        freeze_norm = stages.should_freeze_norm(stage, recipe)
        stages.set_modes(state.segmenter, stage, freeze_norm)
        if self.fsdp:
            self.gatherer = ShardGatherer(state.segmenter)
            if state.ema:
                shard_module(state.ema.segmenter, self.world)
        step = TrainStep(state.segmenter, stage, recipe, self.world, notify=self.progress.notify)
        if state.step_state:
            with checkpoint.named_damage(self.out, "the optimizer's state"):
                step.load_state_dict(state.step_state)
        limit = self._stage_limit(stage)
        validation_points = limit.validation_points()
        batch = stage.batch or recipe.batch
        sample_offset = batch * self.world.rank // self.world.size  # samples of the processes before this one
        monitor = DivergenceMonitor(len(self.data.classes), state.stage_index, stage)
        self.progress.on_stage_start(state.stage_index, stage, state.step, limit)
        progress_before, _ = self._gather_progress(limit, stop)
        iteration_started, iteration_seconds = math.nan, 0.0
        timer = StepTimer()
        batches = self._batches(stage, limit, stop)
        if self.unlabelled:
            batches = SelfTraining(self.unlabelled, stage, recipe, state).extend_all(batches, step, limit)
        for image, label in batches:
            timer.on_batch()
            lr_factor = optim.set_learning_rate(step.optimizer, stage, state.step, progress_before)
            loss = step(image, label, batch if self.world.size > 1 else len(image), sample_offset)
            state.step, state.total_steps = state.step + 1, state.total_steps + 1
            if state.ema:
                state.ema.update(state.segmenter)
            if not math.isnan(iteration_started):  # the first iteration of a process starts the workers too
                iteration_seconds = time.monotonic() - iteration_started
            progress_after, stop_requested = self._gather_progress(limit, stop, iteration_seconds)
            is_last_step = progress_after >= 1
            validation_due = any(progress_before < point <= progress_after for point in validation_points)
            checkpoint_due = stop_requested or state.step % recipe.checkpoint_every == 0
            timer.on_step()
            if state.step % 10 == 0 or is_last_step:
                value, lr = float(loss), stage.lr * lr_factor
                seconds, wait = timer.pop_means()
                self.log.write(
                    state.total_steps, stage=state.stage_index, loss=value, lr=lr, seconds=seconds, wait=wait
                )
                self.callbacks.on_step(StepEvent(state.total_steps, state.stage_index, value, lr, seconds))
                self.progress.on_loss(value)
                monitor.record_loss(state.step, value)
            self.progress.on_step_end(state.step, progress_after)
            if validation_due or checkpoint_due:
                monitor.assert_weights_finite(state.step, state.segmenter)
            if validation_due:
                self._validate()
                stages.set_modes(state.segmenter, stage, freeze_norm)
                if self._shorten_on_plateau(stage):
                    limit = self._stage_limit(stage)
                    validation_points = limit.validation_points()
                    progress_after, _ = self._gather_progress(limit, stop)
            if checkpoint_due:
                self._save_checkpoint(step)
            if stop_requested:
                raise Interrupted
            progress_before, iteration_started = progress_after, time.monotonic()
            timer.resume()
            if is_last_step:
                break

    def _gather_progress(
        self, limit: StageLimit, stop: threading.Event, step_seconds: float = 0.0
    ) -> tuple[float, bool]:
        """Return how far the stage is by the clock of rank 0, and whether any process was asked to stop."""
        statuses = self.world.all_gather((limit.progress(self.state.step, step_seconds), stop.is_set()))
        return statuses[0][0], any(stop_requested for _, stop_requested in statuses)

    def _allocate_time(self, stage: StageConfig) -> None:
        """Give the stage its part of a time budget."""
        state, recipe = self.state, self.recipe
        state.stage_started = self.world.broadcast(self.clock.seconds)
        if stage.share:
            left = recipe.budget - state.stage_started
            state.stage_seconds = allocate_stage_seconds(
                recipe.stage, state.stage_index, left, self._validation_seconds()
            )
            if state.stage_seconds <= 0:
                self.progress.notify(
                    f"budget: too short for stage {state.stage_index}, which makes one step ({left:.0f} s of "
                    f"{recipe.budget:.0f} s are left, and a validation takes {self._validation_seconds():.0f} s)"
                )

    def _shorten_on_plateau(self, stage: StageConfig) -> bool:
        """Shorten a timed stage whose validations no longer gain, and return whether that was done."""
        state = self.state
        values, spent = self.world.broadcast((self.log.read_validations(state.stage_index), self.clock.seconds))
        seconds = shorten_on_plateau(values, self.recipe.plateau, spent - state.stage_started, state.stage_seconds)
        if is_shorter := bool(stage.share) and seconds < state.stage_seconds:
            self.progress.notify(describe_plateau(values, self.recipe.plateau, state.stage_seconds - seconds))
            state.stage_seconds = seconds
        return is_shorter

    def _validation_seconds(self) -> float:
        # The last one may have been at a coarser stride than the one at the end will be.
        return max(self.state.validation_seconds, self.recipe.reserve)

    def _stage_limit(self, stage: StageConfig) -> StageLimit:
        if stage.share:
            is_last = self.state.stage_index == len(self.recipe.stage) - 1
            seconds, started = self.state.stage_seconds, self.state.stage_started
            return TimeLimit(self.clock, seconds, started, self._validation_seconds(), is_last)
        return stages.build_step_limit(stage, self.recipe, len(self.samples[stage.split]))

    def _validate(self) -> None:
        state, segmenter = self.state, self._full_eval_segmenter()
        started = time.monotonic()
        predictor = stages.build_predictor(segmenter, self.recipe, self.device)
        samples = self.samples["val"]
        indices = self.world.shard(range(len(samples)))
        with self.progress.track(len(indices)) as report_step:
            part = evaluate(predictor, samples, self.data.classes, on_progress=report_step, indices=indices)
        result = merge(self.world.all_gather(part))
        mean_iou = result.confusion.mean_iou
        segmenter.card = {
            "data": self.data.root.name,
            "recipe": recipe_to_table(self.recipe),
            "stage": state.stage_index,
            "step": state.step,
            "val": result.to_dict(),
            "groups": {split: self.data.groups(split).to_dict() for split in self.samples},
        }
        self._eval_segmenter().card = segmenter.card
        improved = mean_iou > state.best_mean_iou
        if improved:
            state.best_mean_iou = mean_iou
            if self.world.is_rank_zero:
                segmenter.save(self.out / BEST_FILE)
        event = ValidationEvent(state.total_steps, state.stage_index, result, improved, predictor, samples)
        self.callbacks.on_validation(event)
        state.validation_seconds = time.monotonic() - started
        self.log.write(
            state.total_steps,
            stage=state.stage_index,
            val_mean_iou=mean_iou,
            val_iou=result.confusion.iou,
            val_seconds=round(state.validation_seconds, 2),
        )
        self.progress.on_validation_end(mean_iou, improved)

    def _full_eval_segmenter(self) -> BaseSegmenter:
        """Return the network that is validated and kept, gathered where it is sharded; all processes call this."""
        return self.gatherer(self._eval_segmenter()) if self.gatherer else self._eval_segmenter()

    def _eval_segmenter(self) -> BaseSegmenter:
        return self.state.ema.segmenter if self.state.ema else self.state.segmenter

    def _batches(self, stage: StageConfig, limit: StageLimit, stop: threading.Event) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's part of each batch, until the stage ends."""
        recipe, state = self.recipe, self.state
        seed = recipe.seed + 1000 * state.stage_index
        samples, batch = self._open_training_set(stage, seed, stop), stage.batch or recipe.batch
        all_keys = iter_batch_keys(len(samples), batch, seed, state.step, limit.total_steps)
        keys = (self.world.chunk(batch_keys) for batch_keys in all_keys)
        if isinstance(samples, DeviceBatches):
            return samples.iterate(keys)
        return iter_batches(samples, keys, recipe.workers, pin_memory=self.device.type == "cuda")

    def _open_training_set(
        self, stage: StageConfig, seed: int, stop: threading.Event
    ) -> TrainingSamples | DeviceBatches | FeatureSamples | ViewSamples:
        samples, augment = self.samples[stage.split], self.recipe.augment
        segmenter = self.state.segmenter
        if any(stage.crop):
            augment = dataclasses.replace(augment, crop=stage.crop)
        if stage.cache_features:
            folder = self.features_folder
            if stage.views:
                stages.require_frozen_backbone(segmenter, stage)
            full = self.gatherer(segmenter) if self.gatherer else segmenter
            if self.world.is_rank_zero:
                with self.progress.track(len(samples) * max(1, stage.views), "front end") as report_step:
                    report = partial(report_or_interrupt, stop, report_step)
                    if stage.views:
                        cache_views(full, samples, augment, stage.views, folder, report)
                    else:
                        features.cache_features(full, samples, folder, self.device, report)
            self.world.barrier()
            stages.set_modes(segmenter, stage, stages.should_freeze_norm(stage, self.recipe))
            if stage.views:
                return ViewSamples(folder, full, len(samples), stage.views, seed)
            return FeatureSamples(folder, samples, segmenter.output_stride, augment.flip, seed)
        if isinstance(augment, ReflectCropConfig):
            stages.require_same_grid(segmenter, augment)
        else:
            images = self.device_images.find(stage.split, samples, augment, stop)
            if images is not None:
                return DeviceBatches(images, augment, seed)
        return TrainingSamples(samples, augment, seed, self.recipe.cache)

    def _save_checkpoint(self, step: TrainStep | None = None) -> None:
        state = self.state
        state.step_state = step.state_dict() if step else None
        state.spent_seconds = self.clock.seconds
        values = gather_full_tensors(checkpoint.state_to_dict(state))
        if self.world.is_rank_zero:
            extra = {
                "recipe": checkpoint.plain_values(recipe_to_table(self.recipe)),
                "data": {
                    "root": str(self.data.root.resolve()),
                    "format": self.data.format,
                    "group_by": self.data.contents.group_by,
                    "digest": self.data_digest,
                    **(self.data.division.source if self.data.division else {}),
                },
                "image_counts": {split: len(samples) for split, samples in self.samples.items()},
                "log": self.log.sync(),
            }
            checkpoint.save_checkpoint(self.out / CHECKPOINT_FILE, values | extra)
        self.world.barrier()
