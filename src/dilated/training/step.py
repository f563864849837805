"""One training step: a batch, in micro-batches where memory is short, to a gradient, to new weights.

    step = TrainStep(segmenter, stage, recipe, World())
    loss = step(images, labels, batch_size=8, sample_offset=0)

Several processes, micro-batches and a scaled loss all give the step of the whole batch: the normalizer of the loss is
counted over all of it first.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dilated.environment import is_out_of_memory
from dilated.errors import InputError
from dilated.kernels.training import TrainingKernels, plan_training
from dilated.label_ids import ignore_id
from dilated.models.base import BaseSegmenter
from dilated.models.sampling import PIXEL_GRID, upsample
from dilated.training import losses, optim, stages
from dilated.training.checkpoint_schema import require_step_state
from dilated.training.config import Recipe, StageConfig
from dilated.training.distillation import Teacher
from dilated.training.distributed.fsdp import shard_like, shard_module, shard_optimizer_state
from dilated.training.distributed.sync_stats import sync_batch_statistics
from dilated.training.distributed.world import World
from dilated.training.feature_views import PackedViews
from dilated.training.losses.combined import require_priors


def require_sources(recipe: Recipe, segmenter: BaseSegmenter) -> None:
    """Raise, before anything is written, where what a recipe learns from besides labels does not fit a network.

    Raises:
        InputError: class priors or a teacher of other classes or bands, or no such teacher.
    """
    require_priors(recipe.loss, len(segmenter.classes))
    if recipe.teacher:
        with torch.random.fork_rng(devices=[]):
            Teacher(recipe.teacher, segmenter.classes, torch.device("cpu"), segmenter.input)


class TrainStep:
    """Make the steps of one stage.

    Args:
        micro_batches: number of parts in which a batch is computed; doubled where memory runs out, with a line to
            `notify`. 0 for the stage's `accumulate`.
    """

    def __init__(
        self,
        segmenter: BaseSegmenter,
        stage: StageConfig,
        recipe: Recipe,
        world: World,
        micro_batches: int = 0,
        notify: Callable[[str], object] = print,
    ) -> None:
        self.segmenter, self.stage, self.recipe, self.world, self.notify = segmenter, stage, recipe, world, notify
        self.ignore = ignore_id(len(segmenter.classes))
        self.micro_batches = micro_batches or stage.accumulate
        self.device = world.device
        self.precision = stages.resolve_precision(recipe, self.device)
        with torch.random.fork_rng(devices=[]):  # resumed, a training draws no more than one that was never stopped
            self.aux_head = (
                AuxiliaryHead(segmenter).to(self.device) if recipe.aux_loss_weight and stage.kind != "context" else None
            )
            self.teacher = (
                Teacher(recipe.teacher, segmenter.classes, self.device, segmenter.input) if recipe.teacher else None
            )
        crop = stage.crop if any(stage.crop) else recipe.augment.crop
        views = PackedViews(crop) if stage.views else None
        use_fsdp = recipe.fsdp and world.size > 1
        reads_images = not (stage.cache_features or views)
        is_plain = self.precision == "fp32" and not recipe.compile and not use_fsdp
        trainable = _TrainableModule(segmenter, self.aux_head, stage.cache_features, views)
        trainable.use_kernels = self.device.type == "cpu" and is_plain and reads_images
        self.model: nn.Module = trainable
        if use_fsdp:
            shard_module(self.model, world)  # which replaces the parameters that the optimizer gets
        self.optimizer = optim.build_optimizer(segmenter, stage)
        if self.aux_head is not None:
            rate = stage.lr
            self.optimizer.add_param_group({"params": list(self.aux_head.parameters()), "lr": rate, "peak_lr": rate})
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        if recipe.compile:
            self.model = cast(nn.Module, torch.compile(self.model))
        if world.size > 1 and not use_fsdp:
            self.model = DistributedDataParallel(self.model)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, except the network."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "aux_head": self.aux_head.state_dict() if self.aux_head is not None else None,
            "micro_batches": self.micro_batches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; raises a ValueError, or what torch raises, for another step's state."""
        require_step_state(state)
        optim.require_own_state(self.optimizer, state["optimizer"])
        self.optimizer.load_state_dict(shard_optimizer_state(state["optimizer"], self.optimizer))
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.aux_head is not None:
            aux_state = self.aux_head.state_dict()
            self.aux_head.load_state_dict(
                {name: shard_like(value, aux_state[name]) for name, value in (state["aux_head"] or {}).items()}
            )
        self.micro_batches = state["micro_batches"]

    def __call__(self, image: Tensor, label: Tensor, batch_size: int, sample_offset: int) -> Tensor:
        """Make a step.

        Args:
            image: this process's part of the batch, (n, 3, H, W) float32, or cached features.
            label: (n, H, W) int64.
            batch_size: samples of the whole batch.
            sample_offset: samples of the processes before this one.

        Returns:
            The loss of the whole batch.

        Raises:
            InputError: memory is too small for one sample at a time.
        """
        while True:
            try:
                return self._step(image, label, batch_size, sample_offset)
            except RuntimeError as error:  # torch.OutOfMemoryError is one; so is what the CPU's allocator raises
                if not is_out_of_memory(error):
                    raise
                message = str(error).splitlines()[0][:120]
            # Out of the handler, where the traceback would hold on to the tensors that did not fit.
            self._split_further(len(image), message)

    def _split_further(self, batch_size: int, message: str) -> None:
        if self.micro_batches >= batch_size or self.world.size > 1:
            raise InputError(
                f"memory: no room for {-(-batch_size // self.micro_batches)} samples at a time ({message})",
                hint="give a smaller augment.crop or network, a larger stage.accumulate, or a larger machine; --resume "
                "continues only with the same recipe",
            )
        self.micro_batches = min(batch_size, 2 * self.micro_batches)
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.notify(f"memory: {message}. From here on a batch is computed in {self.micro_batches} parts.")

    def _step(self, image: Tensor, label: Tensor, batch_size: int, sample_offset: int) -> Tensor:
        stage, options = self.stage, self.recipe.loss
        self.optimizer.zero_grad(set_to_none=True)
        # Asked of the CPU's tensor: a GPU is not waited for, and batches that are made there have no such labels.
        has_ambiguous = label.device.type == "cpu" and bool((label < 0).any())
        label = label.to(self.device, non_blocking=True)
        normalizer = self.world.all_reduce(losses.loss_normalizer(label, options, self.ignore)).float()
        total_loss = torch.zeros((), device=self.device)
        images, labels = image.chunk(self.micro_batches), label.chunk(self.micro_batches)
        for i, (image_part, target) in enumerate(zip(images, labels, strict=True)):
            with (
                self.model.no_sync()  # the gradients are exchanged after the last micro-batch
                if i < len(images) - 1 and isinstance(self.model, DistributedDataParallel)
                else nullcontext(),
                sync_batch_statistics(self.world, batch_size, sample_offset),
                stages.autocast(self.precision, self.device),
            ):
                image_part = image_part.to(self.device, non_blocking=True)
                if self.recipe.channels_last and image_part.ndim == 4:
                    image_part = image_part.contiguous(memory_format=torch.channels_last)
                logits, aux = self.model(image_part)
            loss = self._compute_loss(logits.float(), target, normalizer, has_ambiguous)
            if aux is not None:
                loss = loss + self.recipe.aux_loss_weight * self._compute_loss(
                    aux.float(), target, normalizer, has_ambiguous
                )
            if self.teacher is not None:
                loss = loss + self.recipe.teacher_weight * self.teacher(logits.float(), image_part, batch_size)
            # The gradients of the processes are averaged; the loss is a sum over all their pixels.
            self.scaler.scale(loss * self.world.size).backward()
            total_loss += loss.detach()
        self.scaler.unscale_(self.optimizer)
        if stage.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), stage.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.world.all_reduce(total_loss)

    def _compute_loss(self, logits: Tensor, target: Tensor, normalizer: Tensor, has_ambiguous: bool) -> Tensor:
        """The recipe's loss; pixels that may be of several classes have the marginal one."""
        options = self.recipe.loss
        if not has_ambiguous:
            return losses.combined_loss(logits, target, options, normalizer)
        exact = losses.combined_loss(logits, target.where(target >= 0, self.ignore), options, normalizer)
        weight = options.cross_entropy + options.focal
        return exact + weight * losses.marginal_cross_entropy(losses.adjust_logits(logits, options), target, normalizer)


class _TrainableModule(nn.Module):
    """The network and its auxiliary head as one module: images -> logits, and auxiliary logits if any."""

    def __init__(
        self, segmenter: BaseSegmenter, aux: AuxiliaryHead | None, cache_features: bool, views: PackedViews | None
    ) -> None:
        super().__init__()
        self.segmenter, self.aux, self.cache_features, self.views = segmenter, aux, cache_features, views
        self.use_kernels = False
        self._kernels: TrainingKernels | None = None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.use_kernels and self._kernels is None:
            self._kernels = plan_training(self.segmenter, images[:1])
            self.use_kernels = self._kernels is not None
        if self._kernels is None:
            return self._compute(images)
        with self._kernels.active():
            return self._compute(self._kernels.to_layout(images))

    def _compute(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.views is not None:
            return self.views.logits(self.segmenter, images), None
        if self.cache_features:
            return self.segmenter.apply_context(images), None
        if self.aux is not None:
            logits, features = self.segmenter.forward_with_auxiliary(images)
            return logits, self.aux(features, (images.shape[-2], images.shape[-1]))
        return self.segmenter.training_logits(images), None


class AuxiliaryHead(nn.Module):
    """Deep supervision: a second classifier on the backbone's last level but one, which helps the backbone to learn.

    It exists during training only and is in no network file (the auxiliary loss of PSPNet, Zhao et al., CVPR 2017).

    Args:
        segmenter: a network that has a level for it.

    Raises:
        InputError: a network without one.
    """

    def __init__(self, segmenter: BaseSegmenter) -> None:
        super().__init__()
        channels, self.grid = segmenter.auxiliary_level()
        self.classifier = nn.Conv2d(channels, len(segmenter.classes), 1)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """The feature map of `BaseSegmenter.forward_with_auxiliary` -> logits (N, C, *size)."""
        return upsample(self.classifier(features), self.grid, PIXEL_GRID, size)
