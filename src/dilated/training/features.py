"""The frozen front end's logits of whole images, computed once and kept on disk for the context stage (Section 5).

    folder = cache_features(segmenter, samples, Path("runs/mine/features"))
    dataset = FeatureSamples(folder, samples, stride=8, flip=True, seed=0)
    features, label = dataset[(0, 7)]                    # (C, h, w) float32, (h, w) int64

The context module alone takes milliseconds, the front end seconds; a stage of many steps pays for the front end once.
Logits and labels are mirrored together. Images of different sizes share one canvas, the largest: zeros below and on
the right, where labels are ignored.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dilated.data.sample import Sample
from dilated.data.torch_dataset import encode_alternatives
from dilated.files import atomic_path, atomic_write, hash_file, sync_folder
from dilated.label_ids import ignore_id_of
from dilated.models.base import BaseSegmenter
from dilated.progress import ProgressCallback, track
from dilated.tensors import to_label_tensor, to_tensor


def cache_features(
    segmenter: BaseSegmenter,
    samples: list[Sample],
    folder: Path,
    device: torch.device | None = None,
    on_progress: ProgressCallback | None = None,
) -> Path:
    """Write the front end's logits of each image, `<index>.npy`, (C, ceil(H/r), ceil(W/r)) float32.

    Existing files of the same weights and of images with the same content are kept, so an interrupted computation
    continues.

    Args:
        on_progress: called after each image with how many are done and how many there are.

    Raises:
        InputError: an unreadable image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key_file = folder / "key.json"
    contents = {path: hash_file(path) for path in dict.fromkeys(sample.image for sample in samples)}
    images = [[str(sample.image), contents[sample.image]] for sample in samples]
    key = json.dumps({"weights": segmenter.frontend_digest(), "images": images})
    if not key_file.is_file() or key_file.read_text(encoding="utf-8", errors="replace") != key:
        for stale in folder.glob("*.npy"):
            stale.unlink()
        sync_folder(folder)  # so that none comes back beside the new key
        atomic_write(key_file, key)
    segmenter.eval()
    for index, sample in enumerate(track(samples, len(samples), on_progress)):
        target = folder / f"{index}.npy"
        if not target.is_file():
            image = to_tensor(sample.read_image(), device)
            with torch.inference_mode():
                logits = segmenter.frontend_logits(image)[0].float().cpu().numpy()  # (C, h, w)
            with atomic_path(target) as temporary, temporary.open("wb") as file:
                np.save(file, logits)
    return folder


class FeatureSamples:
    """Samples of the context stage, by the same keys (index, draw) as `TrainingSamples`.

    Returns:
        features (C, h, w) float32, and label (h, w) int64: that of the first of the r x r pixels of each logit.

    Raises:
        InputError: an unreadable label, or one of another size than its image.
    """

    def __init__(self, folder: Path, samples: list[Sample], stride: int, flip: bool = True, seed: int = 0) -> None:
        self.folder, self.samples, self.stride = folder, samples, stride
        self.flip, self.seed = flip, seed
        sizes = [sample.size() for sample in samples]
        self.canvas = tuple(max(-(-size[axis] // stride) for size in sizes) for axis in (0, 1))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        index, draw = key
        sample = self.samples[index]
        features = torch.tensor(np.load(self.folder / f"{index}.npy"))
        full_label = to_label_tensor(sample.read_label(sample.size(), keep_alternatives=True))
        label = full_label[:: self.stride, :: self.stride]
        if self.flip and np.random.default_rng([self.seed, draw]).random() < 0.5:
            features, label = features.flip(-1), label.flip(-1)
        pad_bottom, pad_right = (extent - side for extent, side in zip(self.canvas, label.shape, strict=True))
        padding = (0, pad_right, 0, pad_bottom)
        padded = F.pad(label, padding, value=ignore_id_of(label)).long()
        return F.pad(features, padding), encode_alternatives(padded, sample.alternatives)
