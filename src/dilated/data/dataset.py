"""A data set on disk: its splits, its classes, its samples.

    data = open_dataset("my-data")                       # what it is, found by looking
    pairs = data.pairs("train")                          # [Pair(image, label), ...]
    samples = Samples(pairs, data.classes, Augment(), seed=0)
    image, label = samples[(0, 7)]                       # picture 0, in the 8th draw of the training

A picture is read when its sample is asked for; what is wrong with it is an error that names its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from dilated.data.formats import camvid, folders
from dilated.data.formats.pairs import Pair
from dilated.data.images import opened, read_image
from dilated.data.labels import Classes, load_classes, read_label, template
from dilated.data.transforms import Augment, augmentation
from dilated.errors import InputError

FORMATS: dict[str, ModuleType] = {"CamVid": camvid, "image and label folders": folders}


@dataclass(frozen=True)
class Data:
    """A data folder that was recognised."""

    root: Path
    layout: str
    classes: Classes
    splits: tuple[str, ...]

    def pairs(self, split: str) -> list[Pair]:
        """The pictures of a split with their labels, never none.

        Raises:
            InputError: the split is missing or empty, or a picture lacks its label.
        """
        if split not in self.splits:
            raise InputError(f"{self.root}: has no split {split!r}; found {', '.join(self.splits) or 'none'}")
        pairs = FORMATS[self.layout].load(self.root, split)
        if not pairs:
            raise InputError(f"{self.root}: the split {split!r} is empty; expected at least one picture")
        return pairs


def open_dataset(root: Path | str) -> Data:
    """Recognise a data folder's layout and read its classes.

    Raises:
        InputError: no folder, a layout that is not known, or classes that are neither given nor implied.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected a data folder with pictures and labels")
    layout = next((name for name, form in FORMATS.items() if form.detect(root)), None)
    if layout is None:
        found = ", ".join(sorted(p.name for p in root.iterdir())[:6]) or "nothing"
        raise InputError(
            f"{root}: found {found}; expected images/ and labels/ (with train/ and val/ inside or outside them, or "
            "with train.txt and val.txt beside them), or CamVid's train/, trainannot/, val/, valannot/"
        )
    form = FORMATS[layout]
    splits = tuple(form.splits(root))
    if (root / "classes.toml").is_file():
        classes = load_classes(root / "classes.toml")
    elif layout == "CamVid":
        classes = camvid.CLASSES
    else:
        raise InputError(_no_classes(root, [p for s in splits for p in form.load(root, s)]))
    return Data(root, layout, classes, splits)


def _no_classes(root: Path, pairs: list[Pair]) -> str:
    """What to write into the missing classes.toml, from the values of a few labels."""
    values: set[int] = set()
    for pair in pairs[:20]:
        with opened(pair.label) as picture:
            if picture.mode in ("L", "P", "1", "I;16"):
                values |= set(np.unique(np.asarray(picture).astype(np.int64)).tolist())
    values -= {255}
    shown = sorted(values)[:3]
    return (
        f"{root / 'classes.toml'}: no such file, and nothing else names the classes; expected one [[class]] for each "
        f"label value. The first labels hold {sorted(values)[:40]}. Start with:\n\n{template(shown)}\n"
        + ("\n...\n" if len(values) > 3 else "")
        + "\nand `ignore = [...]` above them for values that count nowhere."
    )


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Augmented training samples, or whole pictures where `augment` is None.

    What a draw looks like depends on the seed and its number in the training alone, so it is the same for any number
    of workers and after any interruption.

    Args:
        cache: keep decoded pictures in memory (height * width * 4 bytes each).

    Returns, for the key (index, draw):
        image (3, H, W) float32, RGB in 0..1, and label (H, W) int64.

    Raises:
        InputError: an unreadable picture or label, or a label of another size than its picture.
    """

    def __init__(
        self, pairs: list[Pair], classes: Classes, augment: Augment | None, seed: int = 0, cache: bool = False
    ) -> None:
        self.pairs, self.classes, self.seed = pairs, classes, seed
        self.transform = augmentation(augment) if augment else None
        self.cache: dict[int, tuple[Tensor, Tensor]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        index, draw = key
        image, label = self._read(index)
        if self.transform is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(np.random.SeedSequence([self.seed, draw]).generate_state(1, np.uint64)[0]))
                image, label = self.transform(tv_tensors.Image(image), tv_tensors.Mask(label))
        return image.as_subclass(Tensor).float() / 255, label.as_subclass(Tensor).long()

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        if self.cache is not None and index in self.cache:
            return self.cache[index]
        pair = self.pairs[index]
        image = read_image(pair.image)
        label = read_label(pair.label, self.classes, image.shape[:2])
        sample = torch.tensor(image).permute(2, 0, 1), torch.tensor(label)  # (3, H, W), (H, W)
        if self.cache is not None:
            self.cache[index] = sample
        return sample
