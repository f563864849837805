"""Training batches from images that are decoded once and kept where the network computes.

    images = decode_to_device(data.samples("train"), torch.device("cuda"), threads=14)
    batches = DeviceBatches(images, AugmentConfig(), seed=0)
    for image, label in batches.iterate(iter_batch_keys(len(images), 16, seed=0, start=0, stop=100)): ...

A GPU that takes 40 ms for a step needs a batch every 40 ms: sixteen images decoded, resized and changed in color, which
is the work of many processors. Decoded once and augmented by the GPU itself, it costs the processors some sixty calls.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dilated.data.augment import AugmentConfig
from dilated.data.batch_augment import BatchAugmentation, Draw
from dilated.data.sample import Sample
from dilated.input_config import BandArray
from dilated.label_ids import LabelArray, ignore_id
from dilated.progress import ProgressCallback
from dilated.tensors import to_label_tensor

_CELL = 8
"""Pixels of a side of the cells in which it is known whether anything is labelled."""
_MOST_DRAWS = 10
"""Draws that are tried around a labelled pixel."""
_DONE: Future[tuple[BandArray, LabelArray]] = Future()


@dataclass(frozen=True)
class DeviceImages:
    """Decoded images and labels on one device, and where they are labelled."""

    images: tuple[Tensor, ...]
    """(3, H, W) uint8 each."""
    labels: tuple[Tensor, ...]
    """(H, W) uint8 each; int32 of more than 255 classes."""
    labelled: tuple[NDArray[np.bool_], ...]
    """By cells of 8 x 8 pixels, whether any is labelled; on the CPU."""
    ignore: int
    """The label of ignored pixels."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_bytes(self) -> int:
        """The memory that they take."""
        return sum(tensor.nbytes for tensor in (*self.images, *self.labels))


def decode_to_device(
    samples: Sequence[Sample], device: torch.device, threads: int, report: ProgressCallback | None = None
) -> DeviceImages:
    """Decode the images and labels of a split, several at a time.

    Args:
        samples: of 8-bit RGB, and of one class per labelled pixel.
        device: to keep them on.
        threads: that decode.
        report: called after each image with how many are done and how many there are.

    Raises:
        InputError: an unreadable image or label, or a label of another size than its image.
    """
    classes = samples[0].classes if samples else None
    ignore = ignore_id(len(classes) if classes else 1)
    images, labels, labelled = [], [], []
    with ThreadPoolExecutor(threads) as pool, closing(_read_all(pool, samples)) as arrays:
        for done, (pixels, label) in enumerate(arrays, 1):
            images.append(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(device))
            labels.append(to_label_tensor(label).to(device))
            labelled.append(_find_labelled_cells(label, ignore))
            if report is not None:
                report(done, len(samples))
    return DeviceImages(tuple(images), tuple(labels), tuple(labelled), ignore)


def _read_all(
    pool: ThreadPoolExecutor, samples: Sequence[Sample]
) -> Generator[tuple[BandArray, LabelArray], None, None]:
    """Yield images and labels in order; closed early, what has not been begun is dropped."""
    futures = [pool.submit(sample.read) for sample in samples]
    try:
        for place, future in enumerate(futures):
            yield future.result()
            futures[place] = _DONE  # its arrays need not be kept
    finally:
        for future in futures:
            future.cancel()


class DeviceBatches:
    """Augmented batches, each a function of the seed and of the numbers of its draws.

    Args:
        images: of the split.
        config: how samples vary.
        seed: of all draws.
    """

    def __init__(self, images: DeviceImages, config: AugmentConfig, seed: int) -> None:
        self.images, self.config, self.seed = images, config, seed
        self.augmentation = BatchAugmentation(config, images.ignore)

    def __len__(self) -> int:
        return len(self.images)

    def iterate(self, keys: Iterable[list[tuple[int, int]]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one batch for each list of keys (index, draw), on the images' device.

        Yields:
            (N, 3, h, w) float32, RGB in 0..1, and (N, h, w) int64.
        """
        for batch in keys:
            draws = [self.draw(index, number) for index, number in batch]
            images = _stack([self.images.images[index] for index, _ in batch])
            labels = _stack([self.images.labels[index] for index, _ in batch])
            yield self.augmentation(images, labels, draws)

    def draw(self, index: int, number: int) -> Draw:
        """Draw what happens to an image; around a labelled pixel where the first draw shows none."""
        size = self.images.labels[index].shape
        draw = self.augmentation.draw(self.seed, number, (size[0], size[1]))
        cells = self.images.labelled[index]
        if _shows_labels(draw, cells, self.config.crop) or not cells.any():
            return draw
        random = np.random.default_rng([self.seed, number, 0, 1])
        cell = cells.ravel().nonzero()[0]
        row, column = np.unravel_index(random.choice(cell), cells.shape)
        center = int(row) * _CELL + _CELL // 2, int(column) * _CELL + _CELL // 2
        window = [
            slice(max(0, at - side // 2), min(extent, at - side // 2 + side))
            for at, side, extent in zip(center, self.config.crop, size, strict=True)
        ]
        for attempt in range(1, _MOST_DRAWS + 1):
            draw = self.augmentation.draw(self.seed, number, (size[0], size[1]), (window[0], window[1]), attempt)
            if _shows_labels(draw, cells, self.config.crop):
                break
        return draw


def batch_input_obstacle(samples: Sequence[Sample]) -> str:
    """Return why samples cannot be augmented in batches, whatever the settings; nothing where they can.

    Example:
        >>> batch_input_obstacle([])
        ''
    """
    if any(sample.input is not None for sample in samples):
        return "images of other bands than 8-bit RGB"
    if any(sample.alternatives for sample in samples):
        return "pixels that may be of several classes"
    return ""


def decoded_size(samples: Sequence[Sample], most_headers: int = 64) -> int:
    """Estimate the bytes of all decoded images and labels, from the sizes of some images evenly spread.

    Args:
        samples: of a split.
        most_headers: images whose headers are read at most.

    Raises:
        InputError: a file that is not an image.
    """
    if not samples:
        return 0
    places = np.unique(np.linspace(0, len(samples) - 1, min(most_headers, len(samples))).round().astype(int))
    sizes = [samples[place].size() for place in places]
    classes = samples[0].classes
    label_bytes = 1 if classes is None or ignore_id(len(classes)) == 255 else 4
    return round(sum(height * width for height, width in sizes) / len(sizes) * (3 + label_bytes) * len(samples))


def _find_labelled_cells(label: LabelArray, ignore: int) -> NDArray[np.bool_]:
    """Whether anything is labelled, by cells: (H, W) ids -> (ceil(H / 8), ceil(W / 8))."""
    rows = np.logical_or.reduceat(label != ignore, np.arange(0, label.shape[0], _CELL), axis=0)
    cells: NDArray[np.bool_] = np.logical_or.reduceat(rows, np.arange(0, label.shape[1], _CELL), axis=1)
    return cells


def _shows_labels(draw: Draw, cells: NDArray[np.bool_], crop: tuple[int, int]) -> bool:
    """Whether a sample shows a cell with labelled pixels; at its border, it may show of the cell none of them."""
    (top, bottom), (left, right) = draw.rows.source_range(crop[0]), draw.columns.source_range(crop[1])
    return bool(cells[top // _CELL : -(-bottom // _CELL), left // _CELL : -(-right // _CELL)].any())


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """Stack images (..., H, W), smaller ones filled up with 0 at the bottom and on the right."""
    height, width = (max(tensor.shape[axis] for tensor in tensors) for axis in (-2, -1))
    if all(tensor.shape[-2:] == (height, width) for tensor in tensors):
        return torch.stack(list(tensors))
    result = tensors[0].new_zeros((len(tensors), *tensors[0].shape[:-2], height, width))
    for place, tensor in zip(result, tensors, strict=True):
        place[..., : tensor.shape[-2], : tensor.shape[-1]] = tensor
    return result
