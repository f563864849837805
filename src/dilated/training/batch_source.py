"""Where a stage's batches come from: reading processes, or images kept on the device and augmented there.

cache = DeviceImageCache(torch.device("cuda"), notify=print)
images = cache.find("train", samples, recipe.augment, stop)  # None: reading processes augment
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from dilated.data.augment import AugmentConfig
from dilated.data.device_batches import (
    DeviceImages,
    batch_input_obstacle,
    decode_to_device,
    decoded_size,
)
from dilated.data.sample import Sample
from dilated.environment import free_memory
from dilated.errors import InputError
from dilated.files import plural
from dilated.progress import ProgressCallback
from dilated.training.stopping import report_or_interrupt

Track = Callable[[int, str], AbstractContextManager[ProgressCallback]]

_MOST_MEMORY = 0.25
"""Share of the device's free memory that decoded images may take."""


def batching_obstacle(augment: object, samples: list[Sample], device: torch.device) -> str:
    """Return why a device does not augment whole batches of a split; nothing where it does.

    Args:
        augment: the recipe's augmentation.
        samples: of the split.
        device: that trains.

    Raises:
        InputError: `batched = "always"` where it cannot be, or a file that is not an image.
    """
    if not isinstance(augment, AugmentConfig):
        return "augment.kind = 'reflect'"
    if augment.batched == "never":
        return "augment.batched = 'never'"
    obstacle = augment.batch_obstacle or batch_input_obstacle(samples)
    if not obstacle and (size := decoded_size(samples)) > _MOST_MEMORY * free_memory(device):
        obstacle = f"decoded, the images take {size / 2**20:.0f} MiB, more than a quarter of the device's free memory"
    if obstacle and augment.batched == "always":
        raise InputError(
            f"augment.batched: found 'always' with {obstacle}", hint="set augment.batched = 'auto', or 'never'"
        )
    if augment.batched == "auto" and device.type != "cuda":
        return "the device is no GPU"
    return obstacle


class DeviceImageCache:
    """The decoded images of each split, kept on a device from one stage to the next.

    Args:
        device: to keep them on.
        notify: is told, for each split on a GPU, where its samples are augmented.
        track: opens a context for the decoding of so many images, and yields what is called after each.
    """

    def __init__(
        self,
        device: torch.device,
        notify: Callable[[str], object] = lambda line: None,
        track: Track = lambda count, description: nullcontext(lambda done, total: None),
    ) -> None:
        self.device, self.notify, self.track = device, notify, track
        self._images: dict[str, DeviceImages | None] = {}

    def find(self, split: str, samples: list[Sample], augment: object, stop: threading.Event) -> DeviceImages | None:
        """Return the images of a split, decoded at the first call; None where reading processes augment them.

        Args:
            stop: set where the decoding is to be given up.

        Raises:
            InputError: an unreadable image or label, or settings that do not fit.
            Interrupted: asked to stop.
        """
        if split not in self._images:
            obstacle = batching_obstacle(augment, samples, self.device)
            self._images[split] = None if obstacle else self._decode(samples, stop)
            self._describe(split, obstacle)
        return self._images[split]

    def _decode(self, samples: list[Sample], stop: threading.Event) -> DeviceImages:
        with self.track(len(samples), "decoding") as report_step:
            threads = max(1, (os.cpu_count() or 2) - 2)
            return decode_to_device(samples, self.device, threads, partial(report_or_interrupt, stop, report_step))

    def _describe(self, split: str, obstacle: str) -> None:
        images = self._images[split]
        if images is not None:
            size = f"{plural(len(images), 'image')} of {split} take {images.num_bytes / 2**20:.0f} MiB"
            self.notify(f"augmentation: whole batches on {self.device}; decoded once, the {size} there")
        elif self.device.type == "cuda":
            self.notify(f"augmentation: in reading processes, not on {self.device}: {obstacle}")
