"""A frozen backbone's feature maps of some augmented views of each image, computed once and kept on disk.

    cache_views(segmenter, samples, augment, views=3, folder=folder)
    dataset = ViewSamples(folder, segmenter, len(samples), views=3, seed=0)
    packed, label = dataset[(0, 7)]                      # (K,) float32, (H, W) int64
    logits = PackedViews((288, 384)).logits(segmenter, packed[None])

What comes after the backbone learns in a fraction of the time, and several trainings share one folder: whatever they
put behind the backbone, they see the same views. A folder may hold the features of several backbones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from dilated.data.augment import AugmentConfig, ReflectCropConfig
from dilated.data.sample import Sample
from dilated.data.torch_dataset import TrainingSamples
from dilated.errors import InputError
from dilated.fields.probing import eval_mode
from dilated.files import atomic_path, atomic_write, hash_file, sync_folder
from dilated.models.base import BaseSegmenter
from dilated.models.segmenter import Segmenter
from dilated.progress import ProgressCallback, track

_KEY_FILE = "key.json"


def cache_views(
    segmenter: BaseSegmenter,
    samples: list[Sample],
    augment: AugmentConfig | ReflectCropConfig,
    views: int,
    folder: Path,
    on_progress: ProgressCallback | None = None,
) -> Path:
    """Write the backbone's maps and the label of each view of each image, `<index>-<view>.npz`.

    Existing files of the same weights, views and files of the data are kept, so an interrupted computation continues.

    Args:
        segmenter: on the device that computes; its backbone is what is frozen.
        samples: the images and labels.
        augment: how views vary; view v of image i is the draw v * len(samples) + i of seed 0.
        folder: for the features of any number of backbones, each in a folder of its own.
        on_progress: called after each view with how many are done and how many there are.

    Returns:
        The folder of this backbone.

    Raises:
        InputError: a network without a backbone of timm, or an unreadable image or label.
    """
    network = _require_timm(segmenter)
    target = _backbone_folder(network, folder)
    target.mkdir(parents=True, exist_ok=True)
    _keep_only_current(target, samples, augment)
    augmented = TrainingSamples(samples, augment)
    device = next(network.parameters()).device
    keys = [(index, view) for view in range(views) for index in range(len(samples))]
    with eval_mode(network), torch.inference_mode():
        for index, view in track(keys, len(keys), on_progress):
            path = _view_file(target, index, view)
            if path.is_file():
                continue
            image, label = augmented[index, view * len(samples) + index]
            maps = network.extract_backbone_features(image[None].to(device))
            packed = torch.cat([feature_map[0].flatten() for feature_map in maps]).float().cpu().numpy()
            stored = label.to(torch.int16) if bool((label.abs() < 2**15).all()) else label
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, maps=packed, label=stored.numpy())
    return target


def _keep_only_current(folder: Path, samples: list[Sample], augment: AugmentConfig | ReflectCropConfig) -> None:
    """Delete what is there of other files of the data, or of other ways to read or to augment them."""
    paths = dict.fromkeys(path for sample in samples for path in (sample.image, sample.label, *sample.rules))
    contents = [[str(path), hash_file(path)] for path in paths if path.is_file()]
    stems = [sample.stem for sample in samples]
    meanings = {repr((sample.classes and replace(sample.classes, source=""), sample.input)) for sample in samples}
    alternatives = [sample.alternatives for sample in samples]
    read_as = hashlib.sha256(repr((sorted(meanings), alternatives)).encode()).hexdigest()
    key = json.dumps({"augment": asdict(augment), "read_as": read_as, "stems": stems, "files": contents})
    key_file = folder / _KEY_FILE
    if key_file.is_file() and key_file.read_text(encoding="utf-8", errors="replace") == key:
        return
    for stale in folder.glob("*.npz"):
        stale.unlink()
    sync_folder(folder)  # so that none comes back beside the new key
    atomic_write(key_file, key)


class ViewSamples:
    """Samples of a stage behind a frozen backbone, by the same keys (index, draw) as `TrainingSamples`.

    Returns:
        packed feature maps (K,) float32, one after the other, and label (H, W) int64.
    """

    def __init__(self, folder: Path, segmenter: BaseSegmenter, num_samples: int, views: int, seed: int = 0) -> None:
        self.folder = _backbone_folder(_require_timm(segmenter), folder)
        self.num_samples, self.views, self.seed = num_samples, views, seed

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        index, draw = key
        view = int(np.random.default_rng([self.seed, draw]).integers(self.views))
        with np.load(_view_file(self.folder, index, view)) as arrays:
            return torch.from_numpy(arrays["maps"]), torch.from_numpy(arrays["label"].astype(np.int64))


@dataclass(frozen=True)
class PackedViews:
    """How the maps of views lie one after the other."""

    size: tuple[int, int]
    """(H, W) of a view in pixels."""

    def logits(self, segmenter: BaseSegmenter, packed: Tensor) -> Tensor:
        """The logits at every pixel of views: (N, K) -> (N, C, H, W)."""
        network = _require_timm(segmenter)
        shapes = network.backbone_shapes(self.size)
        parts = packed.split([prod(shape) for shape in shapes], 1)
        maps = [part.unflatten(1, shape) for part, shape in zip(cast(Iterable[Tensor], parts), shapes, strict=True)]
        return network.logits_from_backbone(maps, self.size)


def _require_timm(segmenter: BaseSegmenter) -> Segmenter:
    if not isinstance(segmenter, Segmenter):
        raise InputError(
            f"stage.views: found network.kind={segmenter.config.kind!r}",
            hint="set network.kind = 'timm', or stage.views = 0",
        )
    return segmenter


def _backbone_folder(segmenter: Segmenter, folder: Path) -> Path:
    digest = hashlib.sha256(segmenter.backbone_digest().encode()).hexdigest()[:12]
    return folder / f"stride-{segmenter.output_stride}-{digest}"


def _view_file(folder: Path, index: int, view: int) -> Path:
    return folder / f"{index}-{view}.npz"
