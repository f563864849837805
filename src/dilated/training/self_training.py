"""Self-training: images without labels, labelled by the moving average of the network that learns from them.

    self_training = SelfTraining(samples, stage, recipe, state)
    for image, label in self_training.extend_all(batches, step, limit): ...

The teacher is the run's own moving average, from 0.3 of the first stage on, or the network that `teacher` names. A
pixel counts where the teacher is confident. Each class has a threshold of its own, `unlabelled_threshold` times its
mean confidence over that of the surest class, as in FlexMatch (Zhang et al. 2021), so that rare classes are not left
out. Half of the classes of one image are pasted onto the next, pixels and labels (ClassMix, Olsson et al., WACV 2021):
what the learner sees is harder than what the teacher saw.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dilated.data.augment import AugmentConfig
from dilated.data.dataset import Dataset
from dilated.data.loader import iter_batch_keys, iter_batches
from dilated.data.sample import Sample
from dilated.data.torch_dataset import TrainingSamples
from dilated.data.unlabelled import find_unlabelled, require_not_measured
from dilated.errors import InputError
from dilated.files import plural
from dilated.label_ids import ignore_id
from dilated.training import stages
from dilated.training.budget import StageLimit
from dilated.training.checkpoint import TrainingState
from dilated.training.config import Recipe, StageConfig
from dilated.training.step import TrainStep

START = 0.3
"""How far the first stage is when its own moving average begins to teach."""
_VALID = 0
"""The label of every pixel of an unlabelled image; what lies beyond it is ignored."""


def open_unlabelled(recipe: Recipe, data: Dataset, processes: int, notify: Callable[[str], object]) -> list[Sample]:
    """Find the images that a recipe names, if any, and check that the training is not measured on them.

    Args:
        recipe: any.
        data: that is trained on.
        processes: that share a batch.
        notify: is told how many there are.

    Raises:
        InputError: no such folder, an image of another split than `train`, or several processes.
    """
    if not recipe.unlabelled:
        return []
    if processes > 1:
        raise InputError(
            f"recipe.unlabelled: found {processes} processes", hint="train in one process, or leave unlabelled out"
        )
    samples = find_unlabelled(Path(recipe.unlabelled), recipe.network.input or data.input)
    require_not_measured(samples, data)
    notify(f"self-training: {plural(len(samples), 'image')} without labels, none of another split than train")
    return samples


class SelfTraining:
    """Adds unlabelled samples with the teacher's labels to the batches of a stage.

    What is added is a function of the seed, the step and the teacher's weights.

    Args:
        samples: without labels.
        stage: that is trained.
        recipe: with the augmentation, the threshold and the share.
        state: of the training, whose moving average is the teacher where the recipe names none.
    """

    def __init__(self, samples: list[Sample], stage: StageConfig, recipe: Recipe, state: TrainingState) -> None:
        assert isinstance(recipe.augment, AugmentConfig)
        augment = recipe.augment
        if any(stage.crop):
            augment = dataclasses.replace(augment, crop=stage.crop)
        self.recipe, self.state, self.seed = recipe, state, recipe.seed + 1000 * state.stage_index + 500
        self.ignore = ignore_id(len(state.segmenter.classes))
        self.samples = TrainingSamples(samples, augment, self.seed, recipe.cache)
        self.batch = max(1, round((stage.batch or recipe.batch) * recipe.unlabelled_share))

    def extend_all(
        self, batches: Iterator[tuple[Tensor, Tensor]], step: TrainStep, limit: StageLimit
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches, those with unlabelled samples for which there is somebody to label them.

        Args:
            batches: image (N, 3, h, w) and label (N, h, w).
            step: with the teacher, where the recipe names one.
            limit: of the stage.

        Yields:
            (N + M, 3, h, w) on the device that trains, and (N + M, h, w) where the batch's labels were: of those on the
            CPU, a step asks whether they hold pixels of several classes.
        """
        more: Iterator[tuple[Tensor, Tensor]] | None = None
        device = step.device
        for image, label in batches:
            is_first, number = self.state.stage_index == 0, self.state.step
            if step.teacher is None and is_first and limit.progress(number) < START:
                yield image, label
                continue
            if more is None:
                keys = iter_batch_keys(len(self.samples), self.batch, self.seed, number, limit.total_steps)
                more = iter_batches(self.samples, keys, self.recipe.workers, pin_memory=device.type == "cuda")
            extra, blank = (tensor.to(device) for tensor in next(more))
            valid, threshold = blank == _VALID, self.recipe.unlabelled_threshold
            labels = label_confidently(self._teach(step, extra), valid, threshold, self.ignore)
            extra, labels = mix_classes(extra, labels, np.random.default_rng([self.seed, number]), self.ignore)
            yield torch.cat([image.to(device), extra]), torch.cat([label, labels.to(label.device)])

    @torch.no_grad()
    def _teach(self, step: TrainStep, images: Tensor) -> Tensor:
        """The teacher's log-probabilities: (M, 3, h, w) -> (M, C, h, w)."""
        with stages.autocast(step.precision, step.device):
            if step.teacher is not None:
                return step.teacher.log_probabilities(images)
            assert self.state.ema is not None
            return self.state.ema.segmenter(images).float().log_softmax(1)


@torch.no_grad()
def label_confidently(log_probabilities: Tensor, valid: Tensor, threshold: float, ignore: int) -> Tensor:
    """Label pixels by the most probable class where its probability reaches the threshold of the class.

    That of a class is `threshold`, times the mean confidence of the pixels of the class over that of the surest class.

    Args:
        log_probabilities: (N, C, H, W).
        valid: (N, H, W) bool.
        threshold: of the surest class.
        ignore: what all other pixels get.

    Returns:
        (N, H, W) int64.

    Example:
        >>> sure = torch.tensor([[0.99, 0.6, 0.55], [0.01, 0.4, 0.45]]).log()[None, :, None]  # (1, 2, 1, 3)
        >>> label_confidently(sure, torch.ones(1, 1, 3, dtype=torch.bool), 0.9, 255).tolist()
        [[[0, 255, 255]]]
    """
    confidence, classes = log_probabilities.exp().max(1)
    size = log_probabilities.shape[1]
    chosen = classes[valid]
    sums = torch.zeros(size, device=classes.device).index_add_(0, chosen, confidence[valid].float())
    means = sums / torch.bincount(chosen, minlength=size).clamp(min=1)
    thresholds = threshold * means / means.max().clamp(min=1e-6)
    return classes.where(valid & (confidence >= thresholds[classes]), ignore)


def mix_classes(images: Tensor, labels: Tensor, random: np.random.Generator, ignore: int) -> tuple[Tensor, Tensor]:
    """Paste half of the classes of each image onto the next one, pixels and labels.

    Args:
        images: (N, 3, H, W).
        labels: (N, H, W), the ignored label where not known.
        random: draws which classes.
        ignore: the label of ignored pixels.

    Returns:
        Both, of the same shapes; unchanged where N is 1.

    Example:
        >>> images, labels = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 1, 4), torch.tensor([[[0] * 4], [[1] * 4]])
        >>> mixed, mixed_labels = mix_classes(images, labels, np.random.default_rng(0), 255)
        >>> mixed[:, 0].long().equal(mixed_labels)  # pixels and labels moved together
        True
    """
    if len(images) == 1:
        return images, labels
    others, other_labels = images.roll(1, 0), labels.roll(1, 0)
    pasted = torch.zeros_like(labels, dtype=torch.bool)
    for place, other in enumerate(other_labels):
        present = [value for value in other.unique().tolist() if value != ignore]
        classes = random.permutation(present)[: (len(present) + 1) // 2]
        pasted[place] = torch.isin(other, torch.tensor(classes.astype(np.int64), device=other.device))
    return torch.where(pasted[:, None], others, images), torch.where(pasted, other_labels, labels)
