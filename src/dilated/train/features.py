"""The frozen front end's scores of whole pictures, computed once and kept on disk for the context stage (Section 5).

    folder = compute(segmenter, pairs, Path("runs/mine/features"))
    samples = FeatureSamples(folder, pairs, classes, stride=8, flip=True, seed=0)
    features, label = samples[(0, 7)]                    # (C, h, w) float32, (h, w) int64

The context module alone takes milliseconds, the front end seconds; a stage of many steps pays for the front end once.
Scores and labels are mirrored together. Pictures of different sizes share one canvas, the largest: zeros below and on
the right, where labels are 255.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dilated.data.formats.pairs import Pair
from dilated.data.labels import IGNORE, Classes
from dilated.nn.paper import VGGSegmenter

KEY = "key.json"


def compute(
    segmenter: VGGSegmenter,
    pairs: list[Pair],
    folder: Path,
    device: torch.device | None = None,
    tick: Callable[[], object] | None = None,
) -> Path:
    """Write the front end's scores of each picture, `<index>.npy`, (C, ceil(H/r), ceil(W/r)) float32.

    What is there already, of the same weights and pictures, is kept, so an interrupted computation goes on.

    Args:
        tick: called after each picture.

    Raises:
        InputError: an unreadable picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = {"weights": fingerprint(segmenter), "pictures": [str(pair.image) for pair in pairs]}
    if _read(folder / KEY) != key:
        for old in folder.glob("*.npy"):
            old.unlink()
        (folder / KEY).write_text(json.dumps(key), encoding="utf-8")
    segmenter.eval()
    for index, pair in enumerate(pairs):
        target = folder / f"{index}.npy"
        if not target.is_file():
            image = torch.tensor(pair.read_image(), device=device).permute(2, 0, 1)[None].float() / 255
            with torch.inference_mode():
                scores = segmenter.front(image)[0].float().cpu().numpy()  # (C, h, w)
            partial = target.with_suffix(".part")
            with partial.open("wb") as file:
                np.save(file, scores)
            partial.replace(target)
        if tick:
            tick()
    return folder


def _read(path: Path) -> object:
    """The key of the features that are there; None where there is none, or half of one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def fingerprint(segmenter: VGGSegmenter) -> str:
    """A hash of all that decides the front end's scores: its build, its mean, its weights."""
    network = segmenter.network
    build = (network.mean, network.pools, network.frontend_padding, network.fc6, network.width)
    digest = hashlib.sha256(repr(build).encode())
    for name, tensor in segmenter.frontend.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class FeatureSamples:
    """Samples of the context stage; the same keys (index, draw) as `Samples` has.

    Returns:
        features (C, h, w) float32, and label (h, w) int64: that of the first of the r x r pixels of each score.

    Raises:
        InputError: an unreadable label, or one of another size than its picture.
    """

    def __init__(
        self, folder: Path, pairs: list[Pair], classes: Classes, stride: int, flip: bool = True, seed: int = 0
    ) -> None:
        self.folder, self.pairs, self.classes, self.stride = folder, pairs, classes, stride
        self.flip, self.seed = flip, seed
        sizes = [pair.size() for pair in pairs]
        self.canvas = tuple(max(-(-size[axis] // stride) for size in sizes) for axis in (0, 1))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        index, draw = key
        pair = self.pairs[index]
        features = torch.tensor(np.load(self.folder / f"{index}.npy"))
        label = torch.tensor(pair.read_label(self.classes, pair.size()))[:: self.stride, :: self.stride]
        if self.flip and np.random.default_rng([self.seed, draw]).random() < 0.5:
            features, label = features.flip(-1), label.flip(-1)
        below, beside = (whole - side for whole, side in zip(self.canvas, label.shape, strict=True))
        return F.pad(features, (0, beside, 0, below)), F.pad(label, (0, beside, 0, below), value=IGNORE).long()
