"""Train what comes after a frozen backbone on features that stay in the memory of a device.

    features = FoldFeatures(extract(network, views, device), extract(network, images, device))
    training = ArmTraining(network, recipe, features)
    training.run(400, 400)
    training.take_average()
    counts = training.evaluate()                         # (P, 3 C), which `pack` makes text of JSON of

For benchmarks/study_films.py: the steps, loss, rates and moving average of `dilated train`, without its files.
"""

from __future__ import annotations

import base64
import time
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dilated.models.crf_rnn import CRFRNN
from dilated.models.dense_crf import DenseCRF
from dilated.models.segmenter import Segmenter
from dilated.training import losses, optim, stages
from dilated.training.config import Recipe

Counts = NDArray[np.int64]
Batches = list[tuple[Tensor, Tensor]]
"""Images (N, 3, H, W) and labels (N, H, W)."""
EVALUATION_BATCH = 8


@dataclass
class Features:
    """The backbone's maps of images of one size, each (N, c, h, w), and their labels (N, H, W)."""

    maps: list[Tensor]
    labels: Tensor

    @property
    def size(self) -> tuple[int, int]:
        return self.labels.shape[1], self.labels.shape[2]

    def select(self, indices: Tensor | slice) -> tuple[list[Tensor], Tensor]:
        return [feature_map[indices].float() for feature_map in self.maps], self.labels[indices].long()


@dataclass
class FoldFeatures:
    """Of all views of the films that are learned from, and of the whole images of the film that is left out."""

    train: Features
    val: Features


@torch.inference_mode()
def extract(network: Segmenter, batches: Batches, device: torch.device) -> Features:
    """The features of batches; in bf16 on a GPU, whose memory holds all of them."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    maps: list[list[Tensor]] = []
    labels = []
    network.eval()
    for images, targets in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            maps_of_batch = network.extract_backbone_features(images.to(device))
        maps.append([feature_map.to(dtype) for feature_map in maps_of_batch])
        labels.append(targets.to(torch.uint8).to(device))
    return Features([torch.cat(parts) for parts in zip(*maps, strict=True)], torch.cat(labels))


class ArmTraining:
    """One arm of one seed, from the front end on.

    Args:
        network: the front end's weights and what the arm adds.
        recipe: of the arm; its stage alone is used.
        features: of the network's output stride.
    """

    def __init__(self, network: Segmenter, recipe: Recipe, features: FoldFeatures) -> None:
        self.network, self.recipe, self.features = network, recipe, features
        self.device = next(network.parameters()).device
        self.stage = recipe.stage[0]
        stages.set_modes(network, self.stage, stages.should_freeze_norm(self.stage, recipe))
        self.optimizer = optim.build_optimizer(network, self.stage)
        state = network.state_dict()
        self.learned = [
            value for name, value in state.items() if not name.startswith("backbone.") and value.is_floating_point()
        ]
        self.average = [value.clone() for value in self.learned]
        self.order = torch.Generator().manual_seed(recipe.seed)

    def run(self, steps: int, total: int) -> float:
        """Make the first steps of so many; returns the seconds of a step."""
        loss = torch.zeros(())
        count = len(self.features.train.labels)
        for step in range(steps):
            if step == min(2, steps - 1):
                self._wait()
                started = time.perf_counter()
            optim.set_learning_rate(self.optimizer, self.stage, step, step / total)
            indices = torch.randperm(count, generator=self.order)[: self.recipe.batch]
            loss = self._step(indices.to(self.device, non_blocking=True))
            decay = min(self.recipe.ema, (step + 1) / (step + 10))
            torch._foreach_lerp_(self.average, self.learned, 1 - decay)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {float(loss)} after {steps} steps")
        return (time.perf_counter() - started) / max(1, steps - 2)

    def _step(self, indices: Tensor) -> Tensor:
        maps, target = self.features.train.select(indices)
        self.optimizer.zero_grad(set_to_none=True)
        with stages.autocast(stages.resolve_precision(self.recipe, self.device), self.device):
            logits = self.network.logits_from_backbone(maps, self.features.train.size)
        loss = losses.combined_loss(logits.float(), target, self.recipe.loss)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def take_average(self) -> None:
        """Put the moving average in the place of the weights, and go over to evaluation."""
        with torch.no_grad():
            torch._foreach_copy_(self.learned, self.average)
        self.network.eval()

    @torch.inference_mode()
    def logits(self, frames: slice) -> Tensor:
        """The logits (N, C, H, W) of frames of the film that is left out, in fp32 as `dilated evaluate` has them."""
        maps, _ = self.features.val.select(frames)
        return self.network.logits_from_backbone(maps, self.features.val.size)

    def evaluate(self) -> Counts:
        """The (P, 3 C) counts of the frames of the film that is left out."""
        labels, classes = self.features.val.labels, len(self.network.classes)
        parts = []
        for start in range(0, len(labels), EVALUATION_BATCH):
            frames = slice(start, start + EVALUATION_BATCH)
            parts.append(count_classes(self.logits(frames).argmax(1), labels[frames], classes))
        return torch.cat(parts).cpu().numpy()

    def train_crf_rnn(self, views: Batches, steps: int) -> CRFRNN:
        """Train a CRF-RNN alone on the logits of the network as it is, one view a step."""
        crf, size = CRFRNN(len(self.network.classes)).to(self.device), len(views[0][0])
        optimizer = torch.optim.AdamW(crf.parameters(), 0.02, weight_decay=0.0)
        for index in torch.randperm(len(self.features.train.labels), generator=self.order)[:steps].tolist():
            with torch.no_grad():
                maps, target = self.features.train.select(slice(index, index + 1))
                logits = self.network.logits_from_backbone(maps, self.features.train.size)
            image = views[index // size][0][index % size]
            loss = F.cross_entropy(crf(logits, image[None]), target, ignore_index=255)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return crf.eval()

    @torch.no_grad()
    def evaluate_crf(self, frames: Batches, every: int, layer: CRFRNN | None = None) -> Counts:
        """The counts of some frames, refined by a dense CRF on the images, or by a CRF-RNN."""
        labels, classes, crf = self.features.val.labels, len(self.network.classes), DenseCRF()
        parts = []
        for frame in range(0, len(labels), every):
            image = frames[frame // EVALUATION_BATCH][0][frame % EVALUATION_BATCH]
            logits = self.logits(slice(frame, frame + 1))
            if layer is not None:
                refined = layer(logits, image[None])[0]
            else:
                pixels = (255 * image).round().byte().permute(1, 2, 0).cpu().numpy()
                refined = crf.refine(logits[0], pixels)
            parts.append(count_classes(refined.argmax(0)[None], labels[frame : frame + 1], classes))
        return torch.cat(parts).cpu().numpy()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def count_classes(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """Count correct, true and predicted pixels by class: labels (N, H, W) twice -> (N, 3 C) int64."""
    image = torch.arange(len(target), device=target.device)[:, None, None] * classes**2
    valid = target < classes
    pairs = (image + target.long() * classes + prediction)[valid]
    matrix = torch.bincount(pairs, minlength=len(target) * classes**2).view(-1, classes, classes)
    return torch.cat([matrix.diagonal(dim1=1, dim2=2), matrix.sum(2), matrix.sum(1)], 1)


def pack(counts: Counts) -> dict[str, Any]:
    """Counts as text of JSON, a twentieth of what the numbers would take."""
    data = zlib.compress(counts.astype("<i4").tobytes(), 9)
    return {"shape": list(counts.shape), "zlib": base64.b64encode(data).decode()}


def unpack(table: dict[str, Any]) -> Counts:
    """What `pack` took."""
    data = zlib.decompress(base64.b64decode(table["zlib"]))
    return np.frombuffer(data, "<i4").reshape(table["shape"]).astype(np.int64)
