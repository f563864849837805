"""A split as a torch data set of (image, label): `open_dataset(...)["train"]`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dilated.data.sample import Sample
from dilated.tensors import to_tensor

Transform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(image (3, H, W), label (H, W)) -> the two transformed alike."""


class SplitDataset(Dataset[tuple[Tensor, Tensor]]):
    """The samples of a split as tensors, for a `torch.utils.data.DataLoader`.

    Item i is (image, label): the image (3, H, W) float32 from 0 to 1, the label (H, W) int64 class ids, 255 where
    ignored. Images keep their own sizes; a transform makes them alike.

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
        array = sample.read_image()
        image = to_tensor(array)[0].contiguous()
        label = torch.from_numpy(sample.read_label(array.shape[:2]).astype(np.int64))
        return self.transform(image, label) if self.transform else (image, label)
