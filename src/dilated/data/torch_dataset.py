"""Samples as torch data sets of (image, label).

    image, label = open_dataset("my-data")["train"][0]                         # a `SplitDataset`
    samples = TrainingSamples(data.samples("train"), AugmentConfig(), seed=0)
    image, label = samples[(0, 7)]                                             # image 0, in the training's 8th draw

An error in a file names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dilated.data.augment import AugmentConfig, ReflectCropConfig
from dilated.data.decoded import SharedImages
from dilated.data.images import read_image
from dilated.data.labels import IGNORE
from dilated.data.pasting import paste_rare
from dilated.data.raster.bands import resolve_range
from dilated.data.sample import LAST_ALTERNATIVE, Sample
from dilated.input_config import BandArray, InputConfig
from dilated.label_ids import LabelArray, ignore_id
from dilated.tensors import to_label_tensor, to_tensor

Transform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(image (3, H, W), label (H, W)) -> the two transformed alike."""


class SplitDataset(Dataset[tuple[Tensor, Tensor]]):
    """The samples of a split as tensors, for a `torch.utils.data.DataLoader`.

    Item i is (image, label): the image (3, H, W) float32 from 0 to 1, or (n, H, W) scaled as the samples' `input` says;
    the label (H, W) int64 class ids, 255 (65535 of more than 255 classes) where ignored and where the image has no
    data. Images keep their own sizes; a transform makes them alike.

    Args:
        samples: in the order of the items.
        transform: applied to each (image, label).
    """

    def __init__(self, samples: list[Sample], transform: Transform | None = None) -> None:
        self.samples = samples
        self.transform = transform

    def with_transform(self, transform: Transform | None) -> SplitDataset:
        """The same samples with another transform."""
        return SplitDataset(self.samples, transform)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """One item.

        Raises:
            InputError: an image or a label that is damaged, or of different sizes.
        """
        sample = self.samples[index]
        image, label = sample.read()
        if sample.input is None:
            tensor = torch.tensor(image).permute(2, 0, 1).contiguous().float() / 255
        else:
            tensor = _scale_bands(image, sample.input)
        item = tensor, to_label_tensor(label).long()
        return self.transform(*item) if self.transform else item


class TrainingSamples(Dataset[tuple[Tensor, Tensor]]):
    """Augmented training samples, or full images where `augment` is None, by key (index, draw).

    A draw depends only on the seed and on its number in the training, so it is the same for any number of workers and
    after any interruption.

    Args:
        samples: images and labels on disk.
        augment: how samples vary.
        seed: of all draws.
        cache: keep decoded images in memory (height * width * 4 bytes each), once for all reading processes where
            images are 8-bit RGB and processes are forked.

    Returns, for the key (index, draw):
        image (3, H, W) float32, RGB in 0..1, or (n, H, W) scaled as the samples' `input` says; and label int64: (H, W),
        or on the logits' grid (`ReflectCropConfig`). Of a pixel that may be of several classes it is negative; see
        `encode_alternatives`.

    Raises:
        InputError: an unreadable image or label, or a label of another size than its image.
    """

    def __init__(
        self,
        samples: list[Sample],
        augment: AugmentConfig | ReflectCropConfig | None,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        self.samples, self.seed = samples, seed
        self.transform = None
        classes = samples[0].classes if samples else None
        self.ignore = ignore_id(len(classes) if classes else 1)
        self.paste_rare = augment.paste_rare if isinstance(augment, AugmentConfig) else 0.0
        if augment is not None:
            self.transform = augment.build(samples[0].input if samples else None, self.ignore)
        self.cache: dict[int, tuple[BandArray, LabelArray]] | None = {} if cache else None
        self.shared = _share_images(samples) if cache else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        index, draw = key
        image, label = self._read_tensors(index)
        if self.transform is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(np.random.SeedSequence([self.seed, draw]).generate_state(1, np.uint64)[0]))
                image, label = self.transform(image, label)
                if self.paste_rare and torch.rand(()) < self.paste_rare:
                    image, label = self._paste(image, label, index)
        label = encode_alternatives(label.long(), self.samples[index].alternatives)
        return image if self.samples[index].input else image.float() / 255, label

    def _paste(self, image: Tensor, label: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Paste the rare classes of another sample, drawn at random, whose labels mean the same."""
        assert self.transform is not None
        other = int(torch.randint(len(self), ()))
        if self.samples[other].alternatives != self.samples[index].alternatives:
            return image, label
        return paste_rare(image, label, *self.transform(*self._read_tensors(other)), self.ignore)

    def _read_tensors(self, index: int) -> tuple[Tensor, Tensor]:
        """Image and label of a sample as they are transformed."""
        pixels, target = self._read(index)
        config = self.samples[index].input
        image = torch.tensor(pixels).permute(2, 0, 1) if config is None else _scale_bands(pixels, config)
        return image, to_label_tensor(target)

    def _read(self, index: int) -> tuple[BandArray, LabelArray]:
        cached = self.shared.get(index) if self.shared is not None else (self.cache or {}).get(index)
        if cached is not None:
            return cached
        arrays = self.samples[index].read(keep_alternatives=True)
        if self.shared is not None:
            self.shared.put(index, *arrays)
        elif self.cache is not None:
            self.cache[index] = arrays
        return arrays


def _share_images(samples: Sequence[Sample]) -> SharedImages | None:
    """Memory for the decoded images that reading processes share; None for images of which the headers say too little.

    Raises:
        InputError: a file that is not an image.
    """
    are_plain = all(sample.input is None and sample.image_reader is read_image for sample in samples)
    if not samples or not are_plain or len(samples[0].classes or ()) > IGNORE:
        return None
    try:
        return SharedImages([sample.size() for sample in samples])
    except OSError:  # no room for all of them: each process keeps its own, as far as it reads them
        return None


def encode_alternatives(label: Tensor, alternatives: Sequence[Sequence[int]]) -> Tensor:
    """Write which classes a pixel may have into its label: minus the sum of 2 ** id over them.

    Args:
        label: (H, W) int64, with the values 254, 253, ... for the first, second, ... of the alternatives.
        alternatives: class ids, each below 62.

    Example:
        >>> encode_alternatives(torch.tensor([0, 253, 254, 255]), [(0, 1), (0, 2)]).tolist()
        [0, -5, -3, 255]
    """
    for number, ids in enumerate(alternatives):
        label = label.masked_fill(label == LAST_ALTERNATIVE - number, -sum(1 << i for i in ids))
    return label


def _scale_bands(pixels: BandArray, config: InputConfig) -> Tensor:
    """Scale an image as networks take it: (H, W, n) -> (n, H, W) float32."""
    return to_tensor(pixels, None, resolve_range(pixels, config))[0]
