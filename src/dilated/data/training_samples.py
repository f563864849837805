"""Training samples: an image and its label, read, augmented and made tensors.

    samples = TrainingSamples(data.samples("train"), data.classes, AugmentConfig(), seed=0)
    image, label = samples[(0, 7)]                       # image 0, in the 8th draw of the training

An error in a file names it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dilated.data.augment import AugmentConfig
from dilated.data.labels import Classes
from dilated.data.reflect_crop import ReflectCropConfig
from dilated.data.sample import Sample


class TrainingSamples(Dataset[tuple[Tensor, Tensor]]):
    """Augmented training samples, or full images where `augment` is None.

    A draw depends only on the seed and on its number in the training, so it is the same for any number of workers and
    after any interruption.

    Args:
        samples: images and labels on disk.
        classes: of the labels.
        augment: how samples vary.
        seed: of all draws.
        cache: keep decoded images in memory (height * width * 4 bytes each).

    Returns, for the key (index, draw):
        image (3, H, W) float32, RGB in 0..1, and label int64: (H, W), or on the logits' grid (`ReflectCropConfig`).

    Raises:
        InputError: an unreadable image or label, or a label of another size than its image.
    """

    def __init__(
        self,
        samples: list[Sample],
        classes: Classes,
        augment: AugmentConfig | ReflectCropConfig | None,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        self.samples, self.classes, self.seed = samples, classes, seed
        self.transform = None if augment is None else augment.build()
        self.cache: dict[int, tuple[Tensor, Tensor]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        index, draw = key
        image, label = self._read(index)
        if self.transform is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(np.random.SeedSequence([self.seed, draw]).generate_state(1, np.uint64)[0]))
                image, label = self.transform(image, label)
        return image.float() / 255, label.long()

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        if self.cache is not None and index in self.cache:
            return self.cache[index]
        sample = self.samples[index]
        image = sample.read_image()
        label = sample.read_label(image.shape[:2])
        tensors = torch.tensor(image).permute(2, 0, 1), torch.tensor(label)  # (3, H, W), (H, W)
        if self.cache is not None:
            self.cache[index] = tensors
        return tensors
