"""Training samples: a picture and its label, read, augmented and made tensors.

    samples = Samples(data.pairs("train"), data.classes, Augment(), seed=0)
    image, label = samples[(0, 7)]                       # picture 0, in the 8th draw of the training

What is wrong with a file is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from dilated.data.formats.pairs import Pair
from dilated.data.labels import Classes
from dilated.data.mirror_crop import MirrorCrop, mirror_crop
from dilated.data.transforms import Augment, augmentation

Transform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Augmented training samples, or whole pictures where `augment` is None.

    What a draw looks like depends on the seed and its number in the training alone, so it is the same for any number
    of workers and after any interruption.

    Args:
        cache: keep decoded pictures in memory (height * width * 4 bytes each).

    Returns, for the key (index, draw):
        image (3, H, W) float32, RGB in 0..1, and label int64: (H, W), or on the grid of the scores (`MirrorCrop`).

    Raises:
        InputError: an unreadable picture or label, or a label of another size than its picture.
    """

    def __init__(
        self,
        pairs: list[Pair],
        classes: Classes,
        augment: Augment | MirrorCrop | None,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        self.pairs, self.classes, self.seed = pairs, classes, seed
        self.transform = _transform(augment)
        self.cache: dict[int, tuple[Tensor, Tensor]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.pairs)

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
        pair = self.pairs[index]
        image = pair.read_image()
        label = pair.read_label(self.classes, image.shape[:2])
        sample = torch.tensor(image).permute(2, 0, 1), torch.tensor(label)  # (3, H, W), (H, W)
        if self.cache is not None:
            self.cache[index] = sample
        return sample


def _transform(augment: Augment | MirrorCrop | None) -> Transform | None:
    if augment is None:
        return None
    if isinstance(augment, MirrorCrop):
        return partial(mirror_crop, augment)
    return partial(_masked, augmentation(augment))


def _masked(transform: v2.Transform, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    image, label = transform(tv_tensors.Image(image), tv_tensors.Mask(label))
    return image.as_subclass(Tensor), label.as_subclass(Tensor)
