"""One step of a training: a batch, in parts where memory is short, to a gradient, to new weights.

    step = Step(segmenter, stage, recipe, World())
    loss = step(images, labels)                          # the network is a little better

Several processes, parts of a batch and a scaled loss all give the step of the whole batch: what the loss divides by is
counted over all of it first.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dilated.errors import InputError
from dilated.nn.base import BaseSegmenter
from dilated.nn.paper import VGGSegmenter
from dilated.nn.segmenter import Segmenter
from dilated.train import deep, losses, stages
from dilated.train.deep import Deep
from dilated.train.normalise import as_one
from dilated.train.recipe import Recipe
from dilated.train.shard import like, optimizer_like, share_out
from dilated.train.stage import Stage
from dilated.train.world import World


class Step:
    """Makes the steps of one stage.

    Args:
        parts: in how many parts a batch is computed; more where memory runs out, which `say` is told.
    """

    def __init__(
        self, segmenter: BaseSegmenter, stage: Stage, recipe: Recipe, world: World, parts: int = 0, say: Any = print
    ) -> None:
        self.segmenter, self.stage, self.recipe, self.world, self.say = segmenter, stage, recipe, world, say
        self.parts = parts or stage.accumulate
        self.device = world.device
        self.precision = stages.precision(recipe, self.device)
        with torch.random.fork_rng(devices=[]):  # resumed, a training draws no more than one that was never stopped
            self.deep = Deep(segmenter).to(self.device) if recipe.deep and stage.kind != "context" else None
        self.learner: nn.Module = _Learner(segmenter, self.deep, stage.cached)
        shard = recipe.shard and world.size > 1
        if shard:
            share_out(self.learner, world)  # the optimiser is for what it puts in the parameters' place
        self.optimizer = stages.optimizer(segmenter, stage)
        if self.deep is not None:
            rate = stage.lr
            self.optimizer.add_param_group({"params": list(self.deep.parameters()), "lr": rate, "peak": rate})
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        if recipe.compile:
            self.learner = cast(nn.Module, torch.compile(self.learner))
        if world.size > 1 and not shard:
            self.learner = DistributedDataParallel(self.learner)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, but for the network."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "deep": self.deep.state_dict() if self.deep is not None else None,
            "parts": self.parts,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(optimizer_like(state["optimizer"], self.optimizer))
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.deep is not None:
            own = self.deep.state_dict()
            self.deep.load_state_dict({name: like(value, own[name]) for name, value in state["deep"].items()})
        self.parts = state["parts"]

    def __call__(self, image: Tensor, label: Tensor, samples: int, before: int) -> Tensor:
        """A step.

        Args:
            image, label: this process's part of the batch.
            samples: of the whole batch.
            before: samples of the processes before this one.

        Returns:
            The loss of the whole batch.

        Raises:
            InputError: memory does not suffice for one sample at a time.
        """
        while True:
            try:
                return self._step(image, label, samples, before)
            except RuntimeError as error:  # torch.OutOfMemoryError is one; so is what the CPU's allocator raises
                if not out_of_memory(error):
                    raise
                message = str(error).splitlines()[0][:120]
            # Out of the handler, where the traceback would hold on to the tensors that did not fit.
            self._smaller(len(image), message)

    def _smaller(self, samples: int, message: str) -> None:
        if self.parts >= samples or self.world.size > 1:
            raise InputError(
                f"memory: {message}. Found no room for {-(-samples // self.parts)} samples at a time; expected a "
                "smaller augment.crop or network, a larger stage.accumulate, or a larger machine. --resume goes on "
                "from the last checkpoint only with the same recipe."
            )
        self.parts = min(samples, 2 * self.parts)
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.say(f"memory: {message}. From here on a batch is computed in {self.parts} parts.")

    def _step(self, image: Tensor, label: Tensor, samples: int, before: int) -> Tensor:
        stage, options = self.stage, self.recipe.loss
        self.optimizer.zero_grad(set_to_none=True)
        label = label.to(self.device, non_blocking=True)
        whole = self.world.sum(losses.labelled(label, options).double()).float()
        total = torch.zeros((), device=self.device)
        images, labels = image.chunk(self.parts), label.chunk(self.parts)
        for i, (pixels, truth) in enumerate(zip(images, labels, strict=True)):
            with (
                self._unsynchronised(i < len(images) - 1),
                as_one(self.world, samples, before),
                stages.autocast(self.precision, self.device),
            ):
                scores, second = self.learner(pixels.to(self.device, non_blocking=True))
            loss = losses.loss(scores.float(), truth, options, whole)
            if second is not None:
                loss = loss + self.recipe.deep * losses.loss(second.float(), truth, options, whole)
            # The gradients of the processes are averaged; the loss is a sum over all their pixels.
            self.scaler.scale(loss * self.world.size).backward()
            total += loss.detach()
        self.scaler.unscale_(self.optimizer)
        if stage.clip:
            torch.nn.utils.clip_grad_norm_(self.learner.parameters(), stage.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.world.sum(total)

    def _unsynchronised(self, more: bool) -> AbstractContextManager[object]:
        """Gradients are exchanged once, after the last part."""
        if more and isinstance(self.learner, DistributedDataParallel):
            return self.learner.no_sync()
        return nullcontext()


class _Learner(nn.Module):
    """What is learnt in a step, as one module: pictures -> scores, and those of the deep supervision if any."""

    def __init__(self, segmenter: BaseSegmenter, second: Deep | None, cached: bool) -> None:
        super().__init__()
        self.segmenter, self.second, self.cached = segmenter, second, cached

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.cached:
            assert isinstance(self.segmenter, VGGSegmenter)
            return self.segmenter.with_context(images), None
        if self.second is not None:
            assert isinstance(self.segmenter, Segmenter)
            return deep.scores(self.segmenter, self.second, images)
        return self.segmenter.learn(images), None


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
